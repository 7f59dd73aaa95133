defmodule Bombus.Error do
  @moduledoc """
  What went wrong in the library: `status` is one of the names of `bombus_status` in lower case (`:not_found`,
  `:format`, `:mismatch`, `:context_full`, ...), or `:closed` for what has been unloaded; the message names the
  file, tensor or option, and what was expected.

  Functions that return `{:error, reason}` give it as the reason; functions that end in `!`, and servings, raise it.
  """
  defexception [:status, :message]

  @type t :: %__MODULE__{status: atom, message: String.t()}

  @doc false
  def wrap({:error, {status, message}}), do: {:error, %__MODULE__{status: status, message: message}}
  def wrap(other), do: other

  @doc false
  def unwrap!({:ok, value}), do: value

  def unwrap!({:error, {status, message}}) when is_binary(message),
    do: raise(__MODULE__, status: status, message: message)

  def unwrap!({:error, error}) when is_exception(error), do: raise(error)
  def unwrap!({:error, reason}), do: raise(__MODULE__, status: :error, message: inspect(reason))
end
