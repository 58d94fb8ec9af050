"""The network that steers a virtual camera live: told where the real one is, it says how to move on.

The virtual camera has a place and a speed, and a spring and a damper pull it towards the places and speeds that filters
of three tempi make out. A filter with fixed gains does that too (Kalman 1960); here a small network chooses stiffness,
damping and what to follow anew for each frame, from how far off it is, how much room is left, how loud the shake is and
how many frames are known ahead. So it glides where there is room, and follows in time where there is none. Nothing that
it chooses depends on a sign, and nothing pulls without a distance: mirrored paths give mirrored ones, and even motion
is followed exactly.

Units are those of path_net.py. Time is counted in periods, so frame rates and periods look the same to it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .path_net import margin_usage

FILTER_PERIODS = (1.0, 0.35, 0.12)  # of the filters, in periods
MIN_PERIOD_FRAMES = 6.0  # period in frames: quicker than that, there is no path left to steer
NUM_TARGETS = 2 + len(FILTER_PERIODS)  # that the spring may pull towards
NUM_INPUTS = 4 + NUM_TARGETS + len(FILTER_PERIODS)  # numbers that the network sees; none turns its sign with the path


@dataclass(frozen=True)
class CameraState:
    """What is remembered from frame to frame, relative to the virtual camera. speed (B, 8), per frame; places and
    speeds (B, 8, tempi) of the newest frame as the filters see it; loud (B, 8): how far frames stand from the quickest.
    """

    velocity: Tensor
    positions: Tensor
    velocities: Tensor
    shake_level: Tensor


class LivePathNet(nn.Module):
    """features: inside. With weights of nought it is a plain spring and damper, pulled at evenly by all filters."""

    def __init__(self, features: int = 32) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(NUM_INPUTS, features), nn.Linear(features, features)])
        self.choice = nn.Linear(features, 2 + NUM_TARGETS + len(FILTER_PERIODS))
        nn.init.zeros_(self.choice.weight)
        nn.init.zeros_(self.choice.bias)

    def initial_state(self, offsets: Tensor, period: float) -> CameraState:
        """seen: as `forward` says, of the first frame of a shot."""
        ahead = offsets.shape[1] - 1
        # The slope of a few frames is mostly shake: believed as far as the look-ahead is long beside the period.
        speed = (offsets[:, -1] - offsets[:, 0]) / max(1, ahead) * (ahead / (ahead + period / 4))
        many = (1, 1, len(FILTER_PERIODS))
        return CameraState(
            speed, offsets[:, -1, :, None].repeat(many), speed[..., None].repeat(many), torch.zeros_like(speed)
        )

    def forward(self, offsets: Tensor, state: CameraState, period: float, aspect: float) -> tuple[Tensor, CameraState]:
        """seen (B, 1 + k, 8): where this frame and the k after it stand, from where the virtual camera was last.

        Returns how the virtual camera moves, (B, 8), and what to remember.
        """
        period = max(period, MIN_PERIOD_FRAMES)
        radian = period / (2 * math.pi)
        ahead = offsets.shape[1] - 1
        stay = torch.exp(-1.4 * math.pi / (period * offsets.new_tensor(FILTER_PERIODS)))
        expected = state.positions + state.velocities
        off = offsets[:, -1, :, None] - expected
        places, speeds = expected + (1 - stay**2) * off, state.velocities + (1 - stay) ** 2 * off
        loud = state.shake_level + (off[..., -1].abs() - state.shake_level) * min(1.0, 4 / period)

        drift = state.velocity[:, None] * torch.arange(1, ahead + 2, device=offsets.device)[:, None]
        course = offsets - drift  # how far each known frame will be off, if nothing is done
        most, least = course.amax(dim=1), course.amin(dim=1)
        behind = places - speeds * ahead - state.velocity[..., None]
        slower = (speeds - state.velocity[..., None]) * radian
        behind = torch.cat([course[:, :1].mT, ((most + least) / 2)[..., None], behind], dim=-1)
        together = torch.stack([margin_usage(course[:, 0], aspect), margin_usage(course, aspect).amax(dim=1)], dim=-1)
        sizes = [behind[..., 1:].abs(), slower.abs(), (most - least)[..., None], loud[..., None]]
        even = torch.cat([*sizes, together[:, None].expand(-1, course.shape[-1], -1)], dim=-1)
        even = torch.log(even.clamp(max=50.0) + 0.05) / 2
        even = torch.cat([even, torch.full_like(even[..., :1], 4 * min(1.0, ahead / period))], dim=-1)
        hidden = even.float()
        for layer in self.layers:
            hidden = F.leaky_relu(layer(hidden), 0.1)
        choice = self.choice(hidden).to(behind)
        # Bounded by what a spring and a damper can do in steps of one frame without swinging by themselves.
        # A distance some frames ahead changes with the speed by as many times, which damps as well.
        towards = torch.softmax(choice[..., 2 : 2 + NUM_TARGETS], dim=-1)
        most_stiff = 0.4 * radian**2 / (1 + ahead * towards[..., 1])
        stiff = torch.minimum(torch.exp(choice[..., 0].clamp(-4, 8)), most_stiff)
        damped = (2 * stiff.sqrt() * torch.exp(choice[..., 1].clamp(-1, 1))).clamp(max=0.6 * radian)
        pull = (towards * behind).sum(dim=-1)
        drag = (torch.softmax(choice[..., 2 + NUM_TARGETS :], dim=-1) * slower).sum(dim=-1)
        push = (stiff * pull + damped * drag) / radian**2
        move = state.velocity + push
        return move, CameraState(move, places - move[..., None], speeds, loud)
