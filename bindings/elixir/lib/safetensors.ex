defmodule Safetensors do
  @moduledoc """
  Reads safetensors files: header, single tensors, whole files. Tensors are Nx's where Nx is on the code path, else
  `Bombus.Tensor`s.

  Types: F64, F32, F16, BF16, signed and unsigned integers of 8 to 64 bits, BOOL (as u8).
  """

  alias Bombus.{JSON, Tensor}

  @types %{
    "F64" => {:f, 64},
    "F32" => {:f, 32},
    "F16" => {:f, 16},
    "BF16" => {:bf, 16},
    "I64" => {:s, 64},
    "I32" => {:s, 32},
    "I16" => {:s, 16},
    "I8" => {:s, 8},
    "U64" => {:u, 64},
    "U32" => {:u, 32},
    "U16" => {:u, 16},
    "U8" => {:u, 8},
    "BOOL" => {:u, 8}
  }
  @header_limit 100_000_000

  @type header :: %{
          String.t() => %{
            dtype: String.t(),
            shape: [non_neg_integer],
            offsets: {non_neg_integer, non_neg_integer}
          }
        }

  @doc "The header (name to dtype, shape and offsets) and the byte at which the data begins."
  @spec read_header(Path.t()) :: {:ok, {header, pos_integer}} | {:error, term}
  def read_header(path) do
    open(path, fn file ->
      with {:ok, <<size::64-little>>} <- read(file, 0, 8, path),
           :ok <- check_size(size, path),
           {:ok, text} <- read(file, 8, size, path),
           {:ok, map} <- decode(text, path),
           {:ok, header} <- entries(map, path) do
        {:ok, {header, 8 + size}}
      end
    end)
  end

  @doc "One tensor of a file whose header was read."
  @spec load_tensor(Path.t(), header, String.t()) :: {:ok, term} | {:error, term}
  def load_tensor(path, header, name) do
    with {:ok, entry} <- fetch(header, name),
         {:ok, type} <- type(entry.dtype) do
      open(path, fn file ->
        with {:ok, <<size::64-little>>} <- read(file, 0, 8, path),
             do: read_tensor(file, path, 8 + size, entry, type)
      end)
    end
  end

  @doc """
  All tensors of a file, by name. `:only` is a list of the names wanted.
  """
  @spec load(Path.t(), keyword) :: {:ok, %{String.t() => term}} | {:error, term}
  def load(path, opts \\ []) do
    opts = Bombus.Options.validate!(opts, only: {:strings, nil})

    with {:ok, {header, _}} <- read_header(path) do
      Enum.reduce_while(opts.only || Map.keys(header), {:ok, %{}}, fn name, {:ok, tensors} ->
        case load_tensor(path, header, name) do
          {:ok, tensor} -> {:cont, {:ok, Map.put(tensors, name, tensor)}}
          error -> {:halt, error}
        end
      end)
    end
  end

  defp open(path, fun) do
    case :file.open(path, [:read, :raw, :binary]) do
      {:ok, file} ->
        try do
          fun.(file)
        after
          :file.close(file)
        end

      {:error, reason} ->
        {:error, {:file_error, path, reason}}
    end
  end

  defp read(_file, _at, 0, _path), do: {:ok, ""}

  defp read(file, at, size, path) do
    case :file.pread(file, at, size) do
      {:ok, data} when byte_size(data) == size -> {:ok, data}
      {:ok, data} -> {:error, {:short_read, path, size, byte_size(data)}}
      :eof -> {:error, {:short_read, path, size, 0}}
      {:error, reason} -> {:error, {:file_error, path, reason}}
    end
  end

  defp check_size(size, _path) when size <= @header_limit, do: :ok
  defp check_size(size, path), do: {:error, {:header_too_large, path, size}}

  defp decode(text, path) do
    case JSON.decode(text) do
      {:ok, map} when is_map(map) -> {:ok, map}
      _ -> {:error, {:header_parse_error, path}}
    end
  end

  defp entries(map, path) do
    map
    |> Map.delete("__metadata__")
    |> Enum.reduce_while({:ok, %{}}, fn
      {name, %{"dtype" => dtype, "shape" => shape, "data_offsets" => [first, last]}}, {:ok, header}
      when is_binary(dtype) and is_list(shape) and is_integer(first) and is_integer(last) and first >= 0 and
             last >= first ->
        if Enum.all?(shape, &(is_integer(&1) and &1 >= 0)) do
          {:cont, {:ok, Map.put(header, name, %{dtype: dtype, shape: shape, offsets: {first, last}})}}
        else
          {:halt, {:error, {:header_parse_error, path}}}
        end

      _, _ ->
        {:halt, {:error, {:header_parse_error, path}}}
    end)
  end

  defp fetch(header, name) do
    case header do
      %{^name => entry} -> {:ok, entry}
      _ -> {:error, {:tensor_not_found, name}}
    end
  end

  defp type(dtype) do
    case @types do
      %{^dtype => type} -> {:ok, type}
      _ -> {:error, {:unsupported_dtype, dtype}}
    end
  end

  defp read_tensor(file, path, start, entry, {_, bits} = type) do
    {first, last} = entry.offsets
    size = Enum.product(entry.shape) * div(bits, 8)

    if last - first == size do
      with {:ok, data} <- read(file, start + first, size, path) do
        {:ok, Tensor.give(%Tensor{data: data, shape: List.to_tuple(entry.shape), type: type})}
      end
    else
      {:error, {:header_parse_error, path}}
    end
  end
end
