"""The network that smooths camera paths live.

It moves a virtual camera frame by frame with a short look-ahead. The virtual camera has a position and a velocity, and
a spring-damper system pulls it towards the positions and velocities that alpha-beta filters of three time constants
estimate. With fixed gains that would be a steady-state Kalman filter (Kalman 1960); here a small network chooses
stiffness, damping and targets for each frame, from the distance, the free margin, the shake level and the number of
look-ahead frames. So the camera glides while there is margin, and follows in time where there is none. The network's
inputs are even functions of the path and the forces are proportional to distances, so mirrored paths give mirrored
results, and constant velocity is followed exactly.

Units are those of path_net.py. Time is measured in periods, so the network does not depend on the frame rate; each step
can have another length.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .path_net import margin_usage

FILTER_PERIODS = (1.0, 0.35, 0.12)  # time constants of the filters, in periods
MIN_PERIOD_FRAMES = 6.0  # with shorter periods there is nothing left to smooth
NUM_TARGETS = 2 + len(FILTER_PERIODS)  # positions that the spring may pull towards
NUM_INPUTS = 4 + NUM_TARGETS + len(FILTER_PERIODS)  # even in the path: none changes its sign with it


@dataclass(frozen=True)
class CameraState:
    """The state between frames, relative to the virtual camera.

    velocity: (B, 8), per frame time. positions, velocities: (B, 8, filters), estimates for the newest frame.
    shake_level:
    (B, 8), mean distance of frames from the fastest filter's prediction.
    """

    velocity: Tensor
    positions: Tensor
    velocities: Tensor
    shake_level: Tensor


class LivePathNet(nn.Module):
    """Live smoothing of camera paths.

    features: hidden units. With zero weights it is a spring-damper system with equal weights for all filters.
    """

    def __init__(self, features: int = 32) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(NUM_INPUTS, features), nn.Linear(features, features)])
        self.choice = nn.Linear(features, 2 + NUM_TARGETS + len(FILTER_PERIODS))
        nn.init.zeros_(self.choice.weight)
        nn.init.zeros_(self.choice.bias)

    def initial_state(self, offsets: Tensor, period: float, times: Tensor | None = None) -> CameraState:
        """The state at the first frame of a shot. offsets, times: as in `forward`."""
        look_ahead = offsets.shape[1] - 1 if times is None else float(times[-1] - times[0])
        # The slope over a few frames is mostly shake, so it is trusted in proportion to look-ahead over period.
        trust = look_ahead / (look_ahead + period / 4)
        velocity = (offsets[:, -1] - offsets[:, 0]) / (look_ahead or 1) * trust
        per_filter = (1, 1, len(FILTER_PERIODS))
        return CameraState(
            velocity,
            offsets[:, -1, :, None].repeat(per_filter),
            velocity[..., None].repeat(per_filter),
            torch.zeros_like(velocity),
        )

    def forward(
        self,
        offsets: Tensor,
        state: CameraState,
        period: float,
        aspect: float,
        times: Tensor | None = None,
        newest_step: float = 1.0,
    ) -> tuple[Tensor, CameraState]:
        """Move the virtual camera by one frame.

        offsets: (B, 1 + k, 8), this frame and the k after it, relative to the virtual camera's previous position.
        times: (1 + k,), from the previous frame to these, in frame times; None for 1, 2, ... newest_step: from the last
        frame of the previous call to the last one of this, in frame times; 0 if it is the same.
        Returns the movement of the virtual camera, (B, 8), and the next state.
        """
        period = max(period, MIN_PERIOD_FRAMES)
        frames_per_radian = period / (2 * math.pi)
        times = torch.arange(1, offsets.shape[1] + 1, device=offsets.device) if times is None else times
        step, look_ahead = float(times[0]), float(times[-1] - times[0])
        decay = torch.exp(-1.4 * math.pi * newest_step / (period * offsets.new_tensor(FILTER_PERIODS)))
        predicted = state.positions + state.velocities * newest_step
        innovation = offsets[:, -1, :, None] - predicted
        positions = predicted + (1 - decay**2) * innovation
        velocities = state.velocities + (1 - decay) ** 2 * innovation / max(newest_step, 1e-6)
        weight = min(1.0, 4 * newest_step / period)
        shake_level = state.shake_level + (innovation[..., -1].abs() - state.shake_level) * weight

        # Distances that the known frames will have if the camera keeps its velocity.
        drift = state.velocity[:, None] * times[:, None]
        course = offsets - drift
        upper, lower = course.amax(dim=1), course.amin(dim=1)
        filtered = positions - velocities * look_ahead - state.velocity[..., None] * step
        velocity_errors = (velocities - state.velocity[..., None]) * frames_per_radian
        targets = torch.cat([course[:, :1].mT, ((upper + lower) / 2)[..., None], filtered], dim=-1)

        usage = torch.stack([margin_usage(course[:, 0], aspect), margin_usage(course, aspect).amax(dim=1)], dim=-1)
        spread = [(upper - lower)[..., None], shake_level[..., None]]
        magnitudes = [targets[..., 1:].abs(), velocity_errors.abs(), *spread]
        inputs = torch.cat([*magnitudes, usage[:, None].expand(-1, course.shape[-1], -1)], dim=-1)
        inputs = torch.log(inputs.clamp(max=50.0) + 0.05) / 2
        inputs = torch.cat([inputs, torch.full_like(inputs[..., :1], 4 * min(1.0, look_ahead / period))], dim=-1)
        hidden = inputs.float()
        for layer in self.layers:
            hidden = F.leaky_relu(layer(hidden), 0.1)
        choice = self.choice(hidden).to(targets)

        # Bounded so that the spring-damper system is stable in steps of this length. The distance some frames ahead
        # changes with the velocity by as many times, which damps as well.
        target_weights = torch.softmax(choice[..., 2 : 2 + NUM_TARGETS], dim=-1)
        steps_per_radian = frames_per_radian / step
        max_stiffness = 0.4 * steps_per_radian**2 / (1 + look_ahead / step * target_weights[..., 1])
        stiffness = torch.minimum(torch.exp(choice[..., 0].clamp(-4, 8)), max_stiffness)
        damping = (2 * stiffness.sqrt() * torch.exp(choice[..., 1].clamp(-1, 1))).clamp(max=0.6 * steps_per_radian)
        distance = (target_weights * targets).sum(dim=-1)
        velocity_error = (torch.softmax(choice[..., 2 + NUM_TARGETS :], dim=-1) * velocity_errors).sum(dim=-1)
        acceleration = (stiffness * distance + damping * velocity_error) / frames_per_radian**2
        velocity = state.velocity + acceleration * step
        movement = velocity * step
        return movement, CameraState(velocity, positions - movement[..., None], velocities, shake_level)
