"""Where every pixel has gone between two frames: the protocol, and the estimators behind one list.

Convention: a flow is (B, 2, H, W) float32, x then y, in pixels of the frames it was measured on (x right, y down).
Pixel p of the first frame is found at p + flow(p) in the second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import Enum
from functools import partial
from types import ModuleType
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..clip import ClipError, Frames
from ..opencv import optional_opencv
from .farneback import farneback
from .features import Tracks

LUMA = (0.299, 0.587, 0.114)  # BT.601, what OpenCV uses too; flow does not care which


class FlowModel(Protocol):
    """Anything that measures flow: a class of ours, a network, a function.

    A model may also have `follow(first, second)`, which takes two `Grey` frames and gives `Correspondences` in their
    pixels: what the camera's motion is then fitted to, instead of samples of the dense flow.
    """

    def __call__(self, first: Frames, second: Frames) -> Tensor:
        """Two batches of frames (B, 1 or 3, H, W) in [0, 1] -> flow (B, 2, H, W) from each first to its second."""
        ...


class FlowMethod(str, Enum):
    """The estimators that come with SteadyScale."""

    FARNEBACK = "farneback"
    DIS = "dis"
    TRACKS = "tracks"


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
    cv2 = _opencv_for("DIS flow needs")
    estimator = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return partial(_pairwise, lambda first, second: estimator.calc(first, second, None))


def _tracks(device: torch.device) -> FlowModel:
    return Tracks(_opencv_for("feature tracks need"), _dis(device))


def _opencv_for(who: str) -> ModuleType:
    cv2 = optional_opencv()
    if cv2 is None:
        raise ClipError(
            f"{who} OpenCV: install any of its distributions (pip install opencv-python-headless), "
            "or choose the method 'farneback', which also runs without"
        )
    return cv2


def _pairwise(measure: Callable, first: Frames, second: Frames) -> Tensor:
    """Run an OpenCV estimator (grey uint8 arrays in, (H, W, 2) out) over a batch."""
    return torch.cat(list(_flows(measure, first, second)))


def _flows(measure: Callable, first: Frames, second: Frames) -> Iterator[Tensor]:
    for a, b in zip(grey8(first), grey8(second), strict=True):
        if min(a.shape) < 16:  # DIS refuses frames smaller than two of its patches; they carry no motion to speak of
            yield torch.zeros(1, 2, *a.shape)
        else:
            yield torch.from_numpy(measure(a, b)).permute(2, 0, 1)[None]


def grey8(frames: Frames) -> NDArray[np.uint8]:
    """(B, C, H, W) in [0, 1] -> (B, H, W)."""
    return np.rint(luma(frames)[:, 0].cpu().numpy() * 255).clip(0, 255).astype(np.uint8)


_BUILDERS: dict[FlowMethod, Callable[[torch.device], FlowModel]] = {
    FlowMethod.FARNEBACK: _farneback,
    FlowMethod.DIS: _dis,
    FlowMethod.TRACKS: _tracks,
}
