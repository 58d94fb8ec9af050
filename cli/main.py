"""The command `steadyscale`: the library's parts plugged together, without ComfyUI."""

from __future__ import annotations

import argparse
import atexit
import os
import sys
import traceback
from collections.abc import Sequence

from .. import __version__
from ..core.runtime.malloc import limit_arenas
from .console import log_to_stderr, sigterm_as_interrupt
from .registry import COMMANDS, GROUPS, load_command


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0: everything was written, 1: it failed, 2: it was called wrongly, 130: interrupted."""
    try:
        words = sys.argv[1:] if argv is None else argv
        args = build_parser(_command_name(words)).parse_args(words)
    except SystemExit as done:  # argparse has written what there is to say
        return int(done.code or 0)
    except KeyboardInterrupt:
        sys.stderr.write("steadyscale: interrupted, nothing was written\n")
        return 130
    limit_arenas()
    with log_to_stderr(args), sigterm_as_interrupt():
        try:
            load_command(args.command).run(args)
            return 0
        except KeyboardInterrupt:
            outcome = "what is finished is kept" if args.keeps(args) else "nothing was written"
            sys.stderr.write(f"steadyscale: interrupted, {outcome}\n")
            return 130
        except Exception as error:  # whatever it is, a person is told in one line
            if args.debug:
                traceback.print_exc()
            sys.stderr.write(f"steadyscale: {_error_line(error)}\n")
            return 1


def run_and_exit() -> int:
    """`main` as all that a process does: it is gone as soon as all is written, where taking down the libraries that
    torch brings for cards takes half a second and touches 120 MB more.
    """
    code = 1

    def flush_and_exit() -> None:
        try:
            for stream in filter(None, (sys.stdout, sys.stderr)):  # closed by the caller, they are None
                stream.flush()
        except (OSError, ValueError):
            return  # Python flushes once more, and says what is wrong.
        os._exit(code)

    # The first to be registered is the last to be called: after the threads have ended, and what else has to be done.
    atexit.register(flush_and_exit)
    code = main()
    return code


def build_parser(command: str | None = None) -> argparse.ArgumentParser:
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
        if command in (None, full):
            load_command(full).add_arguments(words)
    return program


def _command_name(argv: Sequence[str]) -> str:
    """The full name of the command that these words begin with; empty where they name none."""
    return next((name for name in (" ".join(argv[:2]), " ".join(argv[:1])) if name in COMMANDS), "")


def _error_line(error: Exception) -> str:
    from ..core.remote.workflow import RunError

    if isinstance(error, RunError):
        return str(error)  # a line for each thing that the server said
    text, (ours, *_) = " ".join(str(error).split()), __name__.split(".")
    if type(error).__module__.split(".")[0] == ours:  # all errors of our own are written for people
        return text
    return f"{type(error).__name__}: {text or 'no more is known'} (--debug shows where)"
