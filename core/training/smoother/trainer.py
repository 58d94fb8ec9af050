"""Unsupervised training of the path smoothing networks.

On synthetic camera paths, and on measured ones if there are any.

Every step draws a frame rate, a period, a look-ahead, paths of all kinds and a crop margin, from 0.15 to 2 times what
Whittaker's smoother needs. Training takes minutes on one CPU core.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ....models.smoother.live_path_net import LivePathNet
from ....models.smoother.path_net import PathNet, margin_usage, tangent_scale
from ....models.smoother.path_smoother import PathSmoother, simulate_live
from ....models.smoother.whittaker_layer import whittaker_smooth
from ...runtime.typed_torch import from_numpy, seeded_rng
from ..errors import TrainingError
from ..loop.export import export
from ..loop.grad_mode import with_gradients
from . import losses as path_losses
from .measured_paths import draw_window, read_measured_paths
from .synthetic_paths import ASPECT, camera_paths, log_uniform


@dataclass(frozen=True)
class PathTrainConfig:
    """Settings of the training.

    steps: of each of the two networks. batch: paths per step. frames: per path. learning_rate: of Adam, falling along
    half a cosine. crop_weight, smoothness_weight, cycle_weight: of the losses (losses.py), relative to fidelity and
    temporal. max_period: in frames. seed: of all random numbers; on one CPU thread the result is bit-identical.
    paths: files of measured motions or trajectories (`save_path`), from which half of the paths of each step are taken.
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
    paths: Sequence[Path] = ()

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch < 1 or self.frames < 8:
            raise TrainingError(
                "training a smoother needs at least 1 step, 1 path and 8 frames, "
                f"got {self.steps}, {self.batch} and {self.frames}"
            )
        if self.seed < 0:
            raise TrainingError(f"seed must be at least 0, not {self.seed}")


@dataclass(frozen=True)
class PathBatch:
    """Paths of one step.

    path, whittaker: (B, n, 8) in units of the crop margin, as measured and as smoothed by Whittaker's method. period,
    lookahead: in frames.
    """

    path: Tensor
    whittaker: Tensor
    period: float
    lookahead: int


@dataclass(frozen=True)
class PathStepReport:
    """Report of a step.

    step: steps done, of `steps`. losses: by name, including "total".
    """

    step: int
    steps: int
    losses: Mapping[str, float] = field(default_factory=dict[str, float])


def train_path_net(settings: PathTrainConfig, target: Path) -> Generator[PathStepReport, None, None]:
    """Train both networks, and yield a report after each step.

    After the last one they are written to `target` (.safetensors). Raises TrainingError, and ClipError for files of
    `settings.paths` that cannot be read.
    """
    return with_gradients(_run(settings, target))


def _run(settings: PathTrainConfig, target: Path) -> Generator[PathStepReport, None, None]:
    if target.suffix != ".safetensors" or target.is_dir():
        raise TrainingError(f"{target}: the output of the smoother must be a .safetensors file")
    measured = read_measured_paths(settings.paths)
    networks = init_networks(settings.seed)
    for number, network in enumerate((networks.offline, networks.live)):
        rng = np.random.default_rng([settings.seed, number])
        optimizer = torch.optim.Adam(network.parameters(), settings.learning_rate)
        for step in range(settings.steps):
            losses = path_train_step(network, optimizer, draw_batch(rng, settings, measured), settings, step)
            yield PathStepReport(number * settings.steps + step + 1, 2 * settings.steps, losses)
    export(networks, target, {"steps": str(settings.steps), "seed": str(settings.seed)})


def init_networks(seed: int) -> PathSmoother:
    """Create both networks with random weights of the seed."""
    with seeded_rng(seed):
        return PathSmoother()


def draw_batch(
    rng: np.random.Generator, settings: PathTrainConfig, measured: Sequence[NDArray[np.float64]] = ()
) -> PathBatch:
    """Draw random paths, a period, a look-ahead and crop margins.

    measured: paths from which every other one is a part; without them all are synthetic.
    """
    fps = float(rng.choice([24, 25, 30, 50, 60]))
    period = min(fps * log_uniform(rng, 0.6, 5), settings.max_period)
    paths = camera_paths(rng, settings.batch, settings.frames, fps)
    for row in range(0, settings.batch if measured else 0, 2):
        paths[row] = draw_window(rng, measured[int(rng.integers(len(measured)))], settings.frames)
    path = from_numpy(paths) * tangent_scale(2, 2 / ASPECT, 1.0)
    whittaker = whittaker_paths(path, period)
    needed = margin_usage(whittaker - path, ASPECT).amax(dim=1)
    margin = needed * from_numpy(np.exp(rng.uniform(np.log(0.15), np.log(2), len(path))))
    margin = margin.clamp(min=1e-3)[:, None, None]
    lookahead = int(rng.choice([0, 0, 5, 15, int(rng.integers(0, 30))]))
    return PathBatch(path / margin, whittaker / margin, period, lookahead)


def whittaker_paths(path: Tensor, period: float) -> Tensor:
    """Smooth paths (B, n, 8) with Whittaker's method, in closed form.

    The result has the minimum of fidelity + temporal loss, without a crop limit.
    """
    columns = path.mT.reshape(-1, path.shape[1])
    return whittaker_smooth(columns, torch.ones_like(columns), period).view(path.mT.shape).mT


def relative_costs(smooth: Tensor, batch: PathBatch, settings: PathTrainConfig) -> Tensor:
    """Return the losses (B,) relative to those of Whittaker's method."""
    path, period = batch.path, batch.period
    quadratic = [
        path_losses.fidelity(z, path, ASPECT) + path_losses.temporal(z, period, ASPECT)
        for z in (smooth, batch.whittaker)
    ]
    crop = settings.crop_weight * path_losses.crop_penalty(smooth, path, ASPECT)
    jerk = settings.smoothness_weight * path_losses.smoothness(smooth, period, ASPECT)
    return (quadratic[0] + crop + jerk) / (quadratic[1] + 1e-3)


def path_train_step(
    network: nn.Module, optimizer: torch.optim.Optimizer, batch: PathBatch, settings: PathTrainConfig, step: int
) -> dict[str, float]:
    """Take one step of either network, in place, and return the losses by name."""
    losses: dict[str, Tensor] = {}
    if isinstance(network, PathNet):
        smooth, losses["reversal"] = network.smooth_bidirectional(batch.path, batch.period, ASPECT)
        part = slice(0, 1 + len(smooth) // 4)  # a quarter of the batch is enough, at a quarter of the time
        mirrored = network(2 * smooth[part].detach() - batch.path[part], batch.period, ASPECT)
        losses["mirrored"] = path_losses.mirror_consistency(smooth[part], mirrored, ASPECT).clamp(max=1.0).mean()
    elif isinstance(network, LivePathNet):
        smooth = simulate_live(network, batch.path, batch.period, batch.lookahead, ASPECT)
    else:
        raise TypeError(f"{type(network).__name__} is not a path network; use PathNet or LivePathNet")
    # The logarithm keeps a few very costly paths from dominating the mean.
    losses["cost"] = relative_costs(smooth, batch, settings).log().mean()
    total = losses["cost"] + settings.cycle_weight * sum(losses[name] for name in losses if name != "cost")
    for group in optimizer.param_groups:
        warmup = min(1.0, (step + 1) / 20)
        group["lr"] = settings.learning_rate * warmup * (1 + math.cos(math.pi * step / settings.steps)) / 2 + 1e-5
    optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(total)
    torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimizer.step()
    return {name: float(value.detach()) for name, value in losses.items()} | {"total": float(total.detach())}
