defmodule Bumblebee.Adapters do
  @moduledoc """
  LoRA adapters: loaded, applied by hand, and trained.
  """

  import Kernel, except: [apply: 2, apply: 3]

  alias Bombus.{Adapter, Options}

  @doc """
  Reads an adapter: `{:ok, %{layers, config, scaling, rank, ...}}`.

  `layers` maps an index to `%{self_attn: %{q_proj: %{lora_a, lora_b}, ...}, mlp: %{...}}`: tensors where Nx is there, else shapes; nil for a
  projection that is not adapted.
  `:scale_override` takes the place of the file's scale; `:device` is checked.
  """
  @spec load(Path.t(), keyword) :: {:ok, Adapter.t()} | {:error, term}
  defdelegate load(folder, opts \\ []), to: Adapter

  @doc "`base_out + scaling * (input · A · B)`; a nil pair changes nothing. Needs Nx."
  @spec apply(term, term, map | nil, number) :: term
  def apply(base_out, _input, nil, _scaling), do: base_out

  def apply(base_out, input, %{lora_a: a, lora_b: b}, scaling) when is_number(scaling) do
    unless Bombus.Tensor.nx?(),
      do: raise(ArgumentError, "Bumblebee.Adapters.apply/4 computes with Nx, which is not on the code path")

    Nx.add(base_out, Nx.multiply(scaling, Nx.dot(Nx.dot(input, a), b)))
  end

  @doc "What the adapter has for a layer, nil if nothing."
  @spec get_layer_adapter(Adapter.t(), non_neg_integer) :: map | nil
  def get_layer_adapter(%Adapter{layers: layers}, index),
    do: Map.get(layers, Options.check!(:index, :natural, index))

  @doc "See `Bumblebee.Training.LoRA.prepare_data/3`."
  @spec prepare_training_data([String.t()], Path.t(), keyword) :: :ok | {:error, term}
  defdelegate prepare_training_data(contents, folder, opts \\ []),
    to: Bumblebee.Training.LoRA,
    as: :prepare_data

  @doc "See `Bumblebee.Training.LoRA.train/1`."
  @spec train(keyword) :: {:ok, Path.t()} | {:error, term}
  defdelegate train(opts), to: Bumblebee.Training.LoRA
end

defmodule Bumblebee.Training.LoRA do
  @moduledoc """
  From texts to a trained adapter, in this process.
  """

  alias Bombus.{Error, NIF, Options, Training}

  @doc """
  Writes train.jsonl and valid.jsonl, a line a text: `{"messages": [{user, prompt}, {assistant, text}]}`.

    * `:prompt` - what the user says, `"Write a post"`
    * `:split_ratio` - the share of the training set, 0.9
    * `:min_length` - in characters; shorter texts are left out
    * `:shuffle_seed` - nil: in the order given, the last ones for validation
    * `:system` - a system message
  """
  @spec prepare_data([String.t()], Path.t(), keyword) :: :ok | {:error, :no_valid_content | Error.t()}
  def prepare_data(contents, folder, opts \\ []) do
    opts =
      Options.validate!(opts,
        prompt: {:string, "Write a post"},
        split_ratio: {{:between, 0.01, 1}, 0.9},
        min_length: {:natural, nil},
        shuffle_seed: {:seed, nil},
        system: {:string, nil}
      )

    Options.check!(:dir, :string, folder)

    unless is_list(contents),
      do: raise(ArgumentError, "option :contents expects a list of texts, got: #{inspect(contents)}")

    Enum.each(contents, &Options.check!(:contents, :string, &1))
    # A share of 0 would be the library's own default: none at all is a negative one.
    share = if opts.split_ratio == 1, do: -1.0, else: 1.0 - opts.split_ratio
    native = opts |> Map.put(:posts, contents) |> Map.put(:valid_share, share)

    case NIF.prepare_data(folder, native) do
      {:ok, _counts} -> :ok
      {:error, {:not_found, _}} -> {:error, :no_valid_content}
      error -> Error.wrap(error)
    end
  end

  @doc """
  Trains an adapter and waits: `{:ok, output_path}`, or `{:error, {:missing_options, names}}`, or the reason.

  Required: `:base_model` (a folder, a repository or a `Bombus.Model`), `:training_data`, `:output_path`. Defaults: `iterations: 1000, rank: 8,
  scale: 20.0, learning_rate: 1.0e-5, batch_size: 1, grad_accumulation: 8, max_seq_length: 256, steps_per_report: 100, seed: 42, dropout: 0.0,
  num_layers: 16` (the last 16 layers); `:save_every` and `:steps_per_eval` are a tenth of the iterations. All options: `Bombus.Training`.
  """
  @spec train(keyword) :: {:ok, Path.t()} | {:error, term}
  defdelegate train(opts), to: Training

  @doc "A lazy stream of the losses in a training's log; see `Bombus.Training.monitor/1`."
  @spec monitor_training(Path.t()) :: Enumerable.t()
  defdelegate monitor_training(log), to: Training, as: :monitor

  @doc "How long so many iterations take here, measured: `\"~5h 33m\"`. `model` is a folder, a repository or a model."
  @spec estimate_training_time(pos_integer, term, keyword) :: String.t()
  defdelegate estimate_training_time(iterations, model, opts \\ []), to: Training, as: :estimate_time
end
