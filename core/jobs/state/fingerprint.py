"""Fingerprints of files, networks and settings.

They are JSON values that are equal where results are. Classes, fields and networks go by the names of `stable_names`,
so that a refactoring does not invalidate jobs.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterable
from dataclasses import astuple, fields, is_dataclass
from enum import Enum
from fractions import Fraction
from pathlib import Path
from types import FunctionType, MethodType, ModuleType
from typing import Any, cast

import av
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .... import __version__
from ... import geometry
from ...path.trajectory import Correction
from ...upscaling.model.model_traits import find_module
from .stable_names import STABLE_NAMES

CHUNK_BYTES = 4 * 2**20  # size of one read
MAX_DEPTH = 12  # nesting of objects, which may refer to each other
_PACKAGE = f"{__name__.rpartition('.core.')[0]}."  # differs between the installed package and a ComfyUI folder
_STR_TYPES = (Path, Fraction, torch.device, torch.dtype)


def software_versions() -> dict[str, str]:
    """Return the versions of the packages that compute and encode the result."""
    return {"steadyscale": __version__, "torch": str(torch.__version__), "av": av.__version__}


def hash_files(files: Iterable[Path]) -> str:
    """Return one hash of the content of these files, in their order.

    All of it is read, because an edit can leave size and date unchanged. Raises OSError.
    """
    total = hashlib.blake2b(digest_size=32)
    for file in files:
        total.update(bytes.fromhex(hash_file(file)))
    return total.hexdigest()


def hash_file(file: Path) -> str:
    """Return the SHA-256 of the content of a file. Raises OSError."""
    digest = hashlib.sha256()
    with file.open("rb") as content:
        while chunk := content.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def fingerprint(value: object, depth: int = 0) -> Any:
    """Describe a setting as a JSON value, equal in any process for equal settings.

    Arrays and weights are hashed. A network is described by its name, scale and weights, other objects by their public
    attributes. A correction is described by where it moves the corners of the frame, to a thousandth of a pixel,
    because the last digits of its matrices may differ between runs.
    """
    if isinstance(value, Enum):
        # Strings are the options of the user interfaces, which stay when a member is renamed.
        return value.value if isinstance(value.value, str) else value.name
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (Tensor, np.ndarray)):
        return _hash_array(cast("Tensor | NDArray[Any]", value))
    if isinstance(value, _STR_TYPES):
        return str(value)
    if isinstance(value, (slice, range)):
        return [value.start, value.stop]  # pyright: ignore[reportUnknownMemberType]  # of any slice
    if depth > MAX_DEPTH:
        return _type_name(type(value))
    inner = functools.partial(fingerprint, depth=depth + 1)
    if isinstance(value, (list, tuple)):
        return [inner(item) for item in cast("list[object] | tuple[object, ...]", value)]
    if isinstance(value, dict):
        return {str(key): inner(item) for key, item in cast("dict[object, object]", value).items()}
    if isinstance(value, Correction):
        return _describe_correction(value, inner)
    if (attributes := _setting_names(value)) is not None:
        return {"": _type_name(type(value)), **{name: inner(getattr(value, key)) for name, key in attributes}}
    if (module := find_module(value)) is not None:
        return _describe_network(module, getattr(value, "scale", None))
    if isinstance(value, functools.partial):
        return [inner(value.func), inner(value.args), inner(value.keywords)]
    if isinstance(value, MethodType):
        return [_qualified_name(value), inner(value.__self__)]
    if isinstance(value, FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        return [_qualified_name(value), inner(cells), inner(value.__defaults__)]
    if isinstance(value, (type, ModuleType)) or (callable(value) and hasattr(value, "__name__")):
        return _qualified_name(value)
    public = {name: inner(item) for name, item in sorted(getattr(value, "__dict__", {}).items()) if name[0] != "_"}
    return {"": _type_name(type(value)), **public}


def _setting_names(value: object) -> list[tuple[str, str]] | None:
    """Return (name, attribute) of each setting of a registered class or a dataclass."""
    names = STABLE_NAMES.get(type(value))
    if names is not None:
        left_out = {
            field.name
            for field in (fields(value) if names.new_fields and is_dataclass(value) else ())
            if field.name in names.new_fields and getattr(value, field.name) == field.default
        }
        return sorted(
            (name, attribute)
            for attribute, name in names.fields.items()
            if name is not None and attribute not in left_out
        )
    if is_dataclass(value) and not isinstance(value, type):
        return sorted((field.name, field.name) for field in fields(value))
    return None


def _describe_network(module: nn.Module, scale: object) -> dict[str, Any]:
    state = module.state_dict()
    weights = hashlib.sha256("".join(f"{name} {_hash_array(state[name])}\n" for name in sorted(state)).encode())
    description = {"": _type_name(type(module)), "scale": scale, "weights": weights.hexdigest()}
    # Of a network whose weights are not in its state, such as an ONNX graph.
    content_hash = getattr(module, "content_hash", None)
    return description if content_hash is None else {**description, "content": content_hash}


def _describe_correction(correction: Correction, inner: Callable[[object], Any]) -> dict[str, Any]:
    poses = None if correction.poses is None else _hash_corners(correction, correction.poses)
    description = {"": "correction", "matrices": _hash_corners(correction, correction.matrices), "poses": poses}
    if correction.rows is not None:
        rows = [_hash_corners(correction, rows) for rows in correction.rows.swapaxes(0, 1)]
        description |= {"rows": rows, "distorts-rows": correction.distorts_rows}
    if correction.mesh is not None:
        mesh = np.rint(correction.mesh.astype(np.float64) * 1000).astype(np.int64)  # thousandths of a pixel
        description |= {"mesh": _hash_array(mesh), "distorts-rows": correction.distorts_rows}
    if correction.bars is not None:
        description |= {"bars": list(astuple(correction.bars))}
    if correction.shot_bars is not None:
        description |= {"shot-bars": [list(astuple(bars)) for bars in correction.shot_bars]}
    if correction.lens is not None:
        description |= {"lens": [correction.lens.fov, *correction.lens.coefficients]}
    return {**description, "shots": inner(correction.shots), "info": inner(correction.info)}


def _type_name(cls: type) -> str:
    """Return the stable name of a class, or its module and name where it has none."""
    names = STABLE_NAMES.get(cls)
    return names.name if names else vars(cls).get("fingerprint_name") or _qualified_name(cls)


def _qualified_name(value: object) -> str:
    module = str(getattr(value, "__module__", ""))
    name = getattr(value, "__qualname__", getattr(value, "__name__", ""))
    return f"{module.removeprefix(_PACKAGE)}.{name}"


def _hash_array(value: Tensor | NDArray[Any]) -> str:
    tensor = torch.as_tensor(value).detach().cpu().contiguous()
    content = tensor.reshape(-1).view(torch.uint8).numpy().data if tensor.numel() else b""
    return f"{tensor.dtype} {tuple(tensor.shape)} {hashlib.sha256(content).hexdigest()}"


def _hash_corners(correction: Correction, matrices: geometry.Matrices) -> str:
    corners = geometry.corners(correction.info.width, correction.info.height)[None]
    return _hash_array(np.rint(geometry.transform_points(matrices, corners) * 1000).astype(np.int64))
