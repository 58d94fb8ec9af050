"""Run training from the first step to the weight files, as a generator of reports.

Each item is one step. Closing the generator stops the run and writes a checkpoint, from which it can be resumed. All
files of a run are in its folder:

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

from ...runtime.files import folder_lock
from ...runtime.files.atomic_write import atomic_path
from ..config.schema import TrainConfig
from ..config.toml_dataclass import to_toml
from ..data.clips import Motion
from ..data.dataset import Batch, batches
from ..data.image_files import CachedImageDataset
from ..data.paired import PairedImageDataset
from ..errors import TrainingError, describe_free_space
from ..evaluate.metrics import PerceptualMetric, Scores
from ..losses.perceptual_features import FeatureExtractor
from . import checkpoint, logger, setup, trackers
from .distributed import Distributed, init_distributed, read_local_rank
from .grad_mode import with_gradients
from .train_state import TrainState, init_state
from .train_step import learning_rate_at, train_step
from .validation import update_best, validate, write_networks

log = logging.getLogger(__name__)

CHECKPOINTS_FOLDER = "checkpoints"
MAX_SKIPPED_STEPS = 100  # consecutive skipped steps after which a run is aborted


@dataclass(frozen=True)
class StepReport:
    """Report of one step.

    step: steps done, of `steps`. scale: of this step. losses: by name, unweighted (see `StepResult`). applied: False if
    an inf or NaN caused the step to be skipped. learning_rate: of the generator. seconds: duration. scores: by scale,
    if a validation followed. files: the weight files, in the last report.
    """

    step: int
    steps: int
    scale: int
    losses: Mapping[str, float]
    applied: bool
    learning_rate: float
    seconds: float
    scores: Mapping[int, Scores] = field(default_factory=dict[int, Scores])
    files: tuple[Path, ...] = ()


def train(config: TrainConfig, *, resume: bool = False) -> Generator[StepReport, None, None]:
    """Train, and yield a report after each step.

    Raises TrainingError, before the first step if possible. resume: continue from the newest checkpoint in the run's
    folder, if there is one; on a CPU the result is bit-identical to that of an uninterrupted run. Without it, a folder
    with checkpoints is an error.
    """
    return with_gradients(_run(config, resume))


def _run(config: TrainConfig, resume: bool) -> Generator[StepReport, None, None]:
    with ExitStack() as stack:
        device = setup.pick_device(config.runtime.device, read_local_rank())
        distributed = stack.enter_context(init_distributed(config.batch, device))
        stack.enter_context(_wrap_os_errors(config.folder))
        if distributed.is_main:
            _make_folder(config.folder)
            stack.enter_context(folder_lock.folder_lock(config.folder))
        newest = distributed.broadcast(
            checkpoint.find_newest(config.folder / CHECKPOINTS_FOLDER) if distributed.is_main else None
        )
        if newest and not resume:
            raise TrainingError(
                f"{config.folder} holds a run already; continue it (--resume) or name another folder (run)"
            )
        images = setup.load_training_images(config)
        held_out = setup.load_validation_images(config) if distributed.is_main else None
        metric = setup.load_perceptual_metric(config) if distributed.is_main else None
        features = setup.load_perceptual_features(config, device)
        state = init_state(config, device)
        if newest:
            checkpoint.restore(state, newest)
        if config.runtime.compile:
            state.generator.compile()  # pyright: ignore[reportUnknownMemberType]  # the parameters have no types
        run_logger = None
        if distributed.is_main:
            with atomic_path(config.folder / "config.toml") as partial:
                partial.write_text(to_toml(config), encoding="utf-8")
            open_trackers = trackers.open_trackers(config, state.step, stack)
            run_logger = stack.enter_context(logger.open_log(config.folder, state.step, open_trackers))
        stream = stack.enter_context(
            closing(
                batches(config, images, state.step, rank=distributed.rank, world_size=distributed.world_size),
            )
        )
        yield from _train_loop(config, state, stream, held_out, metric, features, device, distributed, run_logger)


@contextmanager
def _wrap_os_errors(folder: Path) -> Generator[None, None, None]:
    """Convert OSError to TrainingError, with the free disk space."""
    try:
        yield
    except OSError as error:
        raise TrainingError(
            f"{error.filename or folder}: {error.strerror or error} ({describe_free_space(folder)}); "
            "fix that and continue with --resume"
        ) from error


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainingError(
            f"{folder} cannot be created as the folder of the run ({error.strerror}); name another one (run)"
        ) from error


def _train_loop(
    config: TrainConfig,
    state: TrainState,
    stream: Iterator[Batch],
    held_out: CachedImageDataset | PairedImageDataset | None,
    metric: PerceptualMetric | None,
    features: FeatureExtractor | None,
    device: torch.device,
    distributed: Distributed,
    run_logger: logger.RunLogger | None,
) -> Iterator[StepReport]:
    """Take all remaining steps.

    held_out, metric and run_logger are None in all processes but the main one.
    """
    output, checkpoints = config.output, config.folder / CHECKPOINTS_FOLDER
    start, is_stopped = time.perf_counter(), False
    while state.step < config.steps and not is_stopped:
        batch = _to_device(next(stream), device, config)
        result = train_step(state, batch, config, features=features, distributed=distributed)
        _check_finite(state)
        is_last = state.step == config.steps

        scores: dict[int, Scores] = {}
        if config.data.validate and (is_last or state.step % output.validate_every == 0):
            scores = distributed.broadcast(validate(config, state, held_out, device, metric) if held_out else {})
            if update_best(state, scores) and distributed.is_main:
                write_networks(config, state, config.folder / "best")
            is_stopped = 0 < output.patience <= state.validations_since_best
            if is_stopped and distributed.is_main:
                log.warning(
                    "no better PSNR in %d validations: stopped after step %d", state.validations_since_best, state.step
                )

        files: tuple[Path, ...] = ()
        if distributed.is_main and (is_last or is_stopped):
            files = write_networks(config, state, config.folder)
        is_saved = distributed.is_main and (is_last or is_stopped or state.step % output.checkpoint_every == 0)
        if is_saved:
            checkpoint.save(state, checkpoints, output.keep_checkpoints)

        learning_rate = learning_rate_at(config.optim, config.optim.learning_rate, state.step - 1, config.steps)
        seconds, start = time.perf_counter() - start, time.perf_counter()
        report = StepReport(
            state.step, config.steps, batch.scale, result.losses, result.applied, learning_rate, seconds, scores, files
        )
        if run_logger is not None:
            run_logger.log_values(state.step, _log_values(report))
        try:
            yield report
        except GeneratorExit:
            if distributed.is_main and not is_saved:
                checkpoint.save(state, checkpoints, output.keep_checkpoints)
            raise


def _to_device(batch: Batch, device: torch.device, config: TrainConfig) -> Batch:
    """Move the batch to the device, in the memory format of the networks."""
    layout = torch.channels_last if config.runtime.channels_last else torch.contiguous_format
    small, large = (x.to(device).contiguous(memory_format=layout) for x in (batch.small, batch.large))
    motion = batch.motion and Motion(batch.motion.flow.to(device), batch.motion.confidence.to(device))
    return replace(batch, small=small, large=large, motion=motion)


def _check_finite(state: TrainState) -> None:
    if state.skipped_steps >= MAX_SKIPPED_STEPS:
        raise TrainingError(
            f"{state.skipped_steps} steps in a row up to step {state.step} gave inf or NaN; lower optim.learning_rate, "
            "set optim.max_grad_norm to 1, or use runtime.autocast_dtype bf16 or fp32"
        )


def _log_values(report: StepReport) -> dict[str, float]:
    """Return the report as the values of a log line."""
    values = {f"loss/{name}": value for name, value in report.losses.items()}
    values |= {
        "scale": report.scale,
        "moved": float(report.applied),
        "rate": report.learning_rate,
        "seconds": report.seconds,
    }
    for scale, scores in report.scores.items():
        values |= {f"psnr/{scale}x": scores.psnr, f"ssim/{scale}x": scores.ssim}
        values |= {} if scores.lpips is None else {f"lpips/{scale}x": scores.lpips}
    return values
