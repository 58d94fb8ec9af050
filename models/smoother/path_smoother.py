"""The learned path smoother, with the units and arrays of core.

`make_smoother` returns a method for `core.smoothing.smooth`, `make_controller` one for `core.warping.live`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file  # pyright: ignore[reportUnknownVariableType]  # os.PathLike is incomplete
from torch import Tensor, nn

from ..errors import WeightsError
from .live_path_net import CameraState, LivePathNet
from .path_net import PathNet, crop_margin, tangent_scale

WEIGHTS_PATH = Path(__file__).parents[1] / "weights" / "path_net.safetensors"


class PathSmoother(nn.Module):
    """The two networks of a weight file: `offline`, and `live` with look-ahead."""

    def __init__(self) -> None:
        super().__init__()
        self.offline, self.live = PathNet(), LivePathNet()

    def make_smoother(self, width: float, height: float, max_zoom: float | None = None) -> Callable[[Any, float], Any]:
        """A function `(values (n, 8), period) -> (n, 8)` for one shot.

        Arrays are float64.
        width, height: of the frame, in pixels. max_zoom: the crop, which the result exceeds by little if at all; None
        without a crop.
        """
        scale, aspect = tangent_scale(width, height, crop_margin(max_zoom)), width / height

        def smooth(values: Any, period: float) -> Any:
            with torch.inference_mode():
                path = torch.as_tensor(values, dtype=torch.float64)
                return (self.offline((path * scale)[None], period, aspect)[0] / scale).numpy()

        return smooth

    def make_controller(self, width: float, height: float, max_zoom: float, period: float) -> Callable[..., Any]:
        """A function `offsets (1 + k, 8), times (1 + k,) -> movement (8,)` for one shot.

        offsets: this frame and the k after it, relative to the virtual camera's previous position. times: when they are
        presented, from the previous frame on, in frame times, as `period` is; without them 1, 2, ... The function has
        state, so each shot needs a new one from its first frame on.
        """
        scale, aspect = tangent_scale(width, height, crop_margin(max_zoom)), width / height
        state: CameraState | None = None
        newest = 0.0  # when the last known frame is presented, from the current frame on

        def step(offsets: Any, times: Any = None) -> Any:
            nonlocal state, newest
            with torch.inference_mode():
                path = (torch.as_tensor(offsets, dtype=torch.float64) * scale)[None]
                known = None if times is None else torch.as_tensor(times, dtype=torch.float64)
                newest_step = 1.0 if times is None or state is None else max(0.0, float(times[-1]) - newest)
                newest = float(len(offsets) - 1 if times is None else times[-1] - times[0])
                state = state or self.live.initial_state(path, period, known)
                movement, state = self.live(path, state, period, aspect, known, newest_step)
                return (movement[0] / scale).numpy()

        return step


def simulate_live(network: LivePathNet, path: Tensor, period: float, look_ahead: int, aspect: float) -> Tensor:
    """Run the live network along paths (B, n, 8); returns the camera's positions.

    Differentiable, for training.
    """
    position = path[:, 0]
    state: CameraState | None = None
    positions: list[Tensor] = []
    for t in range(path.shape[1]):
        offsets = path[:, t : t + look_ahead + 1] - position[:, None]
        movement, state = network(offsets, state or network.initial_state(offsets, period), period, aspect)
        position = position + movement
        positions.append(position)
    return torch.stack(positions, dim=1)


def load_path_smoother(path: str | Path | None = None) -> PathSmoother:
    """Load the learned smoother.

    path: a file of `steadyscale train-smoother`; None for the bundled weights.
    Raises WeightsError for any other file.
    """
    path = WEIGHTS_PATH if path is None else path
    network = PathSmoother().requires_grad_(False).eval()
    try:
        state = load_file(path)
        network.load_state_dict(state)
    except OSError as error:
        raise WeightsError(
            f"{path} cannot be read ({error.strerror or error}); check its name and permissions"
        ) from error
    except (SafetensorError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise WeightsError(
            f"{path} holds no weights of the path smoother ({reason}); train them with `steadyscale train-smoother`"
        ) from error
    if not all(torch.isfinite(value).all() for value in state.values()):
        raise WeightsError(f"{path} contains inf or NaN; the file is damaged or its training failed")
    return network
