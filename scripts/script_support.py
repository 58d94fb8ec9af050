"""What the set-up scripts share: the cache folder, one line per step, all-or-nothing writes, and clear failures."""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType

REPO_ROOT = Path(__file__).resolve().parent.parent  # the clone
DEMO_FOLDER = REPO_ROOT / ".demo"  # everything a run leaves behind in the clone, besides .venv


def _load_module(path: Path) -> ModuleType:
    """Load a module by its path: the package may not be installed yet."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_atomic_write = _load_module(REPO_ROOT / "core" / "runtime" / "atomic_write.py")
atomic_path = _atomic_write.atomic_path


class SetupError(Exception):
    """A failure whose message says what happened and what can be done about it."""


def cache_folder() -> Path:
    """The folder outside the clone that holds what was downloaded."""
    own = os.environ.get("STEADYSCALE_CACHE")
    if own:
        return Path(own).expanduser().resolve()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").resolve() / "steadyscale"


@contextlib.contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Holds an exclusive lock on `path`, so that two runs at the same time wait for each other."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def create_once(target: Path, fill: Callable[[Path], None]) -> Path:
    """Create the file or folder `target` unless it exists.

    `fill(part)` writes it under another name, so that `target` is complete if it exists, whenever a run was stopped.
    """
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with file_lock(target.with_name(f".{target.name}.lock")):
        if not target.exists():
            # A fixed tag, so that the next run removes what a killed one left.
            remove(_atomic_write.partial_path(target, "part"))
            with atomic_path(target, "part") as part:
                fill(part)
    return target


def write_atomic(path: Path, text: str) -> None:
    """Replace a file at once: a reader sees the old text or the new one."""
    with atomic_path(path) as part:
        part.write_text(text)


def replace_symlink(path: Path, target: Path) -> None:
    """Makes `path` a symbolic link to `target`, in one go, whatever it pointed at before."""
    if path.is_symlink() and Path(os.readlink(path)) == target:
        return
    part = path.with_name(path.name + ".part")
    remove(part)
    part.symlink_to(target)
    part.replace(path)


@contextlib.contextmanager
def report_step(title: str) -> Iterator[None]:
    """Prints the title, and behind it the seconds when the work is done."""
    start = time.monotonic()
    print(f"  {title} … ", end="", flush=True)
    try:
        yield
    except BaseException:  # of an interrupt too the line has to end
        print("not done", flush=True)
        raise
    print(f"{time.monotonic() - start:.1f} s", flush=True)


def run_logged(command: Sequence[str | Path], log: Path, env: dict[str, str] | None = None) -> bool:
    """Runs a program with its output added to the file `log`; true if it succeeded. Never leaves it running."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as out:
        out.write(f"$ {' '.join(map(str, command))}\n")
        out.flush()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=REPO_ROOT, env=env)
        try:
            return process.wait() == 0
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()


def log_tail(log: Path, lines: int = 12) -> str:
    return "\n".join("    " + line for line in log.read_text(errors="replace").splitlines()[-lines:])


def run_main(main: Callable[[], None]) -> None:
    """Runs a script's main function and turns what ends it early into one message and an exit code."""
    # As an exception, a kill runs the same clean-up as Ctrl-C.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        main()
    except SetupError as trouble:
        sys.exit(f"\nThis did not work: {trouble}")
    except OSError as error:
        sys.exit(f"\nThis did not work: {error}")
    except KeyboardInterrupt:
        print("\nStopped. The same command goes on from here.", file=sys.stderr)
        sys.exit(130)
