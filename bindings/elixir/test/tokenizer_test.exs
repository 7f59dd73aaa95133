defmodule Bombus.TokenizerTest do
  use ExUnit.Case, async: true

  import Bombus.Fixtures
  alias Bombus.Tokenizer

  test "ids and text, with and without special tokens" do
    tokenizer = tokenizer!()
    assert {:ok, [_ | _] = ids} = Tokenizer.encode(tokenizer, "Once upon a time, é 🦊")
    assert {:ok, "Once upon a time, é 🦊"} = Tokenizer.decode(tokenizer, ids)
    assert {:ok, []} = Tokenizer.encode(tokenizer, "")
    assert {:ok, ""} = Tokenizer.decode(tokenizer, [])
    id = Tokenizer.token_id(tokenizer, "<|im_end|>")
    assert {:ok, [^id]} = Tokenizer.encode(tokenizer, "<|im_end|>")
    assert {:ok, ""} = Tokenizer.decode(tokenizer, [id])
    assert {:ok, "<|im_end|>"} = Tokenizer.decode(tokenizer, [id], special: true)
    assert Tokenizer.token_id(tokenizer, "no such token") == nil
  end

  test "a turn ends where the model's files say, not at one id" do
    # generation_config.json and config.json of the story model have two.
    ids = for name <- ["<|im_end|>", "<|endoftext|>"], do: Tokenizer.token_id(tokenizer!(), name)
    assert Enum.sort(Tokenizer.eos_token_ids(tokenizer!())) == Enum.sort(ids)
  end

  test "prompts are made by the model's own template, without thinking unless it is asked for" do
    tokenizer = tokenizer!()
    messages = [%{role: "system", content: "Be brief."}, %{"role" => "user", "content" => "Hello"}]
    assert {:ok, prompt} = Tokenizer.apply_chat_template(tokenizer, messages)

    assert prompt =~
             "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"

    assert {:ok, open} = Tokenizer.apply_chat_template(tokenizer, messages, %{add_generation_prompt: false})
    assert String.starts_with?(prompt, open) and open != prompt
    # As Qwen3 has it: an empty think block stands where there is no thinking.
    folder = temporary("qwen3")
    File.cp_r!(folder(), folder)

    line = "<think>{{ '\\n\\n' }}</think>{{ '\\n\\n' }}"
    condition = "enable_thinking is defined and enable_thinking is false"
    template = "{{ messages[0].content }}>{% if #{condition} %}#{line}{% endif %}"
    File.write!(Path.join(folder, "chat_template.jinja"), template)
    {:ok, qwen} = Tokenizer.open(folder)
    hello = [%{role: "user", content: "Hello"}]
    assert {:ok, thinking} = Tokenizer.apply_chat_template(qwen, hello, %{enable_thinking: true})
    assert {:ok, none} = Tokenizer.apply_chat_template(qwen, hello, %{enable_thinking: false})
    assert none == thinking <> "<think>\n\n</think>\n\n"

    assert {:error, %Bombus.Error{}} =
             Tokenizer.apply_chat_template(tokenizer, [%{role: 7, content: []}], %{messages: 7})
  end

  test "a folder without a tokenizer is an error that names the file" do
    assert {:error, %Bombus.Error{message: message}} = Tokenizer.open(Path.join(root(), "tests"))
    assert message =~ "tokenizer"
  end
end
