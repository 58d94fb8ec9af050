"""A training run out of a handful of choices: for people who have footage and a few minutes, not a file of settings."""

from __future__ import annotations

import json
import os
import shutil
import statistics
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from enum import Enum
from itertools import islice
from pathlib import Path

from ..runtime.atomic_write import appearing, scratch
from .config.degradation import Degradation
from .config.schema import Config, Data, Keeping, Kind, Learning, Losses, Machine, Network
from .config.toml_dataclass import to_toml
from .data.dataset import MARGIN, Pictures
from .data.sources import Material, digest_of
from .errors import TrainingError
from .evaluate.metrics import bicubic, score
from .loop.trainer import train

SMALLEST_CROP = 16
TRIAL = 8  # steps that tell how many fit into the time
WARM_UP = 3  # of them, that do not count: the first ones wait for the disk and for memory
PLAN = "plan.json"


class Size(str, Enum):
    """How large the network is: what it can learn, and what it costs to train and to run."""

    SMALL = "small"
    MEDIUM = "medium"
    LARGE = "large"
    ESRGAN = "esrgan"


NETWORKS = {
    Size.SMALL: Network(features=16, convs=6),
    Size.MEDIUM: Network(features=32, convs=10),
    Size.LARGE: Network(features=64, convs=16),
    Size.ESRGAN: Network(kind=Kind.RRDB),
}
RATES = {Size.SMALL: 2e-3, Size.MEDIUM: 1e-3, Size.LARGE: 4e-4, Size.ESRGAN: 2e-4}
"""Learning rates at which each size learns fast and never falls apart: the smaller, the higher."""


@dataclass(frozen=True)
class Wish:
    """What is asked of a run. minutes: of training, where steps is 0. crop: side of the pieces, of the large picture,
    that a step sees; pictures that are smaller make it smaller. rate: of learning, 0 for that of the size.
    realistic: learn to undo blur, noise and compression, not the plain reduction alone. adversarial: the weight of the
    discriminator, 0 for none, which begins at half of the steps.
    """

    name: str
    scale: int = 2
    size: Size = Size.SMALL
    minutes: float = 5.0
    steps: int = 0
    seed: int = 0
    crop: int = 96
    batch: int = 8
    rate: float = 0.0
    realistic: bool = False
    adversarial: float = 0.0


def config_of(wish: Wish, material: Material, folder: Path, device: str = "auto") -> Config:
    """The settings of the run, with as many steps as were wished for, or 1 where the time decides (`timed`)."""
    crop = wish.crop
    if material.smallest is not None:
        crop = min(crop, material.smallest - 2 * MARGIN * wish.scale)
    crop -= crop % (8 * wish.scale if wish.adversarial else wish.scale)
    if crop < SMALLEST_CROP:
        raise TrainingError(
            f"pictures of {material.smallest} pixels and a crop of {wish.crop} leave {crop} to learn {wish.scale}x "
            f"from; {SMALLEST_CROP} are the least: give larger pictures, or a larger crop"
        )
    steps = wish.steps or 1
    rate = wish.rate or RATES[wish.size]
    return Config(
        name=wish.name,
        run=os.fspath(folder),
        seed=wish.seed,
        steps=steps,
        batch=wish.batch,
        network=replace(NETWORKS[wish.size], scales=(wish.scale,)),
        data=Data(train=material.train, validate=(material.held_out,), crop=crop),
        degrade=Degradation(on=wish.realistic),
        losses=Losses(adversarial=wish.adversarial),
        learning=Learning(rate=rate, last_rate=min(rate, 1e-7), average=_average(steps), gan_from=steps // 2, clip=1.0),
        machine=Machine(device=device),
        keeping=_keeping(steps),
    )


def _average(steps: int) -> float:
    """The mean of the weights looks back over a twentieth of the run: in a short one, more would remember the start."""
    return max(0.5, min(0.999, 1 - 20 / steps))


def _keeping(steps: int) -> Keeping:
    often = max(1, steps // 20)
    return Keeping(checkpoint_every=max(1, min(1000, steps // 4)), validate_every=often, samples=1)


def timed(config: Config, minutes: float, between: Callable[[], None] = lambda: None) -> Config:
    """The same run with as many steps as fit into the time, found by a short trial. A run that goes on keeps what was
    found before, so that the end of its learning rate stays where it was.

    between: called after each step of the trial; what it raises ends it.
    """
    note = config.folder / PLAN
    try:
        known = json.loads(note.read_text())
        if known["minutes"] == minutes:
            return _with_steps(config, int(known["steps"]))
    except (OSError, ValueError, KeyError, TypeError):
        pass  # there is no plan yet, or none that can be read
    with scratch(config.folder / "trial") as folder:
        short = replace(_with_steps(config, 10**6), run=os.fspath(folder))
        with closing(train(short)) as reports:
            seconds = []
            for report in islice(reports, TRIAL):
                seconds.append(report.seconds)
                between()
        shutil.rmtree(folder, ignore_errors=True)
    steps = max(20, round(minutes * 60 / statistics.median(seconds[WARM_UP:])))
    with appearing(note) as partial:
        partial.write_text(json.dumps({"minutes": minutes, "steps": steps}))
    return _with_steps(config, steps)


def _with_steps(config: Config, steps: int) -> Config:
    learning = replace(config.learning, average=_average(steps), gan_from=steps // 2)
    return replace(config, steps=steps, learning=learning, keeping=_keeping(steps))


def label_of(config: Config, material: Material) -> str:
    """Eight letters that runs share where one can go on with what the other has learnt: all settings but how long."""
    fixed = replace(_with_steps(config, 1), run="", data=replace(config.data, train=(), validate=()), machine=Machine())
    return digest_of([to_toml(fixed).encode(), material.digest.encode()])[:8]


def result_of(config: Config) -> Path:
    """The weight file that the run leaves when it is over."""
    return config.folder / f"{config.name}_{config.network.scales[0]}x.safetensors"


def bicubic_score(material: Material, scale: int) -> float:
    """PSNR of plain enlargement on the picture that is held out, in dB: what the run has to beat."""
    return score(bicubic(scale), Pictures((material.held_out,), smallest=1), scale).psnr
