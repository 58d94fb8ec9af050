"""The commands, one module each; `cli.registry` lists them."""
