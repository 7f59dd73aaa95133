defmodule Mix.Tasks.Bombus.Post do
  @shortdoc "Writes a post with a model and, if you like, an adapter"
  @moduledoc """
  Writes posts with a model, in the style of an adapter if one is given.

      mix bombus.post --model FOLDER [--adapter FOLDER] [--prompt "Write a post"] [--count 3] [--max-new-tokens 100]
                      [--temperature 0.8] [--seed 7]

  A model or adapter may be a folder or the name of a repository (`owner/name`).
  """

  use Mix.Task

  @switches [
    model: :string,
    adapter: :string,
    prompt: :string,
    count: :integer,
    max_new_tokens: :integer,
    temperature: :float,
    seed: :integer
  ]

  @impl true
  def run(args) do
    {opts, rest} = OptionParser.parse!(args, strict: @switches)

    if rest != [] or is_nil(opts[:model]),
      do: Mix.raise("usage: mix bombus.post --model FOLDER [--adapter FOLDER] ...; see mix help bombus.post")

    Mix.Task.run("app.start")
    model = ok!(Bombus.load_model(repository(opts[:model])))
    tokenizer = ok!(Bombus.load_tokenizer(repository(opts[:model])))
    adapter = opts[:adapter] && ok!(Bombus.load_adapter(repository(opts[:adapter])))
    generation = Keyword.take(opts, [:max_new_tokens, :temperature])
    serving = Bombus.Serving.new(model, tokenizer, [adapter: adapter] ++ generation)

    # One batch, each with a seed of its own.
    inputs =
      for i <- 1..Keyword.get(opts, :count, 1) do
        seed = if opts[:seed], do: %{seed: opts[:seed] + i - 1}, else: %{}
        Map.put(seed, :text, Keyword.get(opts, :prompt, "Write a post"))
      end

    for %{text: text} <- Bombus.Serving.run(serving, inputs).results,
        do: Mix.shell().info(String.trim(text) <> "\n")

    :ok
  end

  defp repository(name), do: if(File.dir?(name), do: {:local, name}, else: {:hf, name})

  defp ok!({:ok, value}), do: value
  defp ok!({:error, %{message: message}}), do: Mix.raise(message)
  defp ok!({:error, reason}), do: Mix.raise(inspect(reason))
end
