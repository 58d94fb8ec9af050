"""Locations: paths on a disk, and URLs of objects in a store."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeAlias

from ..clip import ClipError

STORE_PACKAGES: Mapping[str, str | None] = {
    **dict.fromkeys(("s3", "s3a"), "s3fs"),
    **dict.fromkeys(("gs", "gcs"), "gcsfs"),
    **dict.fromkeys(("az", "abfs", "abfss"), "adlfs"),
    "memory": None,
}
"""The package that fsspec needs for each scheme. All of them write an object as a whole or not at all."""
_SCHEME = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]+)://")  # two characters and more: c:// is a drive


@dataclass(frozen=True)
class ObjectUrl:
    """The URL of an object, or of the objects whose names begin with it.

    Its attributes and operators are those of a `Path`.
    """

    url: str

    @property
    def name(self) -> str:
        """The part after the last slash."""
        return self.url.rstrip("/").rpartition("/")[2]

    @property
    def suffix(self) -> str:
        """The suffix of the name, with its dot; empty without one."""
        return PurePosixPath(self.name).suffix

    @property
    def parent(self) -> ObjectUrl:
        """The URL without its name."""
        return ObjectUrl(self.url.rstrip("/").rpartition("/")[0])

    def with_name(self, name: str) -> ObjectUrl:
        """Return the URL with another name."""
        return self.parent / name

    def __truediv__(self, name: str) -> ObjectUrl:
        return ObjectUrl(f"{self.url.rstrip('/')}/{name}")

    def __str__(self) -> str:
        return self.url


Location: TypeAlias = Path | ObjectUrl


def is_url(location: object) -> bool:
    """Whether this is text with a scheme, such as s3://bucket/clip.mp4."""
    return isinstance(location, ObjectUrl) or (isinstance(location, str) and _SCHEME.match(location) is not None)


def parse_location(location: str | Path | ObjectUrl) -> Location:
    """Parse a location: a path, or the URL of an object in a store.

    A file URL is a path. Raises ClipError for a URL of another kind than those of STORE_PACKAGES, and for one that
    contains a password.
    """
    if not isinstance(location, str) or not is_url(location):
        return location if isinstance(location, ObjectUrl) else Path(location)
    scheme, _, rest = location.partition("://")
    if scheme.lower() == "file":
        return Path(_file_path(location))
    if scheme.lower() not in STORE_PACKAGES:
        raise ClipError(
            f"{scheme}://...: {scheme} is not a storage that can be used; use a path, or a URL that begins with "
            f"{', '.join(f'{name}://' for name in STORE_PACKAGES)} or file://"
        )
    if ":" in rest.partition("/")[0].rpartition("@")[0]:
        raise ClipError(
            f"{scheme}://...: the URL contains a password, which would end in logs and plans; leave it out, and set "
            "the credentials in the environment, as the documentation of the store says"
        )
    if not rest.strip("/"):
        raise ClipError(f"{location}: the URL names no object; use {scheme}://BUCKET/NAME")
    return ObjectUrl(location)


def absolute(location: str | Path | ObjectUrl) -> str:
    """Return the absolute path, or the URL: independent of the working folder."""
    parsed = parse_location(location)
    return str(parsed if isinstance(parsed, ObjectUrl) else parsed.absolute())


def _file_path(url: str) -> str:
    from urllib.request import url2pathname  # imports HTTP and TLS

    host, slash, path = url.partition("://")[2].partition("/")
    if host not in ("", "localhost"):
        raise ClipError(f"{url}: {host} is another machine; a file of this one is file:///folder/name")
    return url2pathname(f"{slash}{path}")
