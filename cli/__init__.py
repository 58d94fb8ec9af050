"""The command line `steadyscale`: argument parsing, progress and one module per command."""
