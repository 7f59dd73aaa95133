defmodule Bombus.Telemetry do
  @moduledoc """
  Events, emitted where `:telemetry` is on the code path:

    * `[:bombus, :load, :stop]` - `%{duration}`, `%{kind: :model | :adapter | :tokenizer, folder, ok}`
    * `[:bombus, :generation, :start]` - `%{prompt_tokens}`, `%{serving}`
    * `[:bombus, :generation, :stop]` - `%{duration, input, output, reused, queue_seconds, prompt_seconds, generation_seconds}`, `%{finish_reason}`
    * `[:bombus, :generation, :exception]` - `%{duration}`, `%{reason}`
    * `[:bombus, :training, :progress]` - `%{loss, iter, tokens_per_second}`, `%{type}`
    * `[:bombus, :training, :stop]` - `%{seconds, iter}`, `%{end}`

  Durations are in native units, as `:telemetry.span/3` has them.
  """

  alias Bombus.Optional

  @doc false
  def execute(event, measurements, metadata) do
    if Optional.present?(:telemetry), do: :telemetry.execute([:bombus | event], measurements, metadata)
    :ok
  end

  @doc false
  def load(kind, folder, fun) do
    start = System.monotonic_time()
    result = fun.()
    metadata = %{kind: kind, folder: folder, ok: match?({:ok, _}, result)}
    execute([:load, :stop], %{duration: System.monotonic_time() - start}, metadata)
    result
  end
end
