"""Training configuration: TOML tables as dataclasses."""
