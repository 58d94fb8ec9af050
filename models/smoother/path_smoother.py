"""The learned smoother, ready for use: networks, the weights that are shipped, and core's units and arrays.

`smoother` makes the function that `core.smooth` takes as a method, `driver` the one that `core.live` takes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ..errors import WeightsError
from .live_path_net import CameraState, LivePathNet
from .path_net import PathNet, crop_margin, tangent_scale

WEIGHTS_PATH = Path(__file__).parents[1] / "weights" / "path_net.safetensors"  # the shipped ones


class PathSmoother(nn.Module):
    """Both networks, in one file: `offline` knows the whole path, `live` the past and a few frames to come."""

    def __init__(self) -> None:
        super().__init__()
        self.offline, self.live = PathNet(), LivePathNet()

    def make_smoother(self, width: float, height: float, max_zoom: float | None = None) -> Callable[[Any, float], Any]:
        """`(values (n, 8), period) -> (n, 8)` for one shot of frames of that size in pixels, float64 arrays.

        max_zoom: the crop that it has to stay within, nearly; None where nothing is cropped.
        """
        scale, aspect = tangent_scale(width, height, crop_margin(max_zoom)), width / height

        def smooth(values: Any, period: float) -> Any:
            with torch.inference_mode():
                path = torch.as_tensor(values, dtype=torch.float64)
                return (self.offline((path * scale)[None], period, aspect)[0] / scale).numpy()

        return smooth

    def make_controller(self, width: float, height: float, max_zoom: float, period: float) -> Callable[[Any], Any]:
        """`seen (1 + k, 8) -> move (8,)` for one shot: how the virtual camera moves on, told where the frame and the k
        after it stand, from where it was last. It remembers, so a shot needs its own, from the first frame on.
        """
        scale, aspect = tangent_scale(width, height, crop_margin(max_zoom)), width / height
        state: CameraState | None = None

        def step(offsets: Any) -> Any:
            nonlocal state
            with torch.inference_mode():
                path = (torch.as_tensor(offsets, dtype=torch.float64) * scale)[None]
                move, state = self.live(path, state or self.live.initial_state(path, period), period, aspect)
                return (move[0] / scale).numpy()

        return step


def simulate_live(network: LivePathNet, path: Tensor, period: float, look_ahead: int, aspect: float) -> Tensor:
    """(B, n, 8) paths -> where the virtual camera is when they are seen frame by frame; gradients flow."""
    at, state, places = path[:, 0], None, []
    for t in range(path.shape[1]):
        seen = path[:, t : t + look_ahead + 1] - at[:, None]
        move, state = network(seen, state or network.initial_state(seen, period), period, aspect)
        at = at + move
        places.append(at)
    return torch.stack(places, dim=1)


def load_path_smoother(path: str | Path = WEIGHTS_PATH) -> PathSmoother:
    """The learned smoother with these weights, or the shipped ones. Raises WeightsError for any other file."""
    network = PathSmoother().requires_grad_(False).eval()
    try:
        state = load_file(path)
        network.load_state_dict(state)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read ({error.strerror or error}); reinstall the package") from error
    except (SafetensorError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise WeightsError(f"{path} holds no weights of the path smoother: {reason}") from error
    if not all(torch.isfinite(value).all() for value in state.values()):
        raise WeightsError(f"{path} contains inf or NaN; the file is damaged or its training failed")
    return network
