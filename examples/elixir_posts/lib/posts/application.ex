defmodule Posts.Application do
  @moduledoc """
  The supervised parts: the engine with its model, the adapter of the moment, and the HTTP endpoint.

  Settings come from the environment of `:posts`: `:model` (a folder or `{:hf, name}`), `:port`, and `:server`: `:inets`, `:bandit`, or `:auto`:
  Bandit with the Plug where both are there, else the OTP's own server.
  """

  use Application

  @model Path.expand("../../../../models/bombus-stories-28m-4bit", __DIR__)

  @impl true
  def start(_type, _args) do
    children = [
      {Bombus.Serving, serving: &serving/0, name: Posts.Serving},
      Posts.Style,
      endpoint(Application.get_env(:posts, :server, :auto), Application.fetch_env!(:posts, :port))
    ]

    Supervisor.start_link(children, strategy: :one_for_one, name: Posts.Supervisor)
  end

  @doc "The child that answers HTTP on a port of this machine."
  def endpoint(:auto, port), do: endpoint(if(bandit?(), do: :bandit, else: :inets), port)
  def endpoint(:inets, port), do: {Posts.Endpoint, port: port}

  def endpoint(:bandit, port),
    do: {Bandit, plug: Posts.Plug, ip: {127, 0, 0, 1}, port: port, startup_log: false}

  @doc "Whether the Plug was compiled, and there is Bandit to serve it."
  def bandit?, do: Code.ensure_loaded?(Posts.Plug) and Code.ensure_loaded?(Bandit)

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
