"""A training run from the first step to the files that come out, as a stream of reports.

Pulling the next report takes the next step; whoever closes the stream stops the run, which leaves a checkpoint from
which it goes on later. Everything that a run leaves lies in its folder:

    config.toml   log.jsonl   NAME_2x.safetensors   best/   checkpoints/   samples/   tensorboard/
"""

from __future__ import annotations

import logging
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from ...runtime import folder_lock
from ...runtime.atomic_write import atomic_path
from ..config.schema import TrainConfig
from ..config.toml_dataclass import to_toml
from ..data.dataset import Batch, CachedImageDataset, batches
from ..errors import TrainingError, describe_free_space
from ..evaluate.metrics import PerceptualMetric, Scores
from ..losses.perceptual_features import FeatureExtractor
from . import checkpoint, logger, setup
from .distributed import Distributed, init_distributed
from .grad_mode import with_gradients
from .train_state import TrainState, init_state
from .train_step import learning_rate_at, train_step
from .validation import update_best, validate, write_networks

log = logging.getLogger(__name__)

CHECKPOINTS_FOLDER = "checkpoints"
MAX_SKIPPED_STEPS = 100  # steps in a row that may be void before a run is given up


@dataclass(frozen=True)
class StepReport:
    """What one step has come to. step: how many have been taken, of `steps`. scale: of this one. losses: by name,
    unweighted (`Outcome`). moved: False where an inf or NaN has made it void. rate: of the generator. seconds: that it
    took. scores: by scale, where it was followed by a validation. files: the networks, with the last report.
    """

    step: int
    steps: int
    scale: int
    losses: Mapping[str, float]
    applied: bool
    learning_rate: float
    seconds: float
    scores: Mapping[int, Scores] = field(default_factory=dict)
    files: tuple[Path, ...] = ()


def train(config: TrainConfig, *, resume: bool = False) -> Generator[StepReport, None, None]:
    """Train, and yield a report after each step. Raises TrainingError, before the first step where that is possible.

    resume: go on from the newest checkpoint in the run's folder, if there is one; on a CPU the result is the same, to
    the last bit, as if there had been no break. Without it a folder that has checkpoints is refused.
    """
    return with_gradients(_run(config, resume))


def _run(config: TrainConfig, resume: bool) -> Generator[StepReport, None, None]:
    with ExitStack() as stack:
        gpu = setup.pick_device(config.machine.device).type == "cuda"
        ranks = stack.enter_context(init_distributed(config.batch, gpu=gpu))
        device = setup.pick_device(config.machine.device, ranks.local_rank)
        stack.enter_context(_wrap_os_errors(config.folder))
        if ranks.is_main:
            _make_folder(config.folder)
            stack.enter_context(folder_lock.folder_lock(config.folder))
        found = ranks.broadcast(checkpoint.find_newest(config.folder / CHECKPOINTS_FOLDER) if ranks.is_main else None)
        if found and not resume:
            raise TrainingError(f"{config.folder} holds a run; go on with it (--resume) or name another folder (run)")
        pictures = setup.load_training_images(config)
        held_out = setup.load_validation_images(config) if ranks.is_main else None
        judge = setup.load_perceptual_metric(config) if ranks.is_main else None
        features = setup.load_perceptual_features(config, device)
        state = init_state(config, device)
        if found:
            checkpoint.restore(state, found)
        if config.machine.compile:
            state.generator.compile()
        book = None
        if ranks.is_main:
            with atomic_path(config.folder / "config.toml") as partial:
                partial.write_text(to_toml(config), encoding="utf-8")
            board = config.keeping.tensorboard
            book = stack.enter_context(logger.open_log(config.folder, state.step, tensorboard=board))
        shares = batches(config, pictures, state.step, rank=ranks.rank, world_size=ranks.world_size)
        stream = stack.enter_context(closing(shares))
        yield from _train_loop(config, state, stream, held_out, judge, features, device, ranks, book)


