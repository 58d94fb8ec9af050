"""Benchmark SPAN and RealPLKSR on a CPU: native engine, torch eager and spandrel.

    python bench/architectures.py > architectures.json

The networks have published sizes and random weights. All run in one process and take turns, so that other load on the
machine affects all alike. The result is the minimum of CPU seconds over all rounds, because wall-clock time on a shared
machine depends on other users. The largest difference from spandrel is reported too, before clamping, as a part of the
largest value. The JSON goes to stdout, a table to stderr.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

Runner = Callable[[Tensor], Tensor]


def make_networks(blocks: int) -> dict[str, nn.Module]:
    """Networks of published sizes at 4x; those of RealPLKSR have so many blocks."""
    from steadyscale.models import SPAN, RealPLKSR, RealPLKSRConfig, SPANConfig

    torch.manual_seed(1)
    return {
        "SPAN, 48 channels": SPAN(SPANConfig()).eval(),
        f"RealPLKSR, {blocks} blocks": RealPLKSR(RealPLKSRConfig(blocks=blocks)).eval(),
        f"RealPLKSR, {blocks} blocks, layer norm": RealPLKSR(RealPLKSRConfig(blocks=blocks, layer_norm=True)).eval(),
    }


def make_runners(network: nn.Module) -> dict[str, Runner]:
    """The contenders for a network.

    Raises SystemExit if the native engine does not run it.
    """
    from spandrel import ModelLoader
    from steadyscale.models.native import make_native_network

    native = make_native_network(network)
    if native is None:
        raise SystemExit("the native engine does not run this network; see `steadyscale native info`")
    theirs = ModelLoader().load_from_state_dict(dict(network.state_dict())).eval().model
    return {"native": native, "torch": network, "spandrel": theirs}


def compare(name: str, network: nn.Module, image: Tensor, rounds: int) -> list[dict[str, object]]:
    """Run all contenders on one network; returns one row for each."""
    runners = make_runners(network)
    results = {runner: run(image) for runner, run in runners.items()}  # this warms the caches
    seconds: dict[str, list[float]] = {runner: [] for runner in runners}
    for _ in range(rounds):
        for runner, run in runners.items():
            start = time.process_time()
            run(image)
            seconds[runner].append(time.process_time() - start)
    expected = results["spandrel"]
    largest = max(1.0, float(expected.abs().max()))
    return [
        {
            "network": name,
            "size": f"{image.shape[-1]}x{image.shape[-2]}",
            "path": runner,
            "cpu_s": round(min(done), 4),
            "cpu_s_all": [round(value, 4) for value in done],
            "cpu_ratio_to_spandrel": round(min(done) / min(seconds["spandrel"]), 3),
            "max_difference": float((results[runner] - expected).abs().max()) / largest,
        }
        for runner, done in seconds.items()
    ]


def describe_machine() -> dict[str, object]:
    """Describe hardware and software for the report."""
    from steadyscale.models import native

    cpu = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), cpu)
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "load": os.getloadavg()[0],
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {package: importlib.metadata.version(package) for package in ("torch", "spandrel")},
        "native_vector_floats": native.describe_engine()["vector_floats"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, nargs=2, default=(256, 256), metavar=("W", "H"), help="default 256 256")
    parser.add_argument("--blocks", type=int, default=28, help="blocks of the RealPLKSR networks (default 28)")
    parser.add_argument("--rounds", type=int, default=2, help="timed runs of each contender (default 2)")
    parser.add_argument("--threads", type=int, default=1, help="threads of each contender (default 1)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    from steadyscale.models import native

    native.build_library()
    width, height = options.size
    image = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(5))
    rows: list[dict[str, object]] = []
    with torch.inference_mode():
        for name, network in make_networks(options.blocks).items():
            rows += compare(name, network, image, options.rounds)
    print(json.dumps({"machine": describe_machine(), "rows": rows}, indent=2))
    for row in rows:
        print(
            f"{row['network']:40} {row['path']:9} {row['cpu_s']:8.3f} CPU s, {row['cpu_ratio_to_spandrel']:5.2f} of "
            f"spandrel, difference {row['max_difference']:.1e}",
            file=sys.stderr,
        )


if __name__ == "__main__":
    main()
