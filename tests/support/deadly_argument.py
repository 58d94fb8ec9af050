"""An argument that kills the process which unpickles it, as a crash in a decoder would."""

from __future__ import annotations

import os
import signal
from pathlib import Path


class DeadlyArgument:
    """Kills each worker that receives it; `deaths` times, counted in a file. Then it is None."""

    def __init__(self, counter: Path, deaths: int) -> None:
        self._counter, self._deaths = counter, deaths

    def __reduce__(self):
        return _die, (str(self._counter), self._deaths)


def _die(counter: str, deaths: int) -> None:
    with open(counter, "a+b") as file:
        count = file.tell()
        if count < deaths:
            file.write(b"x")
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
