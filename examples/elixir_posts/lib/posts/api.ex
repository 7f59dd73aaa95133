defmodule Posts.API do
  @moduledoc """
  What the endpoint answers, whichever server asks (`Posts.Endpoint` or `Posts.Plug`):

    * `POST /posts` `{"prompt": "Write a post", "seed": 7}` - `{"text": ..., "adapter": ..., "tokens": ...}`
    * `PUT /adapter` `{"folder": "..."}` and `DELETE /adapter` - the adapter of the requests from now on
    * `GET /status` - what the engine does
  """

  alias Bombus.JSON

  @doc "The bytes that the body of a request may have."
  def body_limit, do: 1_000_000

  @doc "The status and the JSON text that answer a request."
  @spec call(String.t(), String.t(), binary) :: {100..599, String.t()}
  def call(method, path, body) do
    {status, answer} = answer(method, path, body)
    {status, JSON.encode(answer)}
  end

  defp answer(method, path, body) do
    route(method, path, body)
  rescue
    error in ArgumentError -> {400, %{error: Exception.message(error)}}
    error in Bombus.Error -> {503, %{error: error.message}}
  end

  defp route("POST", "/posts", body) do
    options = object!(body)
    adapter = Posts.Style.current()
    input = %{text: options["prompt"] || "Write a post", adapter: adapter, seed: options["seed"]}
    %{results: [result]} = Bombus.Serving.batched_run(Posts.Serving, input)
    {200, %{text: result.text, tokens: result.token_count, adapter: adapter && adapter.folder}}
  end

  defp route("PUT", "/adapter", body) do
    folder = object!(body)["folder"] || raise(ArgumentError, "folder: expected the folder of an adapter")

    case Posts.Style.swap(folder) do
      :ok -> {200, %{adapter: folder}}
      {:error, %{message: message}} -> {422, %{error: message}}
      {:error, reason} -> {422, %{error: inspect(reason)}}
    end
  end

  defp route("DELETE", "/adapter", _body) do
    Posts.Style.clear()
    {200, %{adapter: nil}}
  end

  defp route("GET", "/status", _body), do: {200, Bombus.Serving.stats(Posts.Serving)}
  defp route(_method, path, _body), do: {404, %{error: "nothing at #{path}"}}

  defp object!(""), do: %{}

  defp object!(body) do
    case JSON.decode!(body) do
      object when is_map(object) -> object
      _ -> raise ArgumentError, "expected a JSON object"
    end
  end
end
