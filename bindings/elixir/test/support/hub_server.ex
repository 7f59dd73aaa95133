defmodule Bombus.HubServer do
  @moduledoc false
  # A hub on this machine by the OTP's own :inets: folders as repositories, with the listing, digests and headers of the real one.

  require Record
  Record.defrecordp(:request, :mod, Record.extract(:mod, from_lib: "inets/include/httpd.hrl"))

  @commit String.duplicate("a1", 20)

  @doc "Starts a server of `%{\"owner/name\" => folder}`, and points HF_ENDPOINT and the cache at it and at a new folder, until the test ends."
  def start!(repositories, opts \\ []) do
    root = System.tmp_dir!() |> String.to_charlist()
    :persistent_term.put(__MODULE__, {repositories, opts[:token]})
    :persistent_term.put({__MODULE__, :requests}, counter = :counters.new(1, []))

    {:ok, pid} =
      :inets.start(:httpd,
        port: 0,
        bind_address: {127, 0, 0, 1},
        server_name: 'hub',
        server_root: root,
        document_root: root,
        modules: [__MODULE__]
      )

    port = :httpd.info(pid)[:port]
    cache = Bombus.Fixtures.temporary("hub-cache")

    environment(
      HF_ENDPOINT: "http://127.0.0.1:#{port}",
      HF_HUB_CACHE: cache,
      NO_PROXY: "127.0.0.1",
      no_proxy: "127.0.0.1"
    )

    ExUnit.Callbacks.on_exit(fn -> :inets.stop(:httpd, pid) end)
    %{cache: cache, port: port, pid: pid, counter: counter}
  end

  @doc "How many requests there were."
  def requests(%{counter: counter}), do: :counters.get(counter, 1)

  @doc "Variables of the environment until the test ends; nil: not set."
  def environment(variables) do
    before = for {name, _} <- variables, do: {to_string(name), System.get_env(to_string(name))}
    put = fn {name, value} -> if value, do: System.put_env(name, value), else: System.delete_env(name) end
    for {name, value} <- variables, do: put.({to_string(name), value})
    ExUnit.Callbacks.on_exit(fn -> Enum.each(before, put) end)
  end

  @doc false
  # Called by httpd for each request.
  def unquote(:do)(request(method: method, request_uri: uri, parsed_header: headers)) do
    :counters.add(:persistent_term.get({__MODULE__, :requests}), 1, 1)
    {repositories, token} = :persistent_term.get(__MODULE__)

    {status, headers, body} =
      answer(to_string(uri), repositories, token, List.keyfind(headers, 'authorization', 0))

    head = [code: status, content_length: body |> byte_size() |> Integer.to_charlist()] ++ headers
    {:proceed, [response: {:response, head, if(method == 'HEAD', do: :nobody, else: [body])}]}
  end

  defp answer(_uri, _repositories, token, authorization)
       when token != nil and authorization != {'authorization', 'Bearer secret'},
       do: {401, ["x-error-code": 'GatedRepo'], ""}

  defp answer(uri, repositories, _token, _authorization) do
    with {:ok, name, rest} <- repository(uri, Map.keys(repositories)),
         {:ok, answer} <- resource(rest, repositories[name]) do
      answer
    else
      _ -> {404, ["x-error-code": 'EntryNotFound'], "no"}
    end
  end

  defp repository("/api/models/" <> rest, names), do: repository("/" <> rest, names)

  defp repository("/" <> rest, names) do
    case Enum.find(names, &String.starts_with?(rest, &1 <> "/")) do
      nil -> :error
      name -> {:ok, name, String.replace_prefix(rest, name <> "/", "")}
    end
  end

  # The branch main and the tag v1 are one commit.
  defp resource("revision/" <> rest, folder) do
    if hd(String.split(rest, "?")) in ["main", "v1", @commit] do
      {:ok, {200, [content_type: 'application/json'], listing(folder)}}
    else
      :error
    end
  end

  defp resource("resolve/" <> rest, folder) do
    with [@commit, name] <- String.split(rest, "/", parts: 2),
         {:ok, content} <- File.read(Path.join(folder, name)) do
      {:ok, {200, ["x-repo-commit": String.to_charlist(@commit), etag: '"#{tag(name, content)}"'], content}}
    end
  end

  defp resource(_rest, _folder), do: :error

  defp listing(folder) do
    siblings =
      for path <- Path.wildcard(Path.join(folder, "**")), File.regular?(path) do
        {name, content} = {Path.relative_to(path, folder), File.read!(path)}

        file = %{
          rfilename: name,
          size: byte_size(content),
          blobId: digest(:sha, ["blob #{byte_size(content)}\0", content])
        }

        if large?(name),
          do: Map.put(file, :lfs, %{sha256: digest(:sha256, content), size: byte_size(content)}),
          else: file
      end

    Bombus.JSON.encode(%{sha: @commit, siblings: siblings})
  end

  defp tag(name, content) do
    if large?(name),
      do: digest(:sha256, content),
      else: digest(:sha, ["blob #{byte_size(content)}\0", content])
  end

  defp large?(name), do: String.ends_with?(name, ".safetensors")
  defp digest(kind, content), do: kind |> :crypto.hash(content) |> Base.encode16(case: :lower)
end
