defmodule Bombus.Adapter do
  @moduledoc """
  A LoRA (or DoRA) adapter: mlx-lm's files or PEFT's.

  `Bombus.load_adapter/2` reads what the folder holds; `attach/2` opens it for a model, once, and is what servings call
  for adapters that they are given. An attached adapter may be given with any call, and different calls may use different ones at once.
  """

  alias Bombus.{Error, Model, NIF, Options, Telemetry, Tensor}

  @enforce_keys [:folder, :config]
  defstruct [:folder, :config, :layers, :rank, :scaling, :scale_override, attached: %{}]

  @type t :: %__MODULE__{
          folder: Path.t(),
          config: map,
          layers: %{non_neg_integer => map},
          rank: pos_integer,
          scaling: float
        }

  @doc """
  Reads an adapter. `:scale_override` takes the place of the scale that its files give; `:device` is checked as `Bombus.load_model/2` checks its
  `:backend`. The file's scale is used as it is, not divided by the rank.
  """
  @spec load(Path.t(), keyword) :: {:ok, t} | {:error, term}
  def load(folder, opts \\ []) do
    opts = Options.validate!(opts, scale_override: {:number, nil}, device: {:any, :auto})
    Options.check!(:folder, :string, folder)

    with {:ok, _device} <- Model.device(opts.device, :device),
         {:ok, config} <- Model.read_config(folder, "adapter_config.json"),
         {:ok, path} <- weights_path(folder),
         {:ok, layers} <- Telemetry.load(:adapter, folder, fn -> read_layers(path) end),
         {:ok, rank, scale} <- read_scale(config) do
      scale = (opts.scale_override || scale) * 1.0

      {:ok,
       %__MODULE__{
         folder: folder,
         config: config,
         layers: layers,
         rank: rank,
         scaling: scale,
         scale_override: opts.scale_override && opts.scale_override * 1.0
       }}
    end
  end

  @doc "The adapter opened for a model; once for each model."
  @spec attach(t, Model.t()) :: {:ok, t} | {:error, Error.t()}
  def attach(%__MODULE__{attached: attached} = adapter, %Model{ref: model}) when is_map_key(attached, model),
    do: {:ok, adapter}

  def attach(%__MODULE__{} = adapter, %Model{ref: model}) do
    with {:ok, ref} <- Error.wrap(NIF.adapter_open(model, adapter.folder, adapter.scale_override)) do
      {:ok, %{adapter | attached: Map.put(adapter.attached, model, ref)}}
    end
  end

  @doc false
  def handle!(%__MODULE__{} = adapter, %Model{ref: ref} = model) do
    Map.fetch!(Error.unwrap!(attach(adapter, model)).attached, ref)
  end

  defp weights_path(folder) do
    paths = Enum.map(["adapters.safetensors", "adapter_model.safetensors"], &Path.join(folder, &1))

    case Enum.find(paths, &File.regular?/1) do
      nil ->
        {:error,
         {:safetensors_error, "#{folder}: neither adapters.safetensors nor adapter_model.safetensors"}}

      path ->
        {:ok, path}
    end
  end

  defp read_scale(%{"lora_parameters" => %{"rank" => rank} = parameters}),
    do: checked_scale(rank, parameters["scale"] || 20.0, & &1)

  defp read_scale(%{"r" => rank} = config) do
    checked_scale(rank, config["lora_alpha"] || rank, fn alpha ->
      if config["use_rslora"], do: alpha / :math.sqrt(rank), else: alpha / rank
    end)
  end

  defp read_scale(_),
    do: {:error, {:config_parse_error, "adapter_config.json has neither lora_parameters nor r"}}

  defp checked_scale(rank, given, scale) when is_integer(rank) and rank > 0 and is_number(given),
    do: {:ok, rank, scale.(given)}

  defp checked_scale(_rank, _given, _scale),
    do:
      {:error,
       {:config_parse_error, "adapter_config.json: the rank is no positive integer, or the scale no number"}}

  # What every layer has, so that a projection without an adapter is nil.
  @parts %{
    self_attn: %{q_proj: nil, k_proj: nil, v_proj: nil, o_proj: nil},
    mlp: %{gate_proj: nil, up_proj: nil, down_proj: nil}
  }

  @projections "q_proj|k_proj|v_proj|o_proj|qkv_proj|gate_proj|up_proj|gate_up_proj|down_proj"
  @name Regex.compile!("layers\\.(\\d+)\\.(self_attn|mlp)\\.(#{@projections})\\.(lora_[aAbB])(?:\\.weight)?$")

  # %{layer => %{self_attn: %{q_proj: %{lora_a: ..., lora_b: ...}}, mlp: %{...}}}; what stands elsewhere is left to the library.
  defp read_layers(path) do
    with {:ok, {header, _offset}} <- safetensors(Safetensors.read_header(path)) do
      Enum.reduce_while(Enum.sort(Map.keys(header)), {:ok, %{}}, fn name, {:ok, layers} ->
        with [_, layer, part, projection, half] <-
               Regex.run(@name, name),
             {:ok, tensor} <- safetensors(Safetensors.load_tensor(path, header, name)) do
          keys = [String.to_atom(part), String.to_atom(projection)]
          parts = Map.get(layers, String.to_integer(layer), @parts)
          pair = Map.put(get_in(parts, keys) || %{}, half_key(half), give(tensor, half))
          {:cont, {:ok, Map.put(layers, String.to_integer(layer), put_in(parts, keys, pair))}}
        else
          nil -> {:cont, {:ok, layers}}
          error -> {:halt, error}
        end
      end)
    end
  end

  defp safetensors({:ok, value}), do: {:ok, value}
  defp safetensors({:error, reason}), do: {:error, {:safetensors_error, reason}}

  defp half_key(half), do: if(String.downcase(half) == "lora_a", do: :lora_a, else: :lora_b)

  # PEFT's halves are mlx-lm's transposed. Without Nx, callers get the shapes.
  defp give(tensor, half) do
    is_peft = half in ["lora_A", "lora_B"]

    cond do
      Tensor.nx?() -> if(is_peft, do: Nx.transpose(tensor), else: tensor)
      is_peft -> tensor.shape |> Tuple.to_list() |> Enum.reverse() |> List.to_tuple()
      true -> tensor.shape
    end
  end
end

defimpl Inspect, for: Bombus.Adapter do
  def inspect(adapter, _opts) do
    "#Bombus.Adapter<#{adapter.folder}, rank #{adapter.rank}, scale #{adapter.scaling}, layers #{map_size(adapter.layers)}>"
  end
end
