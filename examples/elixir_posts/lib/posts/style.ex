defmodule Posts.Style do
  @moduledoc """
  The adapter of the moment. Swapping it touches no request that runs: each holds the adapter that it began with.
  """

  use Agent

  def start_link(_opts), do: Agent.start_link(fn -> nil end, name: __MODULE__)

  @doc "The adapter that the next request gets; nil: the model as it is."
  def current, do: Agent.get(__MODULE__, & &1)

  @doc "Loads the adapter in a folder and makes it the one of the moment; an adapter that does not load or fit changes nothing."
  def swap(folder) do
    with {:ok, adapter} <- Bombus.load_adapter({:local, folder}),
         {:ok, adapter} <- Bombus.Adapter.attach(adapter, Bombus.Serving.of(Posts.Serving).model) do
      Agent.update(__MODULE__, fn _ -> adapter end)
    end
  end

  @doc "Back to the model as it is."
  def clear, do: Agent.update(__MODULE__, fn _ -> nil end)
end
