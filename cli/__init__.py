"""The command line `steadyscale`: arguments, progress bars, printing.

One module per command in `commands/`; `registry` lists them. The work is done by `core`.
"""
