defmodule Bombus.GenerationTest do
  use ExUnit.Case

  import Bombus.Fixtures
  alias Bombus.Serving

  setup_all do
    %{serving: serving!(max_new_tokens: 24, seed: 5, temperature: 0.8)}
  end

  test "a text, a map, messages and lists of them", %{serving: serving} do
    %{results: [one]} = Serving.run(serving, "Write a story about a fox")
    assert one.text != "" and String.valid?(one.text)
    assert one.token_summary == %{input: 14, output: one.token_count, padding: 0}
    assert %{results: [^one]} = Serving.run(serving, %{text: "Write a story about a fox"})
    messages = [%{role: "user", content: "Write a story about a fox"}]
    assert %{results: [^one]} = Serving.run(serving, messages)
    assert %{results: [^one]} = Serving.run(serving, %{messages: messages})

    assert %{results: [^one, other]} =
             Serving.run(serving, ["Write a story about a fox", "Describe the old house."])

    assert other.text != one.text
  end

  test "a seed gives the same text alone and among many processes", %{serving: serving} do
    start_supervised!({Serving, serving: serving, name: :stories})
    %{results: [alone]} = Serving.batched_run(:stories, %{text: "Write a post about winter", seed: 77})

    results =
      1..12
      |> Enum.map(fn i ->
        Task.async(fn -> Serving.batched_run(:stories, %{text: "Write a post about winter", seed: 70 + i}) end)
      end)
      |> Task.await_many(60_000)

    assert %{results: [^alone]} = Enum.at(results, 6)
    assert results |> Enum.uniq() |> length() > 6
    # They ran as one batch: far fewer steps than one after the other.
    before = Serving.stats(:stories)

    for(
      i <- 1..8,
      do: Task.async(fn -> Serving.batched_run(:stories, %{text: "Hello", seed: i, eos_token_id: []}) end)
    )
    |> Task.await_many(60_000)

    assert Serving.stats(:stories).steps - before.steps < 8 * 24 / 2
  end

  test "streams give the text in pieces", %{serving: serving} do
    %{results: [%{text: text}]} = Serving.run(serving, "Hello")
    stream = Serving.run(Serving.with_options(serving, stream: true), "Hello")
    assert Enum.join(stream) == text

    done =
      Serving.with_options(serving, stream: true, stream_done: true)
      |> Serving.run("Hello")
      |> Enum.to_list()
      |> List.last()

    assert {:done, %{text: ^text}} = done

    assert_raise ArgumentError, ~r/one input/, fn ->
      Serving.run(Serving.with_options(serving, stream: true), ["a", "b"])
    end
  end

  test "a stream that is left early ends its request and leaves no messages", %{serving: serving} do
    cancelled = Serving.stats(serving).cancelled

    stream =
      Serving.run(Serving.with_options(serving, stream: true, max_new_tokens: 900, eos_token_id: []), "Hello")

    assert [_, _] = Enum.take(stream, 2)
    assert Serving.stats(serving).cancelled == cancelled + 1
    refute_received _
  end

  test "stop strings, ends of turn and log-probabilities", %{serving: serving} do
    %{results: [%{text: text, tokens: tokens}]} =
      Serving.run(serving, %{text: "Hello", logprobs: true, top_logprobs: 3})

    assert Enum.map_join(tokens, & &1.text) == text
    assert Enum.all?(tokens, &(&1.logprob <= 0 and length(&1.top) == 3))

    assert %{results: [%{text: "Hello", finish_reason: :stop}]} =
             Serving.run(serving, %{text: "Hello", stop: "!"})

    id = hd(tokens).id

    assert %{results: [%{finish_reason: :stop, token_count: 1}]} =
             Serving.run(serving, %{text: "Hello", eos_token_id: id})

    assert %{results: [%{token_count: 24, finish_reason: :length}]} =
             Serving.run(serving, %{text: "Hello", eos_token_id: []})
  end

  test "chat gives the next message", %{serving: serving} do
    messages = [%{role: "user", content: "Hello"}]

    assert {:ok, %{message: %{role: "assistant", content: text}, text: text}} =
             Bombus.chat(serving, messages, max_new_tokens: 5)

    assert {:ok, stream} = Bombus.chat(serving, messages, max_new_tokens: 5, stream: true)
    assert Enum.join(stream) == text

    assert {:error, %Bombus.Error{status: :context_full}} =
             Bombus.chat(serving, [%{role: "user", content: String.duplicate("word ", 3000)}])
  end

  test "adapters by call, several at once, swapped while requests run", %{serving: serving} do
    adapter = adapter!()
    assert adapter.rank == 8 and adapter.scaling == 20.0
    %{results: [plain]} = Serving.run(serving, "Write a post")
    %{results: [adapted]} = Serving.run(serving, %{text: "Write a post", adapter: adapter})
    assert adapted.text != plain.text
    assert %{results: [^plain]} = Serving.run(serving, %{text: "Write a post", adapter: [{adapter, 0.0}]})

    runs =
      for i <- 1..8 do
        Task.async(fn ->
          Serving.run(serving, %{text: "Write a post", adapter: if(rem(i, 2) == 0, do: adapter)})
        end)
      end

    for {%{results: [result]}, i} <- runs |> Task.await_many(60_000) |> Enum.with_index(1) do
      assert result == if(rem(i, 2) == 0, do: adapted, else: plain)
    end

    {:ok, attached} = Bombus.Adapter.attach(adapter, serving.model)
    assert :ok = Bombus.unload(attached)

    assert {:error, %Bombus.Error{status: :closed}} =
             Bombus.chat(serving, [%{role: "user", content: "x"}], adapter: attached)
  end

  test "a schema gives a map, a regular expression its match", %{serving: serving} do
    schema = %{
      type: "object",
      properties: %{animal: %{enum: ["fox", "crow"]}, legs: %{type: "integer", minimum: 0, maximum: 9}},
      required: ["animal", "legs"],
      additionalProperties: false
    }

    messages = [%{role: "user", content: "Describe a fox"}]

    assert {:ok, %{object: object, text: text}} =
             Bombus.chat(serving, messages, schema: schema, max_new_tokens: 80)

    assert %{"animal" => animal, "legs" => legs} = object
    assert animal in ["fox", "crow"] and is_integer(legs) and Bombus.JSON.decode!(text) == object
    {:ok, constraint} = Bombus.Constraint.new(serving.tokenizer, schema: schema)

    runs =
      for _ <- 1..4,
          do: Task.async(fn -> Bombus.chat(serving, messages, schema: constraint, max_new_tokens: 80) end)

    assert [{:ok, %{object: ^object}} | _] = Task.await_many(runs, 60_000)
    assert :ok = Bombus.unload(constraint)
    closed = Bombus.chat(serving, messages, schema: constraint)
    assert {:error, %Bombus.Error{status: :closed, message: "the constraint has been unloaded"}} = closed
    assert {:ok, %{text: digits}} = Bombus.chat(serving, messages, regex: "[0-9]{3}-[0-9]{2}")
    assert digits =~ ~r/\A\d{3}-\d{2}\z/
    assert {:error, %Bombus.Error{status: status}} = Bombus.chat(serving, messages, regex: "[0-9")
    assert status in [:format, :argument]

    assert_raise ArgumentError, ~r/:regex/, fn ->
      Bombus.chat(serving, messages, schema: schema, regex: "x")
    end

    assert_raise ArgumentError, ~r/:schema/, fn -> Bombus.chat(serving, messages, schema: "x") end
  end

  test "the names of Bumblebee", %{serving: serving} do
    opts = [model: serving.model, tokenizer: serving.tokenizer, max_new_tokens: 4]

    assert [%{text: _}, %{text: _}] =
             Bumblebee.Text.QuantizedGeneration.run_inference(opts, ["Hello", "Hello"])

    assert [%{text: _, token_count: 4, token_summary: %{input: _, output: 4, padding: 0}}] =
             Bumblebee.Text.QuantizedGeneration.run_inference([eos_token_id: []] ++ opts, "Hello")

    defaults = Serving.of(Bumblebee.Text.QuantizedGeneration.new(serving.model, serving.tokenizer)).options
    assert %{max_new_tokens: 50, temperature: 0.7, top_p: 0.9, adapter: [], eos_token_id: :auto} = defaults
    assert %{chat_template: true, enable_thinking: false, stream: false} = defaults
    assert {:ok, _} = Bumblebee.load_tokenizer({:local, folder()})
    assert {:ok, model} = Bumblebee.QuantizedLoader.load_model(folder(), architecture: :qwen3)
    stats = Bumblebee.QuantizedLoader.memory_stats(model)
    assert %{layer_count: 8, lm_head_params: 0, total_params: 27_796_992, embed_params: 4_194_304} = stats
    assert stats.params_per_layer * 8 + stats.embed_params + 512 == stats.total_params
    assert stats.estimated_memory_gb == Float.round(model.info.weight_bytes / 1024 ** 3, 3)

    assert {:error, {:unknown_architecture, "qwen3"}} =
             Bumblebee.QuantizedLoader.load_model(folder(), architecture: :llama)

    assert :ok = Bumblebee.QuantizedLoader.validate_backend()
    # The error lists what can be used here, as Bombus.devices/0 does.
    usable = Bombus.devices()
    assert :cpu in usable

    for refused <- [
          Bumblebee.QuantizedLoader.validate_backend(:rocm),
          Bumblebee.QuantizedLoader.load_model(folder(), device: :rocm),
          Bombus.load_model({:local, folder()}, backend: :rocm)
        ] do
      assert {:error, {:unsupported_backend, :rocm, ^usable}} = refused
    end

    assert {:error, {:unsupported_backend, Some.Backend, ^usable}} =
             Bombus.load_model({:local, folder()}, backend: Some.Backend)
  end

  test "an output layer of its own is counted, whether config.json tells of it or not" do
    fixtures = Path.join(root(), "tests/fixtures/models")

    stats = fn folder ->
      folder |> Bumblebee.QuantizedLoader.load_model() |> elem(1) |> Bumblebee.QuantizedLoader.memory_stats()
    end

    for name <- ["gemma2", "olmo2"] do
      folder = temporary(name)
      File.cp_r!(Path.join(fixtures, name), folder)
      path = Path.join(folder, "config.json")
      config = path |> File.read!() |> Bombus.JSON.decode!()
      head = if config["tie_word_embeddings"], do: 0, else: config["vocab_size"] * config["hidden_size"]
      told = stats.(folder)
      assert told.lm_head_params == head and told.embed_params == config["vocab_size"] * config["hidden_size"]
      File.write!(path, config |> Map.delete("tie_word_embeddings") |> Bombus.JSON.encode())
      assert stats.(folder) == told
    end
  end
end
