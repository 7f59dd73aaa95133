defmodule Bombus.Optional do
  @moduledoc false
  # Modules of packages that are used where they are present: looked for once, since a search of the code path takes its time where a
  # module is absent. A package that joins the code path of a running system later is not seen.

  @doc "Whether a module is on the code path."
  @spec present?(module) :: boolean
  def present?(module) do
    key = {__MODULE__, module}

    case :persistent_term.get(key, nil) do
      nil ->
        present? = Code.ensure_loaded?(module)
        :persistent_term.put(key, present?)
        present?

      present? ->
        present?
    end
  end
end
