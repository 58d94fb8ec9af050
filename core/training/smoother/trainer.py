"""Train the networks that smooth camera paths, without labels: paths are made, smoothed, and what that costs falls.

Every step draws a frame rate, a period, a look-ahead, paths of all kinds and how much of the picture may be cropped,
from twice what plain smoothing needs down to a small part of it. Minutes on one core of a CPU are enough.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ....models.smoother.live_path_net import LivePathNet
from ....models.smoother.path_net import PathNet, margin_usage, tangent_scale
from ....models.smoother.path_smoother import PathSmoother, simulate_live
from ....models.smoother.whittaker_layer import whittaker_smooth
from ..errors import TrainingError
from ..loop.export import export
from ..loop.grad_mode import with_gradients
from . import losses as path_losses
from .synthetic_paths import ASPECT, camera_paths


@dataclass(frozen=True)
class PathTrainConfig:
    """steps: of each of the two networks. batch: paths in a step; frames: of each. rate: of Adam, falling along half
    a cosine. crop, smoothness, cycle: weights of the losses (path_losses.py) beside fidelity and temporal at 1.
    longest: period in frames. seed: decides everything that is drawn; on one thread of a CPU, also every digit.
    """

    steps: int = 300
    batch: int = 14
    frames: int = 144
    learning_rate: float = 4e-3
    crop_weight: float = 20.0
    smoothness_weight: float = 0.01
    cycle_weight: float = 0.02
    max_period: float = 110.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch < 1 or self.frames < 8:
            raise TrainingError(
                "path training needs 1 step, 1 path and 8 frames at least, "
                f"got {self.steps}, {self.batch} and {self.frames}"
            )
        if self.seed < 0:
            raise TrainingError(f"seed is at least 0, not {self.seed}")


@dataclass(frozen=True)
class PathBatch:
    """path, plain: (B, n, 8) in units of room, as measured and as Whittaker's smoother leaves it; period, ahead: in
    frames."""

    path: Tensor
    whittaker: Tensor
    period: float
    lookahead: int


@dataclass(frozen=True)
class PathStepReport:
    """After a step: how many of `steps` are done, and the losses by name, `total` among them."""

    step: int
    steps: int
    losses: Mapping[str, float] = field(default_factory=dict)


def train_path_net(settings: PathTrainConfig, target: Path) -> Generator[PathStepReport, None, None]:
    """Train both networks and write them to `target` (.safetensors) after the last step; a report for each step. Raises
    TrainingError."""
    return with_gradients(_run(settings, target))


def _run(settings: PathTrainConfig, target: Path) -> Generator[PathStepReport, None, None]:
    if target.suffix != ".safetensors" or target.is_dir():
        raise TrainingError(f"{target}: the smoother is written as a .safetensors file")
    networks = init_networks(settings.seed)
    for number, network in enumerate((networks.offline, networks.live)):
        random = np.random.default_rng([settings.seed, number])
        optimiser = torch.optim.Adam(network.parameters(), settings.learning_rate)
        for step in range(settings.steps):
            losses = path_train_step(network, optimiser, draw_batch(random, settings), settings, step)
            yield PathStepReport(number * settings.steps + step + 1, 2 * settings.steps, losses)
    export(networks, target, {"steps": str(settings.steps), "seed": str(settings.seed)})


def init_networks(seed: int) -> PathSmoother:
    """Networks that have learnt nothing yet."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return PathSmoother()


def draw_batch(rng: np.random.Generator, settings: PathTrainConfig) -> PathBatch:
    fps = float(rng.choice([24, 25, 30, 50, 60]))
    period = min(fps * float(np.exp(rng.uniform(np.log(0.6), np.log(5)))), settings.max_period)
    path = torch.from_numpy(camera_paths(rng, settings.batch, settings.frames, fps)) * tangent_scale(2, 2 / ASPECT, 1.0)
    plain = whittaker_paths(path, period)
    need = margin_usage(plain - path, ASPECT).amax(dim=1)
    room = need * torch.from_numpy(np.exp(rng.uniform(np.log(0.15), np.log(2), len(path))))
    room = room.clamp(min=1e-3)[:, None, None]
    ahead = int(rng.choice([0, 0, 5, 15, int(rng.integers(0, 30))]))
    return PathBatch(path / room, plain / room, period, ahead)


def whittaker_paths(path: Tensor, period: float) -> Tensor:
    """(B, n, 8) -> Whittaker's smooth paths: the least fidelity + temporal loss that there is, without a crop."""
    columns = path.mT.reshape(-1, path.shape[1])
    return whittaker_smooth(columns, torch.ones_like(columns), period).view(path.mT.shape).mT


def relative_costs(smooth: Tensor, batch: PathBatch, settings: PathTrainConfig) -> Tensor:
    """(B,): what smooth paths cost, in units of what the closed form costs where nothing is cropped."""
    path, period = batch.path, batch.period
    quadratic = [
        path_losses.fidelity(z, path, ASPECT) + path_losses.temporal(z, period, ASPECT)
        for z in (smooth, batch.whittaker)
    ]
    border = settings.crop_weight * path_losses.crop_penalty(smooth, path, ASPECT)
    jerk = settings.smoothness_weight * path_losses.smoothness(smooth, period, ASPECT)
    return (quadratic[0] + border + jerk) / (quadratic[1] + 1e-3)


def path_train_step(
    network: nn.Module, optimizer: torch.optim.Optimizer, batch: PathBatch, settings: PathTrainConfig, step: int
) -> dict[str, float]:
    """One step of either network, in place; the losses by name."""
    losses: dict[str, Tensor] = {}
    if isinstance(network, PathNet):
        smooth, losses["reversal"] = network.smooth_bidirectional(batch.path, batch.period, ASPECT)
        few = slice(0, 1 + len(smooth) // 4)  # enough to be heard, at a quarter of the work
        again = network(2 * smooth[few].detach() - batch.path[few], batch.period, ASPECT)
        losses["mirrored"] = path_losses.mirror_consistency(smooth[few], again, ASPECT).clamp(max=1.0).mean()
    elif isinstance(network, LivePathNet):
        smooth = simulate_live(network, batch.path, batch.period, batch.lookahead, ASPECT)
    else:
        raise TypeError(f"{type(network).__name__} smooths no paths")
    # Of its logarithm, so that hopeless paths do not shout down the others.
    losses["cost"] = relative_costs(smooth, batch, settings).log().mean()
    total = losses["cost"] + settings.cycle_weight * sum(losses[name] for name in losses if name != "cost")
    for group in optimizer.param_groups:
        begun = min(1.0, (step + 1) / 20)
        group["lr"] = settings.learning_rate * begun * (1 + math.cos(math.pi * step / settings.steps)) / 2 + 1e-5
    optimizer.zero_grad(set_to_none=True)
    total.backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimizer.step()
    return {name: float(value.detach()) for name, value in losses.items()} | {"total": float(total.detach())}
