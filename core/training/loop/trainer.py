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
from ...runtime.atomic_write import appearing
from ..config.schema import Config
from ..config.toml_dataclass import to_toml
from ..data.dataset import Batch, Pictures, batches
from ..errors import TrainingError, room_left
from ..evaluate.metrics import Judge, Scores
from ..losses.perceptual_features import Features
from . import checkpoint, logger, setup
from .distributed import Ranks, joined
from .grad_mode import learning
from .train_state import State, fresh
from .train_step import advance, rate_at
from .validation import is_best, validate, write_networks

log = logging.getLogger(__name__)

CHECKPOINTS = "checkpoints"
PATIENCE_WITH_INF = 100  # steps in a row that may be void before a run is given up


@dataclass(frozen=True)
class Report:
    """What one step has come to. step: how many have been taken, of `steps`. scale: of this one. losses: by name,
    unweighted (`Outcome`). moved: False where an inf or NaN has made it void. rate: of the generator. seconds: that it
    took. scores: by scale, where it was followed by a validation. files: the networks, with the last report.
    """

    step: int
    steps: int
    scale: int
    losses: Mapping[str, float]
    moved: bool
    rate: float
    seconds: float
    scores: Mapping[int, Scores] = field(default_factory=dict)
    files: tuple[Path, ...] = ()


def train(config: Config, *, resume: bool = False) -> Generator[Report, None, None]:
    """Train, and yield a report after each step. Raises TrainingError, before the first step where that is possible.

    resume: go on from the newest checkpoint in the run's folder, if there is one; on a CPU the result is the same, to
    the last bit, as if there had been no break. Without it a folder that has checkpoints is refused.
    """
    return learning(_run(config, resume))


def _run(config: Config, resume: bool) -> Generator[Report, None, None]:
    with ExitStack() as stack:
        gpu = setup.pick_device(config.machine.device).type == "cuda"
        ranks = stack.enter_context(joined(config.batch, gpu=gpu))
        device = setup.pick_device(config.machine.device, ranks.local)
        stack.enter_context(_told_of_files(config.folder))
        if ranks.first:
            _make_folder(config.folder)
            stack.enter_context(folder_lock.locked(config.folder))
        found = ranks.agreed(checkpoint.newest(config.folder / CHECKPOINTS) if ranks.first else None)
        if found and not resume:
            raise TrainingError(f"{config.folder} holds a run; go on with it (--resume) or name another folder (run)")
        pictures = setup.training_pictures(config)
        held_out = setup.held_out_pictures(config) if ranks.first else None
        judge = setup.looking_judge(config) if ranks.first else None
        features = setup.judging_features(config, device)
        state = fresh(config, device)
        if found:
            checkpoint.restore(state, found)
        if config.machine.compile:
            state.generator.compile()
        book = None
        if ranks.first:
            with appearing(config.folder / "config.toml") as partial:
                partial.write_text(to_toml(config), encoding="utf-8")
            board = config.keeping.tensorboard
            book = stack.enter_context(logger.opened(config.folder, state.step, tensorboard=board))
        shares = batches(config, pictures, state.step, part=ranks.rank, parts=ranks.count)
        stream = stack.enter_context(closing(shares))
        yield from _steps(config, state, stream, held_out, judge, features, device, ranks, book)


@contextmanager
def _told_of_files(folder: Path) -> Iterator[None]:
    """What the disk refuses meanwhile, with the way out."""
    try:
        yield
    except OSError as error:
        raise TrainingError(
            f"{error.filename or folder}: {error.strerror or error} ({room_left(folder)}); mend that and go on with "
            "--resume"
        ) from error


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainingError(f"{folder} can be no folder for the run ({error.strerror}); name another (run)") from error


def _steps(
    config: Config,
    state: State,
    stream: Iterator[Batch],
    held_out: Pictures | None,
    judge: Judge | None,
    features: Features | None,
    device: torch.device,
    ranks: Ranks,
    book: logger.Journal | None,
) -> Iterator[Report]:
    """Every step that is left. held_out, judge and book are the first process's."""
    keeping, checkpoints = config.keeping, config.folder / CHECKPOINTS
    begun, stopped = time.perf_counter(), False
    while state.step < config.steps and not stopped:
        batch = _moved(next(stream), device, config)
        outcome = advance(state, batch, config, features=features, ranks=ranks)
        _check_alive(state)
        last = state.step == config.steps

        scores: dict[int, Scores] = {}
        if config.data.validate and (last or state.step % keeping.validate_every == 0):
            scores = ranks.agreed(validate(config, state, held_out, device, judge) if held_out else {})
            if is_best(state, scores) and ranks.first:
                write_networks(config, state, config.folder / "best")
            stopped = 0 < keeping.patience <= state.stale
            if stopped and ranks.first:
                log.warning("no better PSNR in %d validations: stopped after step %d", state.stale, state.step)

        files: tuple[Path, ...] = ()
        if ranks.first and (last or stopped):
            files = write_networks(config, state, config.folder)
        saved = ranks.first and (last or stopped or state.step % keeping.checkpoint_every == 0)
        if saved:
            checkpoint.save(state, checkpoints, keeping.checkpoints)

        rate = rate_at(config.learning, config.learning.rate, state.step - 1, config.steps)
        seconds, begun = time.perf_counter() - begun, time.perf_counter()
        report = Report(
            state.step, config.steps, batch.scale, outcome.losses, outcome.moved, rate, seconds, scores, files
        )
        if book is not None:
            book.tell(state.step, _facts(report))
        try:
            yield report
        except GeneratorExit:
            if ranks.first and not saved:
                checkpoint.save(state, checkpoints, keeping.checkpoints)
            raise


def _moved(batch: Batch, device: torch.device, config: Config) -> Batch:
    """The batch on the device, laid out as the networks are."""
    layout = torch.channels_last if config.machine.channels_last else torch.contiguous_format
    small, large = (x.to(device).contiguous(memory_format=layout) for x in (batch.small, batch.large))
    return replace(batch, small=small, large=large)


def _check_alive(state: State) -> None:
    if state.skipped >= PATIENCE_WITH_INF:
        raise TrainingError(
            f"{state.skipped} steps in a row up to step {state.step} gave inf or NaN; lower learning.rate, "
            "set learning.clip to 1, or take machine.arithmetic bf16 or fp32"
        )


def _facts(report: Report) -> dict[str, float]:
    """The report as a line of the log."""
    facts = {f"loss/{name}": value for name, value in report.losses.items()}
    facts |= {"scale": report.scale, "moved": float(report.moved), "rate": report.rate, "seconds": report.seconds}
    for scale, scores in report.scores.items():
        facts |= {f"psnr/{scale}x": scores.psnr, f"ssim/{scale}x": scores.ssim}
        facts |= {} if scores.lpips is None else {f"lpips/{scale}x": scores.lpips}
    return facts
