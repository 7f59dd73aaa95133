defmodule Bombus.TelemetryTest do
  use ExUnit.Case

  import Bombus.Fixtures
  @moduletag skip: unless(Code.ensure_loaded?(:telemetry), do: "Telemetry is not on the code path")
  @compile {:no_warn_undefined, :telemetry}

  @events [
    [:bombus, :load, :stop],
    [:bombus, :generation, :start],
    [:bombus, :generation, :stop],
    [:bombus, :generation, :exception],
    [:bombus, :training, :progress],
    [:bombus, :training, :stop]
  ]

  setup do
    name = {__MODULE__, make_ref()}
    :telemetry.attach_many(name, @events, &__MODULE__.forward/4, self())
    on_exit(fn -> :telemetry.detach(name) end)
  end

  def forward(event, measurements, metadata, test), do: send(test, {event, measurements, metadata})

  test "loads, generations and trainings are told as the documentation says" do
    folder = folder()
    model = model!()

    assert_received {[:bombus, :load, :stop], %{duration: duration},
                     %{kind: :model, folder: ^folder, ok: true}}

    assert duration > 0
    serving = Bombus.Serving.new(model, tokenizer!(), max_new_tokens: 3, eos_token_id: [])
    assert_received {[:bombus, :load, :stop], _, %{kind: :tokenizer, ok: true}}
    Bombus.Serving.run(serving, "Hello")
    engine = serving.engine
    assert_received {[:bombus, :generation, :start], %{prompt_tokens: prompt}, %{serving: ^engine}}
    assert_received {[:bombus, :generation, :stop], measurements, %{finish_reason: :length}}

    assert %{input: ^prompt, output: 3, reused: _, duration: duration, generation_seconds: seconds} =
             measurements

    assert duration > 0 and seconds > 0 and measurements.queue_seconds >= 0 and
             measurements.prompt_seconds > 0

    long = String.duplicate("word ", 3000)
    assert {:error, _} = Bombus.chat(serving, [%{role: "user", content: long}])
    # What the engine refuses at once has not started; what fails later is an exception.
    Bombus.unload(model)
    assert {:error, {:config_not_found, _}} = Bombus.load_adapter({:local, "/nowhere"})

    opts = [training_data: [%{text: String.duplicate("a fox ", 40)}], iterations: 2, steps_per_report: 1]

    {:ok, adapter} =
      Bombus.train_adapter(model!(), opts[:training_data], Keyword.delete(opts, :training_data))

    assert_received {[:bombus, :training, :progress], %{loss: loss, iter: 1}, %{type: :train}}
                    when is_float(loss)

    assert_received {[:bombus, :training, :stop], %{seconds: seconds, iter: 2}, %{end: :finished}}
                    when seconds > 0

    assert_received {[:bombus, :load, :stop], _, %{kind: :adapter, ok: true}}
    File.rm_rf!(adapter.folder)
  end
end
