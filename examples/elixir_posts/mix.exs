defmodule Posts.MixProject do
  use Mix.Project

  def project do
    [
      app: :posts,
      version: "0.1.0",
      elixir: "~> 1.14",
      deps: [{:bombus, path: "../../bindings/elixir"}]
    ]
  end

  def application do
    # Tests take any port that is free.
    env = [port: if(Mix.env() == :test, do: 0, else: 4100)]
    [mod: {Posts.Application, []}, extra_applications: [:logger, :inets], env: env]
  end
end
