"""The blocks of bench/card.py, one module each.

A module has `run(session)`, which writes rows, and `summarize(rows)`, which returns the verdict.
"""

from __future__ import annotations

import gc
import importlib
import sys
import time
from collections.abc import Sequence
from contextlib import suppress

from .session import Session, first_line
from .time_limit import TimeIsUp, time_limit

# Name of each module, and its part of the time in seconds.
BLOCKS = {
    "ceilings": 30,
    "drift": 40,
    "speed": 150,
    "engines": 80,
    "stages": 15,
    "comfyui_node": 50,
    "video": 30,
    "filters": 25,
    "out_of_memory": 15,
    "device_tests": 35,
}


def run_blocks(session: Session, names: Sequence[str] | None, budget: float) -> None:
    """Run blocks one after the other, each in its part of the budget in seconds."""
    scale = budget / sum(BLOCKS.values())
    for name, seconds in BLOCKS.items():
        if names is None or name in names:
            run_block(session, name, seconds * scale)


def run_block(session: Session, name: str, budget: float) -> None:
    """Run a block.

    Its last row says how long it took, and whether it was cut or failed.
    """
    session.block = name
    print(f"{name} ...", file=sys.stderr)
    start, result = time.perf_counter(), {"status": "ok"}
    try:
        # Its module is imported here, so that a missing package stops only this block.
        with time_limit(budget):
            importlib.import_module(f"{__name__}.{name}").run(session)
    except TimeIsUp:
        result = {"status": "cut", "error": f"stopped after its budget of {budget:.0f} s"}
    except Exception as error:
        result = {"status": "failed", "error": first_line(error)}
    session.write(**result, event="end", seconds=time.perf_counter() - start)
    gc.collect()  # An interrupted block leaves references in tracebacks.
    with suppress(Exception):  # A device that failed is the finding of the block, whose row has its error.
        session.accelerator.synchronize()
        session.accelerator.release_cache()
