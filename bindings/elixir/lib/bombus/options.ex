defmodule Bombus.Options do
  @moduledoc false
  # Options checked against a table before they come near the library: `name: {type, default}`.

  @doc """
  The options as a map with every name of the table.

      iex> Bombus.Options.validate!([rank: 4], rank: {:positive, 8}, scale: {:number, 20.0})
      %{rank: 4, scale: 20.0}

      iex> Bombus.Options.validate!([rank: 0], rank: {:positive, 8})
      ** (ArgumentError) option :rank expects a positive integer, got: 0

      iex> Bombus.Options.validate!([rnak: 4], rank: {:positive, 8})
      ** (ArgumentError) unknown option :rnak, expected one of: :rank
  """
  def validate!(opts, table) do
    known!(opts, Keyword.keys(table))

    Map.new(table, fn {name, {type, default}} ->
      case Keyword.fetch(opts, name) do
        {:ok, nil} -> {name, default}
        {:ok, value} -> {name, check!(name, type, value)}
        :error -> {name, default}
      end
    end)
  end

  @doc "The options as they are, a keyword list of no other names."
  def known!(opts, names) do
    unless Keyword.keyword?(opts),
      do: raise(ArgumentError, "expected options as a keyword list, got: #{inspect(opts)}")

    for {name, _} <- opts, name not in names do
      raise ArgumentError, "unknown option #{inspect(name)}, expected one of: " <> names(names)
    end

    opts
  end

  @doc false
  def check!(name, type, value) do
    if valid?(type, value) do
      value
    else
      raise ArgumentError, "option #{inspect(name)} expects #{describe(type)}, got: #{inspect(value)}"
    end
  end

  defp valid?(:positive, value), do: is_integer(value) and value > 0 and value <= 0x7FFFFFFF
  defp valid?(:natural, value), do: is_integer(value) and value >= 0 and value <= 0x7FFFFFFF
  defp valid?(:integer, value), do: is_integer(value) and abs(value) <= 0x7FFFFFFF
  defp valid?(:seed, value), do: is_integer(value) and value >= 0 and value <= 0xFFFFFFFFFFFFFFFF
  defp valid?(:number, value), do: is_number(value) and abs(value) < 1.0e30
  defp valid?(:nonnegative, value), do: is_number(value) and value >= 0 and value < 1.0e30
  defp valid?(:positive_number, value), do: is_number(value) and value > 0 and value < 1.0e30
  defp valid?({:between, low, high}, value), do: is_number(value) and value >= low and value <= high
  defp valid?({:whole, low, high}, value), do: is_integer(value) and value >= low and value <= high
  defp valid?(:boolean, value), do: is_boolean(value)

  defp valid?(:string, value),
    do: is_binary(value) and String.valid?(value) and not String.contains?(value, <<0>>)

  defp valid?(:text, value), do: valid?(:string, value) and value != ""
  defp valid?(:strings, value), do: is_list(value) and Enum.all?(value, &valid?(:text, &1))

  defp valid?(:examples, value),
    do: is_list(value) and value != [] and Enum.all?(value, &(is_map(&1) or valid?(:string, &1)))

  defp valid?({:in, values}, value), do: value in values
  defp valid?(:map, value), do: is_map(value)
  defp valid?(:keyword, value), do: Keyword.keyword?(value)
  defp valid?(:ids, value), do: is_integer(value) or (is_list(value) and Enum.all?(value, &is_integer/1))
  defp valid?(:progress, value), do: is_function(value, 1) or is_pid(value)
  defp valid?(:name, value), do: is_atom(value) or valid?(:string, value)
  defp valid?(:repository, {kind, name}) when kind in [:hf, :local], do: valid?(:string, name)
  defp valid?(:repository, {:hf, name, opts}), do: valid?(:string, name) and Keyword.keyword?(opts)
  defp valid?(:repository, folder), do: valid?(:string, folder)
  defp valid?(:any, _value), do: true
  defp valid?({:either, types}, value), do: Enum.any?(types, &valid?(&1, value))
  defp valid?({:struct, module}, value), do: is_struct(value, module)

  defp describe(:positive), do: "a positive integer"
  defp describe(:natural), do: "an integer of 0 or more"
  defp describe(:integer), do: "an integer"
  defp describe(:seed), do: "an integer from 0 to 2^64 - 1"
  defp describe(:number), do: "a number"
  defp describe(:nonnegative), do: "a number of 0 or more"
  defp describe(:positive_number), do: "a number above 0"
  defp describe({:between, low, high}), do: "a number from #{low} to #{high}"
  defp describe({:whole, low, high}), do: "an integer from #{low} to #{high}"
  defp describe(:boolean), do: "true or false"
  defp describe(:string), do: "a UTF-8 string without NUL"
  defp describe(:text), do: "a string that is not empty"
  defp describe(:examples), do: "a list of examples (texts or maps)"
  defp describe(:strings), do: "a list of strings that are not empty"
  defp describe({:in, values}), do: "one of " <> names(values)
  defp describe(:map), do: "a map"
  defp describe(:keyword), do: "a keyword list"
  defp describe(:ids), do: "a token id or a list of them"
  defp describe(:progress), do: "a function of one argument or a pid"
  defp describe(:name), do: "a name"
  defp describe(:repository), do: "a folder, {:hf, id}, {:hf, id, options} or {:local, folder}"
  defp describe({:either, types}), do: Enum.map_join(types, " or ", &describe/1)
  defp describe({:struct, module}), do: "a %#{inspect(module)}{}"

  defp names(values), do: Enum.map_join(values, ", ", &inspect/1)
end
