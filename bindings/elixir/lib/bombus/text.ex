defmodule Bombus.Text do
  @moduledoc """
  Text generation, by the name that Bumblebee gives it.
  """

  alias Bombus.{NxServing, Options, Serving}

  @doc """
  A serving that generates text: a `%Nx.Serving{}` where Nx is on the code path, else a `Bombus.Serving`. Both take the
  inputs and options of `Bombus.Serving`.
  """
  @spec generation(Bombus.Model.t(), Bombus.Tokenizer.t(), keyword) :: struct
  def generation(model, tokenizer, opts \\ []), do: make(model, tokenizer, opts, [])

  @doc false
  def make(model, tokenizer, opts, defaults) do
    unless Keyword.keyword?(opts),
      do: raise(ArgumentError, "expected options as a keyword list, got: #{inspect(opts)}")

    compile = Options.check!(:compile, :keyword, opts[:compile] || [])
    compile = Options.validate!(compile, batch_size: {:positive, 1}, sequence_length: {:positive, nil})
    serving = Serving.new(model, tokenizer, opts, defaults)
    if NxServing.available?(), do: NxServing.wrap(serving, compile.batch_size), else: serving
  end
end
