"""The command `steadyscale run`."""

from __future__ import annotations

import argparse
import time

from ..arg_types import above_zero
from ..console import tell
from ..progress import ProgressBars


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("workflow", metavar="WORKFLOW", help="a graph that ComfyUI's Export (API) wrote")
    command.add_argument("--server", required=True, metavar="URL", help="such as http://127.0.0.1:8188")
    about = "change one input, repeatable; NODE is an id, or the class or title of one node; files here are uploaded"
    command.add_argument("--set", action="append", default=[], metavar="NODE.INPUT=VALUE", help=about)
    command.add_argument("--output", default=".", metavar="FOLDER", help="where results go (default: here)")
    command.add_argument("--previews", action="store_true", help="fetch what preview nodes show, too")
    longest = "seconds after which it is stopped (default 86400, a day)"
    command.add_argument("--timeout", type=above_zero, default=86400.0, metavar="S", help=longest)
    command.set_defaults(keeps=lambda _: True)


def run(args: argparse.Namespace) -> None:
    from ...core.remote.run import run_workflow
    from ...core.remote.workflow import read_workflow

    begun = time.monotonic()
    with ProgressBars(args.quiet) as bars:
        done = run_workflow(
            read_workflow(args.workflow),
            args.server,
            settings=args.set,
            folder=args.output,
            previews=args.previews,
            timeout=args.timeout,
            on_news=bars.at,
        )
    files = [{"node": node, "file": str(path)} for node, path in done.files]
    report = {"command": "run", "workflow": args.workflow, "run": done.run, "uploaded": done.uploaded, "files": files}
    report |= {"texts": done.texts, "seconds": round(time.monotonic() - begun, 3)}
    shown = [*(text for texts in done.texts.values() for text in texts), *(str(path) for _, path in done.files)]
    hint = "; --previews fetches what its preview nodes show" if done.previews_left else ""
    tell(args, report, "\n".join(shown) or f"the graph ran, and saved no file{hint}")
