defmodule Bombus.NxTest do
  use ExUnit.Case

  import Bombus.Fixtures
  @moduletag skip: without_nx()
  @compile {:no_warn_undefined, [Nx, Nx.Serving]}

  alias Bumblebee.Text.QuantizedGeneration

  test "a serving is Nx's own, run, run in a batch and streamed" do
    serving = QuantizedGeneration.new(model!(), tokenizer!(), max_new_tokens: 12, seed: 4)
    assert is_struct(serving, Nx.Serving)
    assert %{results: [one]} = Nx.Serving.run(serving, "Write a post")
    assert %{results: [^one, ^one]} = Nx.Serving.run(serving, ["Write a post", "Write a post"])
    start_supervised!({Nx.Serving, serving: serving, name: :nx_stories, batch_size: 4, batch_timeout: 10})

    results =
      1..10
      |> Enum.map(fn i ->
        Task.async(fn -> Nx.Serving.batched_run(:nx_stories, %{text: "Write a post", seed: i}) end)
      end)

    results = Task.await_many(results, 60_000)
    assert %{results: [^one]} = Enum.at(results, 3)
    assert Bombus.Serving.stats(serving).steps < 12 * 12

    stream =
      QuantizedGeneration.new(model!(), tokenizer!(),
        max_new_tokens: 12,
        seed: 4,
        stream: true,
        stream_done: true
      )

    texts = stream |> Nx.Serving.run("Write a post") |> Enum.to_list()
    assert {:done, %{text: text}} = List.last(texts)
    assert text == one.text and Enum.join(Enum.drop(texts, -1)) == text
    start_supervised!({Nx.Serving, serving: stream, name: :nx_stream})
    assert Nx.Serving.batched_run(:nx_stream, "Write a post") |> Enum.drop(-1) |> Enum.join() == text
    assert {:ok, %{text: _}} = Bombus.chat(serving, [%{role: "user", content: "Hello"}])
  end

  test "the death of a caller of batched_run cancels its request" do
    serving = QuantizedGeneration.new(model!(), tokenizer!(), max_new_tokens: 900, eos_token_id: [])
    start_supervised!({Nx.Serving, serving: serving, name: :nx_long})
    pid = spawn(fn -> Nx.Serving.batched_run(:nx_long, "Hello") end)
    assert eventually(fn -> Bombus.Serving.stats(serving).running == 1 end)
    Process.exit(pid, :kill)
    assert eventually(fn -> match?(%{running: 0, cancelled: 1}, Bombus.Serving.stats(serving)) end)
  end

  test "an adapter by hand is what the library computes" do
    adapter = adapter!()
    pair = Bumblebee.Adapters.get_layer_adapter(adapter, 0).self_attn.q_proj
    weight = Bumblebee.QuantizedLoader.load_quantized_weight(folder(), "model.layers.0.self_attn.q_proj")
    x = Nx.iota({1, 3, 512}, type: {:f, 32}) |> Nx.divide(1000) |> Nx.sin()
    plain = Bumblebee.Text.Qwen3Quantized.quantized_linear(x, weight)
    assert Nx.shape(plain) == {1, 3, 512}
    assert Bumblebee.Text.Qwen3Quantized.quantized_linear_with_lora(x, weight, nil, 20.0) == plain
    adapted = Bumblebee.Text.Qwen3Quantized.quantized_linear_with_lora(x, weight, pair, adapter.scaling)
    by_hand = Nx.add(plain, Nx.multiply(20.0, Nx.dot(Nx.dot(x, pair.lora_a), pair.lora_b)))
    assert Nx.to_number(Nx.reduce_max(Nx.abs(Nx.subtract(adapted, by_hand)))) < 1.0e-6
    assert Nx.to_number(Nx.reduce_max(Nx.abs(Nx.subtract(adapted, plain)))) > 1.0e-6
    alias Bumblebee.Text.Qwen3Quantized
    embedding = Bumblebee.QuantizedLoader.load_quantized_weight(folder(), "model.embed_tokens")
    ids = Nx.tensor([[3, 17]])

    assert Qwen3Quantized.embedding_lookup(ids, embedding) ==
             Qwen3Quantized.embedding_lookup([3, 17], embedding)

    model = model!()

    assert Qwen3Quantized.get_next_token_logits(ids, model) ==
             Qwen3Quantized.get_next_token_logits([3, 17], model)

    wide = Bombus.Quantization.dequantize(weight)
    product = Nx.dot(x, Nx.transpose(wide))
    assert Nx.to_number(Nx.reduce_max(Nx.abs(Nx.subtract(plain, product)))) < 1.0e-3
  end
end
