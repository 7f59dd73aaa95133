defmodule Posts.MixProject do
  use Mix.Project

  def project do
    [
      app: :posts,
      version: "0.1.0",
      elixir: "~> 1.14",
      deps: [{:bombus, path: "../../bindings/elixir"}] ++ optional()
    ]
  end

  def application do
    # Tests start servers of their own.
    env = [port: if(Mix.env() == :test, do: 0, else: 4100)]
    present = if is_list(:code.lib_dir(:bandit)), do: [:bandit], else: []
    [mod: {Posts.Application, []}, extra_applications: [:logger, :inets] ++ present, env: env]
  end

  # Plug and a server of Plugs are used where they are present: as dependencies where Hex can resolve them (BOMBUS_DEPS=0 leaves them out), or
  # on the code path (ERL_LIBS).
  defp optional do
    if Code.ensure_loaded?(Hex) and System.get_env("BOMBUS_DEPS") != "0",
      do: [{:plug, "~> 1.14"}, {:bandit, "~> 1.0"}],
      else: []
  end
end
