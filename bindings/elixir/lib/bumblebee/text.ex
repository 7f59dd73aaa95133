defmodule Bumblebee.Text.QuantizedGeneration do
  @moduledoc """
  Servings of quantized models, with or without an adapter.
  """

  alias Bombus.Serving

  @defaults [max_new_tokens: 50, temperature: 0.7, top_p: 0.9]

  @doc """
  A serving for `Nx.Serving.run/2` and `Nx.Serving.batched_run/2` (without Nx: of `Bombus.Serving`).

  Options are those of `Bombus.Serving`, with these defaults: `adapter: nil, max_new_tokens: 50, temperature: 0.7, top_p: 0.9,
  eos_token_id: :auto, chat_template: true, enable_thinking: false`. A run gives
  `%{results: [%{text, token_count, token_summary: %{input, output, padding}, finish_reason}]}`.
  """
  @spec new(Bombus.Model.t(), Bombus.Tokenizer.t(), keyword) :: struct
  def new(model, tokenizer, opts \\ []), do: Bombus.Text.make(model, tokenizer, opts, @defaults)

  @doc """
  The results of one text or a list of them. `opts` is a serving, or a keyword list with `:model`, `:tokenizer` and the options of `new/3`.
  """
  @spec run_inference(keyword | struct, String.t() | [String.t()]) :: [map]
  def run_inference(opts, inputs) when is_list(opts) do
    unless Keyword.keyword?(opts),
      do: raise(ArgumentError, "expected options as a keyword list, got: #{inspect(opts)}")

    for name <- [:model, :tokenizer],
        is_nil(opts[name]),
        do: raise(ArgumentError, "option #{inspect(name)} is required")

    {own, opts} = Keyword.split(opts, [:model, :tokenizer])
    serving = Serving.new(own[:model], own[:tokenizer], opts, @defaults)

    try do
      run_inference(serving, inputs)
    after
      Bombus.unload(serving)
    end
  end

  def run_inference(serving, inputs), do: Serving.run(Serving.of(serving), inputs).results
end

defmodule Bumblebee.Text.Qwen3Quantized do
  @moduledoc """
  The model's forward pass, a step at a time, for those who sample themselves. Works for every architecture that the library runs.

  Tensors are Nx's where Nx is there, else `Bombus.Tensor`s.
  """

  alias Bombus.{Adapter, Error, Model, NIF, Options, Quantization, Tensor, Tokenizer}

  @doc """
  Logits `[1, count, vocab]` of token ids (a list, or a tensor `[count]` or `[1, count]`), and the cache to go on from.

    * `:kv_cache` - what an earlier call gave
    * `:past_len` - how many of its tokens to keep; all
    * `:adapter` - an adapter of `Bombus.load_adapter/2`
    * `:context_size` - positions that a new cache can hold; those of the model
  """
  @spec forward(term, Model.t(), keyword) :: {term, map}
  def forward(ids, %Model{} = model, opts \\ []) do
    opts =
      Options.validate!(opts,
        kv_cache: {:map, nil},
        past_len: {:natural, nil},
        adapter: {{:struct, Adapter}, nil},
        context_size: {:natural, 0}
      )

    ids = Tensor.ids(ids)
    if ids == [], do: raise(ArgumentError, "expected at least one token id")

    for id <- ids,
        id >= model.info.vocab_size,
        do: raise(ArgumentError, "token id #{id} is not in the vocabulary")

    cache =
      opts.kv_cache || %{session: Error.unwrap!(NIF.session_create(model.ref, opts.context_size)), ids: []}

    past = if opts.past_len && opts.kv_cache, do: Enum.take(cache.ids, opts.past_len), else: cache.ids
    adapter = opts.adapter && Adapter.handle!(opts.adapter, model)
    binaries = Enum.map([past, ids], &Tokenizer.ids_to_binary/1)
    data = Error.unwrap!(apply(NIF, :session_forward, [cache.session | binaries] ++ [adapter]))
    logits = %Tensor{data: data, shape: {1, length(ids), model.info.vocab_size}, type: {:f, 32}}
    {Tensor.give(logits), %{cache | ids: past ++ ids}}
  end

  @doc "Logits `[1, vocab]` of the token that follows; options as `forward/3`."
  @spec get_next_token_logits(term, Model.t(), keyword) :: term
  def get_next_token_logits(ids, model, opts \\ []) do
    {logits, _cache} = forward(ids, model, opts)
    last(Tensor.take(logits), model.info.vocab_size)
  end

  defp last(%Tensor{data: data}, vocab_size) do
    size = vocab_size * 4

    Tensor.give(%Tensor{
      data: binary_part(data, byte_size(data) - size, size),
      shape: {1, vocab_size},
      type: {:f, 32}
    })
  end

  @doc "x `[..., in]` through a quantized weight: `[..., out]`."
  @spec quantized_linear(term, map) :: term
  def quantized_linear(x, weight), do: Quantization.quantized_matmul(x, weight)

  @doc "The same plus what an adapter's pair adds; see `Bumblebee.Adapters.apply/4`."
  @spec quantized_linear_with_lora(term, map, map | nil, number) :: term
  def quantized_linear_with_lora(x, weight, pair, scaling) do
    Bumblebee.Adapters.apply(quantized_linear(x, weight), x, pair, scaling)
  end

  @doc "Embeddings `[count, hidden]` of token ids."
  @spec embedding_lookup(term, map) :: term
  def embedding_lookup(ids, weight), do: Quantization.embedding_lookup(ids, weight)
end
