defmodule Bombus.Quantization do
  @moduledoc """
  MLX's quantized weights one by one: packed, unpacked, multiplied with.

  A quantized weight is a map `%{weight, scales, biases, group_size, bits, mode}` as
  `Bumblebee.QuantizedLoader.load_quantized_weight/2` gives it: `weight` has the codes as u32, `[rows, cols * bits / 32]`, `scales` and `biases`
  are `[rows, cols / group_size]` (`biases` only where the mode is `:affine`).
  """

  alias Bombus.{Error, NIF, Options, Tensor}

  @modes [:affine, :mxfp4, :mxfp8, :nvfp4]

  @doc "Quantizes a matrix `[rows, cols]`. Options: `group_size: 64, bits: 4, mode: :affine`."
  @spec quantize(term, keyword) :: map
  def quantize(tensor, opts \\ []) do
    opts =
      Options.validate!(opts,
        group_size: {:positive, 64},
        bits: {{:whole, 1, 8}, 4},
        mode: {{:in, @modes}, :affine}
      )

    tensor = Tensor.take(tensor)

    {rows, cols} =
      case tensor.shape do
        {rows, cols} -> {rows, cols}
        shape -> raise ArgumentError, "expected a matrix to quantize, got the shape #{inspect(shape)}"
      end

    shape = %{
      mode: Atom.to_string(opts.mode),
      bits: opts.bits,
      group_size: opts.group_size,
      dtype: "F32",
      rows: rows,
      cols: cols
    }

    {data, scales, biases} = unwrap!(NIF.quantize(tensor.data, shape))
    public(Map.merge(shape, %{data: data, scales: scales, biases: biases}))
  end

  @doc "The values `[rows, cols]` of a quantized weight, as f32."
  @spec dequantize(map) :: term
  def dequantize(weight) do
    native = native!(weight)

    Tensor.give(%Tensor{
      data: unwrap!(NIF.dequantize(native)),
      shape: {native.rows, native.cols},
      type: {:f, 32}
    })
  end

  @doc "x `[..., cols]` times the weight transposed: `[..., rows]`, in f32."
  @spec quantized_matmul(term, map) :: term
  def quantized_matmul(x, weight) do
    native = native!(weight)
    x = Tensor.take(x)
    data = unwrap!(NIF.quantized_matmul(x.data, native))
    shape = put_elem(x.shape, tuple_size(x.shape) - 1, native.rows)
    Tensor.give(%Tensor{data: data, shape: shape, type: {:f, 32}})
  end

  @doc "Rows of a weight by token ids, as f32: `[count, cols]`."
  @spec embedding_lookup(term, map) :: term
  def embedding_lookup(ids, weight) do
    native = native!(weight)
    ids = Tensor.ids(ids)

    for id <- ids, id >= native.rows do
      raise ArgumentError, "token id #{id} is not among the #{native.rows} rows of the embedding"
    end

    rows =
      for part <- [:data, :scales, :biases], into: %{}, do: {part, take_rows(native[part], ids, native.rows)}

    data = unwrap!(NIF.dequantize(native |> Map.merge(rows) |> Map.put(:rows, length(ids))))
    Tensor.give(%Tensor{data: data, shape: {length(ids), native.cols}, type: {:f, 32}})
  end

  defp take_rows("", _ids, _rows), do: ""

  defp take_rows(data, ids, rows) do
    size = div(byte_size(data), rows)
    for id <- ids, into: "", do: binary_part(data, id * size, size)
  end

  defp unwrap!({:error, {:argument, message}}), do: raise(ArgumentError, message)
  defp unwrap!(result), do: Error.unwrap!(result)

  @doc false
  def public(%{mode: nil} = native) do
    type = type(native.dtype)
    weight = Tensor.give(%Tensor{data: native.data, shape: {native.rows, native.cols}, type: type})
    %{weight: weight, scales: nil, biases: nil, group_size: nil, bits: elem(type, 1), mode: :none}
  end

  def public(native) do
    groups = {native.rows, div(native.cols, native.group_size)}
    type = if native.mode == "affine", do: type(native.dtype), else: {:u, 8}

    codes = %Tensor{
      data: native.data,
      shape: {native.rows, div(native.cols * native.bits, 32)},
      type: {:u, 32}
    }

    biases = if native.biases != "", do: Tensor.give(%Tensor{data: native.biases, shape: groups, type: type})

    %{
      weight: Tensor.give(codes),
      scales: Tensor.give(%Tensor{data: native.scales, shape: groups, type: type}),
      biases: biases,
      group_size: native.group_size,
      bits: native.bits,
      mode: String.to_existing_atom(native.mode)
    }
  end

  defp type("F32"), do: {:f, 32}
  defp type("F16"), do: {:f, 16}
  defp type("BF16"), do: {:bf, 16}

  defp native!(%{weight: weight, mode: :none}) do
    {data, shape, type} = bytes(weight)

    %{
      mode: nil,
      bits: 0,
      group_size: 0,
      dtype: dtype(type),
      rows: elem(shape, 0),
      cols: elem(shape, 1),
      data: data,
      scales: "",
      biases: ""
    }
  end

  defp native!(%{weight: weight, scales: scales} = map) do
    group_size = Options.check!(:group_size, :positive, map[:group_size] || 64)
    bits = Options.check!(:bits, {:whole, 1, 8}, map[:bits] || 4)
    mode = Options.check!(:mode, {:in, @modes}, map[:mode] || :affine)
    {data, shape, _} = bytes(weight)
    {scale_data, _, type} = bytes(scales)
    biases = if map[:biases], do: elem(bytes(map[:biases]), 0), else: ""

    %{
      mode: Atom.to_string(mode),
      bits: bits,
      group_size: group_size,
      dtype: dtype(type),
      rows: elem(shape, 0),
      cols: div(elem(shape, 1) * 32, bits),
      data: data,
      scales: scale_data,
      biases: biases
    }
  end

  defp native!(other) do
    raise ArgumentError, "expected a quantized weight %{weight, scales, biases}, got: #{inspect(other)}"
  end

  defp dtype({:f, 32}), do: "F32"
  defp dtype({:f, 16}), do: "F16"
  defp dtype({:bf, 16}), do: "BF16"
  defp dtype({:u, 8}), do: nil
  defp dtype(type), do: raise(ArgumentError, "expected scales of f32, f16, bf16 or u8, got: #{inspect(type)}")

  defp bytes(%Tensor{data: data, shape: shape, type: type}), do: {data, shape, type}

  defp bytes(tensor) do
    if is_struct(tensor, Nx.Tensor) do
      {Nx.to_binary(tensor), Nx.shape(tensor), Nx.type(tensor)}
    else
      raise ArgumentError, "expected a tensor, got: #{inspect(tensor)}"
    end
  end
end
