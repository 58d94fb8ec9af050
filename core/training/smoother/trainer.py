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
from ....models.smoother.path_net import PathNet, units, usage
from ....models.smoother.path_smoother import PathSmoother, drive
from ....models.smoother.whittaker_layer import weighted
from ..errors import TrainingError
from ..loop.export import export
from ..loop.grad_mode import learning
from . import losses as path_losses
from .synthetic_paths import ASPECT, camera_paths


@dataclass(frozen=True)
class PathTraining:
    """steps: of each of the two networks. batch: paths in a step; frames: of each. rate: of Adam, falling along half
    a cosine. crop, smoothness, cycle: weights of the losses (path_losses.py) beside fidelity and temporal at 1.
    longest: period in frames. seed: decides everything that is drawn; on one thread of a CPU, also every digit.
    """

    steps: int = 300
    batch: int = 14
    frames: int = 144
    rate: float = 4e-3
    crop: float = 20.0
    smoothness: float = 0.01
    cycle: float = 0.02
    longest: float = 110.0
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
class Example:
    """path, plain: (B, n, 8) in units of room, as measured and as Whittaker's smoother leaves it; period, ahead: in
    frames."""

    path: Tensor
    plain: Tensor
    period: float
    ahead: int


@dataclass(frozen=True)
class PathReport:
    """After a step: how many of `steps` are done, and the losses by name, `total` among them."""

    step: int
    steps: int
    losses: Mapping[str, float] = field(default_factory=dict)


def train_path_net(settings: PathTraining, target: Path) -> Generator[PathReport, None, None]:
    """Train both networks and write them to `target` (.safetensors) after the last step; a report for each step. Raises
    TrainingError."""
    return learning(_run(settings, target))


def _run(settings: PathTraining, target: Path) -> Generator[PathReport, None, None]:
    if target.suffix != ".safetensors" or target.is_dir():
        raise TrainingError(f"{target}: the smoother is written as a .safetensors file")
    networks = fresh(settings.seed)
    for number, network in enumerate((networks.offline, networks.live)):
        random = np.random.default_rng([settings.seed, number])
        optimiser = torch.optim.Adam(network.parameters(), settings.rate)
        for step in range(settings.steps):
            losses = advance(network, optimiser, drawn(random, settings), settings, step)
            yield PathReport(number * settings.steps + step + 1, 2 * settings.steps, losses)
    export(networks, target, {"steps": str(settings.steps), "seed": str(settings.seed)})


def fresh(seed: int) -> PathSmoother:
    """Networks that have learnt nothing yet."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return PathSmoother()


def drawn(random: np.random.Generator, settings: PathTraining) -> Example:
    fps = float(random.choice([24, 25, 30, 50, 60]))
    period = min(fps * float(np.exp(random.uniform(np.log(0.6), np.log(5)))), settings.longest)
    path = torch.from_numpy(camera_paths(random, settings.batch, settings.frames, fps)) * units(2, 2 / ASPECT, 1.0)
    plain = closed_form(path, period)
    need = usage(plain - path, ASPECT).amax(dim=1)
    room = need * torch.from_numpy(np.exp(random.uniform(np.log(0.15), np.log(2), len(path))))
    room = room.clamp(min=1e-3)[:, None, None]
    ahead = int(random.choice([0, 0, 5, 15, int(random.integers(0, 30))]))
    return Example(path / room, plain / room, period, ahead)


def closed_form(path: Tensor, period: float) -> Tensor:
    """(B, n, 8) -> Whittaker's smooth paths: the least fidelity + temporal loss that there is, without a crop."""
    columns = path.mT.reshape(-1, path.shape[1])
    return weighted(columns, torch.ones_like(columns), period).view(path.mT.shape).mT


def costs(smooth: Tensor, example: Example, settings: PathTraining) -> Tensor:
    """(B,): what smooth paths cost, in units of what the closed form costs where nothing is cropped."""
    path, period = example.path, example.period
    quadratic = [
        path_losses.fidelity(z, path, ASPECT) + path_losses.temporal(z, period, ASPECT) for z in (smooth, example.plain)
    ]
    border = settings.crop * path_losses.crop(smooth, path, ASPECT)
    jerk = settings.smoothness * path_losses.smoothness(smooth, period, ASPECT)
    return (quadratic[0] + border + jerk) / (quadratic[1] + 1e-3)


def advance(
    network: nn.Module, optimiser: torch.optim.Optimizer, example: Example, settings: PathTraining, step: int
) -> dict[str, float]:
    """One step of either network, in place; the losses by name."""
    losses: dict[str, Tensor] = {}
    if isinstance(network, PathNet):
        smooth, losses["reversal"] = network.both_ways(example.path, example.period, ASPECT)
        few = slice(0, 1 + len(smooth) // 4)  # enough to be heard, at a quarter of the work
        again = network(2 * smooth[few].detach() - example.path[few], example.period, ASPECT)
        losses["mirrored"] = path_losses.mirrored(smooth[few], again, ASPECT).clamp(max=1.0).mean()
    elif isinstance(network, LivePathNet):
        smooth = drive(network, example.path, example.period, example.ahead, ASPECT)
    else:
        raise TypeError(f"{type(network).__name__} smooths no paths")
    # Of its logarithm, so that hopeless paths do not shout down the others.
    losses["cost"] = costs(smooth, example, settings).log().mean()
    total = losses["cost"] + settings.cycle * sum(losses[name] for name in losses if name != "cost")
    for group in optimiser.param_groups:
        begun = min(1.0, (step + 1) / 20)
        group["lr"] = settings.rate * begun * (1 + math.cos(math.pi * step / settings.steps)) / 2 + 1e-5
    optimiser.zero_grad(set_to_none=True)
    total.backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimiser.step()
    return {name: float(value.detach()) for name, value in losses.items()} | {"total": float(total.detach())}
