defmodule Bombus.MixProject do
  use Mix.Project

  @version "0.1.0"

  def project do
    [
      app: :bombus,
      version: @version,
      elixir: "~> 1.14",
      start_permanent: Mix.env() == :prod,
      elixirc_paths: if(Mix.env() == :test, do: ["lib", "test/support"], else: ["lib"]),
      compilers: [nif_compiler()] ++ Mix.compilers(),
      make_makefile: "Makefile",
      make_clean: ["clean"],
      deps: deps(),
      # Used where they are present.
      xref: [exclude: [Nx, Nx.Batch, Nx.Serving, :telemetry]],
      description: "4-bit language models and their fine-tuning from Elixir, on libbombus",
      package: [licenses: ["MIT"], files: ~w(lib c_src guides Makefile mix.exs README.md .formatter.exs)],
      docs: docs()
    ]
  end

  def application do
    # What is no dependency and yet on the code path (ERL_LIBS) is to be started too. The tests' hub is one of inets.
    present = for app <- [:telemetry, :nx], is_list(:code.lib_dir(app)), do: app
    tests = if Mix.env() == :test, do: [:inets], else: []
    [extra_applications: [:logger, :crypto] ++ present ++ tests]
  end

  # Nothing is required. What is used where it is present is listed where Hex can resolve it, so that it is
  # compiled before Bombus; without Hex the list is empty, and what is on the code path (ERL_LIBS) still counts.
  # BOMBUS_DEPS=0 leaves it empty too.
  defp deps do
    if Code.ensure_loaded?(Hex) and System.get_env("BOMBUS_DEPS") != "0" do
      [
        {:nx, "~> 0.7", optional: true},
        {:bumblebee, "~> 0.5", optional: true},
        {:telemetry, "~> 1.0", optional: true},
        {:elixir_make, "~> 0.8", runtime: false, optional: true},
        {:ex_doc, "~> 0.30", only: :dev, runtime: false}
      ]
    else
      []
    end
  end

  # elixir_make where it is there, else the task below, which does the same for a system with make.
  defp nif_compiler do
    if Code.ensure_loaded?(Mix.Tasks.Compile.ElixirMake), do: :elixir_make, else: :bombus_nif
  end

  defp docs do
    [
      main: "readme",
      extras: ["README.md", "guides/posts.md", "guides/training.livemd"],
      groups_for_modules: [
        "Names of Bumblebee": [~r/^Bumblebee/],
        Files: [Safetensors]
      ]
    ]
  end
end

defmodule Mix.Tasks.Compile.BombusNif do
  @moduledoc false
  use Mix.Task.Compiler

  @impl true
  def run(_args) do
    app_path = Mix.Project.app_path()
    erts = Path.join([:code.root_dir(), "erts-#{:erlang.system_info(:version)}", "include"])
    usr = Path.join([:code.root_dir(), "usr", "include"])

    env = [
      {"MIX_APP_PATH", app_path},
      {"PREFIX", Path.join(app_path, "priv")},
      {"ERTS_INCLUDE_DIR", to_string(erts)},
      {"ERL_EI_INCLUDE_DIR", to_string(usr)},
      # A make above this one may have handed down flags that are not for us.
      {"MAKEFLAGS", nil},
      {"MAKELEVEL", nil}
    ]

    case System.cmd("make", ["--no-print-directory"], env: env, stderr_to_stdout: true, cd: File.cwd!()) do
      {output, 0} ->
        if output != "", do: Mix.shell().info(String.trim_trailing(output))
        {:ok, []}

      {output, status} ->
        Mix.raise("make ended with #{status}:\n#{output}")
    end
  end

  @impl true
  def clean do
    File.rm_rf!(Path.join(Mix.Project.app_path(), "priv"))
    File.rm_rf!(Path.join(Mix.Project.app_path(), "obj"))
    :ok
  end
end
