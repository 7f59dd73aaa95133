defmodule PostsTest do
  use ExUnit.Case

  alias Bombus.JSON

  setup_all do
    folder = Path.join(System.tmp_dir!(), "posts-adapter-#{System.pid()}")
    on_exit(fn -> File.rm_rf!(folder) end)
    model = Bombus.Serving.of(Posts.Serving).model
    posts = Path.expand("../../posts/posts.txt", __DIR__) |> File.read!() |> String.split("\n", trim: true)

    data =
      for text <- Enum.take(posts, 8),
          do: %{messages: [%{role: "user", content: "Write a post"}, %{role: "assistant", content: text}]}

    opts = [output_path: folder, iterations: 10, grad_accumulation: 1, learning_rate: 2.0e-3]
    {:ok, _adapter} = Bombus.train_adapter(model, data, opts)
    %{folder: folder}
  end

  setup do
    Posts.Style.clear()
  end

  defp free_port do
    {:ok, socket} = :gen_tcp.listen(0, ip: {127, 0, 0, 1})
    {:ok, port} = :inet.port(socket)
    :gen_tcp.close(socket)
    port
  end

  # A connection a request.
  @close [{'connection', 'close'}]

  defp call(port, method, path, body \\ nil) do
    url = 'http://127.0.0.1:#{port}#{path}'
    request = if body, do: {url, @close, 'application/json', JSON.encode(body)}, else: {url, @close}

    {:ok, {{_, status, _}, headers, answer}} =
      :httpc.request(method, request, [timeout: 60_000], body_format: :binary)

    assert {_, 'application/json' ++ _} = List.keyfind(headers, 'content-type', 0)
    {status, JSON.decode!(answer)}
  end

  # The same by each server.
  for {server, skip} <- [
        inets: nil,
        bandit: unless(Posts.Application.bandit?(), do: "Plug and Bandit are not on the code path")
      ] do
    describe "#{server}" do
      @describetag skip: skip

      setup do
        port = free_port()
        start_supervised!(Posts.Application.endpoint(unquote(server), port))
        %{port: port}
      end

      test "posts are written, many at once, by one engine", %{port: port} do
        body = %{prompt: "Write a post about winter", seed: 3}
        {200, %{"text" => text, "adapter" => nil}} = call(port, :post, "/posts", body)
        tasks = for _ <- 1..6, do: Task.async(fn -> call(port, :post, "/posts", body) end)
        assert [{200, %{"text" => ^text}}] = tasks |> Task.await_many(60_000) |> Enum.uniq()
        assert {200, %{"finished" => finished}} = call(port, :get, "/status")
        assert finished >= 7
      end

      test "adapters are swapped while requests run", %{port: port, folder: folder} do
        body = %{seed: 5}
        {200, %{"text" => plain}} = call(port, :post, "/posts?a=b", body)
        running = for _ <- 1..4, do: Task.async(fn -> call(port, :post, "/posts", body) end)
        assert {200, %{"adapter" => ^folder}} = call(port, :put, "/adapter", %{folder: folder})
        {200, %{"text" => adapted, "adapter" => ^folder}} = call(port, :post, "/posts", body)
        assert adapted != plain

        for {200, %{"text" => text, "adapter" => adapter}} <- Task.await_many(running, 60_000) do
          assert text == if(adapter, do: adapted, else: plain)
        end

        assert {200, %{"adapter" => nil}} = call(port, :delete, "/adapter")
        assert {200, %{"text" => ^plain}} = call(port, :post, "/posts", body)
      end

      test "what is wrong is said", %{port: port, folder: folder} do
        assert {404, %{"error" => "nothing at /nothing"}} = call(port, :get, "/nothing")
        assert {404, _} = call(port, :get, "/posts")
        assert {422, %{"error" => _}} = call(port, :put, "/adapter", %{folder: folder <> "-none"})
        assert {400, %{"error" => _}} = call(port, :put, "/adapter", %{folder: 7})
        assert {400, %{"error" => _}} = call(port, :put, "/adapter", %{})
        assert {400, %{"error" => message}} = call(port, :post, "/posts", %{seed: -1})
        assert message =~ ":seed"
        assert {400, %{"error" => _}} = call(port, :post, "/posts", %{prompt: 7})
        assert {400, %{"error" => _}} = call(port, :post, "/posts", [1])
      end

      test "a body that is too long is refused", %{port: port} do
        long = String.duplicate("x", Posts.API.body_limit() + 1)
        url = 'http://127.0.0.1:#{port}/posts'
        answer = :httpc.request(:post, {url, @close, 'application/json', long}, [timeout: 60_000], [])

        # A server may close the connection before all of it is sent.
        assert match?({:ok, {{_, 413, _}, _, _}}, answer) or match?({:error, _}, answer)

        assert {200, _} = call(port, :get, "/status")
      end
    end
  end

  @tag skip: unless(Code.ensure_loaded?(Posts.Plug), do: "Plug is not on the code path")
  test "the Plug by itself, and below a router's path" do
    request = fn method, path, body -> apply(Plug.Test, :conn, [method, path, body]) end
    plug = fn conn -> apply(Posts.Plug, :call, [conn, apply(Posts.Plug, :init, [[]])]) end
    conn = plug.(request.(:post, "/posts", JSON.encode(%{seed: 2})))
    assert conn.status == 200 and conn.state == :sent
    assert %{"text" => text, "tokens" => tokens, "adapter" => nil} = JSON.decode!(conn.resp_body)
    assert is_binary(text) and tokens in 1..100
    assert plug.(request.(:get, "/status", nil)).status == 200
    assert plug.(request.(:post, "/posts", String.duplicate("x", Posts.API.body_limit() + 1))).status == 413
    # Where a router forwards from /stories, path_info is what is below.
    forwarded = %{request.(:get, "/stories/status", nil) | path_info: ["status"], script_name: ["stories"]}
    assert plug.(forwarded).status == 200
  end

  test "the application's own endpoint is supervised, and the engine comes back after a crash" do
    children = for {id, pid, _, _} <- Supervisor.which_children(Posts.Supervisor), do: {id, pid}
    assert length(children) == 3 and Enum.all?(children, fn {_, pid} -> Process.alive?(pid) end)
    pid = Process.whereis(Posts.Serving)
    ref = Process.monitor(pid)
    Process.exit(pid, :kill)
    assert_receive {:DOWN, ^ref, _, _, _}
    Process.sleep(500)
    assert {200, text} = Posts.API.call("POST", "/posts", "")
    assert %{"text" => _} = JSON.decode!(text)
  end
end
