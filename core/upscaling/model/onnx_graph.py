"""Export of torch modules as ONNX graphs, and a cache of graphs with fixed shapes."""

from __future__ import annotations

import hashlib
import inspect
import os
import shutil
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...runtime.files.atomic_write import atomic_path
from ...runtime.files.cache_dir import cache_folder
from ...runtime.typed_torch import named_modules
from .replica import frozen_copy

OPSET = 17
INPUT_NAME, OUTPUT_NAME = "image", "enlarged"  # of files that other programs read: they stay
GRAPH_FILE = "graph.onnx"
# Graphs and engines that were not used for the longest time are removed beyond this size.
MAX_CACHE_BYTES = 4 << 30


def export_graph(
    module: nn.Module, example: Tensor, path: Path, *, dynamic_axes: Mapping[str, Mapping[int, str]] | None = None
) -> None:
    """Trace a module with an example and write its graph.

    It leads from INPUT_NAME to OUTPUT_NAME. dynamic_axes: names of the axes that may have another size than in the
    example; None: all sizes are fixed. The caller sets the gradient mode. The graph is not verified.
    """
    # The dynamo exporter needs another package, and fewer programs read its graphs.
    export: Callable[..., Any] = torch.onnx.export  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]  # parts have no type
    options: dict[str, Any] = {"dynamo": False} if "dynamo" in inspect.signature(export).parameters else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecation of the tracer, and traced sizes
        export(
            module,
            (example,),
            str(path),
            input_names=[INPUT_NAME],
            output_names=[OUTPUT_NAME],
            dynamic_axes=dynamic_axes,
            opset_version=OPSET,
            **options,
        )


def cached_graph(module: nn.Module, weights: str, like: Tensor) -> Path:
    """Return the file of a module's graph for inputs like this one.

    The graph suits the shape, dtype and type of device of `like`, and is exported if it is not in the cache. Its file
    has a folder of its own, in which engines compiled from it may be stored. weights: `fingerprint_module` of the
    module, whose parameters have the dtype and the device of `like`.
    """
    key = f"{weights} {tuple(like.shape)} {like.dtype} {like.device.type} {OPSET} {torch.__version__}"
    folder = cache_folder() / "onnx" / hashlib.sha256(key.encode()).hexdigest()[:32]
    path = folder / GRAPH_FILE
    if path.is_file():
        with suppress(OSError):  # a read-only cache serves as well
            os.utime(folder)
        return path
    folder.mkdir(parents=True, exist_ok=True)
    # The trace must not see the frame on which the graph is checked: a result that does not depend on the input would
    # pass for a correct one. With gradients enabled, our networks work neither in place nor in tiles, which do not
    # belong in a graph.
    with torch.inference_mode(False), torch.enable_grad(), atomic_path(path) as partial:
        noise = torch.rand(like.shape, generator=torch.Generator().manual_seed(0))
        export_graph(frozen_copy(module, like.device, like.dtype), noise.to(like.device, like.dtype), partial)
    _trim_cache(folder)
    return path


def fingerprint_module(module: nn.Module) -> str:
    """Hash the structure, the simple attributes and the weights of a module."""
    digest = hashlib.sha256()
    for name, part in named_modules(module):
        simple = {key: value for key, value in vars(part).items() if isinstance(value, (bool, int, float, str))}
        kind = f"{type(part).__module__}.{type(part).__qualname__}"
        digest.update(f"{name} {kind} {sorted(simple.items())} {part.extra_repr()}\n".encode())
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        values = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(values.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _trim_cache(current: Path) -> None:
    """Remove the least recently used folders, but not the current one."""
    folders = [folder for folder in current.parent.iterdir() if folder.is_dir()]
    size = {folder: _folder_bytes(folder) for folder in folders}
    for folder in sorted((folder for folder in folders if folder != current), key=_modified):
        if sum(size.values()) <= MAX_CACHE_BYTES:
            break
        shutil.rmtree(folder, ignore_errors=True)
        del size[folder]


def _folder_bytes(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with suppress(OSError):  # another process may remove it now
            total += path.stat().st_size
    return total


def _modified(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except OSError:
        return 0.0
