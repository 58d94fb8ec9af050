"""Objects in a store, through fsspec: small documents and large files.

Every request is repeated where it fails for a reason that may pass: a lost connection, an error of the server, a
request to slow down, a body that ends early. An object is written by one request, or by one that completes an upload
in parts, so that it appears as a whole. Credentials are those that the library of the store finds in its environment.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from ..clip import ClipError
from ..runtime.error_line import error_line
from .location import STORE_PACKAGES, ObjectUrl

log = logging.getLogger(__name__)

ATTEMPTS = 5  # at a request; libraries of stores have made some of their own by then
FIRST_PAUSE = 0.5  # seconds before the second attempt; doubled before each further one
BLOCK_BYTES = 32 * 2**20  # of one request of a download
_VERSION_KEYS = ("ETag", "etag", "generation", "md5Hash", "LastModified", "last_modified", "mtime", "created")

Result = TypeVar("Result")


class StorageError(ClipError, OSError):
    """A store cannot be reached, or refuses a request.

    The message names the URL, the reason and what to do.
    """


class ObjectState(NamedTuple):
    """The size of an object, and its version, which changes with the content."""

    size: int
    version: str


class ObjectStorage:
    """Objects whose URLs begin with `location`; see `Storage`.

    Raises StorageError, as all methods do; here for a missing library.
    """

    def __init__(self, location: ObjectUrl) -> None:
        self.location = location
        self._system, self._root = _open_file_system(location)

    def read(self, name: str) -> bytes:
        """Return the content. Raises FileNotFoundError where there is no such object."""
        return self._request("reading", name, lambda: self._system.cat_file(self._path(name)))

    def write(self, name: str, content: bytes) -> None:
        self._put(name, lambda: self._system.pipe_file(self._path(name), content))

    def create(self, name: str, content: bytes) -> bool:
        """Write an object unless it exists, by a conditional request.

        A store that does not support those replaces an object that another process has written in the same moment.
        """

        def try_create() -> bool:
            try:
                self._system.pipe_file(self._path(name), content, mode="create")
            except FileNotFoundError:  # there is no such bucket
                raise
            except Exception:
                # Of this or of another process, whose content differs; a lost reply looks like a failure.
                try:
                    return self.read(name) == content
                except FileNotFoundError:
                    pass
                raise
            return True

        return self._put(name, try_create)

    def state(self, name: str) -> ObjectState | None:
        """Return the size and the version of an object; None where there is none."""
        try:
            info = self._request("finding", name, lambda: self._system.info(self._path(name)))
        except FileNotFoundError:
            return None
        if info["type"] != "file":
            return None
        version = next((str(info[key]) for key in _VERSION_KEYS if info.get(key)), "")
        return ObjectState(int(info["size"]), version)

    def size(self, name: str) -> int | None:
        state = self.state(name)
        return None if state is None else state.size

    def names(self, folder: str = "", *, recursive: bool = False) -> list[str]:
        """Return the names of the files in a folder, sorted.

        recursive: also those in its subfolders.
        """
        try:
            if recursive:
                found = self._request("listing", folder, lambda: self._system.find(self._path(folder), detail=True))
                return self._files(found.values())
            return self._files(
                self._request("listing", folder, lambda: self._system.ls(self._path(folder), detail=True))
            )
        except FileNotFoundError:
            return []

    def match(self, pattern: str) -> list[str]:
        """Return the names that match a glob pattern."""
        found = self._request("listing", pattern, lambda: self._system.glob(self._path(pattern), detail=True))
        return self._files(found.values())

    def remove(self, name: str) -> None:
        try:
            self._request("removing", name, lambda: self._system.rm_file(self._path(name)))
        except FileNotFoundError:
            return

    def add_file(self, file: Path, name: str) -> None:
        size = file.stat().st_size

        def upload() -> None:
            self._system.put_file(str(file), self._path(name))
            self._system.invalidate_cache()
            if (written := self._system.info(self._path(name))["size"]) != size:
                raise OSError(f"{written} of {size} bytes arrived")

        self._put(name, upload)
        file.unlink()

    def download(self, name: str, target: Path) -> None:
        """Read an object into a file, block by block.

        Raises FileNotFoundError where there is none, StorageError where it changes meanwhile.
        """
        before = self.state(name)
        if before is None:
            raise FileNotFoundError(f"{self.location / name}: there is no such object")
        with target.open("wb") as file:
            for start in range(0, before.size, BLOCK_BYTES):
                block = partial(self._block, name, start, min(start + BLOCK_BYTES, before.size))
                file.write(self._request("reading", name, block))
        if self.state(name) != before:
            raise StorageError(f"{self.location / name}: the object was changed while it was read; run again")

    def check_bucket(self) -> None:
        """Raise StorageError where the bucket is missing or cannot be reached.

        Whether objects can be written is known when the first one is written.
        """
        bucket = self._root.lstrip("/").partition("/")[0]
        if STORE_PACKAGES[self.location.url.partition("://")[0].lower()] is None:
            return
        try:
            self._request("finding", "", lambda: self._system.info(bucket))
        except FileNotFoundError as error:
            raise _missing_bucket(self.location) from error
        except StorageError as error:
            if not isinstance(error.__cause__, PermissionError):  # to list a bucket is another right than to write
                raise

    def _files(self, entries: Iterable[Any]) -> list[str]:
        """The names of the objects among these entries."""
        names = [str(entry["name"]) for entry in entries if entry["type"] == "file"]
        return sorted(name[len(self._root) + 1 :] for name in names if name.startswith(f"{self._root}/"))

    def _block(self, name: str, start: int, stop: int) -> bytes:
        content: bytes = self._system.cat_file(self._path(name), start=start, end=stop)
        if len(content) != stop - start:
            raise OSError(f"{len(content)} of {stop - start} bytes arrived")
        return content

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root

    def _put(self, name: str, request: Callable[[], Result]) -> Result:
        try:
            return self._request("writing", name, request)
        except FileNotFoundError as error:
            raise _missing_bucket(self.location) from error

    def _request(self, action: str, name: str, request: Callable[[], Result]) -> Result:
        """Make a request; repeat it where it may succeed later."""
        pause = FIRST_PAUSE
        for attempt in range(1, ATTEMPTS + 1):
            self._system.invalidate_cache()  # of listings, which other processes change
            try:
                return request()
            except (FileNotFoundError, StorageError):
                raise
            except Exception as error:  # each library has its own
                url, reason = self.location / name if name else self.location, error_line(error)
                if (hint := _permanent_cause(error)) or attempt == ATTEMPTS:
                    hint = hint or "check the network and the store, then run again"
                    raise StorageError(f"{url}: {action} failed ({reason}); {hint}") from error
                log.debug("%s: %s failed (%s), attempt %d of %d", url, action, reason, attempt, ATTEMPTS)
            time.sleep(pause)
            pause *= 2
        raise AssertionError("the last attempt returns or raises")


def _permanent_cause(error: Exception) -> str:
    """Return advice for an error that no repetition removes; empty for others."""
    if "Credential" in type(error).__name__ or "Token" in type(error).__name__:
        return (
            "set the credentials of the store in the environment, such as AWS_PROFILE, or AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY"
        )
    if isinstance(error, PermissionError):
        return "check the credentials in the environment, and what they permit"
    if isinstance(error, (TypeError, ValueError, NotImplementedError)):
        return "check the URL and the version of the store's library"
    return ""


def _missing_bucket(location: ObjectUrl) -> StorageError:
    return StorageError(f"{location}: there is no such bucket; check the name, or create it first")


def _open_file_system(location: ObjectUrl) -> tuple[Any, str]:
    """Return fsspec's file system for a URL, and the path in it."""
    scheme = location.url.partition("://")[0].lower()
    package = STORE_PACKAGES[scheme]
    try:
        core: Any = import_module("fsspec.core")
        system, root = core.url_to_fs(location.url)
    except ImportError as error:
        rest = f" {package}" if package not in (None, "s3fs") else ""
        raise StorageError(
            f"{location}: {scheme}:// needs {package or 'fsspec'} ({error_line(error)}); "
            f"pip install steadyscale[cloud]{rest}"
        ) from error
    return system, str(root).rstrip("/")
