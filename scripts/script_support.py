"""Helpers of the scripts: cache folder, progress, atomic writes, failures."""

from __future__ import annotations

import contextlib
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
DEMO_FOLDER = REPO_ROOT / ".demo"  # all files that runs write into the clone, besides .venv


def _load_module(path: Path) -> ModuleType:
    """Load a module by its path: the package may not be installed yet."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_atomic_write = _load_module(REPO_ROOT / "core" / "runtime" / "files" / "atomic_write.py")
atomic_path = _atomic_write.atomic_path


class SetupError(Exception):
    """A failure; the message says what happened and what to do."""


def cache_folder() -> Path:
    """The folder for downloads, outside the clone."""
    own = os.environ.get("STEADYSCALE_CACHE")
    if own:
        return Path(own).expanduser().resolve()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").resolve() / "steadyscale"


@contextlib.contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on `path`; a second process waits."""
    import fcntl  # POSIX only, as `make` is; tests import this file on Windows too

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
    """Make `path` a symbolic link to `target`, atomically."""
    if path.is_symlink() and Path(os.readlink(path)) == target:
        return
    part = path.with_name(path.name + ".part")
    remove(part)
    part.symlink_to(target)
    part.replace(path)


def link_or_copy(source: Path, target: Path) -> None:
    """Make `target` a hard link to `source`, or a copy of it, atomically.

    A copy, where they are on different file systems. For input files: newer hosts refuse symbolic links there.
    """
    source = source.resolve()
    if target.is_symlink():
        target.unlink()
    elif target.exists() and _is_same_content(source, target):
        return
    with atomic_path(target, "part") as part:
        remove(part)
        try:
            part.hardlink_to(source)
        except OSError:
            shutil.copy2(source, part)


def _is_same_content(a: Path, b: Path) -> bool:
    """Whether two files are one, or have equal size and time, as a copy has."""
    first, second = a.stat(), b.stat()
    return a.samefile(b) or (first.st_size, first.st_mtime_ns) == (second.st_size, second.st_mtime_ns)


@contextlib.contextmanager
def report_step(title: str) -> Iterator[None]:
    """Print the title, and the seconds when the step is done."""
    start = time.monotonic()
    print(f"  {title} … ", end="", flush=True)
    try:
        yield
    except BaseException:  # an interrupt must end the line too
        print("not done", flush=True)
        raise
    print(f"{time.monotonic() - start:.1f} s", flush=True)


def run_logged(command: Sequence[str | Path], log: Path, env: dict[str, str] | None = None) -> bool:
    """Run a program, append its output to `log`; True if it succeeded.

    The program is terminated if this function is interrupted.
    """
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
    """Run a script's main function; print one message on failure or interrupt."""
    # As an exception, SIGTERM runs the same clean-up as Ctrl-C.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        main()
    except SetupError as trouble:
        sys.exit(f"\nFailed: {trouble}")
    except OSError as error:
        sys.exit(f"\nFailed: {error}")
    except KeyboardInterrupt:
        print("\nStopped. The same command continues from here.", file=sys.stderr)
        sys.exit(130)
