"""Where every pixel has gone between two frames: the protocol, and the estimators behind one list.

Convention: a flow is (B, 2, H, W) float32, x then y, in pixels of the frames it was measured on (x right, y down).
Pixel p of the first frame is found at p + flow(p) in the second.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from enum import Enum
from functools import lru_cache, partial
from types import ModuleType
from typing import Protocol

import torch
from torch import Tensor

from .clip import ClipError, Frames
from .farneback import farneback

log = logging.getLogger(__name__)

LUMA = (0.299, 0.587, 0.114)  # BT.601, what OpenCV uses too; flow does not care which


class FlowModel(Protocol):
    """Anything that measures flow: a class of ours, a network, a function."""

    def __call__(self, first: Frames, second: Frames) -> Tensor:
        """Two batches of frames (B, 1 or 3, H, W) in [0, 1] -> flow (B, 2, H, W) from each first to its second."""
        ...


class FlowMethod(str, Enum):
    """The estimators that come with SteadyScale."""

    FARNEBACK = "farneback"
    DIS = "dis"


def luma(frames: Frames) -> Tensor:
    """(B, C, H, W) RGB(A) or grey -> (B, 1, H, W) brightness in [0, 1]. Alpha is ignored."""
    if frames.shape[1] == 1:
        return frames
    weights = torch.tensor(LUMA, dtype=frames.dtype, device=frames.device).view(1, 3, 1, 1)
    return (frames[:, :3] * weights).sum(dim=1, keepdim=True)


def flow_model(method: FlowMethod = FlowMethod.FARNEBACK, device: torch.device | str = "cpu") -> FlowModel:
    """The estimator of that name. On a device other than the CPU, or without OpenCV, Farneback runs in torch.

    Raises ClipError where the method needs OpenCV and none can be imported.
    """
    return _BUILDERS[FlowMethod(method)](torch.device(device))


@lru_cache(maxsize=1)
def optional_opencv() -> ModuleType | None:
    """The module cv2, or None where it is missing or cannot load (some builds need libGL, which a server lacks)."""
    try:
        import cv2
    except ImportError as error:
        log.warning(
            "OpenCV cannot be used (%s); torch does its work, several times more slowly on a CPU. "
            "Any OpenCV serves; if you have none: pip install opencv-python-headless",
            error,
        )
        return None
    return cv2


def _farneback(device: torch.device) -> FlowModel:
    cv2 = optional_opencv() if device.type == "cpu" else None
    if cv2 is None:
        return lambda first, second: farneback(luma(first.to(device)), luma(second.to(device))).cpu()
    measure = partial(
        cv2.calcOpticalFlowFarneback,
        flow=None,
        pyr_scale=0.5,
        levels=5,
        winsize=15,
        iterations=3,
        poly_n=7,
        poly_sigma=1.5,
        flags=0,
    )
    return partial(_pairwise, measure)


def _dis(device: torch.device) -> FlowModel:
    cv2 = optional_opencv()
    if cv2 is None:
        raise ClipError(
            "DIS flow needs OpenCV: install any of its distributions (pip install opencv-python-headless), "
            "or choose the method 'farneback', which also runs without"
        )
    estimator = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return partial(_pairwise, lambda first, second: estimator.calc(first, second, None))


def _pairwise(measure: Callable, first: Frames, second: Frames) -> Tensor:
    """Run an OpenCV estimator (grey uint8 arrays in, (H, W, 2) out) over a batch."""
    return torch.cat(list(_flows(measure, first, second)))


def _flows(measure: Callable, first: Frames, second: Frames) -> Iterator[Tensor]:
    for a, b in zip(_grey8(first), _grey8(second), strict=True):
        if min(a.shape) < 16:  # DIS refuses frames smaller than two of its patches; they carry no motion to speak of
            yield torch.zeros(1, 2, *a.shape)
        else:
            yield torch.from_numpy(measure(a.numpy(), b.numpy())).permute(2, 0, 1)[None]


def _grey8(frames: Frames) -> Tensor:
    """(B, C, H, W) in [0, 1] -> (B, H, W) uint8."""
    return (luma(frames)[:, 0].clamp(0, 1) * 255).round().to(torch.uint8).cpu()


_BUILDERS: dict[FlowMethod, Callable[[torch.device], FlowModel]] = {
    FlowMethod.FARNEBACK: _farneback,
    FlowMethod.DIS: _dis,
}
