"""Where every pixel has gone between two frames: the protocol, and the estimators behind one list.

Convention: a flow is (B, 2, H, W) float32, x then y, in pixels of the frames it was measured on (x right, y down).
Pixel p of the first frame is found at p + flow(p) in the second.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..clip import ClipError, Frames
from ..runtime.optional_cv2 import optional_opencv
from .gray_frame import Plane
from .klt import KltTracker

if TYPE_CHECKING:
    import torch
    from torch import Tensor

LUMA_WEIGHTS = (0.299, 0.587, 0.114)  # BT.601, what OpenCV uses too; flow does not care which


class FlowModel(Protocol):
    """Anything that measures flow: a class of ours, a network, a function.

    A model may also have `field(first, second)`, which takes two grey planes (h, w) and gives their flow (2, h, w) in
    numpy. And it may have `follow(first, second)`, which takes two `Grey` frames and gives `Correspondences` in their
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
    weights = frames.new_tensor(LUMA_WEIGHTS).view(1, 3, 1, 1)
    return (frames[:, :3] * weights).sum(dim=1, keepdim=True)


def flow_model(method: FlowMethod = FlowMethod.FARNEBACK, device: torch.device | str = "cpu") -> FlowModel:
    """The estimator of that name. On a device other than the CPU, or without OpenCV, Farneback runs in torch.

    Raises ClipError where the method needs OpenCV and none can be imported.
    """
    return _BUILDERS[FlowMethod(method)](str(device))


def flow_between_planes(flow: FlowModel, first: Plane, second: Plane) -> Plane:
    """The flow (2, h, w) from one grey plane (h, w) to another, by any model."""
    own = getattr(flow, "plane_flow", None)
    if own is not None:
        return own(first, second)
    import torch

    a, b = (torch.from_numpy(plane)[None, None] for plane in (first, second))
    return flow(a, b)[0].cpu().numpy()


@dataclass(frozen=True)
class OpenCVFlow:
    """An estimator of OpenCV's kind as a `FlowModel`. measure: two grey planes (h, w) uint8 -> their flow (h, w, 2)."""

    estimator: Callable[[Any, Any], Any]

    def __call__(self, first: Frames, second: Frames) -> Tensor:
        import torch

        pairs = zip(luma(first)[:, 0].cpu().numpy(), luma(second)[:, 0].cpu().numpy(), strict=True)
        return torch.stack([torch.from_numpy(self.plane_flow(a, b)) for a, b in pairs])

    def plane_flow(self, first: Plane, second: Plane) -> Plane:
        if min(first.shape) < 16:  # DIS refuses less than two of its patches; they carry no motion to speak of
            return np.zeros((2, *first.shape), np.float32)
        return np.moveaxis(self.estimator(_to_uint8(first), _to_uint8(second)), -1, 0)


@dataclass(frozen=True)
class TorchFarneback:
    """Farneback's flow in torch, as a `FlowModel`."""

    device: str

    def __call__(self, first: Frames, second: Frames) -> Tensor:
        from .farneback import farneback

        return farneback(luma(first.to(self.device)), luma(second.to(self.device))).cpu()


def _to_uint8(plane: Plane) -> NDArray[np.uint8]:
    return np.rint(plane * 255).clip(0, 255).astype(np.uint8)


def _build_farneback(device: str) -> FlowModel:
    cv2 = optional_opencv() if device == "cpu" else None
    if cv2 is None:
        return TorchFarneback(device)
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
    return OpenCVFlow(measure)


def _build_dis(device: str) -> FlowModel:
    cv2 = _require_opencv("DIS flow needs")
    estimator = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return OpenCVFlow(partial(estimator.calc, flow=None))


def _build_tracks(device: str) -> FlowModel:
    return KltTracker(_require_opencv("feature tracks need"), _build_dis(device))


def _require_opencv(feature: str) -> ModuleType:
    cv2 = optional_opencv()
    if cv2 is None:
        raise ClipError(
            f"{feature} OpenCV: install any of its distributions (pip install opencv-python-headless), "
            "or choose the method 'farneback', which also runs without"
        )
    return cv2


_BUILDERS: dict[FlowMethod, Callable[[str], FlowModel]] = {
    FlowMethod.FARNEBACK: _build_farneback,
    FlowMethod.DIS: _build_dis,
    FlowMethod.TRACKS: _build_tracks,
}
