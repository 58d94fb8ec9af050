"""Optical flow: the `FlowModel` protocol and a table of estimators.

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

from ...clip import ClipError, Frames
from ...runtime.optional_cv2 import optional_opencv
from .gray_frame import Plane
from .klt import KltTracker

if TYPE_CHECKING:
    import torch
    from torch import Tensor

LUMA_WEIGHTS = (0.299, 0.587, 0.114)  # BT.601, as in OpenCV


class FlowModel(Protocol):
    """A flow estimator: an object, a network or a function.

    Optional methods: `plane_flow(first, second)` takes two luma planes (h, w) and returns their flow (2, h, w) as a
    NumPy array. `track_points(first, second)` takes two `GrayFrame`s and returns `Correspondences` in their pixels, to
    which the camera motion is then fitted instead of samples of the dense flow.
    """

    def __call__(self, first: Frames, second: Frames) -> Tensor:
        """Estimate the flow from each frame of `first` to that of `second`.

        Frames (B, 1 or 3, H, W) in [0, 1] -> flow (B, 2, H, W).
        """
        ...


class FlowMethod(str, Enum):
    """Flow estimators included in SteadyScale."""

    FARNEBACK = "farneback"
    DIS = "dis"
    TRACKS = "tracks"


def luma(frames: Frames) -> Tensor:
    """Return the luma (B, 1, H, W) of RGB(A) or gray frames (B, C, H, W).

    Frames and luma are in [0, 1]. Alpha is ignored.
    """
    if frames.shape[1] == 1:
        return frames
    weights = frames.new_tensor(LUMA_WEIGHTS).view(1, 3, 1, 1)
    return (frames[:, :3] * weights).sum(dim=1, keepdim=True)


def flow_model(method: FlowMethod = FlowMethod.FARNEBACK, device: torch.device | str = "cpu") -> FlowModel:
    """Create a flow estimator.

    On a device other than the CPU, or without OpenCV, Farneback runs in torch. Raises ClipError if the method needs
    OpenCV and it cannot be imported.
    """
    return _BUILDERS[FlowMethod(method)](str(device))


def flow_between_planes(flow: FlowModel, first: Plane, second: Plane) -> Plane:
    """The flow (2, h, w) from one luma plane (h, w) to another, with any model."""
    plane_flow = getattr(flow, "plane_flow", None)
    if plane_flow is not None:
        return plane_flow(first, second)
    from ...runtime.typed_torch import from_numpy

    a, b = (from_numpy(plane)[None, None] for plane in (first, second))
    return flow(a, b)[0].cpu().numpy()


@dataclass(frozen=True)
class OpenCVFlow:
    """A `FlowModel` that runs an OpenCV estimator.

    estimator: two luma planes (h, w) uint8 -> their flow (h, w, 2).
    """

    estimator: Callable[[Any, Any], Any]

    def __call__(self, first: Frames, second: Frames) -> Tensor:
        import torch

        from ...runtime.typed_torch import from_numpy

        pairs = zip(luma(first)[:, 0].cpu().numpy(), luma(second)[:, 0].cpu().numpy(), strict=True)
        return torch.stack([from_numpy(self.plane_flow(a, b)) for a, b in pairs])

    def plane_flow(self, first: Plane, second: Plane) -> Plane:
        if min(first.shape) < 16:  # DIS raises an error for fewer than two patches; such frames show no motion
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
    estimator = partial(
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
    return OpenCVFlow(estimator)


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
            "or choose the method 'farneback', which runs without it"
        )
    return cv2


_BUILDERS: dict[FlowMethod, Callable[[str], FlowModel]] = {
    FlowMethod.FARNEBACK: _build_farneback,
    FlowMethod.DIS: _build_dis,
    FlowMethod.TRACKS: _build_tracks,
}
