"""From a model to a smaller one, as a stream of reports, and through a gate: what loses too much is not written.

Everything is made beside the output under names that nobody takes for results, read again as anybody would read it,
and measured. Files get their names when all of them have passed; whoever closes the stream earlier leaves nothing.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from ...models import RRDBNet, SRVGGNetCompact, load_upscaler
from ...models.arch.separable import SeparableSRVGG, dense, separated
from ...models.zoo import zoo
from ..runtime.atomic_write import scratch
from ..training.errors import TrainingError
from ..training.loop.export import export
from ..training.loop.grad_mode import learning
from ..training.loop.setup import pick_device
from .calibration import Footage, gathered
from .cross_layer_equalization import equalised
from .distill import Tuning, tuned
from .errors import CompressionError
from .model_metrics import Entrant, Figures, figures
from .onnx_export import export_onnx, quantise, ready
from .prune import pruned
from .settings import Settings

# Rates of learning. Narrow compact networks bear more, in the measure that they are narrow; separated ones are far from
# what they should be; dense blocks want less.
PRUNED_RATE, SEPARATED_RATE, RRDB_RATE = 0.032, 3e-3, 2e-4  # the first one is for a network of one channel


@dataclass(frozen=True)
class Report:
    """How far a compression has come. stage: reading, pruning, training, writing or measuring, and at last done or
    refused. done, of: steps of the stage; of is 0 where that cannot be told. loss: of a training step. figures: of the
    original and of each file, as far as they are known. files: that were written, with the last report. refused: why
    nothing was written.
    """

    stage: str
    done: int = 0
    of: int = 0
    loss: float | None = None
    figures: tuple[Figures, ...] = ()
    files: tuple[Path, ...] = ()
    refused: str = ""


def compress(settings: Settings) -> Generator[Report, None, None]:
    """Compress a model, and yield a report on each step. Raises CompressionError, or WeightsError for the model.

    A model beyond the gate is no error in here: the last report says `refused`, and nothing was written.
    """
    return learning(_run(settings))


def _run(settings: Settings) -> Generator[Report, None, None]:
    yield Report("reading")
    if settings.onnx or settings.int8:
        ready()  # what is missing is better heard of before the training than after it
    model = zoo.find(settings.model)
    if settings.target("").resolve() == model.resolve():
        raise CompressionError(f"{settings.output} is the model itself; choose another name")
    original = load_upscaler(model)
    network = original.model
    if model.suffix.lower() == ".onnx":
        raise CompressionError(f"{settings.model} is a graph; compress the .safetensors that it was made from")
    # Separable networks are these two as well, and can be stored and exported; pruning and separating refuse them.
    if not isinstance(network, (SRVGGNetCompact, RRDBNet)) or original.in_channels != 3:
        raise CompressionError(
            f"{settings.model} is {original.architecture} for {original.in_channels} channels; SRVGGNetCompact and "
            "RRDBNet (ESRGAN) for RGB can be compressed"
        )
    _make_folder(settings.target("").parent)  # like what is missing, better heard of before the training
    footage = gathered(settings.calibrate, original.scale, original.multiple)
    small = (yield from _changed(settings, network, footage)) if settings.changed else network

    yield Report("writing")
    with scratch(settings.target("")) as folder:
        folder.mkdir()
        try:
            files = _written(settings, small, footage, folder)
        except TrainingError as error:
            raise CompressionError(str(error)) from error
        found: list[Figures] = []
        # The dense twin of a separable network is equal to it, which needs no measuring.
        judged = [file for file in files if file.name != settings.target("_dense").name]
        first = Entrant("original", original, model, network)
        for figure in figures(_entrants(settings, first, small, judged), footage.judges, footage.runs):
            found.append(figure)
            yield Report("measuring", len(found), 1 + len(judged), figures=tuple(found))
        before, *after = found
        # Said this way round, so that NaN does not pass.
        failed = [figure for figure in after if not before.psnr - figure.psnr <= settings.max_loss_db]
        if failed:
            worst = max(failed, key=lambda figure: before.psnr - figure.psnr)
            refused = (
                f"{worst.name} loses {before.psnr - worst.psnr:.2f} dB and {settings.max_loss_db:g} dB are allowed, so "
                "nothing was written; train for more steps, prune less, or allow more"
            )
            yield Report("refused", figures=tuple(found), refused=refused)
            return
        targets = [settings.target("").with_name(file.name) for file in files]
        for file, target in zip(files, targets, strict=True):
            os.replace(file, target)
    yield Report("done", figures=tuple(found), files=tuple(targets))


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CompressionError(f"{folder} can be no folder for the result ({error.strerror})") from error


def _changed(
    settings: Settings, network: SRVGGNetCompact | RRDBNet, footage: Footage
) -> Generator[Report, None, nn.Module]:
    """The pruned and separated network, trained with the original as teacher."""
    small: nn.Module = network
    try:
        if settings.prune:
            yield Report("pruning")
            small = pruned(network, settings.prune, footage.shown)
        if settings.separable:
            small = separated(small)
        device = pick_device(settings.device)
    except (ValueError, TrainingError) as error:
        raise CompressionError(str(error)) from error
    if not settings.steps:
        return small.eval().requires_grad_(False)
    tuning = Tuning(settings.steps, crop=footage.crop, shrink=footage.shrink, rate=rate_for(small), seed=settings.seed)
    steps, done = tuned(small, network, network.scale, footage.learnt, tuning, device), 0
    with closing(steps):
        while True:
            try:
                loss = next(steps)
            except StopIteration as end:
                network.cpu()
                return end.value.cpu()
            done += 1
            yield Report("training", done, settings.steps, loss=loss)


def rate_for(small: nn.Module) -> float:
    """The rate of learning at which a pruned or separated network learns fast and does not fall apart."""
    if isinstance(small, RRDBNet):
        return RRDB_RATE
    if isinstance(small, SeparableSRVGG):
        return SEPARATED_RATE
    assert isinstance(small, SRVGGNetCompact)
    return min(SEPARATED_RATE, PRUNED_RATE / small.config.features)


def _written(settings: Settings, small: nn.Module, footage: Footage, folder: Path) -> list[Path]:
    """Every file that was asked for, in the folder."""
    facts = {
        "scale": str(small.scale),
        "compressed_with": "steadyscale",
        "compressed_from": Path(settings.model).name,
        "pruned": f"{settings.prune:g}",
        "steps": str(settings.steps if settings.changed else 0),
    }
    files: list[Path] = []
    if settings.changed or settings.half:
        dtype = torch.float16 if settings.half else torch.float32
        main = settings.target("").name
        files.append(export(small, folder / main, facts, dtype))
        if settings.separable:
            files.append(export(dense(small), folder / settings.target("_dense").name, facts, dtype))
    if settings.int8:
        even = export_onnx(equalised(small, footage.shown), folder / "even.onnx")
        files.append(quantise(even, folder / settings.target("_int8", ".onnx").name, footage.shown))
    if settings.onnx:
        files.append(export_onnx(small, folder / settings.target("", ".onnx").name))
    return files


def _entrants(settings: Settings, original: Entrant, small: nn.Module, files: Sequence[Path]) -> list[Entrant]:
    """Who is measured: the original, and each file as it is read again."""
    return [original, *(Entrant(_name(settings, file), load_upscaler(file), file, small) for file in files)]


def _name(settings: Settings, file: Path) -> str:
    words = [word for word, on in (("pruned", settings.prune), ("separable", settings.separable)) if on]
    if file.suffix == ".onnx":
        words.append("int8 graph" if file.stem.endswith("_int8") else "onnx graph")
    elif settings.half:
        words.append("half precision")
    return ", ".join(words)
