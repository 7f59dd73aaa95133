# Where Plug is on the code path when this is compiled.
if Code.ensure_loaded?(Plug.Conn) do
  defmodule Posts.Plug do
    @moduledoc """
    `Posts.API` as a Plug: by itself behind any server of Plugs, or `forward "/", to: Posts.Plug` in a router of your own.
    """

    @behaviour Plug
    import Plug.Conn

    @impl true
    def init(opts), do: opts

    @impl true
    def call(conn, _opts) do
      limit = Posts.API.body_limit()

      case read_body(conn, length: limit) do
        {:ok, body, conn} when byte_size(body) <= limit -> answer(conn, body)
        {:error, _reason} -> send_resp(conn, 400, "")
        {_, _body, conn} -> conn |> put_resp_header("connection", "close") |> send_resp(413, "")
      end
    end

    # The path below where a router forwards from.
    defp answer(conn, body) do
      {status, text} = Posts.API.call(conn.method, "/" <> Enum.join(conn.path_info, "/"), body)
      conn |> put_resp_content_type("application/json") |> send_resp(status, text)
    end
  end
end
