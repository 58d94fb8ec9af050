"""The command `steadyscale` in a process of its own."""

from __future__ import annotations

import sys

# In the background of a shell Ctrl-C is ignored, and what is started there inherits that.
_MAIN = (
    "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from steadyscale.cli.main import run_and_exit; sys.exit(run_and_exit())"
)


def cli_command(*args: object, setup: str = "") -> list[str]:
    """What to start for `steadyscale WORDS`, in the Python that runs the tests.

    setup: code that runs first.
    """
    return [sys.executable, "-c", f"{setup}\n{_MAIN}", *map(str, args)]
