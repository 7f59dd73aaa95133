defmodule Bombus.Training do
  @moduledoc """
  Training of adapters, on a thread of the library in this very process.

  `train/1` waits for the end; `start/3` gives a job to `await/2` or `cancel/1`. When the process that started it dies, or the job is garbage, it
  saves what there is and ends.

      {:ok, job} = Bombus.Training.start(model, tokenizer, training_data: "data", output_path: "adapter")
      {:ok, result} = Bombus.Training.await(job, fn event -> IO.inspect(event) end)

  ## Options

    * `:training_data` - a folder of train.jsonl, valid.jsonl, test.jsonl, or a list of examples
    * `:output_path` - the folder to write: adapters.safetensors, adapter_config.json, best/, and training.jsonl, the log
    * `:iterations` (1000), `:batch_size` (1), `:grad_accumulation` (8), `:learning_rate` (1.0e-5), `:optimizer` (`:adam`, `:adamw`, `:sgd`, `:muon`)
    * `:rank` (8), `:scale` (20.0, used as it is), `:dropout` (0.0), `:num_layers` (16: the last 16; `-1`: all), `:fine_tune` (`:lora`, `:dora`)
    * `:max_seq_length` (256), `:mask_prompt` (false), `:seed` (42), `:max_grad_norm`, `:patience`, `:val_batches`
    * `:save_every`, `:steps_per_eval` (a tenth of the iterations), `:steps_per_report` (100)
    * `:resume`, `:force` - go on with, or overwrite, the run in `output_path`; `:resume_adapter_file` - begin from an adapter
    * `:template` - variables of the chat template, `%{enable_thinking: false}`
    * `:progress` - a function or a pid that gets each event: `%{type: :train, iter: 100, loss: 2.1, ...}`; a pid gets
      `{:bombus_training, event}`; `:steps` - with an event for every iteration (`:step`)
  """

  alias Bombus.{Error, Hub, JSON, Model, NIF, Options, Telemetry, Tokenizer}

  @enforce_keys [:ref, :object, :output_path]
  # The model is held: a training ends with it.
  defstruct [:ref, :object, :output_path, :temporary, :model]

  @type t :: %__MODULE__{ref: reference, object: reference, output_path: Path.t()}

  @table [
    training_data: {{:either, [:string, :examples]}, nil},
    output_path: {:string, nil},
    iterations: {:positive, 1000},
    batch_size: {:positive, 1},
    grad_accumulation: {:positive, 8},
    learning_rate: {:positive_number, 1.0e-5},
    optimizer: {{:in, [:adam, :adamw, :sgd, :muon]}, :adam},
    rank: {:positive, 8},
    scale: {:positive_number, 20.0},
    use_rslora: {:boolean, false},
    dropout: {{:between, 0, 0.99}, 0.0},
    num_layers: {:integer, 16},
    fine_tune: {{:in, [:lora, :dora]}, :lora},
    keys: {:strings, nil},
    max_seq_length: {:positive, 256},
    mask_prompt: {:boolean, false},
    seed: {:seed, 42},
    max_grad_norm: {:positive_number, nil},
    patience: {:natural, nil},
    val_batches: {:integer, nil},
    save_every: {:positive, nil},
    steps_per_eval: {:positive, nil},
    steps_per_report: {:positive, 100},
    resume: {:boolean, false},
    force: {:boolean, false},
    resume_adapter_file: {:string, nil},
    template: {:map, %{enable_thinking: false}},
    progress: {:progress, nil},
    steps: {:boolean, false}
  ]
  @required [:base_model, :training_data, :output_path]

  @doc false
  def option_names, do: Keyword.keys(@table)

  @doc """
  Trains and waits. Beside the options above `:base_model` is a model, a folder or a repository. `{:ok, output_path}`, or
  `{:error, {:missing_options, names}}`, or what went wrong.
  """
  @spec train(keyword) :: {:ok, Path.t()} | {:error, term}
  def train(opts) do
    unless Keyword.keyword?(opts),
      do: raise(ArgumentError, "expected options as a keyword list, got: #{inspect(opts)}")

    case Enum.filter(@required, &is_nil(opts[&1])) do
      [] ->
        {base, opts} = Keyword.pop!(opts, :base_model)
        Options.check!(:base_model, {:either, [{:struct, Model}, :repository]}, base)
        Options.validate!(opts, @table)

        with_model(base, fn model, tokenizer ->
          with {:ok, job} <- start(model, tokenizer, opts),
               {:ok, result} <- await(job, opts[:progress]) do
            trained(result, job.output_path)
          end
        end)

      missing ->
        {:error, {:missing_options, missing}}
    end
  end

  defp trained(%{end: :cancelled, iter: iter}, path) do
    message =
      "the training that writes #{path} was cancelled after #{iter} iterations: its model was unloaded"

    {:error, %Error{status: :cancelled, message: message}}
  end

  defp trained(_result, path), do: {:ok, path}

  # A model that was opened here is given back here.
  @doc false
  def with_model(%Model{} = model, fun) do
    with {:ok, tokenizer} <- Tokenizer.open(model.folder) do
      try do
        fun.(model, tokenizer)
      after
        Bombus.unload(tokenizer)
      end
    end
  end

  def with_model(base, fun) do
    with {:ok, folder} <- Hub.resolve(base),
         {:ok, model} <- Model.open(folder) do
      try do
        with_model(model, fun)
      after
        Bombus.unload(model)
      end
    end
  end

  @doc "Starts a job; its messages go to the calling process."
  @spec start(Model.t(), Tokenizer.t(), keyword) :: {:ok, t} | {:error, Error.t()}
  def start(%Model{} = model, %Tokenizer{} = tokenizer, opts) do
    options = Options.validate!(opts, @table)

    for name <- [:training_data, :output_path], is_nil(options[name]) do
      raise ArgumentError, "option #{inspect(name)} is required"
    end

    with {:ok, data} <- data_folder(options.training_data),
         :ok <- make_folder(options.output_path) do
      ref = make_ref()

      native =
        Map.merge(options, %{
          training_data: data,
          save_every: options.save_every || max(div(options.iterations, 10), 1),
          steps_per_eval: options.steps_per_eval || max(div(options.iterations, 10), 1),
          template_arguments: JSON.encode(options.template),
          model_name: model.folder
        })

      temporary = if is_list(options.training_data), do: data

      job = %__MODULE__{
        ref: ref,
        object: nil,
        output_path: options.output_path,
        temporary: temporary,
        model: model
      }

      case Error.wrap(NIF.train_start(model.ref, tokenizer.ref, self(), ref, native)) do
        {:ok, object} ->
          {:ok, %{job | object: object}}

        error ->
          forget_data(job)
          error
      end
    end
  end

  defp make_folder(path) do
    case File.mkdir_p(path) do
      :ok -> :ok
      {:error, reason} -> {:error, %Error{status: :io, message: "#{path}: #{:file.format_error(reason)}"}}
    end
  end

  defp data_folder(path) when is_binary(path) do
    if File.exists?(path),
      do: {:ok, path},
      else: {:error, %Error{status: :not_found, message: "#{path}: no such file or folder"}}
  end

  defp data_folder(examples) do
    folder = temporary_folder("data")
    lines = Enum.map(examples, &[JSON.encode(example(&1)), ?\n])

    with :ok <- make_folder(folder),
         :ok <- File.write(Path.join(folder, "train.jsonl"), lines),
         do: {:ok, folder}
  end

  defp example(text) when is_binary(text), do: %{text: text}
  defp example(map), do: map

  @doc false
  def temporary_folder(name) do
    Path.join(System.tmp_dir!(), "bombus-#{name}-#{Base.encode16(:crypto.strong_rand_bytes(6))}")
  end

  @doc """
  Waits for the end of a job in the process that started it. `progress` as the option of that name. The result has `end` (`:finished`,
  `:stopped_early`, `:cancelled`), `iter`, `train_loss`, `validation_loss`, `best_loss`, `best_iter`, `seconds`.
  """
  @spec await(t, (map -> any) | pid | nil) :: {:ok, map} | {:error, Error.t()}
  def await(%__MODULE__{} = job, progress \\ nil) do
    if progress, do: Options.check!(:progress, :progress, progress)
    log = File.open!(Path.join(job.output_path, "training.jsonl"), [:append, :raw])

    try do
      follow(job, progress, log)
    after
      File.close(log)
      forget_data(job)
    end
  end

  # Examples that came as a list were written to a folder of our own.
  defp forget_data(%{temporary: nil}), do: :ok
  defp forget_data(%{temporary: folder}), do: File.rm_rf!(folder)

  defp follow(%{ref: ref} = job, progress, log) do
    receive do
      {^ref, {:progress, event}} ->
        report(event, progress, log)
        follow(job, progress, log)

      {^ref, {:done, result}} ->
        write(log, %{type: :end, end: result.end, iter: result.iter})

        Telemetry.execute([:training, :stop], %{seconds: result.seconds, iter: result.iter}, %{
          end: result.end
        })

        {:ok, result}

      {^ref, {:error, reason}} ->
        write(log, %{type: :end, end: :failed, message: elem(reason, 1)})
        Error.wrap({:error, reason})
    end
  end

  @fields %{
    begin: [:iter, :parameter_count, :example_count, :text],
    estimate: [:estimated_seconds, :estimated_bytes, :seconds],
    step: [:iter, :loss, :learning_rate, :tokens_per_second],
    train: [:iter, :loss, :learning_rate, :tokens_per_second, :iterations_per_second, :trained_tokens],
    validation: [:iter, :loss, :seconds, :best],
    test: [:loss, :seconds],
    saved: [:iter, :text],
    sample: [:iter, :prompt, :text],
    line: [:text]
  }

  defp report(event, progress, log) do
    event = Map.take(event, [:type | Map.fetch!(@fields, event.type)])
    write(log, event)

    if event.type in [:train, :validation, :step] do
      measurements = Map.take(event, [:loss, :iter, :tokens_per_second])
      Telemetry.execute([:training, :progress], measurements, %{type: event.type})
    end

    case progress do
      nil -> :ok
      pid when is_pid(pid) -> send(pid, {:bombus_training, event})
      fun -> fun.(event)
    end
  end

  defp write(log, event), do: :file.write(log, [JSON.encode(event), ?\n])

  @doc "Asks a job to save and end; `await/2` then gives its result."
  @spec cancel(t) :: :ok
  def cancel(%__MODULE__{object: object}), do: NIF.train_cancel(object)

  @doc """
  How long training takes on this machine, measured with a step of it: `"~5h 33m"`. Options are those of a training that change its time.
  """
  @spec estimate_time(pos_integer, Model.t() | Path.t() | Hub.repository(), keyword) :: String.t()
  def estimate_time(iterations, base, opts \\ []) do
    Options.check!(:iterations, :positive, iterations)
    # The data, the folder and what is reported where are its own.
    Options.known!(
      opts,
      option_names() -- [:iterations, :training_data, :output_path, :progress, :steps]
    )

    folder = temporary_folder("estimate")
    text = String.duplicate("The quick brown fox jumps over the lazy dog. ", 40)
    examples = for i <- 1..4, do: %{text: "#{i}. #{text}"}
    opts = [training_data: examples, output_path: folder, iterations: iterations] ++ opts

    try do
      Error.unwrap!(
        with_model(base, fn model, tokenizer ->
          with {:ok, job} <- start(model, tokenizer, opts) do
            estimate = await_estimate(job, iterations)
            forget_data(job)
            estimate
          end
        end)
      )
    after
      File.rm_rf!(folder)
    end
  end

  defp await_estimate(%{ref: ref} = job, iterations) do
    receive do
      {^ref, {:progress, %{type: :estimate, estimated_seconds: seconds}}} when is_number(seconds) ->
        Bombus.unload(job)
        flush(ref)
        {:ok, format_time(seconds)}

      {^ref, {:progress, _}} ->
        await_estimate(job, iterations)

      {^ref, {:done, result}} ->
        {:ok, format_time(result.seconds / max(result.iter, 1) * iterations)}

      {^ref, {:error, reason}} ->
        Error.wrap({:error, reason})
    end
  end

  defp flush(ref) do
    receive do
      {^ref, _} -> flush(ref)
    after
      0 -> :ok
    end
  end

  @doc """
  Seconds in words.

      iex> Bombus.Training.format_time(19_980)
      "~5h 33m"

      iex> Bombus.Training.format_time(75)
      "~1m 15s"
  """
  @spec format_time(number) :: String.t()
  def format_time(seconds) do
    seconds = round(seconds)

    cond do
      seconds >= 3600 -> "~#{div(seconds, 3600)}h #{div(rem(seconds, 3600), 60)}m"
      seconds >= 60 -> "~#{div(seconds, 60)}m #{rem(seconds, 60)}s"
      true -> "~#{max(seconds, 1)}s"
    end
  end

  @doc """
  A lazy stream of `%{type: :train | :validation, iter: iter, loss: loss}` of a log (training.jsonl), which follows the file until the
  training ends. Lines that are no events of training are skipped.
  """
  @spec monitor(Path.t()) :: Enumerable.t()
  def monitor(path) do
    Options.check!(:log, :string, path)

    Stream.resource(
      fn -> {0, ""} end,
      fn
        :end -> {:halt, :end}
        {at, rest} -> read_on(path, at, rest)
      end,
      fn _ -> :ok end
    )
  end

  @poll_ms 100

  defp read_on(path, at, rest) do
    case read_from(path, at) do
      "" ->
        Process.sleep(@poll_ms)
        {[], {at, rest}}

      data ->
        {lines, [rest]} = (rest <> data) |> String.split("\n") |> Enum.split(-1)
        events = Enum.flat_map(lines, &event/1)
        {Enum.reject(events, &(&1 == :end)), if(:end in events, do: :end, else: {at + byte_size(data), rest})}
    end
  end

  defp read_from(path, at) do
    with {:ok, file} <- :file.open(path, [:read, :raw, :binary]) do
      data = :file.pread(file, at, 1_048_576)
      :file.close(file)
      if match?({:ok, _}, data), do: elem(data, 1), else: ""
    else
      {:error, _} -> ""
    end
  end

  defp event(line) do
    case JSON.decode(line) do
      {:ok, %{"type" => "train", "iter" => iter, "loss" => loss}} ->
        [%{type: :train, iter: iter, loss: loss}]

      {:ok, %{"type" => "validation", "iter" => iter, "loss" => loss}} ->
        [%{type: :validation, iter: iter, loss: loss}]

      {:ok, %{"type" => "end"}} ->
        [:end]

      _ ->
        []
    end
  end
end
