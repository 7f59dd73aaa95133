defmodule Posts.Endpoint do
  @moduledoc """
  `Posts.API` by the OTP's own :inets, a process a connection.
  """

  require Record
  Record.defrecordp(:request, :mod, Record.extract(:mod, from_lib: "inets/include/httpd.hrl"))

  @doc "A child of a supervisor: `{Posts.Endpoint, port: port}`."
  def child_spec(opts), do: %{id: __MODULE__, start: {__MODULE__, :start_link, [opts]}, type: :supervisor}

  def start_link(opts) do
    root = System.tmp_dir!() |> String.to_charlist()

    :inets.start(
      :httpd,
      [
        port: Keyword.fetch!(opts, :port),
        bind_address: {127, 0, 0, 1},
        server_name: 'posts',
        server_root: root,
        document_root: root,
        max_body_size: Posts.API.body_limit(),
        modules: [__MODULE__]
      ],
      :stand_alone
    )
  end

  @doc false
  # Called by httpd for each request, in the connection's process.
  def unquote(:do)(request(method: method, request_uri: uri, entity_body: body)) do
    path = uri |> to_string() |> String.split("?") |> hd()
    {status, text} = Posts.API.call(to_string(method), path, IO.iodata_to_binary(body))
    length = text |> byte_size() |> Integer.to_charlist()
    head = [code: status, content_type: 'application/json', content_length: length]
    {:proceed, [response: {:response, head, [text]}]}
  end
end
