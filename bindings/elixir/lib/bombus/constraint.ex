defmodule Bombus.Constraint do
  @moduledoc """
  What a text must look like, compiled into masks of tokens. Requests may share one, and should: what one has needed is there for the next.

      {:ok, constraint} = Bombus.Constraint.new(tokenizer, schema: %{type: "object", properties: %{name: %{type: "string"}}})
      {:ok, %{object: object}} = Bombus.chat(serving, messages, schema: constraint)

  The same options may be given to a call or a serving as they are (`schema: %{...}`); a serving compiles its own once.
  """

  alias Bombus.{Error, JSON, NIF, Options, Tokenizer}

  @enforce_keys [:ref, :kind]
  defstruct [:ref, :kind]

  @type t :: %__MODULE__{ref: reference, kind: :schema | :regex | :grammar}

  @kinds [:schema, :regex, :grammar]

  @doc "Compiles one of `schema:` (a map), `regex:`, `grammar:` (GBNF)."
  @spec new(Tokenizer.t(), keyword) :: {:ok, t} | {:error, Error.t()}
  def new(%Tokenizer{ref: ref}, opts) do
    opts = Options.validate!(opts, schema: {:map, nil}, regex: {:string, nil}, grammar: {:string, nil})

    case given(opts) do
      [kind] ->
        source = if kind == :schema, do: JSON.encode(opts.schema), else: opts[kind]

        with {:ok, made} <- Error.wrap(NIF.constraint_create(ref, kind, source)),
             do: {:ok, %__MODULE__{ref: made, kind: kind}}

      other ->
        raise ArgumentError, "expected one of the options :schema, :regex, :grammar, got: #{inspect(other)}"
    end
  end

  defp given(options), do: Enum.filter(@kinds, &options[&1])

  @doc false
  # The constraint that options ask for; nil: none.
  def of(tokenizer, options) do
    case given(options) do
      [] ->
        nil

      [kind] ->
        compiled!(options[kind], kind, tokenizer)

      kinds ->
        raise ArgumentError, "options #{Enum.map_join(kinds, ", ", &inspect/1)} cannot be given together"
    end
  end

  @doc false
  def compile!(options, tokenizer) do
    case of(tokenizer, options) do
      nil -> options
      constraint -> Map.put(options, constraint.kind, constraint)
    end
  end

  defp compiled!(%__MODULE__{kind: kind} = constraint, kind, _tokenizer), do: constraint

  defp compiled!(%__MODULE__{kind: other}, kind, _tokenizer) do
    raise ArgumentError,
          "option #{inspect(kind)} expects a constraint of that kind, got one made by #{inspect(other)}"
  end

  defp compiled!(source, kind, tokenizer), do: Error.unwrap!(new(tokenizer, [{kind, source}]))
end
