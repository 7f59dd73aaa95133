defmodule Bombus.AdapterTest do
  use ExUnit.Case, async: true

  import Bombus.Fixtures
  alias Bombus.Serving
  alias Bumblebee.Adapters

  @fixtures Path.join(root(), "tests/fixtures/adapters")

  defp shape(x), do: if(is_tuple(x), do: x, else: apply(Nx, :shape, [x]))

  test "mlx-lm's and PEFT's files of one adapter read alike" do
    assert {:ok, mlx} = Adapters.load(Path.join(@fixtures, "mlx-lora"))
    # rsLoRA: alpha 20 over the root of the rank 4.
    assert {:ok, peft} = Adapters.load(Path.join(@fixtures, "peft-rslora"))
    assert mlx.rank == 4 and mlx.scaling == 10.0 and peft.rank == 4 and peft.scaling == 10.0
    assert mlx.config["fine_tune_type"] == "lora" and peft.config["peft_type"] == "LORA"
    assert Map.keys(mlx.layers) == [1, 2] and Map.keys(peft.layers) == [1, 2]

    for index <- [1, 2], adapter <- [mlx, peft] do
      layer = Adapters.get_layer_adapter(adapter, index)

      assert shape(layer.self_attn.q_proj.lora_a) == {128, 4} and
               shape(layer.self_attn.q_proj.lora_b) == {4, 256}

      assert shape(layer.self_attn.v_proj.lora_b) == {4, 128}
      # What is not adapted is nil, as apply/4 takes it.
      assert layer.self_attn.k_proj == nil and layer.self_attn.o_proj == nil and layer.mlp.gate_proj == nil
      assert Adapters.apply(:unchanged, :input, layer.mlp.down_proj, 10.0) == :unchanged
    end

    assert Adapters.get_layer_adapter(mlx, 0) == nil
    assert_raise ArgumentError, ~r/:index/, fn -> Adapters.get_layer_adapter(mlx, -1) end
  end

  test "scale_override and scale take the place of the file's scale, down to the text" do
    assert {:ok, %{scaling: 3.0}} = Adapters.load(Path.join(@fixtures, "mlx-lora"), scale_override: 3)

    assert {:ok, %{scaling: 2.5}} =
             Bombus.load_adapter({:local, Path.join(@fixtures, "peft-rslora")}, scale: 2.5)

    assert {:ok, none} = Bumblebee.load_adapter({:local, adapter_folder()}, scale: 0)
    serving = serving!(max_new_tokens: 12, seed: 4)
    assert %{results: [plain]} = Serving.run(serving, "Write a post")
    assert %{results: [^plain]} = Serving.run(serving, %{text: "Write a post", adapter: none})
    assert %{results: [adapted]} = Serving.run(serving, %{text: "Write a post", adapter: adapter!()})
    assert adapted != plain
  end

  test "an adapter of another model, or a broken one, is an error that says why" do
    {:ok, foreign} = Adapters.load(Path.join(@fixtures, "mlx-lora"))
    assert {:error, %Bombus.Error{message: message}} = Bombus.Adapter.attach(foreign, model!())
    assert message =~ "q_proj"
    folder = temporary("broken-adapter")
    assert {:error, {:config_not_found, _}} = Adapters.load(folder)
    File.mkdir_p!(folder)
    config = Path.join(folder, "adapter_config.json")

    for text <- [
          "{",
          "[]",
          "{}",
          ~s({"r": "eight"}),
          ~s({"r": 0}),
          ~s({"lora_parameters": {"rank": 8, "scale": "x"}})
        ] do
      File.write!(config, text)
      File.write!(Path.join(folder, "adapters.safetensors"), <<2::64-little, "{}">>)
      assert {:error, {:config_parse_error, _}} = Adapters.load(folder)
    end

    File.rm!(Path.join(folder, "adapters.safetensors"))
    assert {:error, {:safetensors_error, message}} = Adapters.load(folder)
    assert message =~ "adapters.safetensors"
    File.write!(Path.join(folder, "adapters.safetensors"), "short")
    assert {:error, {:safetensors_error, {:short_read, _, 8, 5}}} = Adapters.load(folder)
    usable = Bombus.devices()
    assert {:error, {:unsupported_backend, :rocm, ^usable}} = Adapters.load(adapter_folder(), device: :rocm)
  end
end