@contextmanager
def _wrap_os_errors(folder: Path) -> Iterator[None]:
    """What the disk refuses meanwhile, with the way out."""
    try:
        yield
    except OSError as error:
        raise TrainingError(
            f"{error.filename or folder}: {error.strerror or error} ({describe_free_space(folder)}); "
            "fix that and continue with "
            "--resume"
        ) from error


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainingError(f"{folder} can be no folder for the run ({error.strerror}); name another (run)") from error


def _train_loop(
    config: TrainConfig,
    state: TrainState,
    stream: Iterator[Batch],
    held_out: CachedImageDataset | None,
    metric: PerceptualMetric | None,
    features: FeatureExtractor | None,
    device: torch.device,
    distributed: Distributed,
    run_logger: logger.RunLogger | None,
) -> Iterator[StepReport]:
    """Every step that is left. held_out, judge and book are the first process's."""
    keeping, checkpoints = config.keeping, config.folder / CHECKPOINTS_FOLDER
    begun, stopped = time.perf_counter(), False
    while state.step < config.steps and not stopped:
        batch = _to_device(next(stream), device, config)
        outcome = train_step(state, batch, config, features=features, distributed=distributed)
        _check_finite(state)
        last = state.step == config.steps

        scores: dict[int, Scores] = {}
        if config.data.validate and (last or state.step % keeping.validate_every == 0):
            scores = distributed.broadcast(validate(config, state, held_out, device, metric) if held_out else {})
            if update_best(state, scores) and distributed.is_main:
                write_networks(config, state, config.folder / "best")
            stopped = 0 < keeping.patience <= state.validations_since_best
            if stopped and distributed.is_main:
                log.warning(
                    "no better PSNR in %d validations: stopped after step %d", state.validations_since_best, state.step
                )

        files: tuple[Path, ...] = ()
        if distributed.is_main and (last or stopped):
            files = write_networks(config, state, config.folder)
        saved = distributed.is_main and (last or stopped or state.step % keeping.checkpoint_every == 0)
        if saved:
            checkpoint.save(state, checkpoints, keeping.checkpoints)

        rate = learning_rate_at(config.learning, config.learning.rate, state.step - 1, config.steps)
        seconds, begun = time.perf_counter() - begun, time.perf_counter()
        report = StepReport(
            state.step, config.steps, batch.scale, outcome.losses, outcome.applied, rate, seconds, scores, files
        )
        if run_logger is not None:
            run_logger.log_values(state.step, _log_values(report))
        try:
            yield report
        except GeneratorExit:
            if distributed.is_main and not saved:
                checkpoint.save(state, checkpoints, keeping.checkpoints)
            raise


def _to_device(batch: Batch, device: torch.device, config: TrainConfig) -> Batch:
    """The batch on the device, laid out as the networks are."""
    layout = torch.channels_last if config.machine.channels_last else torch.contiguous_format
    small, large = (x.to(device).contiguous(memory_format=layout) for x in (batch.small, batch.large))
    return replace(batch, small=small, large=large)


def _check_finite(state: TrainState) -> None:
    if state.skipped_steps >= MAX_SKIPPED_STEPS:
        raise TrainingError(
            f"{state.skipped_steps} steps in a row up to step {state.step} gave inf or NaN; lower learning.rate, "
            "set learning.clip to 1, or take machine.arithmetic bf16 or fp32"
        )


def _log_values(report: StepReport) -> dict[str, float]:
    """The report as a line of the log."""
    facts = {f"loss/{name}": value for name, value in report.losses.items()}
    facts |= {
        "scale": report.scale,
        "moved": float(report.applied),
        "rate": report.learning_rate,
        "seconds": report.seconds,
    }
    for scale, scores in report.scores.items():
        facts |= {f"psnr/{scale}x": scores.psnr, f"ssim/{scale}x": scores.ssim}
        facts |= {} if scores.lpips is None else {f"lpips/{scale}x": scores.lpips}
    return facts
