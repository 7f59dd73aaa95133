defmodule Bombus.OptionsTest do
  # Every option of every function: what is wrong raises ArgumentError with the option's name, before anything reaches the library.
  use ExUnit.Case

  import Bombus.Fixtures
  alias Bombus.{Serving, Tokenizer, Training}
  alias Bumblebee.Text.QuantizedGeneration
  alias Bumblebee.Training.LoRA

  setup_all do
    model = model!()
    tokenizer = tokenizer!()
    %{model: model, tokenizer: tokenizer, serving: Serving.new(model, tokenizer, max_new_tokens: 1)}
  end

  @required [base_model: "x", training_data: "x", output_path: "x"]

  # Each function of options; what is required of it is there already.
  defp functions(%{model: model, tokenizer: tokenizer, serving: serving}) do
    %{
      "load_model" => &Bombus.load_model({:local, folder()}, &1),
      "load_adapter" => &Bombus.load_adapter({:local, folder()}, &1),
      "{:hf, id, options}" => &Bombus.load_tokenizer({:hf, "owner/name", Keyword.merge([offline: true], &1)}),
      "Model.open" => &Bombus.Model.open(folder(), &1),
      "QuantizedLoader.load_model" => &Bumblebee.QuantizedLoader.load_model(folder(), &1),
      "Adapters.load" => &Bumblebee.Adapters.load(adapter_folder(), &1),
      "Serving.new" => &Serving.new(model, tokenizer, &1),
      "Serving.with_options" => &Serving.with_options(serving, &1),
      "Serving.run" => &Serving.run(serving, Map.new([text: "Hello"] ++ &1)),
      "Serving.start_link" => &Serving.start_link(Keyword.merge([serving: serving], &1)),
      "chat" => &Bombus.chat(serving, [%{role: "user", content: "Hello"}], &1),
      "Text.generation" => &Bombus.Text.generation(model, tokenizer, &1),
      "Bumblebee.Text.generation" => &Bumblebee.Text.generation(model, tokenizer, &1),
      "QuantizedGeneration.new" => &QuantizedGeneration.new(model, tokenizer, &1),
      "run_inference" =>
        &QuantizedGeneration.run_inference([model: model, tokenizer: tokenizer] ++ &1, "Hello"),
      "compile" => &QuantizedGeneration.new(model, tokenizer, compile: &1),
      "Constraint.new" => &Bombus.Constraint.new(tokenizer, &1),
      "Tokenizer.encode" => &Tokenizer.encode(tokenizer, "Hello", &1),
      "Tokenizer.decode" => &Tokenizer.decode(tokenizer, [1], &1),
      "forward" => &Bumblebee.Text.Qwen3Quantized.forward([1], model, &1),
      "get_next_token_logits" => &Bumblebee.Text.Qwen3Quantized.get_next_token_logits([1], model, &1),
      "quantize" => &Bombus.Quantization.quantize([[1.0]], &1),
      "Safetensors.load" => &Safetensors.load("x", &1),
      "prepare_data" => &LoRA.prepare_data(["x"], "x", &1),
      "prepare_training_data" => &Bumblebee.Adapters.prepare_training_data(["x"], "x", &1),
      "LoRA.train" => &LoRA.train(Keyword.merge(@required, &1)),
      "Adapters.train" => &Bumblebee.Adapters.train(Keyword.merge(@required, &1)),
      "train_adapter" => &Bombus.train_adapter(model, [%{text: "x"}], &1),
      "Training.start" =>
        &Training.start(model, tokenizer, Keyword.merge(Keyword.delete(@required, :base_model), &1)),
      "estimate_training_time" => &LoRA.estimate_training_time(10, model, &1)
    }
  end

  # The options of a function, as it lists them itself.
  defp names(function) do
    error = assert_raise ArgumentError, fn -> function.(no_such_option: 1) end
    assert [_, names] = Regex.run(~r/unknown option :no_such_option, expected one of: (.*)/, error.message)
    for ":" <> name <- String.split(names, ", "), do: String.to_existing_atom(name)
  end

  test "no option takes a value that is none of its kind", context do
    counts =
      for {what, function} <- functions(context) do
        names = names(function)

        for name <- names, wrong <- [{:no, :such, :value}, make_ref()] do
          error =
            try do
              function.([{name, wrong}])
            rescue
              error in ArgumentError -> error
            end

          assert %ArgumentError{message: message} = error, "#{what}, #{inspect(name)}: #{inspect(error)}"
          assert message =~ inspect(name), "#{what}, #{inspect(name)}: #{message}"
        end

        assert_raise ArgumentError, fn -> function.([:no_keyword]) end
        length(names)
      end

    assert Enum.sum(counts) > 300
  end

  @big 0x80000000
  # Of the right kind, and out of bounds.
  @bounds [
    max_new_tokens: [0, -1, @big, 1.5],
    temperature: [-0.1, 1.0e40],
    top_p: [-0.1, 1.1],
    top_k: [-1, @big],
    min_p: [-0.1, 1.1],
    repetition_penalty: [0, -1],
    presence_penalty: [1.0e40],
    frequency_penalty: [-1.0e40],
    seed: [-1, 0x10000000000000000],
    stop: ["", [""], [1], <<255>>, "a\0b"],
    eos_token_id: [-1, [-1], [@big], "x"],
    top_logprobs: [-1, 1025, 1.5],
    priority: [@big, 1.5],
    deadline_ms: [-1],
    system: [<<255>>],
    context_size: [-1, @big],
    kv_bits: [3],
    kv_group_size: [16],
    kv_bytes: [-1],
    max_batch: [0, 1025, 1.5],
    queue_limit: [-1],
    prefill_step_size: [-1],
    adapter: ["posts", [nil]],
    schema: ["x"],
    compile: [[batch_size: 0], [sequence_length: 0]]
  ]

  test "numbers out of bounds are named", %{model: model, tokenizer: tokenizer} do
    for {name, values} <- @bounds, value <- values do
      # What `compile:` holds is named by its own name.
      shown = if name == :compile, do: value |> Keyword.keys() |> hd(), else: name

      assert_raise ArgumentError, ~r/#{inspect(shown)}|token id/, fn ->
        QuantizedGeneration.new(model, tokenizer, [{name, value}]) |> Serving.of() |> Serving.run("x")
      end
    end

    for {name, values} <- [
          iterations: [0],
          batch_size: [0],
          grad_accumulation: [0],
          learning_rate: [0, -1.0],
          optimizer: [:lion],
          rank: [0, @big],
          scale: [0],
          dropout: [-0.1, 1],
          num_layers: [1.5],
          fine_tune: [:full],
          keys: [[""], "q_proj"],
          max_seq_length: [0],
          seed: [-1],
          save_every: [0],
          steps_per_eval: [0],
          steps_per_report: [0],
          patience: [-1]
        ],
        value <- values do
      assert_raise ArgumentError, ~r/#{inspect(name)}/, fn -> LoRA.train(@required ++ [{name, value}]) end
    end

    for {name, value} <- [split_ratio: 0, split_ratio: 1.1, min_length: -1, shuffle_seed: -1, prompt: <<255>>] do
      assert_raise ArgumentError, ~r/#{inspect(name)}/, fn ->
        LoRA.prepare_data(["x"], "x", [{name, value}])
      end
    end
  end

  test "arguments that are no options are said too", %{model: model, tokenizer: tokenizer, serving: serving} do
    for wrong <- [{:file, "x"}, {:hf, 1}, {:local, nil}, 7, {:hf, "a/b", :c}] do
      assert_raise ArgumentError, fn -> Bombus.load_model(wrong) end
    end

    assert_raise ArgumentError, ~r/messages/, fn -> Bombus.chat(serving, "Hello") end
    assert_raise ArgumentError, ~r/role/, fn -> Bombus.chat(serving, [%{content: "x"}]) end
    assert_raise ArgumentError, ~r/vocabulary/, fn -> Bumblebee.Text.Qwen3Quantized.forward([8192], model) end
    assert_raise ArgumentError, ~r/token ids/, fn -> Bumblebee.Text.Qwen3Quantized.forward([-1], model) end
    assert_raise ArgumentError, ~r/at least one/, fn -> Bumblebee.Text.Qwen3Quantized.forward([], model) end
    assert_raise ArgumentError, ~r/UTF-8/, fn -> Serving.run(serving, <<255>>) end
    assert_raise ArgumentError, ~r/at least one input/, fn -> Serving.run(serving, []) end
    assert_raise ArgumentError, ~r/Bombus.Model/, fn -> Serving.new(tokenizer, model) end
    assert_raise ArgumentError, ~r/:contents/, fn -> LoRA.prepare_data("x", "x") end
    assert_raise ArgumentError, ~r/:contents/, fn -> LoRA.prepare_data([1], "x") end
    assert_raise ArgumentError, ~r/:iterations/, fn -> LoRA.estimate_training_time(0, model) end

    assert_raise ArgumentError, ~r/:model/, fn ->
      QuantizedGeneration.run_inference([tokenizer: tokenizer], "x")
    end

    assert_raise ArgumentError, ~r/token id/, fn -> Tokenizer.decode(tokenizer, [-1]) end
  end
end
