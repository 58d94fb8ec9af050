"""What a result depends on, in a form that can be written down and compared: files, networks, settings."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from enum import Enum
from fractions import Fraction
from pathlib import Path
from types import FunctionType, MethodType, ModuleType
from typing import Any

import av
import numpy as np
import torch
from torch import Tensor

from ... import __version__
from .. import geometry
from ..path.trajectory import Correction
from ..upscaling.model_traits import find_module
from ..upscaling.settings import UpscaleStats

CHUNK_BYTES = 4 * 2**20  # bytes that are read at once
MAX_DEPTH = 12  # objects within objects; beyond this they hold each other
_STR_TYPES = (Path, Fraction, torch.device, torch.dtype)


def software_versions() -> dict[str, str]:
    """What computes and encodes: another version may give other pixels, or packets that do not go together."""
    return {"steadyscale": __version__, "torch": str(torch.__version__), "av": av.__version__}


def hash_files(files: Iterable[Path]) -> str:
    """One hash of everything that these files hold, in their order; not of their names or dates.

    All of it is read: an edit can leave size and date alone, and reading once more is a small part of any job. Raises
    OSError.
    """
    total = hashlib.blake2b(digest_size=32)
    for file in files:
        total.update(bytes.fromhex(hash_file(file)))
    return total.hexdigest()


def hash_file(file: Path) -> str:
    """SHA-256 of what the file holds. Raises OSError."""
    digest = hashlib.sha256()
    with file.open("rb") as content:
        while piece := content.read(CHUNK_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def fingerprint(value: object, depth: int = 0) -> Any:
    """A setting as what JSON can hold: equal for equal settings in any process, different for different ones.

    Arrays and weights are there as hashes. A network is its class and its weights, not its place or what it remembers.
    Of other objects the public attributes count. A correction is where it takes the corners of the frame, to a
    thousandth of a pixel: the last digits of arithmetic may differ from run to run.
    """
    if isinstance(value, UpscaleStats):  # counts what was done; nothing depends on it
        return None
    if value is None or (isinstance(value, (bool, int, float, str)) and not isinstance(value, Enum)):
        return value
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, (Tensor, np.ndarray)):
        return _hash_array(value)
    if isinstance(value, _STR_TYPES):
        return str(value)
    if isinstance(value, (slice, range)):
        return [value.start, value.stop]
    if depth > MAX_DEPTH:
        return _qualified_name(type(value))
    inner = functools.partial(fingerprint, depth=depth + 1)
    if isinstance(value, (list, tuple)):
        return [inner(item) for item in value]
    if isinstance(value, dict):
        return {str(key): inner(item) for key, item in value.items()}
    if isinstance(value, Correction):
        poses = None if value.poses is None else _hash_corners(value, value.poses)
        table = {"matrices": _hash_corners(value, value.matrices), "poses": poses}
        if value.rows is not None:
            table |= {
                "rows": [_hash_corners(value, rows) for rows in value.rows.swapaxes(0, 1)],
                "bends": value.distorts_rows,
            }
        return {**table, "shots": inner(value.shots), "info": inner(value.info)}
    if is_dataclass(value) and not isinstance(value, type):
        return {
            "": _qualified_name(type(value)),
            **{field.name: inner(getattr(value, field.name)) for field in fields(value)},
        }
    if (module := find_module(value)) is not None:
        state = module.state_dict()
        weights = hashlib.sha256("".join(f"{name} {_hash_array(state[name])}\n" for name in sorted(state)).encode())
        return {
            "": _qualified_name(type(module)),
            "scale": getattr(value, "scale", None),
            "weights": weights.hexdigest(),
        }
    if isinstance(value, functools.partial):
        return [inner(value.func), inner(value.args), inner(value.keywords)]
    if isinstance(value, MethodType):
        return [_qualified_name(value), inner(value.__self__)]
    if isinstance(value, FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        return [_qualified_name(value), inner(cells), inner(value.__defaults__)]
    if isinstance(value, (type, ModuleType)) or (callable(value) and hasattr(value, "__name__")):
        return _qualified_name(value)
    public = {name: inner(item) for name, item in getattr(value, "__dict__", {}).items() if name[0] != "_"}
    return {"": _qualified_name(type(value)), **public}


def _qualified_name(value: Any) -> str:
    return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', getattr(value, '__name__', ''))}"


def _hash_array(value: Tensor | np.ndarray) -> str:
    tensor = torch.as_tensor(value).detach().cpu().contiguous()
    content = tensor.reshape(-1).view(torch.uint8).numpy().data if tensor.numel() else b""
    return f"{tensor.dtype} {tuple(tensor.shape)} {hashlib.sha256(content).hexdigest()}"


def _hash_corners(value: Correction, matrices: geometry.Matrices) -> str:
    places = geometry.transform_points(matrices, geometry.corners(value.info.width, value.info.height)[None])
    return _hash_array(np.rint(places * 1000).astype(np.int64))
