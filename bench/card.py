"""Report what this library does on the GPU at hand, in at most eight minutes.

    python bench/card.py > gpu.jsonl
    python bench/card.py --output bench/results/gpu-NAME.jsonl --comfyui /path/to/ComfyUI

It needs this checkout, torch, the package's own dependencies and no weight files. Each block of measurements has its
own time limit and its own errors: one that fails or takes too long does not stop the others. Every row is a line of
JSON, written at once, so that a run that is killed leaves what it measured. The first row describes the machine, the
last one holds the verdicts, which are also printed to stderr as a table.

`status` of a row: "ok", "failed", "cut" (the time of its block was over), "out of memory", or "not available".
`spread` is (maximum - minimum) / median of the `repeats`. Sizes are those of the frames before upscaling.
`of_peak` compares the operations of the network's convolutions with the fastest matrix product in the same dtype.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

MAX_SECONDS = 470  # below the eight minutes by the time that a block can take to stop


def import_checkout() -> None:
    """Import this checkout as `steadyscale` where the package is not installed."""
    if importlib.util.find_spec("steadyscale") is not None:
        return
    root = Path(__file__).resolve().parents[1]
    spec = importlib.util.spec_from_file_location(
        "steadyscale", root / "__init__.py", submodule_search_locations=[str(root)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["steadyscale"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)


def make_parser() -> argparse.ArgumentParser:
    from gpu_blocks import BLOCKS

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto", help="auto, or what torch accepts: cuda, cuda:1, xpu, mps, cpu")
    parser.add_argument("--output", type=Path, metavar="FILE", help="of the rows (default: stdout)")
    parser.add_argument(
        "--budget",
        type=float,
        default=MAX_SECONDS,
        metavar="SECONDS",
        help=f"of all blocks together (default {MAX_SECONDS})",
    )
    parser.add_argument("--block", choices=list(BLOCKS), action="append", help="repeatable (default: all)")
    parser.add_argument("--comfyui", type=Path, metavar="FOLDER", help="a ComfyUI tree, to compare with its own node")
    parser.add_argument("--photographs", type=Path, metavar="FOLDER", help="images to measure the drift on")
    parser.add_argument(
        "--quick", action="store_true", help="sizes / 8, small networks, one repetition: tests the script"
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the blocks; return 1 if one of them failed."""
    import_checkout()
    from gpu_blocks import run_blocks, verdict
    from gpu_blocks.machine import describe_machine
    from gpu_blocks.session import Session
    from steadyscale.core.runtime.device.device_names import resolve_device
    from steadyscale.core.runtime.threads.torch_threads import one_thread

    options = make_parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(options.output.open("w", encoding="utf-8")) if options.output else sys.stdout
        if options.quick:  # So that its time does not depend on who else uses the CPU.
            stack.enter_context(one_thread())
        session = Session(
            resolve_device(options.device),
            file,
            is_quick=options.quick,
            comfyui=options.comfyui,
            photographs=options.photographs,
        )
        session.block = "header"
        session.write(**describe_machine(session), budget=options.budget)
        try:
            run_blocks(session, options.block, options.budget)
        finally:  # also after Ctrl+C
            verdicts = verdict.collect_verdicts(session.rows)
            session.block = "verdict"
            session.write(blocks=verdicts)
            print(verdict.format_table(session, verdicts), file=sys.stderr)
    return int(any(each["status"] == "failed" for each in verdicts.values()))


if __name__ == "__main__":
    sys.exit(main())
