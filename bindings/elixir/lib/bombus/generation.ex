defmodule Bombus.Generation do
  @moduledoc false
  # Requests to an engine: options, prompts, submission from the caller's process, and the messages that come back.

  alias Bombus.{Adapter, Constraint, Error, JSON, NIF, Options, Telemetry, Tokenizer}

  @enforce_keys [:ref, :request, :serving, :options, :started]
  defstruct [:ref, :request, :serving, :options, :started, input: 0]

  @table [
    adapter: {:any, nil},
    max_new_tokens: {:positive, 256},
    temperature: {:nonnegative, nil},
    top_p: {{:between, 0, 1}, nil},
    top_k: {:natural, nil},
    min_p: {{:between, 0, 1}, nil},
    repetition_penalty: {:positive_number, nil},
    presence_penalty: {:number, nil},
    frequency_penalty: {:number, nil},
    seed: {:seed, nil},
    stop: {{:either, [:text, :strings]}, nil},
    eos_token_id: {{:either, [:ids, {:in, [:auto]}]}, :auto},
    schema: {{:either, [:map, {:struct, Constraint}]}, nil},
    regex: {{:either, [:string, {:struct, Constraint}]}, nil},
    grammar: {{:either, [:string, {:struct, Constraint}]}, nil},
    logprobs: {:boolean, false},
    top_logprobs: {{:whole, 0, 1024}, 0},
    chat_template: {:boolean, true},
    enable_thinking: {:boolean, false},
    template: {:map, %{}},
    system: {:string, nil},
    priority: {:integer, 0},
    deadline_ms: {:natural, 0},
    stream: {:boolean, false},
    stream_done: {:boolean, false}
  ]

  @doc "The options of a request, with a serving's own as defaults."
  def table, do: @table

  @doc "Options checked; adapters become [{adapter, weight}]."
  def options!(opts, defaults \\ []) do
    table = Keyword.merge(@table, defaults, fn _name, {type, _}, default -> {type, default} end)
    options = Options.validate!(opts, table)
    %{options | adapter: adapters!(options.adapter), stop: List.wrap(options.stop)}
  end

  @doc "A serving's options with a call's own over them."
  def merge!(options, []), do: options

  def merge!(options, opts) do
    given = options!(opts)
    Map.merge(options, Map.take(given, Keyword.keys(opts)))
  end

  defp adapters!(nil), do: []
  defp adapters!(%Adapter{} = adapter), do: [{adapter, 1.0}]
  defp adapters!(list) when is_list(list), do: Enum.map(list, &weighted!/1)
  defp adapters!(other), do: weighted!(other)

  defp weighted!(%Adapter{} = adapter), do: {adapter, 1.0}
  defp weighted!({%Adapter{} = adapter, weight}) when is_number(weight), do: {adapter, weight * 1.0}

  defp weighted!(other) do
    raise ArgumentError,
          "option :adapter expects an adapter of Bombus.load_adapter/2, or a list of them or of {adapter, weight}, got: " <>
            inspect(other)
  end

  @doc """
  What a caller gave as a list of {input, options of its own}, and whether it was one alone.

  An input is a text, `%{text: text}`, `%{messages: messages}`, or a list of messages; a list of those is many.
  """
  def inputs!(input) do
    if many?(input), do: {Enum.map(input, &input!/1), :many}, else: {[input!(input)], :one}
  end

  defp many?([%{role: _} | _]), do: false
  defp many?([%{"role" => _} | _]), do: false
  defp many?([_ | _]), do: true
  defp many?([]), do: raise(ArgumentError, "expected at least one input, got an empty list")
  defp many?(_), do: false

  defp input!(text) when is_binary(text), do: {{:text, text!(text)}, []}
  defp input!(%{text: text} = map) when is_binary(text), do: {{:text, text!(text)}, own_options(map, :text)}

  defp input!(%{messages: messages} = map),
    do: {{:messages, messages!(messages)}, own_options(map, :messages)}

  defp input!([%{} | _] = messages), do: {{:messages, messages!(messages)}, []}

  defp input!(other) do
    raise ArgumentError, "expected a text, %{text: text} or %{messages: messages}, got: #{inspect(other)}"
  end

  defp own_options(map, key), do: map |> Map.delete(key) |> Map.to_list()

  defp text!(text) do
    if String.valid?(text),
      do: text,
      else: raise(ArgumentError, "expected valid UTF-8, got: #{inspect(text)}")
  end

  defp messages!([_ | _] = messages) do
    for message <- messages do
      role = is_map(message) && (message[:role] || message["role"])

      unless role,
        do:
          raise(
            ArgumentError,
            "option :messages expects maps with role and content, got: #{inspect(message)}"
          )
    end

    messages
  end

  defp messages!(other) do
    raise ArgumentError,
          "option :messages expects a list of maps with role and content, got: #{inspect(other)}"
  end

  @doc "Hands one input to the serving's engine; its messages go to the calling process."
  def submit!(serving, input, options) do
    prompt = prompt!(serving.tokenizer, input, options)
    adapters = for {adapter, weight} <- options.adapter, do: {Adapter.handle!(adapter, serving.model), weight}
    ref = make_ref()
    constraint = Constraint.of(serving.tokenizer, options)
    native = options |> native() |> Map.put(:constraint, constraint && constraint.ref)
    started = System.monotonic_time()

    Telemetry.execute([:generation, :start], %{prompt_tokens: div(byte_size(prompt), 4)}, %{
      serving: serving.engine
    })

    request = Error.unwrap!(NIF.engine_submit(serving.engine, self(), ref, prompt, native, adapters))

    %__MODULE__{
      ref: ref,
      request: request,
      serving: serving,
      options: options,
      started: started,
      input: div(byte_size(prompt), 4)
    }
  end

  defp native(options) do
    seed = options.seed || :rand.uniform(0xFFFFFFFFFFFF)

    eos =
      case options.eos_token_id do
        :auto -> nil
        ids -> ids |> List.wrap() |> Tokenizer.ids_to_binary()
      end

    options
    |> Map.take([
      :max_new_tokens,
      :temperature,
      :top_p,
      :top_k,
      :min_p,
      :repetition_penalty,
      :presence_penalty,
      :frequency_penalty,
      :stop,
      :logprobs,
      :top_logprobs,
      :priority,
      :deadline_ms
    ])
    |> Map.merge(%{seed: seed, eos_ids: eos, ignore_eos: eos == ""})
    |> Map.update!(:eos_ids, &if(&1 == "", do: nil, else: &1))
    |> Map.put(:tokens, options.stream or options.logprobs or options.top_logprobs > 0)
  end

  defp prompt!(tokenizer, input, options) do
    if templated?(tokenizer, input, options) do
      variables = Map.put(options.template, :enable_thinking, options.enable_thinking)
      text = Error.unwrap!(Tokenizer.apply_chat_template(tokenizer, messages(input, options), variables))
      Error.unwrap!(Tokenizer.encode_binary(tokenizer, text, []))
    else
      {:text, text} = input
      Error.unwrap!(Tokenizer.encode_binary(tokenizer, text, special: true))
    end
  end

  defp templated?(_tokenizer, {:messages, _}, _options), do: true
  defp templated?(tokenizer, {:text, _}, options), do: options.chat_template and tokenizer.info.has_template

  defp messages({:text, text}, options), do: messages({:messages, [%{role: "user", content: text}]}, options)
  defp messages({:messages, messages}, %{system: nil}), do: messages
  defp messages({:messages, messages}, %{system: system}), do: [%{role: "system", content: system} | messages]

  @doc "Waits for the end of a request."
  def await!(%__MODULE__{ref: ref} = request, tokens \\ []) do
    receive do
      {^ref, {:token, id, text, logprob, top}} ->
        await!(request, [%{id: id, text: text, logprob: logprob, top: top} | tokens])

      {^ref, {:done, result}} ->
        finished(request, result, Enum.reverse(tokens))

      {^ref, {:error, reason}} ->
        failed!(request, reason)
    end
  end

  @doc "The texts of a request as they come, then `{:done, result}` where the options ask for it. In the process that submitted it."
  def stream(%__MODULE__{ref: ref} = request) do
    owner = self()

    Stream.resource(
      fn ->
        if self() != owner,
          do: raise("a stream of generated text must be consumed in the process that asked for it")

        :running
      end,
      fn
        :running -> next(request)
        :ended -> {:halt, :ended}
      end,
      fn
        :running ->
          cancel(request)
          drain(ref)

        :ended ->
          :ok
      end
    )
  end

  defp next(%__MODULE__{ref: ref} = request) do
    receive do
      {^ref, {:token, _, "", _, _}} ->
        {[], :running}

      {^ref, {:token, _, text, _, _}} ->
        {[text], :running}

      {^ref, {:done, result}} ->
        result = finished(request, result, [])
        {if(request.options.stream_done, do: [{:done, result}], else: []), :ended}

      {^ref, {:error, reason}} ->
        failed!(request, reason)
    end
  end

  @doc "The request ends before its next token."
  def cancel(%__MODULE__{request: request}), do: NIF.request_cancel(request)

  defp drain(ref) do
    receive do
      {^ref, {:token, _, _, _, _}} -> drain(ref)
      {^ref, _} -> :ok
    after
      30_000 -> :ok
    end
  end

  defp finished(request, result, tokens) do
    Telemetry.execute(
      [:generation, :stop],
      %{
        duration: System.monotonic_time() - request.started,
        input: result.prompt_count,
        output: result.count,
        reused: result.reused_count,
        queue_seconds: result.queue_seconds,
        prompt_seconds: result.prompt_seconds,
        generation_seconds: result.generation_seconds
      },
      %{finish_reason: result.finish_reason}
    )

    output = %{
      text: result.text,
      token_count: result.count,
      token_summary: %{input: result.prompt_count, output: result.count, padding: 0},
      finish_reason: result.finish_reason
    }

    output = if request.options.schema, do: Map.put(output, :object, object(result)), else: output
    if tokens == [] or request.options.stream, do: output, else: Map.put(output, :tokens, tokens)
  end

  # What the schema describes, read; nil where the text was cut off before its end.
  defp object(result) do
    case JSON.decode(result.text) do
      {:ok, value} -> value
      {:error, _} -> nil
    end
  end

  defp failed!(request, reason) do
    duration = System.monotonic_time() - request.started
    Telemetry.execute([:generation, :exception], %{duration: duration}, %{reason: reason})
    Error.unwrap!({:error, reason})
  end
end
