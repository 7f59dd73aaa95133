defmodule Bombus.Fixtures do
  @moduledoc false
  # The story model that lies in the repository, and what is made of it once for all tests.

  @root Path.expand("../../../..", __DIR__)
  @folder Path.join(@root, "models/bombus-stories-28m-4bit")

  def root, do: @root
  def folder, do: @folder

  def posts,
    do: @root |> Path.join("examples/posts/posts.txt") |> File.read!() |> String.split("\n", trim: true)

  @doc "Why tests with Nx are skipped; nil where they are not."
  def without_nx, do: unless(Code.ensure_loaded?(Nx.Serving), do: "Nx is not on the code path")

  def model! do
    {:ok, model} = Bombus.load_model({:local, @folder})
    model
  end

  def tokenizer! do
    {:ok, tokenizer} = Bombus.load_tokenizer({:local, @folder})
    tokenizer
  end

  def serving!(opts \\ []), do: Bombus.Serving.new(model!(), tokenizer!(), opts)

  def temporary(name) do
    path =
      Path.join(
        System.tmp_dir!(),
        "bombus-test-#{name}-#{System.unique_integer([:positive])}-#{System.pid()}"
      )

    ExUnit.Callbacks.on_exit(fn -> File.rm_rf!(path) end)
    path
  end

  @doc "A folder with an adapter that says something else than the model: a few steps at a high rate, made once."
  def adapter_folder do
    :global.trans({__MODULE__, self()}, fn ->
      path = Path.join(System.tmp_dir!(), "bombus-test-adapter-#{System.pid()}")

      unless File.exists?(Path.join(path, "adapters.safetensors")) do
        data =
          for text <- Enum.take(posts(), 8),
              do: %{messages: [%{role: "user", content: "Write a post"}, %{role: "assistant", content: text}]}

        {:ok, ^path} =
          Bombus.Training.train(
            base_model: @folder,
            training_data: data,
            output_path: path,
            iterations: 12,
            learning_rate: 2.0e-3,
            grad_accumulation: 1,
            force: true
          )

        System.at_exit(fn _ -> File.rm_rf!(path) end)
      end

      path
    end)
  end

  def adapter! do
    {:ok, adapter} = Bombus.load_adapter({:local, adapter_folder()})
    adapter
  end

  @doc "What is not given back, once all garbage is."
  def live do
    Enum.each(Process.list(), &:erlang.garbage_collect/1)
    live = Bombus.live()
    Process.sleep(50)
    if Bombus.live() == live, do: live, else: live()
  end

  @doc "Waits until the condition holds."
  def eventually(condition, tries \\ 200) do
    cond do
      condition.() -> true
      tries == 0 -> false
      true -> Process.sleep(20) && eventually(condition, tries - 1)
    end
  end
end
