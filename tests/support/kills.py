"""Kill a process at a chosen moment: before its n-th operation on a file, or at the n-th byte of one."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from job_run import start_process

_FILE_EVENTS = {"open", "os.listdir", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.scandir", "shutil.rmtree"}


def count_operations(function: Callable[..., object], *arguments: object, folder: Path) -> int:
    """Call a function in a child process; return the number of its operations on files in `folder`."""
    counter = folder.parent / f"{folder.name}.count"
    process = start_process(_call_counted, function, arguments, str(folder), 0, str(counter))
    process.join(300)
    assert process.exitcode == 0
    count = int(counter.read_text())
    counter.unlink()
    return count


def kill_at_operation(number: int, function: Callable[..., object], *arguments: object, folder: Path) -> None:
    """Call a function in a child process that is killed before its operation `number`, from 1, on files in `folder`."""
    process = start_process(_call_counted, function, arguments, str(folder), number, "")
    process.join(300)
    assert process.exitcode == -signal.SIGKILL


def kill_at_byte(limit: int, function: Callable[..., object], *arguments: object) -> None:
    """Call a function in a child process that dies when it writes a file beyond `limit` bytes."""
    process = start_process(_call_limited, function, arguments, limit)
    process.join(300)
    assert process.exitcode == -signal.SIGXFSZ


def _call_counted(function: Callable[..., object], arguments: tuple, folder: str, number: int, counter: str) -> None:
    count = 0

    def watch(event: str, event_arguments: tuple) -> None:
        nonlocal count
        if event in _FILE_EVENTS and str(event_arguments[0]).startswith(folder):
            count += 1
            if count == number:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    function(*arguments)
    if counter:
        total, count = count, -1_000_000  # the file of the counter is none of the function's
        Path(counter).write_text(str(total))


def _call_limited(function: Callable[..., object], arguments: tuple, limit: int) -> None:
    import resource  # POSIX only, as the limit is

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # Python ignores it and raises an error instead.
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    function(*arguments)
