"""Open a folder or the objects of a store as storage."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from .local_storage import LocalStorage
from .location import Location, ObjectUrl
from .object_storage import ObjectStorage


class Storage(Protocol):
    """Documents and files by name, relative to a location.

    Names have slashes. Whatever is written appears complete under its name, or not at all.
    """

    @property
    def location(self) -> Location: ...

    def read(self, name: str) -> bytes:
        """Return the content. Raises OSError, such as FileNotFoundError."""
        ...

    def write(self, name: str, content: bytes) -> None:
        """Write a document, or replace it. On return it survives a power cut."""
        ...

    def create(self, name: str, content: bytes) -> bool:
        """Write a document; False where it exists. Of several processes, one gets True."""
        ...

    def size(self, name: str) -> int | None:
        """Return the size in bytes; None where there is no such file."""
        ...

    def names(self, folder: str = "") -> list[str]:
        """Return the names of the files in a folder, sorted."""
        ...

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        ...

    def add_file(self, file: Path, name: str) -> None:
        """Move a complete file of this machine here."""
        ...


def open_storage(location: Location) -> Storage:
    """Open a folder, which need not exist, or the objects below a URL."""
    return ObjectStorage(location) if isinstance(location, ObjectUrl) else LocalStorage(location)
