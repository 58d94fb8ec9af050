"""Local copies of objects in a store: download sources, upload results.

Decoders and encoders work on files of this machine. A source is read from its store once for each process, as a whole:
every run hashes all of it anyway. A result is uploaded when it is complete and verified.
"""

from __future__ import annotations

import atexit
import logging
import os
import re
import shutil
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from uuid import uuid4

from ..clip import ClipError
from ..runtime.files.atomic_write import temp_path
from ..runtime.files.cache_dir import cache_folder
from .location import Location, ObjectUrl, parse_location
from .object_storage import ObjectState, ObjectStorage, StorageError

log = logging.getLogger(__name__)

_COPIES, _UNSENT = "copies", "unsent"  # folders in the cache folder
_UNSAFE = re.compile(r'[\x00-\x1f<>:"|?*\\]')  # in file names of some system
_MAX_NAME, _MAX_SUFFIX = 60, 20  # characters, of up to four bytes; names of objects may be longer than those of files


@contextmanager
def work_folder() -> Generator[Path, None, None]:
    """Yield an empty folder in the cache folder; it is removed when the block ends.

    Folders of dead processes of this machine are removed, too.
    """
    folder = cache_folder() / _COPIES
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise ClipError(
            f"{folder}: the folder for local copies cannot be created ({e.strerror}); set STEADYSCALE_CACHE to another "
            "one"
        ) from e
    with temp_path(folder / "copy") as path:
        path.mkdir()
        yield path


@contextmanager
def local_source(source: str | Path | ObjectUrl) -> Generator[Path, None, None]:
    """Yield the local path of a source: the file itself, or a copy of the object.

    The last copy stays until this process copies another object or ends. Raises ClipError where there is no such
    object. Errors of the block name the URL instead of the copy.
    """
    location = parse_location(source)
    if isinstance(location, Path):
        yield location
        return
    with _copies.hold(location) as path, _naming(path, location):
        yield path


@contextmanager
def local_target(target: str | Path | ObjectUrl, *, keep_unsent: bool = True) -> Generator[Path, None, None]:
    """Yield the local path to write a result to; upload it if the target is a URL.

    The upload follows if the block ends without an exception and has written the file. keep_unsent: keep a result that
    could not be uploaded on this machine, and name its path in the error. Errors of the block name the URL instead of
    the file.
    """
    location = parse_location(target)
    if isinstance(location, Path):
        yield location
        return
    storage = ObjectStorage(location.parent)
    storage.check_bucket()
    with work_folder() as folder:
        path = folder / _file_name(location)
        with _naming(path, location):
            yield path
        if not path.exists():
            return
        try:
            storage.add_file(path, location.name)
        except StorageError as e:
            if not keep_unsent:
                raise
            kept = cache_folder() / _UNSENT / f"{uuid4().hex[:8]}-{path.name}"
            kept.parent.mkdir(exist_ok=True)
            shutil.move(path, kept)
            raise StorageError(f"{e}. The result is complete: copy it from {kept}, and remove it there") from e


def object_state(url: ObjectUrl) -> ObjectState | None:
    """Return the size and the version of an object; None where there is none."""
    return ObjectStorage(url.parent).state(url.name)


def download(storage: ObjectStorage, name: str, target: Path, size: int) -> None:
    """Read an object of this size into a file.

    Raises ClipError where the disk is too full, and where there is no such object.
    """
    free = shutil.disk_usage(target.parent).free
    if free < size:
        raise ClipError(
            f"{storage.location / name}: a local copy needs {size / 1e6:.1f} MB, and {target.parent} has "
            f"{free / 1e6:.1f} MB; free some disk space, or set STEADYSCALE_CACHE to a folder on a larger disk"
        )
    log.info("%s: copying %.1f MB", storage.location / name, size / 1e6)
    try:
        storage.download(name, target)
    except FileNotFoundError as e:
        raise ClipError(f"{storage.location / name}: the object was removed meanwhile; run again") from e


@dataclass
class _Copy:
    path: Path
    stack: ExitStack  # removes it
    users: int = 0


class _Copies:
    """The copies of sources that this process has, by URL and version."""

    def __init__(self) -> None:
        self._copies: dict[tuple[ObjectUrl, ObjectState], _Copy] = {}
        self._lock = Lock()

    @contextmanager
    def hold(self, url: ObjectUrl) -> Generator[Path, None, None]:
        with self._lock:
            copy = self._find(url)
            copy.users += 1
        try:
            yield copy.path
        finally:
            with self._lock:
                copy.users -= 1

    def _find(self, url: ObjectUrl) -> _Copy:
        storage = ObjectStorage(url.parent)
        state = storage.state(url.name)
        if state is None:
            raise ClipError(
                f"{url}: there is no such object; check the name (folders and patterns of images are read from disks "
                "only)"
            )
        if (url, state) not in self._copies:
            self.remove_unused()
            with ExitStack() as stack:
                path = stack.enter_context(work_folder()) / _file_name(url)
                download(storage, url.name, path, state.size)
                self._copies[url, state] = _Copy(path, stack.pop_all())
        return self._copies[url, state]

    def remove_unused(self) -> None:
        """Remove the copies that no block uses."""
        for key, copy in [*self._copies.items()]:
            if not copy.users:
                del self._copies[key]
                copy.stack.close()


_copies = _Copies()
atexit.register(_copies.remove_unused)


@contextmanager
def _naming(path: Path, location: Location) -> Generator[None, None, None]:
    try:
        yield
    except ClipError as e:
        message = str(e)
        if str(path) not in message:
            raise
        raise type(e)(message.replace(str(path), str(location))) from e


def _file_name(url: ObjectUrl) -> str:
    """The name of an object as that of a file, with its suffix."""
    stem, suffix = os.path.splitext(_UNSAFE.sub("_", url.name).lstrip("."))
    return f"{stem[:_MAX_NAME]}{suffix[:_MAX_SUFFIX]}" or "object"
