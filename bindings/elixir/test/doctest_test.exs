defmodule Bombus.DoctestTest do
  use ExUnit.Case, async: true
  doctest Bombus.JSON
  doctest Bombus.Model
  doctest Bombus.Options
  doctest Bombus.Tensor
  doctest Bombus.Training
end
