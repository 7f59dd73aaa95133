# Bumblebee's own names, where Bumblebee itself is not on the code path (decided when this is compiled; what Bombus itself has defined before
# does not count).
present? = fn module ->
  Enum.any?(:code.get_path(), fn folder ->
    folder = List.to_string(folder)
    is_ours = folder |> Path.dirname() |> Path.basename() == "bombus"
    not is_ours and File.exists?(Path.join(folder, "#{module}.beam"))
  end)
end

unless present?.(Bumblebee) do
  defmodule Bumblebee do
    @moduledoc """
    The functions of Bumblebee that Bombus offers under the same names; defined only where Bumblebee itself is absent. They are
    `Bombus`' own: see `Bombus.load_model/2` and the others there.
    """

    @doc "See `Bombus.load_model/2`."
    defdelegate load_model(repository, opts \\ []), to: Bombus

    @doc "See `Bombus.load_adapter/2`."
    defdelegate load_adapter(repository, opts \\ []), to: Bombus

    @doc "See `Bombus.load_tokenizer/1`."
    defdelegate load_tokenizer(repository), to: Bombus

    @doc "See `Bombus.train_adapter/3`."
    defdelegate train_adapter(model, data, opts \\ []), to: Bombus
  end
end

unless present?.(Bumblebee.Text) do
  defmodule Bumblebee.Text do
    @moduledoc """
    Text generation under Bumblebee's name; defined only where Bumblebee itself is absent.
    """

    @doc "See `Bombus.Text.generation/3`."
    defdelegate generation(model, tokenizer, opts \\ []), to: Bombus.Text
  end
end
