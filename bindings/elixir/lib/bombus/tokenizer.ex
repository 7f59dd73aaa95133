defmodule Bombus.Tokenizer do
  @moduledoc """
  A tokenizer, and the chat template that lies beside it. Any number of processes may share it.
  """

  alias Bombus.{Error, JSON, NIF, Options, Telemetry}

  @enforce_keys [:ref, :folder]
  defstruct [:ref, :folder, :info]

  @type t :: %__MODULE__{ref: reference, folder: Path.t(), info: map}

  @doc "Opens tokenizer.json, and the chat template, of a folder."
  @spec open(Path.t()) :: {:ok, t} | {:error, Error.t()}
  def open(folder) do
    Options.check!(:folder, :string, folder)

    with {:ok, ref} <- Error.wrap(Telemetry.load(:tokenizer, folder, fn -> NIF.tokenizer_open(folder) end)),
         {:ok, info} <- Error.wrap(NIF.tokenizer_info(ref)) do
      {:ok, %__MODULE__{ref: ref, folder: folder, info: info}}
    end
  end

  @doc "Token ids of a text; `special: true` with those that the tokenizer adds."
  @spec encode(t, String.t(), keyword) :: {:ok, [non_neg_integer]} | {:error, Error.t()}
  def encode(%__MODULE__{} = tokenizer, text, opts \\ []) when is_binary(text) do
    with {:ok, ids} <- encode_binary(tokenizer, text, opts), do: {:ok, ids_to_list(ids)}
  end

  @doc false
  def encode_binary(%__MODULE__{ref: ref}, text, opts) do
    opts = Options.validate!(opts, special: {:boolean, false})
    Error.wrap(NIF.encode(ref, text, opts.special))
  end

  @doc "Text of token ids; special tokens are left out unless `special: true`."
  @spec decode(t, [non_neg_integer], keyword) :: {:ok, String.t()} | {:error, Error.t()}
  def decode(%__MODULE__{ref: ref}, ids, opts \\ []) when is_list(ids) do
    opts = Options.validate!(opts, special: {:boolean, false})
    Error.wrap(NIF.decode(ref, ids_to_binary(ids), not opts.special))
  end

  @doc "Id of a token as it stands in the vocabulary, nil if there is none."
  @spec token_id(t, String.t()) :: non_neg_integer | nil
  def token_id(%__MODULE__{ref: ref}, token) do
    case NIF.token_id(ref, Options.check!(:token, :string, token)) do
      {:error, _} = error -> Error.unwrap!(error)
      id -> id
    end
  end

  @doc "Ids that end a turn."
  @spec eos_token_ids(t) :: [non_neg_integer]
  def eos_token_ids(%__MODULE__{info: info}), do: info.eos_ids

  @doc """
  Prompt text of messages, by the model's chat template, ready for the answer.

  Messages are maps with `role` and `content` (`%{role: "user", content: "Hello"}`). `variables` are further variables
  of the template, such as `%{enable_thinking: false}` or `%{tools: [...]}`.
  """
  @spec apply_chat_template(t, [map], map) :: {:ok, String.t()} | {:error, Error.t()}
  def apply_chat_template(%__MODULE__{ref: ref, info: info}, messages, variables \\ %{}) do
    variables =
      %{messages: messages, add_generation_prompt: true, bos_token: info.bos_token, eos_token: info.eos_token}
      |> Map.reject(fn {_, value} -> is_nil(value) end)
      |> Map.merge(variables)

    Error.wrap(NIF.render(ref, JSON.encode(variables)))
  end

  @doc false
  def ids_to_list(binary), do: for(<<id::signed-32-native <- binary>>, do: id)

  @doc false
  def ids_to_binary(ids) do
    for id <- ids, into: "" do
      unless is_integer(id) and id >= 0 and id <= 0x7FFFFFFF,
        do: raise(ArgumentError, "expected a token id, got: #{inspect(id)}")

      <<id::signed-32-native>>
    end
  end
end

defimpl Inspect, for: Bombus.Tokenizer do
  def inspect(tokenizer, _opts), do: "#Bombus.Tokenizer<#{tokenizer.folder}>"
end
