"""The command `steadyscale`: parse, run one command, return an exit code."""

from __future__ import annotations

import argparse
import atexit
import os
import sys
import traceback
from collections.abc import Sequence

from .. import __version__
from ..core.runtime.error_line import error_line
from .console import end_signals_as_interrupt, flush_streams, log_to_stderr, prepare_streams, write_stderr
from .registry import COMMANDS, GROUPS, load_command

MAX_USAGE_OPTIONS = 12  # more are not listed in the usage line, only in the help below it


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    0: everything was written, 1: it failed, 2: wrong usage, 130: interrupted (Ctrl-C, SIGTERM).
    """
    try:
        words = sys.argv[1:] if argv is None else argv
        args = build_parser(_command_name(words)).parse_args(words)
    except SystemExit as done:  # argparse has printed its message
        return int(done.code or 0)
    except KeyboardInterrupt:
        write_stderr("steadyscale: interrupted, nothing was written\n")
        return 130
    with log_to_stderr(args), end_signals_as_interrupt():
        try:
            load_command(args.command).run(args)
            return 0
        except KeyboardInterrupt:
            outcome = "what is finished is kept" if args.keeps(args) else "nothing was written"
            write_stderr(f"steadyscale: interrupted, {outcome}\n")
            return 130
        except Exception as error:  # whatever it is, one line is printed
            if args.debug:
                write_stderr(traceback.format_exc())
            write_stderr(f"steadyscale: {_error_line(error)}\n")
            return 1


def run_and_exit() -> int:
    """Run `main` as the whole process, and exit without tearing libraries down.

    Unloading what torch brings for GPUs takes half a second and touches 120 MB more.
    """
    code = 1

    def flush_and_exit() -> None:
        flush_streams()
        os._exit(code)

    # Registered first, called last: after threads have ended and other exit functions have run.
    atexit.register(flush_and_exit)
    prepare_streams()
    code = main()
    return code


def build_parser(command: str | None = None) -> argparse.ArgumentParser:
    """The parser of all commands.

    In its result, `command` is the full name, such as 'upscale' or 'models list', and `keeps` is a function of the
    arguments: whether finished work outlives an interrupt.
    command: the full name of the one command whose arguments will be parsed; None adds those of all.
    """
    parser = argparse.ArgumentParser(
        prog="steadyscale", description="Video super-resolution (ESRGAN) and optical-flow stabilization."
    )
    parser.add_argument("--version", action="version", version=f"steadyscale {__version__}")
    groups = {"": parser.add_subparsers(required=True, metavar="COMMAND")}
    for name, about in COMMANDS.items():
        group, _, word = name.rpartition(" ")
        if group not in groups:
            group_parser = groups[""].add_parser(group, help=GROUPS[group])
            groups[group] = group_parser.add_subparsers(required=True, metavar="ACTION")
        subparser = groups[group].add_parser(word, help=about, description=about, allow_abbrev=False)
        subparser.set_defaults(command=name, keeps=lambda _: False)
        subparser.add_argument("--json", action="store_true", help="print the report as one JSON object on stdout")
        subparser.add_argument("--quiet", action="store_true", help="print no progress, warnings or summary")
        subparser.add_argument("--debug", action="store_true", help="log more, and print tracebacks")
        if command in (None, name):
            load_command(name).add_arguments(subparser)
            subparser.usage = _short_usage(subparser)
    return parser


def _short_usage(parser: argparse.ArgumentParser) -> str | None:
    """The usage line without optional arguments, which are listed below it.

    None where they are few.
    """
    required = [action for action in parser._actions if action.required]
    if len(parser._actions) - len(required) <= MAX_USAGE_OPTIONS:
        return None
    formatter = parser.formatter_class(prog=f"{parser.prog} [options]")
    formatter.add_usage(None, required, [], prefix="")
    return formatter.format_help().strip()


def _command_name(argv: Sequence[str]) -> str:
    """The full name of the command in these arguments; empty for none."""
    return next((name for name in (" ".join(argv[:2]), " ".join(argv[:1])) if name in COMMANDS), "")


def _error_line(error: Exception) -> str:
    from ..core.batch.errors import BatchFailed
    from ..core.remote.workflow import RunError

    if isinstance(error, (RunError, BatchFailed)):
        return str(error)  # a line for each message of the server, or each clip
    return error_line(error, "--debug shows where")
