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

  defp call(method, path, body \\ nil) do
    url = 'http://127.0.0.1:#{Posts.Endpoint.port()}#{path}'
    request = if body, do: {url, [], 'application/json', JSON.encode(body)}, else: {url, []}

    {:ok, {{_, status, _}, _, answer}} =
      :httpc.request(method, request, [timeout: 60_000], body_format: :binary)

    {status, JSON.decode!(answer)}
  end

  test "posts are written, many at once, by one engine" do
    {200, %{"text" => text, "adapter" => nil}} =
      call(:post, "/posts", %{prompt: "Write a post about winter", seed: 3})

    tasks =
      for _ <- 1..6,
          do: Task.async(fn -> call(:post, "/posts", %{prompt: "Write a post about winter", seed: 3}) end)

    assert [{200, %{"text" => ^text}}] = tasks |> Task.await_many(60_000) |> Enum.uniq()
    assert {200, %{"finished" => finished}} = call(:get, "/status")
    assert finished >= 7
  end

  test "adapters are swapped while requests run", %{folder: folder} do
    body = %{seed: 5}
    {200, %{"text" => plain}} = call(:post, "/posts", body)
    running = for _ <- 1..4, do: Task.async(fn -> call(:post, "/posts", body) end)
    assert {200, %{"adapter" => ^folder}} = call(:put, "/adapter", %{folder: folder})
    {200, %{"text" => adapted, "adapter" => ^folder}} = call(:post, "/posts", body)
    assert adapted != plain

    for {200, %{"text" => text, "adapter" => adapter}} <- Task.await_many(running, 60_000) do
      assert text == if(adapter, do: adapted, else: plain)
    end

    assert {200, %{"adapter" => nil}} = call(:delete, "/adapter")
    assert {200, %{"text" => ^plain}} = call(:post, "/posts", body)
  end

  test "what is wrong is said", %{folder: folder} do
    assert {404, %{"error" => _}} = call(:get, "/nothing")
    assert {422, %{"error" => _}} = call(:put, "/adapter", %{folder: folder <> "-none"})
    assert {400, %{"error" => message}} = call(:post, "/posts", %{seed: -1})
    assert message =~ ":seed"
    assert {400, %{"error" => _}} = call(:post, "/posts", [1])
  end

  test "the engine comes back after a crash" do
    pid = Process.whereis(Posts.Serving)
    ref = Process.monitor(pid)
    Process.exit(pid, :kill)
    assert_receive {:DOWN, ^ref, _, _, _}
    Process.sleep(500)
    assert {200, %{"text" => _}} = call(:post, "/posts", %{})
  end
end
