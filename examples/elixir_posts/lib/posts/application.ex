defmodule Posts.Application do
  @moduledoc """
  The supervised parts: the engine with its model, the adapter of the moment, and the HTTP endpoint.

  Settings come from the environment of `:posts`: `:model` (a folder or `{:hf, name}`), `:port` (0: any free one).
  """

  use Application

  @model Path.expand("../../../../models/bombus-stories-28m-4bit", __DIR__)

  @impl true
  def start(_type, _args) do
    children = [
      {Bombus.Serving, serving: &serving/0, name: Posts.Serving},
      Posts.Style,
      Posts.Endpoint
    ]

    Supervisor.start_link(children, strategy: :one_for_one, name: Posts.Supervisor)
  end

  defp serving do
    repository =
      case Application.get_env(:posts, :model, @model) do
        folder when is_binary(folder) -> {:local, folder}
        repository -> repository
      end

    {:ok, model} = Bombus.load_model(repository)
    {:ok, tokenizer} = Bombus.load_tokenizer(repository)
    Bombus.Serving.new(model, tokenizer, max_new_tokens: 100)
  end
end
