defmodule Bombus.Text do
  @moduledoc """
  Text generation, by the name that Bumblebee gives it.
  """

  alias Bombus.{NxServing, Serving}

  @doc """
  A serving that generates text: a `%Nx.Serving{}` where Nx is on the code path, else a `Bombus.Serving`. Both take the
  inputs and options of `Bombus.Serving`.
  """
  @spec generation(Bombus.Model.t(), Bombus.Tokenizer.t(), keyword) :: struct
  def generation(model, tokenizer, opts \\ []), do: make(model, tokenizer, opts, [])

  @doc false
  def make(model, tokenizer, opts, defaults) do
    compile = Serving.compile!(opts)
    serving = Serving.new(model, tokenizer, opts, defaults)
    if NxServing.available?(), do: NxServing.wrap(serving, compile.batch_size), else: serving
  end
end
