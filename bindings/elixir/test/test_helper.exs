# Nx and Telemetry are used where they are on the code path (as dependencies, or by ERL_LIBS).
for app <- [:telemetry, :nx], do: Application.ensure_all_started(app)
ExUnit.start()
