"""Run tests with the instruction sets and thread counts of other computers.

    python scripts/test_portable.py [--only NAME] [PYTEST ARGUMENTS]

BLAS, torch, oneDNN, MKL, numpy and OpenCV choose their code by the processor, and each choice rounds differently. A
test whose result depends on that passes on one computer and fails on another. Each combination runs the same tests in
a process of its own; the exit status is 1 if a test failed in any of them.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
TESTS = ("tests/core", "tests/models", "tests/nodes")
# SSE41 is left out for oneDNN: with it, OpenVINO, which has a copy of it, computes wrong frames.
COMBINATIONS = {  # name -> (OpenBLAS, torch, oneDNN, MKL, OpenCV without, threads)
    "sse": ("Prescott", "default", "AVX", "SSE4_2", "AVX,FP16,AVX2", 1),
    "avx": ("Sandybridge", "default", "AVX", "AVX", "AVX2", 2),
    "avx2": ("Haswell", "avx2", "AVX2", "AVX2", "", 4),
    "avx512": ("SkylakeX", "avx512", "AVX512_CORE", "AVX512", "", 3),
}


def available() -> list[str]:
    """The combinations that this processor can run."""
    names = [name for name in COMBINATIONS if name != "avx512"]
    return [*names, "avx512"] if "AVX512" in torch.backends.cpu.get_cpu_capability() else names


def environment(name: str) -> dict[str, str]:
    """The variables that make every library compute as this combination does."""
    blas, aten, onednn, mkl, without, threads = COMBINATIONS[name]
    count = str(threads)
    if name != "avx512" and "avx512" in available():  # OpenCV reports a feature that is not there as an error
        without = ",".join(filter(None, (without, "AVX512-SKX")))
    found = np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])  # what numpy would use beyond its baseline
    return {
        "OPENBLAS_CORETYPE": blas,
        "ATEN_CPU_CAPABILITY": aten,
        "ONEDNN_MAX_CPU_ISA": onednn,
        "MKL_ENABLE_INSTRUCTIONS": mkl,
        "OPENCV_CPU_DISABLE": without,
        "NPY_DISABLE_CPU_FEATURES": " ".join(found) if name in ("sse", "avx") else "",
        "OMP_NUM_THREADS": count,
        "OPENBLAS_NUM_THREADS": count,
        "MKL_NUM_THREADS": count,
    }


def failures(name: str, arguments: list[str]) -> list[str]:
    """Run pytest with these arguments in one combination, and return what failed."""
    command = [sys.executable, "-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider", *arguments]
    variables = {**os.environ, **environment(name), "PYTHONUNBUFFERED": "1"}
    failed = []
    with subprocess.Popen(command, cwd=ROOT, env=variables, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            if line.startswith(("FAILED ", "ERROR ")):
                failed.append(line.strip())
    return failed or ([f"pytest stopped with exit status {process.returncode}"] if process.returncode else [])


def main() -> int:
    parser = argparse.ArgumentParser(description="Run tests with the instruction sets of other computers.")
    parser.add_argument("--only", choices=list(COMBINATIONS), action="append", help="a combination; may be repeated")
    options, arguments = parser.parse_known_args()
    if not any(Path(ROOT, word.split("::")[0]).exists() for word in arguments):
        arguments = [*TESTS, *arguments]
    found = {}
    for name in options.only or available():
        print(f"== {name} ==", flush=True)
        found[name] = failures(name, arguments)
    print()
    for name, failed in found.items():
        print(f"{name}: {'passed' if not failed else f'{len(failed)} failed'}", *failed, sep="\n  ")
    return int(any(found.values()))


if __name__ == "__main__":
    sys.exit(main())
