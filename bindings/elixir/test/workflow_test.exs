defmodule Bombus.WorkflowTest do
  # The workflow as people write it, from posts to a model that writes like them; only the model is a small one in a folder.
  use ExUnit.Case

  import Bombus.Fixtures
  @moduletag skip: without_nx()
  @compile {:no_warn_undefined, [Nx.Serving]}

  test "prepare, train, load, generate" do
    my_posts = posts()
    data_dir = temporary("workflow-data")
    adapter_dir = temporary("workflow-adapter")
    base_model = model_dir = folder()

    Bumblebee.Training.LoRA.prepare_data(my_posts, data_dir,
      prompt: "Write a post in my style",
      min_length: 160
    )

    {:ok, adapter_path} =
      Bumblebee.Training.LoRA.train(
        base_model: base_model,
        training_data: data_dir,
        output_path: adapter_dir,
        iterations: 3,
        rank: 8,
        scale: 20.0
      )

    {:ok, model} = Bumblebee.QuantizedLoader.load_model(model_dir)
    {:ok, adapter} = Bumblebee.Adapters.load(adapter_path)
    {:ok, tokenizer} = Bumblebee.load_tokenizer({:local, model_dir})

    serving =
      Bumblebee.Text.QuantizedGeneration.new(model, tokenizer,
        adapter: adapter,
        max_new_tokens: 100,
        temperature: 0.8
      )

    assert %{
             results: [
               %{text: text, token_count: count, token_summary: %{input: _, output: count, padding: 0}}
             ]
           } = Nx.Serving.run(serving, "Write a post")

    assert String.valid?(text) and count in 1..100
  end

  test "the same by load_model, load_adapter, generation and batched_run" do
    {:ok, model} =
      Bumblebee.load_model({:local, folder()}, quantization: :int4, backend: {EMLX.Backend, device: :gpu})

    {:ok, adapter} = Bumblebee.load_adapter({:local, adapter_folder()})
    {:ok, tokenizer} = Bumblebee.load_tokenizer({:local, folder()})

    serving =
      Bumblebee.Text.generation(model, tokenizer,
        adapter: adapter,
        max_new_tokens: 20,
        compile: [batch_size: 1, sequence_length: 256]
      )

    start_supervised!({Nx.Serving, serving: serving, name: Bombus.WorkflowServing})
    assert %{results: [%{text: _}]} = Nx.Serving.batched_run(Bombus.WorkflowServing, "Write a post")
  end
end
