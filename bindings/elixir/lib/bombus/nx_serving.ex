defmodule Bombus.NxServing do
  @moduledoc false
  # A real %Nx.Serving{} around a Bombus.Serving. Requests go to the engine in the caller's process, before Nx's own batch (of placeholders) is
  # made, and are awaited after it: so they join the engine's batch at once, whoever calls, and a caller that dies cancels its own.

  alias Bombus.{Generation, Optional, Serving}

  def available?, do: Optional.present?(Nx.Serving)

  def wrap(%Serving{} = serving, batch_size) do
    nx = Nx.Serving.new(__MODULE__, serving)
    nx = Nx.Serving.process_options(nx, batch_size: batch_size)
    nx = Nx.Serving.client_preprocessing(nx, &preprocess(serving, &1))

    if serving.options.stream do
      nx |> Nx.Serving.streaming() |> Nx.Serving.client_postprocessing(&stream/2)
    else
      Nx.Serving.client_postprocessing(nx, fn _output, requests -> Serving.await!(requests) end)
    end
  end

  defp preprocess(serving, input) do
    requests = Serving.submit!(serving, input)
    {Nx.Batch.stack(Enum.map(requests, fn _ -> Nx.tensor(0, type: {:u, 8}) end)), requests}
  end

  # Nx's stream of placeholders has one element, in whose place the texts come.
  defp stream(placeholders, [request]) do
    Stream.flat_map(placeholders, fn _ -> Generation.stream(request) end)
  end

  # Nx.Serving's behaviour, which is not named since Nx may be absent.

  def init(_type, serving, _partitions), do: {:ok, serving}

  def handle_batch(batch, _partition, serving) do
    {:execute, fn -> {Nx.broadcast(Nx.tensor(0, type: {:u, 8}), {batch.size}), :server_info} end, serving}
  end
end
