defmodule Bombus.TrainingTest do
  use ExUnit.Case

  import Bombus.Fixtures
  alias Bombus.{JSON, Training}
  alias Bumblebee.Training.LoRA

  @quick [
    iterations: 4,
    grad_accumulation: 1,
    learning_rate: 1.0e-3,
    steps_per_report: 2,
    max_seq_length: 128
  ]

  defp prepared(name, count \\ 12) do
    folder = temporary(name)
    :ok = LoRA.prepare_data(Enum.take(posts(), count), folder)
    folder
  end

  defp lines(path), do: path |> File.read!() |> String.split("\n", trim: true) |> Enum.map(&JSON.decode!/1)

  test "posts become conversations, in order or shuffled" do
    folder = temporary("data")
    texts = Enum.take(posts(), 20)

    assert :ok =
             LoRA.prepare_data(["short" | texts], folder, prompt: "Write a post in my style", min_length: 160)

    rows = lines(Path.join(folder, "train.jsonl"))
    assert length(rows) == 18 and length(lines(Path.join(folder, "valid.jsonl"))) == 2

    assert %{"messages" => [%{"role" => "user", "content" => "Write a post in my style"}, assistant]} =
             hd(rows)

    assert assistant == %{"role" => "assistant", "content" => hd(texts)}

    assert {:error, :no_valid_content} =
             LoRA.prepare_data(["short", "  "], temporary("none"), min_length: 160)

    assert :ok = Bumblebee.Adapters.prepare_training_data(texts, folder, split_ratio: 0.5, shuffle_seed: 3)
    shuffled = lines(Path.join(folder, "train.jsonl"))
    assert length(shuffled) == 10
    assert Enum.map(shuffled, &Enum.at(&1["messages"], 1)["content"]) != Enum.take(texts, 10)
  end

  test "training reports, logs, saves, and the adapter loads" do
    output = temporary("adapter")
    test = self()

    opts = [
      base_model: folder(),
      training_data: prepared("posts"),
      output_path: output,
      progress: &send(test, {:event, &1})
    ]

    assert {:ok, ^output} = LoRA.train(opts ++ @quick)
    assert_received {:event, %{type: :begin}}
    assert_received {:event, %{type: :train, iter: 2, loss: loss}} when is_float(loss) and loss > 0
    assert_received {:event, %{type: :train, iter: 4}}
    assert_received {:event, %{type: :validation}}
    assert File.exists?(Path.join(output, "adapters.safetensors"))
    log = Path.join(output, "training.jsonl")

    assert [%{type: :train, iter: 2}, %{type: :train, iter: 4}] =
             log |> LoRA.monitor_training() |> Enum.filter(&(&1.type == :train))

    assert {:ok, adapter} = Bumblebee.Adapters.load(output)
    assert adapter.rank == 8 and adapter.scaling == 20.0
    assert Map.keys(adapter.layers) == Enum.to_list(0..7)
    pair = Bumblebee.Adapters.get_layer_adapter(adapter, 3).self_attn.q_proj
    shape = fn x -> if is_tuple(x), do: x, else: apply(Nx, :shape, [x]) end
    assert {shape.(pair.lora_a), shape.(pair.lora_b)} == {{512, 8}, {8, 512}}
    assert Bumblebee.Adapters.get_layer_adapter(adapter, 9) == nil
  end

  test "options that are missing are named" do
    assert {:error, {:missing_options, [:base_model, :output_path]}} = LoRA.train(training_data: "x")

    assert {:error, %Bombus.Error{status: :not_found}} =
             LoRA.train(base_model: folder(), training_data: "/nowhere", output_path: temporary("x"))
  end

  test "train_adapter takes examples and sends progress to a process" do
    examples =
      for text <- Enum.take(posts(), 6),
          do: %{messages: [%{role: "user", content: "Write"}, %{role: "assistant", content: text}]}

    model = model!()

    assert {:ok, %Bombus.Adapter{} = adapter} =
             Bumblebee.train_adapter(model, examples, [progress: self()] ++ @quick)

    assert_received {:bombus_training, %{type: :train}}
    # A folder will do as well, and a function.
    test = self()
    opts = [progress: &send(test, {:seen, &1.type}), output_path: temporary("folder")] ++ @quick
    assert {:ok, %Bombus.Adapter{}} = Bombus.train_adapter(model, prepared("folder-data"), opts)
    assert_received {:seen, :train}
    File.rm_rf!(adapter.folder)

    {:ok, job} =
      Training.start(model, tokenizer!(), [training_data: examples, output_path: temporary("list")] ++ @quick)

    assert File.exists?(Path.join(job.temporary, "train.jsonl"))
    assert {:ok, %{end: :finished}} = Training.await(job)
    refute File.exists?(job.temporary)
  end

  test "a training is cancelled, by hand and by the death of its owner, and saves" do
    model = model!()
    tokenizer = tokenizer!()
    output = temporary("cancelled")
    opts = [training_data: prepared("long"), steps: true] ++ Keyword.put(@quick, :iterations, 100_000)
    {:ok, job} = Training.start(model, tokenizer, [output_path: output] ++ opts)
    stop = fn event -> if event.type == :step and event.iter >= 2, do: Training.cancel(job) end
    assert {:ok, %{end: :cancelled}} = Training.await(job, stop)
    assert File.exists?(Path.join(output, "adapters.safetensors"))

    assert eventually(fn -> live().trainings == 0 end)
    other = temporary("orphan")

    {pid, ref} =
      spawn_monitor(fn ->
        Training.start(model, tokenizer, [output_path: other] ++ opts) && Process.sleep(:infinity)
      end)

    assert eventually(fn -> Bombus.live().trainings == 1 end)
    Process.sleep(300)
    Process.exit(pid, :kill)
    assert_receive {:DOWN, ^ref, _, _, _}
    assert eventually(fn -> Bombus.live().trainings == 0 end, 1500)
  end

  test "a model that only its training needs is not collected before the training's end" do
    output = temporary("only")
    collect = fn _event -> Enum.each(Process.list(), &:erlang.garbage_collect/1) end

    opts =
      [training_data: prepared("only-data"), output_path: output, progress: collect, steps: true] ++ @quick

    assert {:ok, ^output} = LoRA.train([base_model: model!()] ++ opts)

    assert %{"type" => "end", "end" => "finished", "iter" => 4} =
             List.last(lines(Path.join(output, "training.jsonl")))
  end

  test "a training whose model is unloaded is an error that says so" do
    model = model!()
    unload = fn event -> if event.type == :step, do: spawn(fn -> Bombus.unload(model) end) end

    opts = [
      training_data: prepared("unloaded-data"),
      output_path: temporary("unloaded"),
      progress: unload,
      steps: true,
      iterations: 100_000
    ]

    assert {:error, %Bombus.Error{status: :cancelled, message: message}} =
             LoRA.train([base_model: model] ++ opts)

    assert message =~ "unloaded"
  end

  test "defaults are those of the documentation" do
    output = temporary("defaults")

    opts = [
      base_model: folder(),
      training_data: prepared("defaults-data"),
      output_path: output,
      iterations: 20
    ]

    assert {:ok, ^output} = LoRA.train(opts)
    config = output |> Path.join("adapter_config.json") |> File.read!() |> JSON.decode!()

    assert %{
             "fine_tune_type" => "lora",
             "num_layers" => 8,
             "lora_parameters" => %{"rank" => 8, "scale" => 20, "dropout" => 0},
             "optimizer" => "adam",
             "learning_rate" => 1.0e-5,
             "batch_size" => 1,
             "grad_accumulation_steps" => 8,
             "iters" => 20,
             "max_seq_length" => 256,
             "seed" => 42
           } = config

    # A tenth of the iterations: validated and saved every 2; reported every 100, and at the end.
    events = lines(Path.join(output, "training.jsonl"))
    iters = fn type -> for %{"type" => ^type, "iter" => iter} <- events, do: iter end
    assert Enum.filter(iters.("validation"), &(rem(&1, 2) == 0)) |> Enum.uniq() |> length() >= 10
    assert 2 in iters.("saved") and 20 in iters.("saved")
    assert Enum.uniq(iters.("train")) == [20]
  end

  test "the time is measured" do
    assert LoRA.estimate_training_time(100_000, folder()) =~ ~r/^~(\d+h \d+m|\d+m \d+s|\d+s)$/
  end

  test "a log is followed while it grows" do
    log = temporary("log.jsonl")
    File.write!(log, ~s({"type":"train","iter":1,"loss":3.5}\n{"type":"saved"}\n{"type":"va))

    writer = fn ->
      Process.sleep(150)
      File.write!(log, ~s(lidation","iter":1,"loss":3.25}\n{"type":"end"}\n), [:append])
    end

    task = Task.async(writer)

    assert Enum.to_list(LoRA.monitor_training(log)) == [
             %{type: :train, iter: 1, loss: 3.5},
             %{type: :validation, iter: 1, loss: 3.25}
           ]

    Task.await(task)
  end
end
