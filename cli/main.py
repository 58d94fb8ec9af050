"""The command `steadyscale`: the library's parts plugged together, without ComfyUI."""

from __future__ import annotations

import argparse
import atexit
import os
import sys
import traceback
from collections.abc import Sequence

from .. import __version__
from ..core.runtime.malloc import few_heaps
from .console import log_on_stderr, stoppable
from .registry import COMMANDS, GROUPS, command_of


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0: everything was written, 1: it failed, 2: it was called wrongly, 130: interrupted."""
    try:
        words = sys.argv[1:] if argv is None else argv
        args = parser(_named(words)).parse_args(words)
    except SystemExit as done:  # argparse has written what there is to say
        return int(done.code or 0)
    except KeyboardInterrupt:
        sys.stderr.write("steadyscale: interrupted, nothing was written\n")
        return 130
    few_heaps()
    with log_on_stderr(args), stoppable():
        try:
            command_of(args.command).run(args)
            return 0
        except KeyboardInterrupt:
            outcome = "what is finished is kept" if args.keeps(args) else "nothing was written"
            sys.stderr.write(f"steadyscale: interrupted, {outcome}\n")
            return 130
        except Exception as error:  # whatever it is, a person is told in one line
            if args.debug:
                traceback.print_exc()
            sys.stderr.write(f"steadyscale: {_one_line(error)}\n")
            return 1


def program() -> int:
    """`main` as all that a process does: it is gone as soon as all is written, where taking down the libraries that
    torch brings for cards takes half a second and touches 120 MB more.
    """
    code = 1

    def leave() -> None:
        try:
            for stream in filter(None, (sys.stdout, sys.stderr)):  # closed by the caller, they are None
                stream.flush()
        except (OSError, ValueError):
            return  # Python flushes once more, and says what is wrong.
        os._exit(code)

    # The first to be registered is the last to be called: after the threads have ended, and what else has to be done.
    atexit.register(leave)
    code = main()
    return code


def parser(name: str | None = None) -> argparse.ArgumentParser:
    """Of what it parses, `command` is the command's full name, such as 'upscale' or 'models list', and `keeps` says of
    the arguments whether what is finished outlives an interrupt.

    name: of the one command whose words it will be given; None takes those of all.
    """
    program = argparse.ArgumentParser(prog="steadyscale", description="Sharper and steadier video.")
    program.add_argument("--version", action="version", version=f"steadyscale {__version__}")
    places = {"": program.add_subparsers(required=True, metavar="COMMAND")}
    for full, about in COMMANDS.items():
        group, _, word = full.rpartition(" ")
        if group not in places:
            holder = places[""].add_parser(group, help=GROUPS[group])
            places[group] = holder.add_subparsers(required=True, metavar="ACTION")
        words = places[group].add_parser(word, help=about, description=about, allow_abbrev=False)
        words.set_defaults(command=full, keeps=lambda _: False)
        words.add_argument("--json", action="store_true", help="print one report object on stdout")
        words.add_argument("--quiet", action="store_true", help="no progress, no warnings, no summary")
        words.add_argument("--debug", action="store_true", help="log more, and show where an error came from")
        if name in (None, full):
            command_of(full).add_arguments(words)
    return program


def _named(words: Sequence[str]) -> str:
    """The full name of the command that these words begin with; empty where they name none."""
    return next((name for name in (" ".join(words[:2]), " ".join(words[:1])) if name in COMMANDS), "")


def _one_line(error: Exception) -> str:
    from ..core.remote.workflow import RunError

    if isinstance(error, RunError):
        return str(error)  # a line for each thing that the server said
    text, (ours, *_) = " ".join(str(error).split()), __name__.split(".")
    if type(error).__module__.split(".")[0] == ours:  # all errors of our own are written for people
        return text
    return f"{type(error).__name__}: {text or 'no more is known'} (--debug shows where)"
