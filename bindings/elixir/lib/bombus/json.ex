defmodule Bombus.JSON do
  @moduledoc """
  A small JSON reader and writer, so that no package is required for it. Objects are maps with strings as keys,
  `null` is `nil`.

      iex> Bombus.JSON.decode(~s({"name": "Ada", "tags": [1, 2.5, true, null]}))
      {:ok, %{"name" => "Ada", "tags" => [1, 2.5, true, nil]}}

      iex> Bombus.JSON.decode("[1, 2")
      {:error, {:json, 5, "expected , or ]"}}

      iex> Bombus.JSON.encode(%{role: "user", content: "a \\"word\\"\\n"})
      ~S({"content":"a \\"word\\"\\n","role":"user"})
  """

  @depth 512

  @doc "Reads a JSON text; the error tells the byte at which it went wrong."
  @spec decode(binary) :: {:ok, term} | {:error, {:json, non_neg_integer, String.t()}}
  def decode(text) when is_binary(text) do
    {value, rest} = value(skip(text), @depth)

    case skip(rest) do
      "" -> {:ok, value}
      rest -> {:error, {:json, byte_size(text) - byte_size(rest), "expected the end"}}
    end
  catch
    {:json, rest, message} -> {:error, {:json, byte_size(text) - byte_size(rest), message}}
  end

  @doc "Like `decode/1`, but raises `ArgumentError`."
  def decode!(text) do
    case decode(text) do
      {:ok, value} -> value
      {:error, {:json, at, message}} -> raise ArgumentError, "JSON, byte #{at}: #{message}"
    end
  end

  defp skip(<<c, rest::binary>>) when c in ' \t\n\r', do: skip(rest)
  defp skip(rest), do: rest

  defp value(text, 0), do: throw({:json, text, "nested too deeply"})
  defp value("null" <> rest, _), do: {nil, rest}
  defp value("true" <> rest, _), do: {true, rest}
  defp value("false" <> rest, _), do: {false, rest}
  defp value(<<?", rest::binary>>, _), do: string(rest, rest, 0, [])

  defp value(<<?[, rest::binary>>, depth) do
    case skip(rest) do
      <<?], rest::binary>> -> {[], rest}
      rest -> array(rest, depth - 1, [])
    end
  end

  defp value(<<?{, rest::binary>>, depth) do
    case skip(rest) do
      <<?}, rest::binary>> -> {%{}, rest}
      rest -> object(rest, depth - 1, %{})
    end
  end

  defp value(text, _), do: number(text)

  defp array(text, depth, values) do
    {value, rest} = value(text, depth)

    case skip(rest) do
      <<?,, rest::binary>> -> array(skip(rest), depth, [value | values])
      <<?], rest::binary>> -> {Enum.reverse([value | values]), rest}
      rest -> throw({:json, rest, "expected , or ]"})
    end
  end

  defp object(<<?", rest::binary>>, depth, map) do
    {key, rest} = string(rest, rest, 0, [])

    case skip(rest) do
      <<?:, rest::binary>> ->
        {value, rest} = value(skip(rest), depth)
        map = Map.put(map, key, value)

        case skip(rest) do
          <<?,, rest::binary>> -> object(skip(rest), depth, map)
          <<?}, rest::binary>> -> {map, rest}
          rest -> throw({:json, rest, "expected , or }"})
        end

      rest ->
        throw({:json, rest, "expected :"})
    end
  end

  defp object(text, _depth, _map), do: throw({:json, text, "expected a key in quotes"})

  # `length` bytes from `start` on are read and stand for themselves.
  defp string(<<?", rest::binary>>, start, length, parts) do
    text = IO.iodata_to_binary([parts | binary_part(start, 0, length)])
    if String.valid?(text), do: {text, rest}, else: throw({:json, rest, "a string is not valid UTF-8"})
  end

  defp string(<<?\\, rest::binary>>, start, length, parts) do
    {character, rest} = escape(rest)
    string(rest, rest, 0, [parts, binary_part(start, 0, length) | character])
  end

  defp string(<<c, rest::binary>>, start, length, parts) when c >= 32,
    do: string(rest, start, length + 1, parts)

  defp string(rest, _start, _length, _parts), do: throw({:json, rest, "a string does not end"})

  defp escape(<<c, rest::binary>>) when c in '"\\/', do: {<<c>>, rest}
  defp escape("b" <> rest), do: {"\b", rest}
  defp escape("f" <> rest), do: {"\f", rest}
  defp escape("n" <> rest), do: {"\n", rest}
  defp escape("r" <> rest), do: {"\r", rest}
  defp escape("t" <> rest), do: {"\t", rest}

  defp escape(<<?u, hex::binary-size(4), rest::binary>> = text) do
    case {unit(hex, text), rest} do
      {high, <<"\\u", low::binary-size(4), rest::binary>>} when high in 0xD800..0xDBFF ->
        case unit(low, text) do
          low when low in 0xDC00..0xDFFF -> {<<0x10000 + (high - 0xD800) * 0x400 + low - 0xDC00::utf8>>, rest}
          _ -> throw({:json, text, "half a surrogate pair"})
        end

      {half, _} when half in 0xD800..0xDFFF ->
        throw({:json, text, "half a surrogate pair"})

      {code, rest} ->
        {<<code::utf8>>, rest}
    end
  end

  defp escape(text), do: throw({:json, text, "no such escape"})

  defp unit(hex, text) do
    case Integer.parse(hex, 16) do
      {code, ""} when code >= 0 -> code
      _ -> throw({:json, text, "expected four hexadecimal digits"})
    end
  end

  defp number(text) do
    case Regex.run(~r/\A-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?/, text) do
      [whole] -> {String.to_integer(whole), rest_of(text, whole)}
      [all, fraction | exponent] -> {to_float(all, fraction, exponent, text), rest_of(text, all)}
      nil -> throw({:json, text, "expected a value"})
    end
  end

  defp to_float(all, fraction, exponent, text) do
    # Erlang's floats need a fraction before an exponent.
    all = if fraction == "", do: String.replace(all, hd(exponent), ".0" <> hd(exponent)), else: all
    String.to_float(all)
  rescue
    ArgumentError -> throw({:json, text, "a number is too large"})
  end

  defp rest_of(text, read), do: binary_part(text, byte_size(read), byte_size(text) - byte_size(read))

  @doc "Writes a term of maps, keyword-free lists, strings, atoms, numbers, `nil`; keys in order."
  @spec encode(term) :: String.t()
  def encode(term), do: IO.iodata_to_binary(write(term))

  defp write(nil), do: "null"
  defp write(value) when is_boolean(value), do: Atom.to_string(value)
  defp write(value) when is_atom(value), do: write(Atom.to_string(value))
  defp write(value) when is_integer(value), do: Integer.to_string(value)
  defp write(value) when is_float(value), do: Float.to_string(value)
  defp write(value) when is_binary(value), do: [?", escaped(value), ?"]
  defp write(value) when is_list(value), do: [?[, Enum.intersperse(Enum.map(value, &write/1), ?,), ?]]
  defp write(%_{} = struct), do: write(Map.from_struct(struct))

  defp write(value) when is_map(value) do
    pairs =
      value
      |> Enum.map(fn {key, value} -> {to_string(key), value} end)
      |> Enum.sort_by(&elem(&1, 0))
      |> Enum.map(fn {key, value} -> [write(key), ?:, write(value)] end)

    [?{, Enum.intersperse(pairs, ?,), ?}]
  end

  defp escaped(text) do
    unless String.valid?(text), do: raise(ArgumentError, "a string is not valid UTF-8: #{inspect(text)}")

    for <<c::utf8 <- text>>, into: "" do
      case c do
        ?" -> "\\\""
        ?\\ -> "\\\\"
        ?\n -> "\\n"
        ?\r -> "\\r"
        ?\t -> "\\t"
        c when c < 32 -> "\\u" <> String.pad_leading(Integer.to_string(c, 16), 4, "0")
        c -> <<c::utf8>>
      end
    end
  end
end
