defmodule Bombus.Tensor do
  @moduledoc """
  An array as it lies in a file: bytes, shape and type (`{:f, 32}`, `{:bf, 16}`, `{:s, 64}`, `{:u, 8}`, ...).

  Functions that speak of tensors give and take `Nx` tensors where Nx is on the code path, and these where it is not.

      iex> tensor = Bombus.Tensor.new([[1.0, 2.0], [3.0, 4.0]])
      iex> {tensor.shape, Bombus.Tensor.to_list(tensor)}
      {{2, 2}, [1.0, 2.0, 3.0, 4.0]}
  """

  defstruct [:data, :shape, :type]

  @type t :: %__MODULE__{data: binary, shape: tuple, type: {atom, pos_integer}}

  @doc "A tensor of f32 values from nested lists."
  def new(list) when is_list(list) do
    %__MODULE__{data: pack(list), shape: shape(list), type: {:f, 32}}
  end

  defp pack(list) when is_list(list), do: for(item <- list, into: "", do: pack(item))
  defp pack(number) when is_number(number), do: <<number::float-32-native>>

  defp shape(list), do: list |> sizes() |> List.to_tuple()
  defp sizes([head | _] = list), do: [length(list) | sizes(head)]
  defp sizes([]), do: [0]
  defp sizes(_number), do: []

  @doc "Whether Nx is on the code path."
  def nx?, do: Bombus.Optional.present?(Nx)

  @doc "The tensor that callers get: Nx's where Nx is there, else this struct."
  def give(%__MODULE__{} = tensor), do: if(nx?(), do: to_nx(tensor), else: tensor)

  @doc "As an Nx tensor."
  def to_nx(%__MODULE__{data: data, shape: shape, type: type}) do
    data |> Nx.from_binary(type) |> Nx.reshape(shape)
  end

  @doc "What a caller gave (Nx tensor, this struct, number or nested lists) as this struct with f32 values."
  def take(%__MODULE__{type: {:f, 32}} = tensor), do: tensor
  def take(%__MODULE__{} = tensor), do: %{new(to_list(tensor)) | shape: tensor.shape}
  def take(list) when is_list(list), do: new(list)

  def take(tensor) do
    if is_struct(tensor, Nx.Tensor) do
      tensor = Nx.as_type(tensor, {:f, 32})
      %__MODULE__{data: Nx.to_binary(tensor), shape: Nx.shape(tensor), type: {:f, 32}}
    else
      raise ArgumentError, "expected a tensor, got: #{inspect(tensor)}"
    end
  end

  @doc "Token ids of a tensor or (nested) list, as a flat list."
  def ids(ids) when is_list(ids) do
    ids = List.flatten(ids)

    unless Enum.all?(ids, &(is_integer(&1) and &1 >= 0)),
      do: raise(ArgumentError, "expected token ids, got: #{inspect(ids)}")

    ids
  end

  def ids(tensor) do
    if is_struct(tensor, Nx.Tensor) do
      Nx.to_flat_list(tensor)
    else
      raise ArgumentError, "expected token ids as a tensor or a list, got: #{inspect(tensor)}"
    end
  end

  @doc "The values as a flat list of numbers."
  def to_list(%__MODULE__{data: data, type: type}), do: values(type, data)

  defp values({:f, 64}, data), do: for(<<x::float-64-native <- data>>, do: x)
  defp values({:f, 32}, data), do: for(<<x::float-32-native <- data>>, do: x)
  defp values({:f, 16}, data), do: for(<<x::float-16-native <- data>>, do: x)
  defp values({:bf, 16}, data), do: for(<<x::16-native <- data>>, do: bfloat(x))
  defp values({:s, bits}, data), do: for(<<x::signed-size(bits)-native <- data>>, do: x)
  defp values({:u, bits}, data), do: for(<<x::unsigned-size(bits)-native <- data>>, do: x)

  defp bfloat(bits) do
    <<value::float-32>> = <<bits::16, 0::16>>
    value
  end
end

defimpl Inspect, for: Bombus.Tensor do
  def inspect(tensor, _opts) do
    {kind, bits} = tensor.type
    "#Bombus.Tensor<#{kind}#{bits} #{Kernel.inspect(tensor.shape)}>"
  end
end
