defmodule Bombus.BumblebeeTest do
  # Bumblebee's own names are ours only where Bumblebee is absent, which is decided when this is compiled.
  use ExUnit.Case, async: true

  import Bombus.Fixtures

  @source Path.expand("../lib/bumblebee/bumblebee.ex", __DIR__)

  # The modules that the file defines, compiled with these folders on the code path.
  defp defined(folders) do
    out = temporary("compiled")
    File.mkdir_p!(out)
    paths = Enum.flat_map(folders ++ [Path.dirname(:code.which(Bombus))], &["-pa", to_string(&1)])

    assert {_, 0} =
             System.cmd("elixirc", ["--ignore-module-conflict", "-o", out | paths] ++ [@source],
               stderr_to_stdout: true
             )

    out |> File.ls!() |> Enum.sort()
  end

  # A package of that name in a folder that is called as a clone of this repository is.
  defp package(name, modules) do
    ebin = Path.join([temporary("packages"), "bombus/deps", name, "ebin"])
    File.mkdir_p!(ebin)

    for module <- modules do
      [{^module, beam}] =
        Code.compile_quoted(quote(do: defmodule(unquote(module), do: def(theirs, do: true))))

      File.write!(Path.join(ebin, "#{module}.beam"), beam)
      :code.purge(module)
      :code.delete(module)
    end

    ebin
  end

  test "they are defined without Bumblebee, even where they have been compiled before" do
    assert defined([]) == ["Elixir.Bumblebee.Text.beam", "Elixir.Bumblebee.beam"]
    for module <- [Bumblebee, Bumblebee.Text], do: Code.ensure_loaded!(module)
    assert function_exported?(Bumblebee, :load_model, 2) and function_exported?(Bumblebee, :load_adapter, 2)

    assert function_exported?(Bumblebee, :load_tokenizer, 1) and
             function_exported?(Bumblebee, :train_adapter, 3)

    assert function_exported?(Bumblebee.Text, :generation, 3)
  end

  test "they are not where Bumblebee is there; new names are ours all the same" do
    # Compiled under other names first, so that this system keeps its own.
    ebin = package("bumblebee", [Bumblebee.Theirs, Bumblebee.Theirs.Text])

    for {from, to} <- [{"Theirs", ""}, {"Theirs.Text", ".Text"}],
        do: rename(ebin, from, "Elixir.Bumblebee#{to}")

    assert defined([ebin]) == []

    for module <- [
          Bumblebee.QuantizedLoader,
          Bumblebee.Adapters,
          Bumblebee.Training.LoRA,
          Bumblebee.Text.QuantizedGeneration,
          Bumblebee.Text.Qwen3Quantized
        ] do
      assert :code.which(module) |> to_string() =~ "/bombus/ebin/"
    end

    # And under Bombus always.
    Code.ensure_loaded!(Bombus)

    for {name, arity} <- [load_model: 2, load_adapter: 2, load_tokenizer: 1, train_adapter: 3, generation: 3] do
      assert function_exported?(Bombus, name, arity)
    end
  end

  # Only that the file is there counts.
  defp rename(ebin, from, to),
    do: File.rename!(Path.join(ebin, "Elixir.Bumblebee.#{from}.beam"), Path.join(ebin, "#{to}.beam"))
end
