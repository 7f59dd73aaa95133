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
    unless Keyword.keyword?(opts),
      do: raise(ArgumentError, "expected options as a keyword list, got: #{inspect(opts)}")

    for {name, _} <- opts, not Keyword.has_key?(table, name) do
      raise ArgumentError, "unknown option #{inspect(name)}, expected one of: " <> names(Keyword.keys(table))
    end

    Map.new(table, fn {name, {type, default}} ->
      case Keyword.fetch(opts, name) do
        {:ok, nil} -> {name, default}
        {:ok, value} -> {name, check!(name, type, value)}
        :error -> {name, default}
      end
    end)
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
  defp valid?(:boolean, value), do: is_boolean(value)

  defp valid?(:string, value),
    do: is_binary(value) and String.valid?(value) and not String.contains?(value, <<0>>)

  defp valid?(:strings, value), do: is_list(value) and Enum.all?(value, &(valid?(:string, &1) and &1 != ""))
  defp valid?({:in, values}, value), do: value in values
  defp valid?(:map, value), do: is_map(value)
  defp valid?(:keyword, value), do: Keyword.keyword?(value)
  defp valid?(:ids, value), do: is_integer(value) or (is_list(value) and Enum.all?(value, &is_integer/1))
  defp valid?(:progress, value), do: is_function(value, 1) or is_pid(value)
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
  defp describe(:boolean), do: "true or false"
  defp describe(:string), do: "a UTF-8 string without NUL"
  defp describe(:strings), do: "a list of strings that are not empty"
  defp describe({:in, values}), do: "one of " <> names(values)
  defp describe(:map), do: "a map"
  defp describe(:keyword), do: "a keyword list"
  defp describe(:ids), do: "a token id or a list of them"
  defp describe(:progress), do: "a function of one argument or a pid"
  defp describe({:either, types}), do: Enum.map_join(types, " or ", &describe/1)
  defp describe({:struct, module}), do: "a %#{inspect(module)}{}"

  defp names(values), do: Enum.map_join(values, ", ", &inspect/1)
end
