"""Run seeded cases of one kind in this process, with a limit of memory, and report each as a line of JSON.

    python tests/fuzz/run_cases.py images --first 0 --count 400
    python tests/fuzz/run_cases.py --forever          # all kinds, 400 cases in turn, until Ctrl-C

A case that fails is kept in the folder `--keep`, with its seed in its name.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import logging
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
from itertools import count as count_up
from pathlib import Path
from types import FrameType

import kinds

CASES = 400
MEMORY = 3 << 30  # address space beyond what the process has after the corpus was made
CASE_SECONDS = 30
MAX_MESSAGE = 1000  # characters of an error


class _Hang(BaseException):
    """A case took longer than CASE_SECONDS."""


def run_case(kind: kinds.Kind, path: Path, seed: int) -> dict[str, object]:
    """Check one file: whether it was accepted, refused or failed, and why."""
    try:
        kind.check(path, random.Random(~seed))
    except kinds.REFUSALS as error:
        message = str(error)
        if "\n" in message or len(message) > MAX_MESSAGE or path.name.rpartition(".")[0] not in message:
            return {"outcome": "failed", "reason": f"the message is not one line that names the file: {message!r}"}
        return {"outcome": "refused", "reason": message}
    except (Exception, _Hang):
        return {"outcome": "failed", "reason": traceback.format_exc()}
    return {"outcome": "accepted"}


def run_cases(name: str, first: int, count: int, keep: Path | None) -> None:
    """Print a line of JSON for each case, before and after it; a crash thus shows its seed."""
    kind = kinds.KINDS[name]
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as scratch:
        corpus, folder = Path(scratch) / "corpus", Path(scratch) / "case"
        corpus.mkdir()
        folder.mkdir()
        files = kind.make_files(corpus)
        for file in files:
            shutil.copyfile(file, folder / file.name)
            kind.check(folder / file.name, random.Random(3))  # The corpus itself is accepted.
            (folder / file.name).unlink()
        _limit_memory()
        signal.signal(signal.SIGALRM, _raise_hang)
        for seed, path in kinds.iterate_cases(kind, files, folder, first, count):
            print(json.dumps({"seed": seed, "file": path.name}), flush=True)
            content = path.read_bytes()
            signal.alarm(CASE_SECONDS)
            result = run_case(kind, path, seed)
            signal.alarm(0)
            if keep is not None and result["outcome"] == "failed":
                keep.mkdir(parents=True, exist_ok=True)
                (keep / f"{name}-{seed}-{path.name}").write_bytes(content)
            print(json.dumps({"seed": seed, "file": path.name, **result}), flush=True)


def run_into_file(name: str, first: int, count: int, output: Path) -> None:
    """Run cases of a kind; what is printed is written into the file, and errors beside it as `.log`."""
    for descriptor, path in ((1, output), (2, output.with_suffix(".log"))):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), descriptor)
    faulthandler.enable()
    run_cases(name, first, count, None)


def run_forever(keep: Path) -> None:
    """Run all kinds in turn, each in a process of its own, and print what fails."""
    for first in count_up(0, CASES):
        for name in kinds.KINDS:
            command = [sys.executable, __file__, name, "--first", str(first), "--keep", str(keep)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            results = [json.loads(line) for line in done.stdout.splitlines()]
            failed = [result for result in results if result.get("outcome") == "failed"]
            print(f"{name}: seeds {first} to {first + CASES - 1}, {len(failed)} failed")
            for result in failed:
                print(f"  {result['seed']} {result['file']}: {result['reason']}")
            if done.returncode:
                last = results[-1] if results else "the corpus"
                print(f"  the process ended with {done.returncode} in {last}\n{done.stderr}")


def _limit_memory() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _raise_hang(number: int, frame: FrameType | None) -> None:
    raise _Hang(f"a case took more than {CASE_SECONDS} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", nargs="?", choices=[*kinds.KINDS])
    parser.add_argument("--first", type=int, default=0, help="seed of the first case")
    parser.add_argument("--count", type=int, default=CASES)
    parser.add_argument("--keep", type=Path, help="folder for the files of cases that fail")
    parser.add_argument("--forever", action="store_true")
    args = parser.parse_args()
    faulthandler.enable()
    if args.forever or args.kind is None:
        run_forever(args.keep or Path("build/fuzz"))
    else:
        run_cases(args.kind, args.first, args.count, args.keep)


if __name__ == "__main__":
    main()
