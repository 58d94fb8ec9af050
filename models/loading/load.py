"""Load an upscaler from a weight file.

File -> tensors -> the first architecture that matches -> strict loading.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from ..arch import realplksr, rrdb, separable, span, srvgg, tspan
from ..arch.state_dict import StateDict
from ..errors import WeightsError
from ..upscaler import Upscaler
from .onnx_model import load_onnx
from .spandrel_adapter import load_with_spandrel
from .weight_file import first_keys, guess_other_kind, read_weights, unwrap_state_dict, validate_tensors


@dataclass(frozen=True)
class Architecture:
    """A type of network: how to detect its weights, and to build it from them."""

    name: str
    matches: Callable[[StateDict], bool]
    build: Callable[[StateDict], nn.Module]


# The first that matches is used. A new network takes one file in models/arch/ and one line here.
ARCHITECTURES = (
    Architecture("RRDBNet", rrdb.matches, rrdb.build),
    Architecture("SRVGGNetCompact", srvgg.matches, srvgg.build),
    Architecture("TSPAN", tspan.matches, tspan.build),
    Architecture("SPAN", span.matches, span.build),
    Architecture("TemporalSPAN", tspan.matches_temporal, tspan.build_temporal),
    Architecture("RealPLKSR", realplksr.matches, realplksr.build),
    Architecture("depthwise-separable", separable.matches, separable.build),
)


def load_upscaler(path: str | Path, device: torch.device | str = "cpu") -> Upscaler:
    """Load an upscaling network from a file.

    Formats: .safetensors, .pth, .pt, .ckpt, ncnn (.param or .bin, with the other one beside it), and .onnx files that
    this package exported. Weights become float32, whatever the file stores; `Upscaler.to` changes that. The networks of
    `ARCHITECTURES` are built here; other types need spandrel. No code from the file is executed. Raises WeightsError
    for every file that cannot be used.
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
        # Messages of other libraries, and keys of a file, may contain line breaks.
        raise WeightsError(f"{path} cannot be used: {' '.join(str(error).split())}") from error


def _build_network(state: StateDict) -> tuple[nn.Module, str]:
    problem: ValueError | None = None
    architecture = next((architecture for architecture in ARCHITECTURES if architecture.matches(state)), None)
    if architecture is not None:
        try:
            return architecture.build(to_float32(state)), architecture.name
        except ValueError as error:  # a relative of it may be one of spandrel's: MMRealSR, ESRGAN at 16x
            problem = error
            check_finite(state)
    elif other := guess_other_kind(state):
        # Before spandrel, which takes seconds to import.
        raise ValueError(f"it looks like {other}; give an upscaling model (ESRGAN, Real-ESRGAN, SRVGG)")
    try:
        spandrel_network = load_with_spandrel(state) if _may_be_upscaler(state) else None
    except ValueError as error:
        raise problem or error from error
    if spandrel_network:
        check_finite(state)
        return spandrel_network
    raise problem or ValueError(
        f"no known network has such weights (its first keys are {first_keys(state)}); "
        "types other than ESRGAN need spandrel installed"
    )


def _may_be_upscaler(state: StateDict) -> bool:
    """Whether there is a convolution, as in every network for images."""
    return any(tensor.ndim == 4 and tensor.numel() for tensor in state.values())


def to_float32(state: StateDict) -> dict[str, torch.Tensor]:
    """Copy floating-point tensors to float32; others stay as they are.

    Raises ValueError for inf, NaN and empty tensors.
    """
    if empty := next((key for key, tensor in state.items() if tensor.numel() == 0), None):
        raise ValueError(f"{empty[:80]} is empty ({tuple(state[empty].shape)}); the file is damaged")
    float32_state = {
        key: tensor.to(torch.float32, copy=True) if tensor.is_floating_point() else tensor
        for key, tensor in state.items()
    }
    check_finite(float32_state)
    return float32_state


def check_finite(state: StateDict) -> None:
    """Raise ValueError with the name of the first tensor that has inf or NaN."""
    for key, tensor in state.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ValueError(f"{key[:80]} contains inf or NaN; the file is damaged or its training failed")
