"""Metadata beside the weights in a pickle: what is accepted, and never used.

Training scripts store numpy scalars, dates and paths beside the tensors. Each of these types is replaced by an inert
class while the file is read: no constructor runs and nothing is allocated.
"""

from __future__ import annotations

import io
import pickletools
import zipfile
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch

# A bound on what `_codecs.encode`, which numpy needs for bytes, may create: a few bytes could become gigabytes.
_MAX_ENCODED_BYTES = 64 * 2**20
_MAX_PICKLE_BYTES = 16 * 2**20  # of a pickle without its tensors; 20,000 tensors take 4 MB
# Codecs from bytes to bytes can be applied again and again, and double the length each time.
_BYTE_CODECS = {"base64", "bz2", "hex", "quopri", "quotedprintable", "uu", "zlib", "zip", "rot13"}

_HARMLESS_GLOBALS = (
    *("numpy.dtype", "numpy.ndarray", "numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar"),
    *("numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct"),
    *(f"numpy.dtypes.{kind}DType" for kind in ("Bool", "Float16", "Float32", "Float64", "Int8", "Int16", "Int32")),
    *(f"numpy.dtypes.{kind}DType" for kind in ("Int64", "UInt8", "UInt16", "UInt32", "UInt64", "Str", "Bytes")),
    *(f"datetime.{kind}" for kind in ("datetime", "date", "time", "timedelta", "timezone")),
    *(f"pathlib.{kind}" for kind in ("Path", "PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")),
    *(f"pathlib._local.{kind}" for kind in ("Path", "PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")),
    *("argparse.Namespace", "decimal.Decimal", "fractions.Fraction", "uuid.UUID"),
)


class Ignored:
    """Placeholder for a value that is not read."""

    def __new__(cls, *_: Any, **__: Any) -> Ignored:
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __setstate__(self, state: Any) -> None: ...


def ignore_metadata() -> AbstractContextManager[Any]:
    """A context in which torch.load(weights_only=True) accepts harmless metadata."""
    stand_ins: Any = [(Ignored, name) for name in _HARMLESS_GLOBALS]  # needs torch 2.6, as weights_only itself does
    return torch.serialization.safe_globals(stand_ins)


def is_encoding_bounded(path: Path, *, zipped: bool) -> bool:
    """Whether the calls of `_codecs.encode` in a .pth file stay below 64 MB."""
    reduces, longest = 0, 0
    try:
        for pickle in _pickles(path, zipped=zipped):
            for opcode, argument, _ in pickletools.genops(pickle):
                reduces += opcode.name == "REDUCE"
                if isinstance(argument, (str, bytes)):
                    longest = max(longest, len(argument))
                    name = argument if isinstance(argument, str) else argument.decode(errors="replace")
                    if name.lower().replace("_", "").replace("-", "").removesuffix("codec") in _BYTE_CODECS:
                        return False
    except Exception:  # a broken pickle can make the library raise anything
        return False
    return 10 * reduces * longest <= _MAX_ENCODED_BYTES


def _pickles(path: Path, *, zipped: bool) -> list[io.BytesIO]:
    """The pickles of a file.

    An old file has several, one after the other, then the tensors.
    """
    if zipped:
        with zipfile.ZipFile(path) as archive:
            entries = [entry for entry in archive.infolist() if entry.filename.rsplit("/", 1)[-1] == "data.pkl"]
            if sum(entry.file_size for entry in entries) > _MAX_PICKLE_BYTES:
                raise ValueError("too long")
            return [io.BytesIO(archive.read(entry)) for entry in entries]
    with path.open("rb") as file:
        stream = io.BytesIO(file.read(_MAX_PICKLE_BYTES))
    return [stream] * 5  # magic number, protocol, system, content, keys of the tensors
