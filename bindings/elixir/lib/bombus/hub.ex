defmodule Bombus.Hub do
  @moduledoc """
  Repositories: `{:hf, id}`, `{:hf, id, options}` and `{:local, folder}`, resolved to a folder.

  Models come from the Hugging Face cache, and are downloaded into it where they are absent. Options of `:hf`:

    * `:revision` - branch, tag or commit
    * `:cache_dir` - the cache; `HF_HUB_CACHE`, or `HF_HOME/hub`, or `~/.cache/huggingface/hub`
    * `:offline` - only what the cache holds; true where `HF_HUB_OFFLINE` is `1`
    * `:auth_token` - `HF_TOKEN`
    * `:subdir` - a folder inside the repository
  """

  alias Bombus.{Error, NIF, Options}

  @type repository :: {:hf, String.t()} | {:hf, String.t(), keyword} | {:local, Path.t()}

  @table [
    revision: {:string, nil},
    cache_dir: {:string, nil},
    offline: {:boolean, nil},
    auth_token: {:string, nil},
    subdir: {:string, nil}
  ]

  @tokenizer_files ~w(tokenizer*.json chat_template* generation_config.json config.json special_tokens_map.json)

  @doc """
  The folder of a repository. `files` are shell patterns of what is wanted of it: `:model` (what a model or an adapter
  needs) or `:tokenizer` (no weights).
  """
  @spec resolve(repository | Path.t(), :model | :tokenizer) :: {:ok, Path.t()} | {:error, term}
  def resolve(repository, files \\ :model)
  def resolve(folder, files) when is_binary(folder), do: resolve({:local, folder}, files)
  def resolve({:hf, id}, files), do: resolve({:hf, id, []}, files)

  def resolve({:local, folder}, _files) when is_binary(folder) do
    Options.check!(:local, :string, folder)

    if File.dir?(folder),
      do: {:ok, folder},
      else: {:error, {:config_not_found, Path.join(folder, "config.json")}}
  end

  def resolve({:hf, id, opts}, files) when is_binary(id) do
    opts = Options.validate!(opts, @table)
    reference = if opts.revision, do: "hf:#{id}@#{opts.revision}", else: "hf:#{id}"

    options = %{
      cache_folder: opts.cache_dir || cache_folder(),
      endpoint: System.get_env("HF_ENDPOINT"),
      token: opts.auth_token || System.get_env("HF_TOKEN"),
      proxy: System.get_env("HTTPS_PROXY") || System.get_env("https_proxy"),
      no_proxy: System.get_env("NO_PROXY") || System.get_env("no_proxy"),
      ca_file: System.get_env("SSL_CERT_FILE"),
      is_offline: if(is_nil(opts.offline), do: System.get_env("HF_HUB_OFFLINE") == "1", else: opts.offline),
      patterns: patterns(files, opts.subdir)
    }

    Options.check!(:hf, :string, id)

    with {:ok, folder} <- Error.wrap(NIF.hub_resolve(reference, options)) do
      {:ok, if(opts.subdir, do: Path.join(folder, opts.subdir), else: folder)}
    end
  end

  def resolve(other, _files) do
    raise ArgumentError,
          "expected a repository {:hf, id}, {:hf, id, options} or {:local, folder}, got: #{inspect(other)}"
  end

  defp patterns(_, subdir) when is_binary(subdir), do: [subdir <> "/*"]
  defp patterns(:tokenizer, nil), do: @tokenizer_files
  defp patterns(:model, nil), do: nil

  defp cache_folder do
    cond do
      folder = System.get_env("HF_HUB_CACHE") -> folder
      folder = System.get_env("HF_HOME") -> Path.join(folder, "hub")
      true -> Path.join(System.user_home!(), ".cache/huggingface/hub")
    end
  end
end
