"""Choose how a network computes, by a comparison with float32."""

from __future__ import annotations

import hashlib
import threading
from contextlib import nullcontext
from dataclasses import dataclass
from enum import Enum
from math import inf, log10
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from ...clip import all_finite
from ...runtime.device.accelerator import Accelerator
from ..settings import Precision
from .replica import weight_versions

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from torch import nn

# One step of an 8-bit image: a smaller error can flip a rounding, but is not visible.
MAX_DTYPE_ERROR = 1 / 255
# Of realesrgan-x4plus, 99.9 % of the values in float16 are within that, and the worst of 1.8 million is off by 3/255;
# bfloat16 fails in all of 32 crops.
MIN_DTYPE_SHARE = 0.998
MIN_DTYPE_PSNR = 48.0  # dB; the error of rounding to 8 bits alone is 59 dB


class ComputeMode(Enum):
    """How a network computes: a dtype and, for float32, whether TF32 is used."""

    FP16 = "fp16"
    BF16 = "bf16"
    TF32 = "tf32"
    FP32 = "fp32"

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of weights, input and result."""
        return {ComputeMode.FP16: torch.float16, ComputeMode.BF16: torch.bfloat16}.get(self, torch.float32)

    def arithmetic(self, accelerator: Accelerator) -> AbstractContextManager[None]:
        """A context in which work is queued that is computed in this mode."""
        return nullcontext() if self.dtype is not torch.float32 else accelerator.tf32(self is ComputeMode.TF32)


def compute_modes(
    precision: Precision, accelerator: Accelerator, *, supports_half: bool = True, can_cast: bool = True
) -> tuple[ComputeMode, ...]:
    """List the modes to try on a device, the preferred one first.

    AUTO tries float16 where the device and the network support it, then TF32, which has the same precision, then
    float32. bfloat16 is used on request only: its error is visible. can_cast: whether the weights can be converted.
    """
    if precision is not Precision.AUTO:
        return (ComputeMode(precision.value),)
    modes: list[ComputeMode] = []
    if supports_half and can_cast and torch.float16 in accelerator.candidate_dtypes:
        modes.append(ComputeMode.FP16)
    if accelerator.has_tf32:
        modes.append(ComputeMode.TF32)
    return (*modes, ComputeMode.FP32)


@dataclass(frozen=True)
class DtypeCheck:
    """How near a result is to that in float32.

    share: of the values within 1/255, 0 to 1. psnr: of the difference, in dB; infinity for none. problem: why the
    result cannot be used; empty if it can.
    """

    share: float = 1.0
    psnr: float = inf
    problem: str = ""

    def __str__(self) -> str:
        return f"{self.share:.2%} of the values are within 1/255 of float32, PSNR {self.psnr:.1f} dB"


def check_dtype(result: Tensor, reference: Tensor) -> DtypeCheck:
    """Compare a result with that in float32; both are meant for [0, 1]."""
    if not all_finite(result):
        return DtypeCheck(0.0, 0.0, "the result is not finite")
    result, reference = result.float().clamp(0.0, 1.0), reference.float().clamp(0.0, 1.0)
    if float(result.amax()) == 0.0 and float(reference.amax()) > 0.0:
        return DtypeCheck(0.0, 0.0, "the result is black")
    difference = (result - reference).abs()
    # A difference of exactly 1/255 counts as within, also after rounding.
    share = float((difference <= MAX_DTYPE_ERROR * (1 + 1e-4)).float().mean())
    square = float(difference.square().mean())
    check = DtypeCheck(share, -10 * log10(square) if square else inf)
    if share < MIN_DTYPE_SHARE or check.psnr < MIN_DTYPE_PSNR:
        return DtypeCheck(share, check.psnr, f"only {check}")
    return check


_verdicts: dict[tuple[str, str, str, ComputeMode], DtypeCheck] = {}
_lock = threading.Lock()


class CheckCache:
    """The checks of one network on one device, kept for the length of the process.

    They depend on weights, device and version of torch, and hardly on the frame that they were made with.
    """

    def __init__(self, module: nn.Module | None, accelerator: Accelerator) -> None:
        self._key = None if module is None else (_hash_weights(module), accelerator.name, torch.__version__)

    def find(self, mode: ComputeMode) -> DtypeCheck | None:
        """The check of a mode, or None if there was none."""
        with _lock:
            return None if self._key is None else _verdicts.get((*self._key, mode))

    def store(self, mode: ComputeMode, check: DtypeCheck) -> None:
        with _lock:
            if self._key is not None:
                _verdicts[(*self._key, mode)] = check


# By module: its weights, as `weight_versions` tells them apart, and their hash, for which weights are downloaded.
_hashes: WeakKeyDictionary[nn.Module, tuple[object, str]] = WeakKeyDictionary()


def _hash_weights(module: nn.Module) -> str:
    versions = weight_versions(module)
    known = _hashes.get(module)
    if known is None or known[0] != versions:
        known = _hashes[module] = versions, _compute_hash(module)
    return known[1]


def _compute_hash(module: nn.Module) -> str:
    digest = hashlib.sha256(type(module).__qualname__.encode())
    for tensor in (*module.parameters(), *module.buffers()):
        digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
