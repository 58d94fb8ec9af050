"""Derive a 2x network from a compact 4x one: its box-reduced result, exactly.

python scripts/reduce_weights.py IN.safetensors OUT.safetensors --scale 2
"""

from __future__ import annotations

import argparse
from pathlib import Path

from safetensors import safe_open
from steadyscale.core.training.loop.export import export
from steadyscale.models import SRVGGNetCompact, load_upscaler
from steadyscale.models.arch.srvgg import reduce_scale


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--scale", type=int, default=2)
    options = parser.parse_args()
    network = load_upscaler(options.source).model
    if not isinstance(network, SRVGGNetCompact):
        parser.error(f"{options.source} is {type(network).__name__}; only SRVGGNetCompact can be reduced")
    with safe_open(options.source, "pt") as file:
        metadata = {**(file.metadata() or {}), "scale": str(options.scale)}
    export(reduce_scale(network, options.scale), options.target, metadata)


if __name__ == "__main__":
    main()
