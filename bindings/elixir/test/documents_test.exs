defmodule Bombus.DocumentsTest do
  # What the documents tell people to type, run from the documents themselves.
  use ExUnit.Case

  import Bombus.Fixtures
  alias Bombus.{Document, HubServer}

  @package Path.expand("..", __DIR__)

  # In the repository's folder, as its README says.
  defp in_root(fun), do: File.cd!(root(), fun)

  test "the READMEs" do
    in_root(fn ->
      assert [chat] = root() |> Path.join("README.md") |> Document.cells()
      assert [{:ok, %{text: text, message: %{role: "assistant"}}}] = Document.run([chat])
      assert text =~ ~r/\w/
      assert [example] = @package |> Path.join("README.md") |> Document.cells()
      assert [%{results: [%{text: _, token_count: count}]}] = Document.run([example])
      assert count in 1..100
    end)
  end

  @tag skip: without_nx()
  test "the workflow as written: from a person's posts to a model that writes like them" do
    HubServer.start!(%{"Qwen/Qwen3-8B" => folder()})

    binding = [
      my_posts: posts(),
      data_dir: temporary("workflow-data"),
      base_model: folder(),
      adapter_dir: temporary("workflow-adapter"),
      model_dir: folder()
    ]

    # All in one piece; the model by its name, from a hub on this machine. Only the number of iterations is not what a test has time for.
    assert [_] = workflow = Document.cells(Path.join(__DIR__, "documents/workflow.md"))
    assert [%{results: [result]}] = Document.run(workflow, [{"25_000", "4"}], binding)

    assert %{text: text, token_count: count, token_summary: %{input: input, output: count, padding: 0}} =
             result

    assert String.valid?(text) and count in 1..100 and input > 0
  end

  @tag skip: without_nx()
  test "the guide" do
    cells = Document.cells(Path.join(@package, "guides/posts.md"))
    data = temporary("guide-data")

    changes = [
      {~s("posts.txt"), inspect(Path.join(root(), "examples/posts/posts.txt"))},
      {~s(data_dir = "data"), "data_dir = #{inspect(data)}"},
      {~s(adapter_dir = "adapter"), "adapter_dir = #{inspect(temporary("guide-adapter"))}"},
      {~s("models/Qwen3-8B-MLX-4bit"), inspect(folder())},
      {"iterations: 2_000", "iterations: 4"}
    ]

    test = self()
    # What it prints while it trains:
    printed = ExUnit.CaptureIO.capture_io(fn -> send(test, {:values, Document.run(cells, changes)}) end)
    assert printed =~ ~r/^validation \d+\.\d+/m
    assert_received {:values, values}
    assert %{results: [%{text: text}]} = List.last(values)
    assert String.valid?(text)
  end

  # A chart that keeps its points.
  defp stub_charts do
    unless Code.ensure_loaded?(VegaLite) do
      Code.eval_string(~S"""
      defmodule VegaLite do
        def new(opts) when is_list(opts), do: %{options: opts, fields: []}
        def mark(chart, :line), do: Map.put(chart, :mark, :line)
        def encode_field(chart, channel, name, opts), do: %{chart | fields: [{channel, name, opts} | chart.fields]}
      end
      """)
    end

    unless Code.ensure_loaded?(Kino.VegaLite) do
      Code.eval_string(~S"""
      defmodule Kino.VegaLite do
        def new(%{mark: :line, fields: [_, _, _]} = chart), do: {:chart, chart}
        def push({:chart, _chart}, %{"iter" => iter, "loss" => loss, "type" => type} = point)
            when is_integer(iter) and is_float(loss) and is_binary(type) do
          send(:bombus_notebook_test, {:point, point})
          :ok
        end
      end

      defmodule Kino do
        def render({:chart, _} = chart), do: chart
      end
      """)
    end
  end

  test "the notebook, every cell of it" do
    Process.register(self(), :bombus_notebook_test)
    stub_charts()
    [install | cells] = Document.cells(Path.join(@package, "guides/training.livemd"))
    # The first cell alone is not run: it installs this package and the charts.
    assert install =~ "Mix.install" and install =~ ":kino_vega_lite" and
             install =~ ~s|Path.expand("..", __DIR__)|

    [data, adapter] = [temporary("notebook-data"), temporary("notebook-adapter")]

    changes = [
      {~s|Path.expand("../../..", __DIR__)|, inspect(root())},
      {~s|Path.join(System.tmp_dir!(), "bombus-notebook-data")|, inspect(data)},
      {~s|Path.join(System.tmp_dir!(), "bombus-notebook-adapter")|, inspect(adapter)},
      {"iterations: 200", "iterations: 10"},
      {"steps_per_eval: 25", "steps_per_eval: 5"}
    ]

    values = Document.run(cells, changes)
    assert length(values) == length(cells)
    assert Enum.any?(values, &match?(%{end: :finished, iter: 10}, &1))
    assert [first, second] = List.last(values)
    assert is_binary(first) and is_binary(second)
    assert_received {:point, %{"type" => "train", "iter" => 5}}
    assert_received {:point, %{"type" => "train", "iter" => 10}}
    assert_received {:point, %{"type" => "validation", "iter" => 10}}
  end

  test "what ExDoc is told to read is there" do
    docs = Mix.Project.config()[:docs]
    for extra <- docs[:extras], do: assert(File.regular?(Path.join(@package, extra)))
    assert docs[:main] == "readme"
    # Every module and every public function of one that has documentation has its own.
    {:ok, modules} = :application.get_key(:bombus, :modules)

    for module <- modules, not (inspect(module) =~ ~r/^Inspect|Fixtures|HubServer|Document$/) do
      assert {:docs_v1, _, :elixir, _, moduledoc, _, entries} = Code.fetch_docs(module)
      assert moduledoc == :hidden or is_map(moduledoc), "#{inspect(module)} has no moduledoc"

      if is_map(moduledoc) and not function_exported?(module, :__mix_task__, 0) do
        undocumented = for {{:function, name, arity}, _, _, :none, _} <- entries, do: {name, arity}
        assert undocumented -- callbacks() == [], inspect(module)
      end
    end
  end

  defp callbacks,
    do: [init: 1, handle_call: 3, run: 1, exception: 1, message: 1, __struct__: 0, __struct__: 1]
end
