"""Check that an installed wheel brings a CPU engine that computes what torch does.

    python scripts/check_wheel.py

The release workflow runs it on each system, in an environment where only the wheel is installed; no compiler is used.
"""

from __future__ import annotations

import os
import sys
import tempfile


def main() -> int:
    # Without compilers, and without libraries that were compiled on this machine.
    os.environ["PATH"], os.environ["STEADYSCALE_CACHE"] = "", tempfile.mkdtemp()
    os.environ.pop("CXX", None)
    import torch
    from steadyscale.models import SRVGGConfig, SRVGGNetCompact
    from steadyscale.models.native import build, make_native_network

    library = build.find_library()
    if library is None or library.parent != build.WHEEL_FOLDER:
        print(f"no library for {build.supported_instruction_sets()} in {build.WHEEL_FOLDER}: found {library}")
        return 1
    torch.manual_seed(0)
    network = SRVGGNetCompact(SRVGGConfig(features=24, convs=4, scale=2)).eval()
    image = torch.rand(1, 3, 70, 61)
    with torch.no_grad():
        native = make_native_network(network)
        if native is None:
            print(f"{library} does not run here, or does not compute what torch does")
            return 1
        difference = float((native(image) - network(image)).abs().max())
    print(f"{library}: the largest difference from torch is {difference:.1e}")
    return int(not difference < 1e-4)


if __name__ == "__main__":
    sys.exit(main())
