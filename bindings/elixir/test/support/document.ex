defmodule Bombus.Document do
  @moduledoc false
  # The Elixir of a document, run as a reader would run it: cell by cell in a process of its own, each with the variables of those before.

  @doc "The Elixir cells of a Markdown or Livebook file, in order."
  def cells(path) do
    ~r/^```elixir\n(.*?)^```$/ms |> Regex.scan(File.read!(path), capture: :all_but_first) |> List.flatten()
  end

  @doc """
  Runs cells; the values of all. `changes` are `{text, replacement}`, each of which must be there: what a test cannot have
  as it stands, such as the name of a model, or a number of iterations.
  """
  def run(cells, changes \\ [], binding \\ []) do
    for {text, _} <- changes, not Enum.any?(cells, &String.contains?(&1, text)) do
      raise ArgumentError, "nothing to change: no cell has #{inspect(text)}"
    end

    cells = Enum.map(cells, &change(&1, changes))
    Task.await(Task.async(fn -> cells |> Enum.map_reduce(binding, &evaluate/2) |> elem(0) end), 300_000)
  end

  defp change(cell, changes),
    do: Enum.reduce(changes, cell, fn {text, new}, cell -> String.replace(cell, text, new) end)

  defp evaluate(cell, binding), do: Code.eval_string(cell, binding)
end
