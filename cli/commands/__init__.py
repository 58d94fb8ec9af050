"""One module per command; `cli.registry` lists them."""
