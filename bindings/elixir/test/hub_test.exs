defmodule Bombus.HubTest do
  # Repositories by name, from a hub on this machine.
  use ExUnit.Case

  import Bombus.Fixtures
  import Bombus.HubServer, only: [environment: 1, requests: 1]
  alias Bombus.{Error, HubServer, Serving}

  setup do
    environment(HF_TOKEN: nil, HF_HUB_OFFLINE: nil, HF_HOME: nil, HTTPS_PROXY: nil, https_proxy: nil)
  end

  test "a model and its tokenizer are downloaded once, and found in the cache from then on" do
    hub = HubServer.start!(%{"owner/stories" => folder()})
    assert {:ok, tokenizer} = Bumblebee.load_tokenizer({:hf, "owner/stories"})
    assert String.starts_with?(tokenizer.folder, hub.cache)
    assert tokenizer.folder =~ "models--owner--stories/snapshots/"
    # Of a tokenizer no weights are downloaded.
    refute File.exists?(Path.join(tokenizer.folder, "model.safetensors"))
    assert {:ok, model} = Bumblebee.load_model({:hf, "owner/stories"}, quantization: :int4)

    assert File.read!(Path.join(model.folder, "model.safetensors")) ==
             File.read!(Path.join(folder(), "model.safetensors"))

    run = &(Serving.run(&1, "Write a post").results |> hd())

    assert run.(Serving.new(model, tokenizer, max_new_tokens: 8, seed: 3)) ==
             run.(serving!(max_new_tokens: 8, seed: 3))

    count = requests(hub)
    assert count > 0
    assert {:ok, %{folder: folder}} = Bombus.load_model({:hf, "owner/stories", offline: true})
    assert folder == model.folder
    environment(HF_HUB_OFFLINE: "1")
    assert {:ok, %{folder: ^folder}} = Bombus.load_tokenizer({:hf, "owner/stories", revision: "main"})
    assert requests(hub) == count
    # offline: false beats the environment; nothing is downloaded twice.
    assert {:ok, %{folder: ^folder}} =
             Bombus.load_tokenizer({:hf, "owner/stories", offline: false, revision: "v1"})

    assert requests(hub) > count
  end

  test "an adapter in a folder of a repository, and a cache of one's own" do
    root = temporary("repository")
    File.mkdir_p!(Path.join(root, "adapters"))
    File.cp_r!(adapter_folder(), Path.join(root, "adapters/posts"))
    HubServer.start!(%{"owner/adapters" => root})
    cache = temporary("own-cache")
    repository = {:hf, "owner/adapters", subdir: "adapters/posts", cache_dir: cache}
    assert {:ok, adapter} = Bumblebee.load_adapter(repository)
    assert adapter.rank == 8 and String.starts_with?(adapter.folder, cache)
    assert {:ok, %{scaling: 1.5}} = Bombus.load_adapter(repository, scale: 1.5)
    assert {:ok, _} = Bombus.Adapter.attach(adapter, model!())
  end

  test "what is not there, not allowed or not reached is an error that names the repository" do
    hub = HubServer.start!(%{"owner/secret" => folder()}, token: "secret")
    assert {:error, %Error{message: message}} = Bombus.load_tokenizer({:hf, "owner/secret"})
    assert message =~ "owner/secret" and message =~ ~r/token|gated|401/i
    assert {:error, %Error{}} = Bombus.load_tokenizer({:hf, "owner/secret", auth_token: "wrong"})
    assert {:ok, _} = Bombus.load_tokenizer({:hf, "owner/secret", auth_token: "secret"})
    environment(HF_TOKEN: "secret")
    assert {:ok, _} = Bombus.load_tokenizer({:hf, "owner/secret", cache_dir: temporary("token-cache")})

    for repository <- [{:hf, "owner/nothing"}, {:hf, "owner/secret", revision: "v9"}] do
      assert {:error, %Error{status: :not_found, message: message}} = Bombus.load_model(repository)
      assert message =~ elem(repository, 1)
    end

    assert {:error, %Error{status: :not_found, message: message}} =
             Bombus.load_model({:hf, "owner/other", offline: true})

    assert message =~ "owner/other" and message =~ "offline"
    :inets.stop(:httpd, hub.pid)
    assert {:error, %Error{status: :network, message: message}} = Bombus.load_model({:hf, "owner/third"})
    assert message =~ "127.0.0.1"
    # A folder of the repository that is not there.
    assert {:error, {:config_not_found, _}} =
             Bombus.load_adapter({:hf, "owner/secret", subdir: "nothing", offline: true})

    assert {:error, %Error{}} = Bombus.load_model({:hf, "no name of a repository"})
  end

  test "mix bombus.post takes names of repositories" do
    HubServer.start!(%{"owner/stories" => folder(), "owner/adapter" => adapter_folder()})
    shell = Mix.shell()
    Mix.shell(Mix.Shell.Process)
    on_exit(fn -> Mix.shell(shell) end)
    args = ~w(--model owner/stories --adapter owner/adapter --max-new-tokens 12 --seed 3)
    assert :ok = Mix.Tasks.Bombus.Post.run(args)
    assert_received {:mix_shell, :info, [text]}
    assert String.trim(text) != ""
    assert_raise Mix.Error, ~r/owner\/nothing/, fn -> Mix.Tasks.Bombus.Post.run(~w(--model owner/nothing)) end
  end
end
