defmodule Posts.Endpoint do
  @moduledoc """
  HTTP by the OTP's own :inets, a process a connection:

    * `POST /posts` `{"prompt": "Write a post", "seed": 7}` - `{"text": ..., "adapter": ..., "tokens": ...}`
    * `PUT /adapter` `{"folder": "..."}` and `DELETE /adapter` - the adapter of the requests from now on
    * `GET /status` - what the engine does
  """

  require Record
  Record.defrecordp(:request, :mod, Record.extract(:mod, from_lib: "inets/include/httpd.hrl"))

  alias Bombus.JSON

  def child_spec(_opts), do: %{id: __MODULE__, start: {__MODULE__, :start_link, []}, type: :supervisor}

  def start_link do
    root = System.tmp_dir!() |> String.to_charlist()
    if port() == 0, do: Application.put_env(:posts, :port, free_port())

    :inets.start(
      :httpd,
      [
        port: port(),
        bind_address: {127, 0, 0, 1},
        server_name: 'posts',
        server_root: root,
        document_root: root,
        modules: [__MODULE__]
      ],
      :stand_alone
    )
  end

  @doc "The port that it listens on."
  def port, do: Application.fetch_env!(:posts, :port)

  defp free_port do
    {:ok, socket} = :gen_tcp.listen(0, ip: {127, 0, 0, 1})
    {:ok, port} = :inet.port(socket)
    :gen_tcp.close(socket)
    port
  end

  @doc false
  # Called by httpd for each request, in the connection's process.
  def unquote(:do)(request(method: method, request_uri: uri, entity_body: body)) do
    {status, answer} =
      route(to_string(method), uri |> to_string() |> String.split("?") |> hd(), IO.iodata_to_binary(body))

    text = JSON.encode(answer)

    head = [
      code: status,
      content_type: 'application/json',
      content_length: Integer.to_charlist(byte_size(text))
    ]

    {:proceed, [response: {:response, head, [text]}]}
  rescue
    error in ArgumentError -> failure(400, Exception.message(error))
    error in Bombus.Error -> failure(503, error.message)
  end

  defp failure(status, message) do
    text = JSON.encode(%{error: message})

    head = [
      code: status,
      content_type: 'application/json',
      content_length: Integer.to_charlist(byte_size(text))
    ]

    {:proceed, [response: {:response, head, [text]}]}
  end

  defp route("POST", "/posts", body) do
    options = object!(body)
    adapter = Posts.Style.current()
    input = %{text: options["prompt"] || "Write a post", adapter: adapter, seed: options["seed"]}
    %{results: [result]} = Bombus.Serving.batched_run(Posts.Serving, input)
    {200, %{text: result.text, tokens: result.token_count, adapter: adapter && adapter.folder}}
  end

  defp route("PUT", "/adapter", body) do
    case Posts.Style.swap(
           object!(body)["folder"] || raise(ArgumentError, "folder: expected the folder of an adapter")
         ) do
      :ok -> {200, %{adapter: Posts.Style.current().folder}}
      {:error, %{message: message}} -> {422, %{error: message}}
      {:error, reason} -> {422, %{error: inspect(reason)}}
    end
  end

  defp route("DELETE", "/adapter", _body) do
    Posts.Style.clear()
    {200, %{adapter: nil}}
  end

  defp route("GET", "/status", _body), do: {200, Bombus.Serving.stats(Posts.Serving)}
  defp route(_method, path, _body), do: {404, %{error: "nothing at #{path}"}}

  defp object!(""), do: %{}

  defp object!(body) do
    case JSON.decode!(body) do
      object when is_map(object) -> object
      _ -> raise ArgumentError, "expected a JSON object"
    end
  end
end
