defmodule Bombus.PostTaskTest do
  use ExUnit.Case

  import Bombus.Fixtures

  setup do
    shell = Mix.shell()
    Mix.shell(Mix.Shell.Process)
    on_exit(fn -> Mix.shell(shell) end)
  end

  test "posts are written, with an adapter and by a seed" do
    args = [
      "--model",
      folder(),
      "--adapter",
      adapter_folder(),
      "--count",
      "2",
      "--max-new-tokens",
      "12",
      "--seed",
      "3"
    ]

    assert :ok = Mix.Tasks.Bombus.Post.run(args)
    assert_received {:mix_shell, :info, [first]}
    assert_received {:mix_shell, :info, [second]}
    assert first != second and String.ends_with?(first, "\n")
    assert_raise Mix.Error, ~r/usage/, fn -> Mix.Tasks.Bombus.Post.run([]) end

    assert_raise Mix.Error, ~r/config.json|no such|not/i, fn ->
      Mix.Tasks.Bombus.Post.run(["--model", Path.join(folder(), "..")])
    end
  end
end
