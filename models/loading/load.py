"""From a weight file to an upscaler: file -> tensors -> first network that matches -> strict load."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from ..arch import rrdb, separable, srvgg
from ..arch.state_dict import StateDict
from ..errors import WeightsError
from ..upscaler import Upscaler
from .onnx_model import load_onnx
from .spandrel_adapter import load_with_spandrel
from .weight_file import first_keys, guess_other_kind, read_weights, unwrap_state_dict, validate_tensors


@dataclass(frozen=True)
class Architecture:
    """A kind of network: how to recognise its weights, and how to make the network that holds them."""

    name: str
    matches: Callable[[StateDict], bool]
    build: Callable[[StateDict], nn.Module]


# The first that matches is taken; a new network is one more line.
ARCHITECTURES = (
    Architecture("RRDBNet", rrdb.matches, rrdb.build),
    Architecture("SRVGGNetCompact", srvgg.matches, srvgg.build),
    Architecture("depthwise-separable", separable.matches, separable.build),
)


def load_upscaler(path: str | Path, device: torch.device | str = "cpu") -> Upscaler:
    """Load an image network: .safetensors, .pth, .pt, .ckpt, ncnn .param with its .bin (give either), or .onnx of ours.

    Weights come as float32, whatever the file stores; `Upscaler.to` changes that. The networks of `ARCHITECTURES` are
    built here; other kinds need spandrel. No code in the file is ever run. Raises WeightsError for everything else.
    """
    path = Path(path)
    try:
        if path.suffix.lower() == ".onnx" and path.is_file():
            model, architecture = load_onnx(path)
        else:
            model, architecture = _build_network(validate_tensors(unwrap_state_dict(read_weights(path)), path))
        return Upscaler(model, path.stem, architecture).to(device)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read ({error.strerror}); check its permissions") from error
    except ValueError as error:
        # What others raise, and the names in a file, may have line breaks.
        raise WeightsError(f"{path} cannot be used: {' '.join(str(error).split())}") from error


def _build_network(state: StateDict) -> tuple[nn.Module, str]:
    for architecture in ARCHITECTURES:
        if architecture.matches(state):
            return architecture.build(to_float32(state)), architecture.name
    if foreign := load_with_spandrel(state):
        check_finite(state)
        return foreign
    if other := guess_other_kind(state):
        raise ValueError(f"it looks like {other}; give an upscaling model (ESRGAN, Real-ESRGAN, SRVGG)")
    raise ValueError(
        f"no network known here has such weights (its first keys are {first_keys(state)}); "
        "other kinds than ESRGAN need spandrel installed"
    )


def to_float32(state: StateDict) -> dict[str, torch.Tensor]:
    """Floating-point tensors as float32 copies of their own, others unchanged. Raises ValueError for inf, NaN and what
    is empty.
    """
    if empty := next((key for key, tensor in state.items() if tensor.numel() == 0), None):
        raise ValueError(f"{empty[:80]} is empty ({tuple(state[empty].shape)}); the file is damaged")
    wide = {
        key: tensor.to(torch.float32, copy=True) if tensor.is_floating_point() else tensor
        for key, tensor in state.items()
    }
    check_finite(wide)
    return wide


def check_finite(state: StateDict) -> None:
    """Raises ValueError naming the first tensor with inf or NaN."""
    for key, tensor in state.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ValueError(f"{key[:80]} contains inf or NaN; the file is damaged or its training failed")
