defmodule Bombus do
  @moduledoc """
  4-bit language models and their fine-tuning, in the BEAM's own process and without Python.

      {:ok, model} = Bombus.load_model({:hf, "lmstudio-community/Qwen3-8B-MLX-4bit"})
      {:ok, tokenizer} = Bombus.load_tokenizer({:hf, "Qwen/Qwen3-8B"})
      serving = Bombus.Text.generation(model, tokenizer, max_new_tokens: 100)
      {:ok, answer} = Bombus.chat(serving, [%{role: "user", content: "Why is the sky blue?"}])
      answer.text

  Models, tokenizers, adapters, servings and trainings are freed by the garbage collector, and at once by `unload/1`. Generation and
  training run on threads of the library; nothing here holds a scheduler. See `Bombus.Serving` for servings,
  `Bombus.Training` for training, and the guide "From your posts to a model that writes like you".
  """

  alias Bombus.{
    Adapter,
    Constraint,
    Error,
    Generation,
    Hub,
    Model,
    NIF,
    Options,
    Serving,
    Tokenizer,
    Training
  }

  @doc """
  Loads a model.

    * `:quantization` - `:int4` (or `:int2`, `:int3`, `:int5`, `:int6`, `:int8`, `:none`): checked against config.json
    * `:backend` - `:auto`, `:cpu`, `:gpu`, `:cuda`, or an Nx backend such as `{EMLX.Backend, device: :gpu}`, which stands for the
      best device present; one that does not work here is `{:error, {:unsupported_backend, name, usable}}`
    * `:exact`, `:threads` - see `Bombus.Model.open/2`
  """
  @spec load_model(Hub.repository(), keyword) :: {:ok, Model.t()} | {:error, term}
  def load_model(repository, opts \\ []) do
    opts =
      Options.validate!(opts,
        quantization: {{:in, [:int2, :int3, :int4, :int5, :int6, :int8, :none]}, nil},
        backend: {:any, :auto},
        exact: {:boolean, nil},
        threads: {:natural, nil}
      )

    with {:ok, _device} <- Model.device(opts.backend),
         {:ok, folder} <- Hub.resolve(repository),
         {:ok, config} <- Model.read_config(folder),
         :ok <- check_quantization(opts.quantization, config) do
      Model.open(folder, config, device: opts.backend, exact: opts.exact, threads: opts.threads)
    end
  end

  defp check_quantization(nil, _config), do: :ok

  defp check_quantization(wanted, config) do
    found =
      case config["quantization"] || config["quantization_config"] do
        %{"bits" => bits} -> :"int#{bits}"
        _ -> :none
      end

    if found == wanted, do: :ok, else: {:error, {:quantization_mismatch, wanted, found}}
  end

  @doc "Loads an adapter; `:scale` takes the place of the scale that its files give."
  @spec load_adapter(Hub.repository(), keyword) :: {:ok, Adapter.t()} | {:error, term}
  def load_adapter(repository, opts \\ []) do
    opts = Options.validate!(opts, scale: {:number, nil})

    with {:ok, folder} <- Hub.resolve(repository) do
      Adapter.load(folder, scale_override: opts.scale)
    end
  end

  @doc "Loads a tokenizer and the chat template beside it; of a repository no weights are downloaded."
  @spec load_tokenizer(Hub.repository()) :: {:ok, Tokenizer.t()} | {:error, term}
  def load_tokenizer(repository) do
    with {:ok, folder} <- Hub.resolve(repository, :tokenizer), do: Tokenizer.open(folder)
  end

  @doc "See `Bombus.Text.generation/3`."
  def generation(model, tokenizer, opts \\ []), do: Bombus.Text.generation(model, tokenizer, opts)

  @doc """
  Trains an adapter: `data` is a folder of jsonl files, or a list of examples (texts, or maps such as `%{messages: [...]}`). Options as
  `Bumblebee.Training.LoRA.train/1`; without `:output_path` the adapter is written to a folder of its own below
  `System.tmp_dir!/0`.
  """
  @spec train_adapter(Model.t(), Path.t() | [String.t() | map], keyword) ::
          {:ok, Adapter.t()} | {:error, term}
  def train_adapter(%Model{} = model, data, opts \\ []) do
    Options.known!(opts, Training.option_names() -- [:training_data])
    opts = Keyword.put_new_lazy(opts, :output_path, fn -> Training.temporary_folder("adapter") end)

    with {:ok, path} <- Training.train([base_model: model, training_data: data] ++ opts) do
      Adapter.load(path)
    end
  end

  @doc """
  One turn of a conversation.

      {:ok, answer} = Bombus.chat(serving, [%{role: "user", content: "Hello"}], max_new_tokens: 40)
      answer.message
      #=> %{role: "assistant", content: "..."}

  `serving` is one of Bombus' or Nx's, or the name of a process that holds one. Options are those of a request (see `Bombus.Serving`); with
  `stream: true` the answer is `{:ok, stream}`, with `schema:` it has `object`, the value that the schema describes. Wrong options raise, a failed generation is `{:error, %Bombus.Error{}}`.
  """
  @spec chat(struct | atom | pid, [map], keyword) :: {:ok, map | Enumerable.t()} | {:error, Error.t()}
  def chat(serving, messages, opts \\ []) do
    serving = Serving.of(serving)
    {[{input, _}], :one} = Generation.inputs!(%{messages: messages})
    options = Generation.merge!(serving.options, opts)
    request = Generation.submit!(serving, input, options)

    if options.stream do
      {:ok, Generation.stream(request)}
    else
      result = Generation.await!(request)
      {:ok, Map.put(result, :message, %{role: "assistant", content: result.text})}
    end
  rescue
    error in Error -> {:error, error}
  end

  @doc """
  Gives the memory of a model, tokenizer, adapter, constraint, serving or training back at once. What was made of it goes with it: servings
  and trainings of a model end, their requests as cancelled; a tokenizer or a constraint waits for those that still need it. Later use is an
  error of status `:closed`.
  """
  @spec unload(struct) :: :ok
  def unload(%Model{ref: ref}), do: NIF.object_close(ref)
  def unload(%Tokenizer{ref: ref}), do: NIF.object_close(ref)
  def unload(%Constraint{ref: ref}), do: NIF.object_close(ref)
  def unload(%Adapter{attached: attached}), do: Enum.each(attached, fn {_, ref} -> NIF.object_close(ref) end)
  def unload(%Training{object: object}), do: NIF.object_close(object)
  def unload(%Serving{engine: engine}), do: NIF.object_close(engine)
  def unload(other), do: other |> Serving.of() |> unload()

  @doc "Names of the devices that models can be opened on here."
  @spec devices() :: [atom]
  def devices, do: Model.usable()

  @doc "How many models, tokenizers, adapters, constraints, sessions, engines and trainings are not given back yet."
  @spec live() :: %{atom => non_neg_integer}
  def live, do: NIF.object_counts()

  @doc "The version of the library."
  @spec version() :: String.t()
  def version, do: NIF.version()
end
