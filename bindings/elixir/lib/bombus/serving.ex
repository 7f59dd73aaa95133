defmodule Bombus.Serving do
  @moduledoc """
  A model at work: an engine of the library that runs many requests as one batch.

  `new/3` starts the engine. `run/2` asks it from the calling process; started under a supervisor, any process asks it by name
  with `batched_run/2`. Where Nx is on the code path, `Bombus.Text.generation/3` and `Bumblebee.Text.QuantizedGeneration.new/3`
  give a real `%Nx.Serving{}` around one of these, with the same behaviour.

      children = [{Bombus.Serving, serving: serving, name: MyModel}]

  Requests join and leave the batch between tokens, whoever they come from. A process that dies, or a stream that is not
  read to its end, cancels its requests. The engine ends when the serving is garbage, or with `Bombus.unload/1`.

  ## Inputs

  A text, `%{text: text}`, `%{messages: messages}`, a list of messages, or a list of those. Maps may hold options of the
  request beside (`%{text: "Write a post", adapter: adapter, seed: 7}`). A text becomes the user's turn of the model's chat template, unless
  `chat_template: false` or the model has none.

  ## Options

    * `:adapter` - an adapter, or a list of adapters or of `{adapter, weight}`
    * `:max_new_tokens`, `:temperature`, `:top_p`, `:top_k`, `:min_p`, `:repetition_penalty`, `:presence_penalty`,
      `:frequency_penalty`; what is not given is what the model's generation_config.json asks for
    * `:seed` - the same seed gives the same text, whatever runs beside it
    * `:stop` - a string, or several, that end the text
    * `:eos_token_id` - `:auto` (those of the model's files), an id or a list of ids; `[]`: none
    * `:schema`, `:regex`, `:grammar` - what the text must be: a JSON Schema (a map; the result has `object`, the value read), a regular expression
      for the whole of it, or a GBNF grammar; or a `Bombus.Constraint`, compiled once for many calls
    * `:logprobs`, `:top_logprobs` - the result has `tokens`, each with its log-probability and the likeliest others
    * `:chat_template`, `:enable_thinking` (false), `:system`, `:template` - further variables of the template
    * `:priority`, `:deadline_ms`
    * `:stream` - a run gives a stream of texts; `:stream_done` ends it with `{:done, result}`
    * `:compile` - `[batch_size: n, sequence_length: n]`, as Bumblebee has it: nothing is compiled here
    * `:context_size`, `:kv_bytes`, `:kv_bits`, `:kv_group_size`, `:max_batch`, `:queue_limit`, `:prefill_step_size`, `:exact` - of
      the engine
  """

  use GenServer

  alias Bombus.{Adapter, Constraint, Error, Generation, Model, NIF, Options, Tokenizer}

  @enforce_keys [:model, :tokenizer, :engine, :options]
  defstruct [:model, :tokenizer, :engine, :options]

  @type t :: %__MODULE__{model: Model.t(), tokenizer: Tokenizer.t(), engine: reference, options: map}
  @type result :: %{results: [map]}

  @engine_table [
    context_size: {:natural, nil},
    kv_bytes: {:natural, nil},
    kv_bits: {{:in, [0, 4, 8]}, nil},
    kv_group_size: {{:in, [0, 32, 64, 128]}, nil},
    max_batch: {{:whole, 1, 1024}, nil},
    queue_limit: {:natural, nil},
    prefill_step_size: {:natural, nil},
    exact: {:boolean, nil}
  ]

  @doc "Starts an engine for the model. Defaults of options come from the model's generation_config.json."
  @spec new(Model.t(), Tokenizer.t(), keyword) :: t
  def new(model, tokenizer, opts \\ []), do: new(model, tokenizer, opts, [])

  @doc false
  def new(%Model{} = model, %Tokenizer{} = tokenizer, opts, defaults) do
    _ = compile!(opts)
    {engine_opts, opts} = opts |> Keyword.delete(:compile) |> Keyword.split(Keyword.keys(@engine_table))
    engine_options = Options.validate!(engine_opts, @engine_table)
    options = Generation.options!(opts, Keyword.merge(sampling(model), defaults))
    options = %{options | adapter: attach!(options.adapter, model)}
    options = Constraint.compile!(options, tokenizer)
    engine = Error.unwrap!(NIF.engine_create(model.ref, tokenizer.ref, engine_options))
    %__MODULE__{model: model, tokenizer: tokenizer, engine: engine, options: options}
  end

  def new(model, tokenizer, _opts, _defaults) do
    raise ArgumentError,
          "expected a %Bombus.Model{} and a %Bombus.Tokenizer{}, got: #{inspect(model)} and #{inspect(tokenizer)}"
  end

  @doc false
  # The option of that name checked, once no other name is unknown: %{batch_size, sequence_length}.
  def compile!(opts) do
    Options.known!(opts, [:compile | Keyword.keys(@engine_table) ++ Keyword.keys(Generation.table())])
    compile = Options.check!(:compile, :keyword, opts[:compile] || [])
    Options.validate!(compile, batch_size: {:positive, 1}, sequence_length: {:positive, nil})
  end

  defp sampling(model) do
    model.folder |> NIF.sampler_defaults() |> Error.unwrap!() |> Map.to_list()
  end

  defp attach!(adapters, model) do
    for {adapter, weight} <- adapters, do: {Error.unwrap!(Adapter.attach(adapter, model)), weight}
  end

  @doc "The same engine with other options: adapters, sampling, streaming."
  @spec with_options(t, keyword) :: t
  def with_options(%__MODULE__{} = serving, opts) do
    options = Generation.merge!(serving.options, opts)
    options = Constraint.compile!(options, serving.tokenizer)
    %{serving | options: %{options | adapter: attach!(options.adapter, serving.model)}}
  end

  @doc "Runs inputs from the calling process: `%{results: [...]}`, or with `stream: true` a stream of texts."
  @spec run(t | struct, term) :: result | Enumerable.t()
  def run(%__MODULE__{} = serving, input) do
    requests = submit!(serving, input)
    if serving.options.stream, do: Generation.stream(hd(requests)), else: await!(requests)
  end

  def run(serving, input) do
    if is_struct(serving, Nx.Serving) do
      apply(Nx.Serving, :run, [serving, input])
    else
      raise ArgumentError, "expected a serving, got: #{inspect(serving)}"
    end
  end

  @doc false
  def submit!(serving, input) do
    {inputs, kind} = Generation.inputs!(input)

    if serving.options.stream and kind == :many do
      raise ArgumentError, "a stream takes one input, got a list of #{length(inputs)}"
    end

    inputs = for {input, opts} <- inputs, do: {input, Generation.merge!(serving.options, opts)}
    for {input, options} <- inputs, do: Generation.submit!(serving, input, options)
  end

  @doc false
  def await!(requests), do: %{results: Enum.map(requests, &Generation.await!/1)}

  @doc "Runs inputs by the serving that was started as `name`."
  @spec batched_run(GenServer.server(), term) :: result | Enumerable.t()
  def batched_run(name, input), do: name |> GenServer.call(:serving) |> run(input)

  @doc "What the engine does and has done: requests, tokens, cache."
  @spec stats(t | GenServer.server()) :: map
  def stats(serving), do: Error.unwrap!(NIF.engine_stats(of(serving).engine))

  @doc "The serving behind an `%Nx.Serving{}`, a name or a pid."
  @spec of(t | struct | GenServer.server()) :: t
  def of(%__MODULE__{} = serving), do: serving
  def of(name) when is_atom(name) or is_pid(name), do: GenServer.call(name, :serving)
  def of(%{module: Bombus.NxServing, arg: %__MODULE__{} = serving}), do: serving
  def of(other), do: raise(ArgumentError, "expected a serving of Bombus, got: #{inspect(other)}")

  @doc "A child of a supervisor: `{Bombus.Serving, serving: serving, name: name}`."
  def child_spec(opts) do
    %{id: opts[:name] || __MODULE__, start: {__MODULE__, :start_link, [opts]}}
  end

  @doc "Starts a process that holds a serving. `:serving` is one, or a function that makes it."
  def start_link(opts) do
    opts = Options.validate!(opts, serving: {:any, nil}, name: {:any, nil})

    unless serving?(opts.serving),
      do:
        raise(
          ArgumentError,
          "option :serving expects a serving, or a function that makes one, got: #{inspect(opts.serving)}"
        )

    GenServer.start_link(__MODULE__, opts.serving, if(opts.name, do: [name: opts.name], else: []))
  end

  defp serving?(serving) do
    is_function(serving, 0) or is_struct(serving, __MODULE__) or match?(%{module: Bombus.NxServing}, serving)
  end

  @impl true
  def init(make) when is_function(make, 0), do: {:ok, of(make.())}
  def init(serving), do: {:ok, of(serving)}

  @impl true
  def handle_call(:serving, _from, serving), do: {:reply, serving, serving}
end

defimpl Inspect, for: Bombus.Serving do
  def inspect(serving, _opts), do: "#Bombus.Serving<#{serving.model.folder}>"
end
