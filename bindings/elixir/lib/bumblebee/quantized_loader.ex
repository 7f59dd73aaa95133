defmodule Bumblebee.QuantizedLoader do
  @moduledoc """
  Loads quantized models from folders, and looks into them.
  """

  alias Bombus.{Error, Model, NIF, Options, Quantization}

  @doc """
  Opens the model in a folder.

    * `:architecture` - `:auto`, or the name that config.json must have as its model_type (`:qwen3`)
    * `:device` - `:auto`, `:cpu`, `:gpu`

  Errors: `{:config_not_found, path}`, `{:config_parse_error, reason}`, `{:unknown_architecture, type}`, `{:safetensors_error, reason}`,
  `{:unsupported_backend, name, usable}`.
  """
  @spec load_model(Path.t(), keyword) :: {:ok, Model.t()} | {:error, term}
  def load_model(folder, opts \\ []) do
    opts = Options.validate!(opts, architecture: {:name, :auto}, device: {:any, :auto})
    Options.check!(:folder, :string, folder)

    with {:ok, config} <- Model.read_config(folder),
         :ok <- check_architecture(opts.architecture, config["model_type"]) do
      Model.open(folder, config, device: opts.device)
    end
  end

  defp check_architecture(:auto, type) when is_binary(type), do: :ok

  defp check_architecture(wanted, type) when is_atom(wanted) and wanted != :auto,
    do: check_architecture(Atom.to_string(wanted), type)

  defp check_architecture(type, type), do: :ok
  defp check_architecture(_wanted, type), do: {:error, {:unknown_architecture, type}}

  @doc "Whether a device can be used; the error names those that work here."
  @spec validate_backend(term) :: :ok | {:error, {:unsupported_backend, term, [atom]}}
  def validate_backend(device \\ :auto) do
    with {:ok, _name} <- Model.device(device, :device), do: :ok
  end

  @doc """
  One weight as it lies in its file: `%{weight, scales, biases}` with `group_size`, `bits` and `mode`.

  `base_name` is the path of its tensors, `"model.layers.0.self_attn.q_proj"`.
  """
  @spec load_quantized_weight(Model.t() | Path.t(), String.t()) :: map | {:error, term}
  def load_quantized_weight(%Model{ref: ref}, base_name) do
    Options.check!(:base_name, :string, base_name)

    case Error.wrap(NIF.model_weight(ref, base_name)) do
      {:ok, native} -> Quantization.public(native)
      error -> error
    end
  end

  def load_quantized_weight(folder, base_name) when is_binary(folder) do
    with {:ok, model} <- load_model(folder) do
      try do
        load_quantized_weight(model, base_name)
      after
        Bombus.unload(model)
      end
    end
  end

  @doc "Counts of parameters, and the memory that the weights take (GiB)."
  @spec memory_stats(Model.t()) :: map
  def memory_stats(%Model{info: info} = model) do
    embedding = info.vocab_size * info.hidden_size
    head = if tied?(model), do: 0, else: embedding

    %{
      layer_count: info.layer_count,
      params_per_layer: div(info.parameter_count - embedding - head - info.hidden_size, info.layer_count),
      embed_params: embedding,
      lm_head_params: head,
      total_params: info.parameter_count,
      estimated_memory_gb: Float.round(info.weight_bytes / 1024 ** 3, 3)
    }
  end

  # What config.json leaves out differs from family to family: then the files tell.
  defp tied?(%Model{config: %{"tie_word_embeddings" => tied}}), do: tied

  defp tied?(%Model{folder: folder}) do
    not Enum.any?(Path.wildcard(Path.join(folder, "*.safetensors")), fn path ->
      match?({:ok, {%{"lm_head.weight" => _}, _}}, Safetensors.read_header(path))
    end)
  end
end
