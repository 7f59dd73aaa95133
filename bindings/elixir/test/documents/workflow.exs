Bumblebee.Training.LoRA.prepare_data(my_posts, data_dir, prompt: "Write a post in my style", min_length: 160)

{:ok, adapter_path} =
  Bumblebee.Training.LoRA.train(
    base_model: base_model,
    training_data: data_dir,
    output_path: adapter_dir,
    iterations: 25_000,
    rank: 8,
    scale: 20.0
  )

{:ok, model} = Bumblebee.QuantizedLoader.load_model(model_dir)
{:ok, adapter} = Bumblebee.Adapters.load(adapter_path)
{:ok, tokenizer} = Bumblebee.load_tokenizer({:hf, "Qwen/Qwen3-8B"})

serving =
  Bumblebee.Text.QuantizedGeneration.new(model, tokenizer,
    adapter: adapter,
    max_new_tokens: 100,
    temperature: 0.8
  )

Nx.Serving.run(serving, "Write a post")
