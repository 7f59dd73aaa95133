defmodule Bombus.Model do
  @moduledoc """
  A loaded model. Any number of processes may share it; the garbage collector frees it, `Bombus.unload/1` at once.
  """

  alias Bombus.{Error, JSON, NIF, Options, Telemetry}

  @enforce_keys [:ref, :folder, :config]
  defstruct [:ref, :folder, :config, :info]

  @type t :: %__MODULE__{ref: reference, folder: Path.t(), config: map, info: map}

  @table [device: {:any, :auto}, exact: {:boolean, nil}, threads: {:natural, nil}]
  @backends %{
    "EMLX.Backend" => :auto,
    "EXLA.Backend" => :auto,
    "Torchx.Backend" => :auto,
    "Nx.BinaryBackend" => "cpu",
    "Bombus.Backend" => :auto
  }

  @doc """
  Opens the model in `folder`.

    * `:device` - `:auto`, `:cpu`, `:gpu`, `:cuda`, or an Nx backend (`EMLX.Backend`, `{EMLX.Backend, device: :gpu}`), which stands for the best
      device here; `{backend, device: :cpu}` is the CPU
    * `:exact` - float32 activations throughout, slower
    * `:threads` - of the CPU; one a physical core
  """
  @spec open(Path.t(), keyword) :: {:ok, t} | {:error, term}
  def open(folder, opts \\ []) do
    opts = Options.validate!(opts, @table)
    Options.check!(:folder, :string, folder)
    with {:ok, config} <- read_config(folder), do: open_with(folder, config, opts)
  end

  @doc false
  # The same for those who have read config.json already.
  def open(folder, config, opts), do: open_with(folder, config, Options.validate!(opts, @table))

  defp open_with(folder, config, opts) do
    with {:ok, device} <- device(opts.device, :device),
         {:ok, ref} <-
           load(folder, %{device: device, exact: opts.exact, threads: opts.threads}, config, opts.device),
         {:ok, info} <- Error.wrap(NIF.model_info(ref)) do
      {:ok, %__MODULE__{ref: ref, folder: folder, config: config, info: info}}
    end
  end

  defp load(folder, options, config, asked) do
    case Telemetry.load(:model, folder, fn -> NIF.model_open(folder, options) end) do
      {:ok, ref} -> {:ok, ref}
      {:error, {:unsupported, "device " <> _}} -> {:error, {:unsupported_backend, name(asked), usable()}}
      {:error, {:unsupported, message}} -> {:error, unsupported(config, message)}
      {:error, {:format, message}} -> {:error, {:safetensors_error, message}}
      {:error, {:not_found, message}} -> {:error, {:safetensors_error, message}}
      {:error, {:argument, message}} -> raise ArgumentError, message
      error -> Error.wrap(error)
    end
  end

  # What the library cannot do is the architecture or something else that the message names.
  defp unsupported(config, message) do
    type = config["model_type"]

    if is_binary(type) and message =~ "model_type",
      do: {:unknown_architecture, type},
      else: %Error{status: :unsupported, message: message}
  end

  @doc "config.json of a model folder, or another JSON object there."
  @spec read_config(Path.t(), String.t()) ::
          {:ok, map} | {:error, {:config_not_found, Path.t()} | {:config_parse_error, term}}
  def read_config(folder, name \\ "config.json") do
    path = Path.join(folder, name)

    case File.read(path) do
      {:ok, text} ->
        case JSON.decode(text) do
          {:ok, config} when is_map(config) -> {:ok, config}
          {:ok, _} -> {:error, {:config_parse_error, "#{name} is not an object"}}
          {:error, reason} -> {:error, {:config_parse_error, reason}}
        end

      {:error, _} ->
        {:error, {:config_not_found, path}}
    end
  end

  @doc "Names of the devices that work here."
  @spec usable() :: [atom]
  def usable, do: Enum.map(NIF.device_names(), &String.to_atom/1)

  @doc """
  The device that a backend stands for, as the library names it; `option` is the name that an `ArgumentError` gives.

      iex> Bombus.Model.device({EMLX.Backend, device: :gpu})
      {:ok, "auto"}

      iex> {:error, {:unsupported_backend, :tpu, usable}} = Bombus.Model.device(:tpu)
      iex> :cpu in usable
      true
  """
  def device(asked, option \\ :backend)
  def device(nil, _option), do: {:ok, "auto"}
  def device(name, _option) when name in [:auto, :gpu], do: {:ok, "auto"}
  def device(name, _option) when is_binary(name), do: known(name, name)
  def device(name, _option) when is_atom(name), do: backend(name, Map.get(@backends, inspect(name)), [])

  def device({name, opts}, _option) when is_atom(name) and is_list(opts) do
    backend(name, Map.get(@backends, inspect(name)), opts)
  end

  def device(other, option) do
    raise ArgumentError, "option #{inspect(option)} expects a device or an Nx backend, got: #{inspect(other)}"
  end

  defp backend(name, nil, _opts), do: known(name, Atom.to_string(name))
  defp backend(_name, :auto, opts), do: {:ok, if(opts[:device] == :cpu, do: "cpu", else: "auto")}
  defp backend(_name, device, _opts), do: {:ok, device}

  defp known(asked, name) do
    if name in NIF.device_names(), do: {:ok, name}, else: {:error, {:unsupported_backend, asked, usable()}}
  end

  defp name({name, _}), do: name
  defp name(name), do: name
end

defimpl Inspect, for: Bombus.Model do
  def inspect(model, _opts), do: "#Bombus.Model<#{model.folder}, #{model.info.device}>"
end
