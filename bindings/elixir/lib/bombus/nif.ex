defmodule Bombus.NIF do
  @moduledoc false
  # The functions of c_src. Arguments are checked by the modules that call them; results are {:ok, value} or
  # {:error, {status, message}}.

  @on_load :load

  @doc false
  def load do
    path = Path.join(:code.priv_dir(:bombus), "bombus_nif")
    :erlang.load_nif(String.to_charlist(path), 0)
  end

  def version, do: nif()
  def object_close(_object), do: nif()
  def object_counts, do: nif()
  def hub_resolve(_reference, _options), do: nif()
  def model_open(_folder, _options), do: nif()
  def model_info(_model), do: nif()
  def model_weight(_model, _path), do: nif()
  def device_names, do: nif()
  def tokenizer_open(_folder), do: nif()
  def tokenizer_info(_tokenizer), do: nif()
  def encode(_tokenizer, _text, _add_special), do: nif()
  def decode(_tokenizer, _ids, _skip_special), do: nif()
  def token_id(_tokenizer, _token), do: nif()
  def render(_tokenizer, _variables), do: nif()
  def adapter_open(_model, _folder, _scale), do: nif()
  def engine_create(_model, _tokenizer, _options), do: nif()
  def engine_submit(_engine, _owner, _ref, _prompt, _options, _adapters), do: nif()
  def engine_stats(_engine), do: nif()
  def request_cancel(_request), do: nif()
  def sampler_defaults(_folder), do: nif()
  def constraint_create(_tokenizer, _kind, _source), do: nif()
  def session_create(_model, _context_size), do: nif()
  def session_forward(_session, _past, _ids, _adapter), do: nif()
  def train_start(_model, _tokenizer, _owner, _ref, _options), do: nif()
  def train_cancel(_training), do: nif()
  def prepare_data(_folder, _options), do: nif()
  def quantize(_values, _shape), do: nif()
  def dequantize(_weight), do: nif()
  def quantized_matmul(_x, _weight), do: nif()

  defp nif, do: :erlang.nif_error(:not_loaded)
end
