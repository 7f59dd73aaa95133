defmodule Bombus.WorkflowTest do
  # The workflow by the names of Bumblebee's functions of the same purpose; the one of documents/workflow.md is run by documents_test.exs.
  use ExUnit.Case

  import Bombus.Fixtures
  @moduletag skip: without_nx()
  @compile {:no_warn_undefined, [Nx.Serving]}

  test "load_model, load_adapter, generation and batched_run" do
    {:ok, model} =
      Bumblebee.load_model({:local, folder()}, quantization: :int4, backend: {EMLX.Backend, device: :gpu})

    {:ok, adapter} = Bumblebee.load_adapter({:local, adapter_folder()})
    {:ok, tokenizer} = Bumblebee.load_tokenizer({:local, folder()})

    serving =
      Bumblebee.Text.generation(model, tokenizer,
        adapter: adapter,
        max_new_tokens: 20,
        compile: [batch_size: 1, sequence_length: 256]
      )

    start_supervised!({Nx.Serving, serving: serving, name: Bombus.WorkflowServing})
    assert %{results: [%{text: _}]} = Nx.Serving.batched_run(Bombus.WorkflowServing, "Write a post")
  end
end
