"""The command `steadyscale run`."""

from __future__ import annotations

import argparse
import time

from ..arg_types import positive_float
from ..console import print_report
from ..progress import ProgressBars


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("workflow", metavar="WORKFLOW", help="a workflow from ComfyUI's Export (API)")
    parser.add_argument(
        "--server", required=True, metavar="URL", help="address of ComfyUI, such as http://127.0.0.1:8188"
    )
    about = "override one input; NODE is an id, a class or a title; local files are uploaded; repeatable"
    parser.add_argument("--set", action="append", default=[], metavar="NODE.INPUT=VALUE", help=about)
    parser.add_argument(
        "--output", default=".", metavar="FOLDER", help="folder for the results (default: the current one)"
    )
    parser.add_argument("--previews", action="store_true", help="also fetch the results of preview nodes")
    longest = "seconds after which the run is stopped (default 86400, a day)"
    parser.add_argument("--timeout", type=positive_float, default=86400.0, metavar="S", help=longest)
    largest = "largest result to accept, in MB (default 68719, that is 64 GiB)"
    parser.add_argument("--max-mb", type=positive_float, metavar="MB", help=largest)
    parser.set_defaults(keeps=lambda _: True)


def run(args: argparse.Namespace) -> None:
    from ...core.remote.client import MAX_DOWNLOAD_BYTES
    from ...core.remote.run import run_workflow
    from ...core.remote.workflow import read_workflow

    start = time.monotonic()
    with ProgressBars(args.quiet) as bars:
        result = run_workflow(
            read_workflow(args.workflow),
            args.server,
            settings=args.set,
            folder=args.output,
            previews=args.previews,
            timeout=args.timeout,
            max_download_bytes=MAX_DOWNLOAD_BYTES if args.max_mb is None else round(args.max_mb * 1e6),
            on_progress=bars.update,
        )
    files = [{"node": node, "file": str(path)} for node, path in result.files]
    report: dict[str, object] = {
        "command": "run",
        "workflow": args.workflow,
        "run": result.run_id,
        "uploaded": result.uploaded,
        "files": files,
    }
    report |= {"texts": result.texts, "seconds": round(time.monotonic() - start, 3)}
    lines = [*(text for texts in result.texts.values() for text in texts), *(str(path) for _, path in result.files)]
    hint = "; --previews fetches what its preview nodes show" if result.skipped_previews else ""
    print_report(args, report, "\n".join(lines) or f"the graph ran, and saved no file{hint}")
