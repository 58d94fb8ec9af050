"""A folder on a disk, as storage of small documents and large files."""

from __future__ import annotations

import os
from pathlib import Path

from ..runtime.files.atomic_write import atomic_path, fsync_folder


class LocalStorage:
    """Files in a folder, named relative to it; see `Storage`."""

    def __init__(self, path: Path) -> None:
        self.location = path

    def read(self, name: str) -> bytes:
        return (self.location / name).read_bytes()

    def write(self, name: str, content: bytes) -> None:
        file = self.location / name
        file.parent.mkdir(exist_ok=True)
        with atomic_path(file) as partial:
            partial.write_bytes(content)
        fsync_folder(file.parent)

    def create(self, name: str, content: bytes) -> bool:
        file = self.location / name
        file.parent.mkdir(exist_ok=True)
        try:
            with file.open("xb") as new:
                new.write(content)
        except FileExistsError:
            return False
        return True

    def size(self, name: str) -> int | None:
        file = self.location / name
        return file.stat().st_size if file.is_file() else None

    def names(self, folder: str = "") -> list[str]:
        prefix = f"{folder}/" if folder else ""
        return [f"{prefix}{file.name}" for file in sorted((self.location / folder).glob("*")) if file.is_file()]

    def remove(self, name: str) -> None:
        (self.location / name).unlink(missing_ok=True)

    def add_file(self, file: Path, name: str) -> None:
        target = self.location / name
        target.parent.mkdir(exist_ok=True)
        os.replace(file, target)
        fsync_folder(target.parent)
