defmodule Bombus.TensorsTest do
  use ExUnit.Case, async: true

  import Bombus.Fixtures
  alias Bombus.{Quantization, Tensor}
  alias Bumblebee.QuantizedLoader
  alias Bumblebee.Text.Qwen3Quantized

  # What functions give, whether Nx is there or not.
  defp list(%Tensor{} = tensor), do: Tensor.to_list(tensor)
  defp list(tensor), do: apply(Nx, :to_flat_list, [tensor])
  defp shape(%Tensor{shape: shape}), do: shape
  defp shape(tensor), do: apply(Nx, :shape, [tensor])

  defp near(a, b, tolerance), do: Enum.zip(a, b) |> Enum.all?(fn {x, y} -> abs(x - y) <= tolerance end)

  test "a matrix survives being quantized, and products agree" do
    rows = for i <- 0..3, do: for(j <- 0..127, do: :math.sin(i * 131 + j * 0.7))
    weight = Quantization.quantize(rows, group_size: 64, bits: 8)
    assert %{group_size: 64, bits: 8, mode: :affine} = weight

    assert shape(weight.weight) == {4, 32} and shape(weight.scales) == {4, 2} and
             shape(weight.biases) == {4, 2}

    values = Quantization.dequantize(weight)
    assert shape(values) == {4, 128}
    assert near(list(values), List.flatten(rows), 0.01)
    x = [for(j <- 0..127, do: :math.cos(j))]
    product = Quantization.quantized_matmul(x, weight)
    assert shape(product) == {1, 4}

    expected =
      for row <- Enum.chunk_every(list(values), 128),
          do: Enum.zip(row, hd(x)) |> Enum.map(fn {a, b} -> a * b end) |> Enum.sum()

    assert near(list(product), expected, 1.0e-3)
    assert %{biases: nil, mode: :mxfp4} = Quantization.quantize(rows, mode: :mxfp4, group_size: 32)
    assert_raise ArgumentError, ~r/group_size/, fn -> Quantization.quantize(rows, group_size: 48) end
    assert_raise ArgumentError, ~r/columns/, fn -> Quantization.quantized_matmul([[1.0, 2.0]], weight) end
  end

  test "weights of a model, and a row of its embedding" do
    weight = QuantizedLoader.load_quantized_weight(folder(), "model.embed_tokens")
    assert %{group_size: 64, bits: 4, mode: :affine} = weight
    assert QuantizedLoader.load_quantized_weight(model!(), "model.embed_tokens") == weight
    assert shape(weight.weight) == {8192, 64} and shape(weight.scales) == {8192, 8}
    rows = Qwen3Quantized.embedding_lookup([17, 3], weight)
    assert shape(rows) == {2, 512}
    small = QuantizedLoader.load_quantized_weight(folder(), "model.layers.0.self_attn.k_proj")
    all = list(Quantization.dequantize(small))

    assert list(Qwen3Quantized.embedding_lookup([17, 3], small)) ==
             Enum.slice(all, 17 * 512, 512) ++ Enum.slice(all, 3 * 512, 512)

    assert {:error, %Bombus.Error{message: message}} =
             QuantizedLoader.load_quantized_weight(folder(), "model.nothing")

    assert message =~ "model.nothing"
    assert_raise ArgumentError, ~r/8192/, fn -> Qwen3Quantized.embedding_lookup([8192], weight) end
  end

  test "the forward pass goes on from a cache, and from an older one" do
    model = model!()
    {:ok, ids} = Bombus.Tokenizer.encode(tokenizer!(), "Once upon a time there was a fox")
    {first, rest} = Enum.split(ids, 4)
    {all, _} = Qwen3Quantized.forward(ids, model)
    assert shape(all) == {1, length(ids), 8192}
    {_, cache} = Qwen3Quantized.forward(first, model)
    {logits, longer} = Qwen3Quantized.forward(rest, model, kv_cache: cache)
    assert shape(logits) == {1, length(rest), 8192}
    assert near(list(logits), Enum.drop(list(all), 4 * 8192), 1.0e-3)
    {again, _} = Qwen3Quantized.forward(rest, model, kv_cache: cache)
    assert list(again) == list(logits)
    {shorter, _} = Qwen3Quantized.forward(rest, model, kv_cache: longer, past_len: 4)
    assert list(shorter) == list(logits)
    last = Qwen3Quantized.get_next_token_logits(ids, model)
    assert shape(last) == {1, 8192}
    assert near(list(last), Enum.take(list(all), -8192), 1.0e-3)
    {adapted, _} = Qwen3Quantized.forward(ids, model, adapter: adapter!())
    refute near(list(adapted), list(all), 0.1)
  end

  test "safetensors by header, tensor and file" do
    path = Path.join(folder(), "model.safetensors")
    assert {:ok, {header, offset}} = Safetensors.read_header(path)
    assert offset > 8
    assert %{dtype: "U32", shape: [8192, 64]} = header["model.embed_tokens.weight"]
    assert {:ok, norm} = Safetensors.load_tensor(path, header, "model.norm.weight")
    assert shape(norm) == {512}
    assert {:ok, %{"model.norm.weight" => ^norm}} = Safetensors.load(path, only: ["model.norm.weight"])
    assert {:error, {:tensor_not_found, "x"}} = Safetensors.load_tensor(path, header, "x")
    odd = put_in(header, ["model.norm.weight", :dtype], "F8_E4M3")
    assert {:error, {:unsupported_dtype, "F8_E4M3"}} = Safetensors.load_tensor(path, odd, "model.norm.weight")
    cut = temporary("cut.safetensors")
    File.write!(cut, binary_part(File.read!(path), 0, offset + 10))

    assert {:error, {:short_read, ^cut, _, 10}} =
             Safetensors.load_tensor(
               cut,
               header,
               header |> Enum.find(fn {_, e} -> elem(e.offsets, 0) == 0 end) |> elem(0)
             )

    File.write!(cut, <<5::64-little, "{}">>)
    assert {:error, {:short_read, ^cut, 5, 2}} = Safetensors.read_header(cut)
    assert {:error, {:file_error, _, :enoent}} = Safetensors.read_header("/nowhere")
  end

  test "every type of a safetensors file" do
    path = temporary("types.safetensors")

    cases = [
      {"F64", <<1.5::float-64-little>>, [1.5]},
      {"F32", <<1.5::float-32-little>>, [1.5]},
      {"F16", <<1.5::float-16-little>>, [1.5]},
      {"BF16", <<0x3FC0::16-little>>, [1.5]},
      {"I64", <<-3::64-little>>, [-3]},
      {"I32", <<-3::32-little>>, [-3]},
      {"I16", <<-3::16-little>>, [-3]},
      {"I8", <<-3::8>>, [-3]},
      {"U64", <<3::64-little>>, [3]},
      {"U32", <<3::32-little>>, [3]},
      {"U16", <<3::16-little>>, [3]},
      {"U8", <<3>>, [3]},
      {"BOOL", <<1>>, [1]}
    ]

    for {dtype, data, values} <- cases do
      header = Bombus.JSON.encode(%{x: %{dtype: dtype, shape: [1], data_offsets: [0, byte_size(data)]}})
      File.write!(path, <<byte_size(header)::64-little, header::binary, data::binary>>)
      assert {:ok, %{"x" => tensor}} = Safetensors.load(path)
      assert list(tensor) == values
    end
  end
end
