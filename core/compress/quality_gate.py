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
from ...models.arch.separable import SeparableSRVGG, to_dense, to_separable
from ...models.zoo import zoo
from ..runtime.atomic_write import temp_path
from ..training.errors import TrainingError
from ..training.loop.export import export
from ..training.loop.grad_mode import with_gradients
from ..training.loop.setup import pick_device
from .calibration import CalibrationData, load_calibration
from .cross_layer_equalization import equalize
from .distill import FinetuneSettings, finetune
from .errors import CompressionError
from .model_metrics import Candidate, ModelMetrics, measure_models
from .onnx_export import check_dependencies, export_onnx, quantize
from .prune import prune
from .settings import CompressSettings

# Rates of learning. Narrow compact networks bear more, in the measure that they are narrow; separated ones are far from
# what they should be; dense blocks want less.
PRUNED_LEARNING_RATE, SEPARABLE_LEARNING_RATE, RRDB_LEARNING_RATE = (
    0.032,
    3e-3,
    2e-4,
)  # the first one is for a network of one channel


@dataclass(frozen=True)
class CompressReport:
    """How far a compression has come. stage: reading, pruning, training, writing or measuring, and at last done or
    refused. done, of: steps of the stage; of is 0 where that cannot be told. loss: of a training step. figures: of the
    original and of each file, as far as they are known. files: that were written, with the last report. refused: why
    nothing was written.
    """

    stage: str
    step: int = 0
    total: int = 0
    loss: float | None = None
    metrics: tuple[ModelMetrics, ...] = ()
    files: tuple[Path, ...] = ()
    rejection: str = ""


def compress(settings: CompressSettings) -> Generator[CompressReport, None, None]:
    """Compress a model, and yield a report on each step. Raises CompressionError, or WeightsError for the model.

    A model beyond the gate is no error in here: the last report says `refused`, and nothing was written.
    """
    return with_gradients(_run(settings))


def _run(settings: CompressSettings) -> Generator[CompressReport, None, None]:
    yield CompressReport("reading")
    if settings.onnx or settings.int8:
        check_dependencies()  # what is missing is better heard of before the training than after it
    model = zoo.find_weights(settings.model)
    if settings.output_path("").resolve() == model.resolve():
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
    _make_folder(settings.output_path("").parent)  # like what is missing, better heard of before the training
    footage = load_calibration(settings.calibrate, original.scale, original.multiple)
    small = (yield from _prune_and_finetune(settings, network, footage)) if settings.needs_training else network

    yield CompressReport("writing")
    with temp_path(settings.output_path("")) as folder:
        folder.mkdir()
        try:
            files = _write_outputs(settings, small, footage, folder)
        except TrainingError as error:
            raise CompressionError(str(error)) from error
        found: list[ModelMetrics] = []
        # The dense twin of a separable network is equal to it, which needs no measuring.
        judged = [file for file in files if file.name != settings.output_path("_dense").name]
        first = Candidate("original", original, model, network)
        for figure in measure_models(
            _candidates(settings, first, small, judged), footage.eval_images, footage.eval_clips
        ):
            found.append(figure)
            yield CompressReport("measuring", len(found), 1 + len(judged), metrics=tuple(found))
        before, *after = found
        # Said this way round, so that NaN does not pass.
        failed = [figure for figure in after if not before.psnr - figure.psnr <= settings.max_loss_db]
        if failed:
            worst = max(failed, key=lambda figure: before.psnr - figure.psnr)
            refused = (
                f"{worst.name} loses {before.psnr - worst.psnr:.2f} dB and {settings.max_loss_db:g} dB are allowed, so "
                "nothing was written; train for more steps, prune less, or allow more"
            )
            yield CompressReport("refused", metrics=tuple(found), rejection=refused)
            return
        targets = [settings.output_path("").with_name(file.name) for file in files]
        for file, target in zip(files, targets, strict=True):
            os.replace(file, target)
    yield CompressReport("done", metrics=tuple(found), files=tuple(targets))


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CompressionError(f"{folder} can be no folder for the result ({error.strerror})") from error


def _prune_and_finetune(
    settings: CompressSettings, network: SRVGGNetCompact | RRDBNet, calibration: CalibrationData
) -> Generator[CompressReport, None, nn.Module]:
    """The pruned and separated network, trained with the original as teacher."""
    small: nn.Module = network
    try:
        if settings.prune:
            yield CompressReport("pruning")
            small = prune(network, settings.prune, calibration.calibration_crops)
        if settings.separable:
            small = to_separable(small)
        device = pick_device(settings.device)
    except (ValueError, TrainingError) as error:
        raise CompressionError(str(error)) from error
    if not settings.steps:
        return small.eval().requires_grad_(False)
    tuning = FinetuneSettings(
        settings.steps,
        crop=calibration.crop,
        min_resize=calibration.min_resize,
        learning_rate=learning_rate_for(small),
        seed=settings.seed,
    )
    steps, done = finetune(small, network, network.scale, calibration.train_images, tuning, device), 0
    with closing(steps):
        while True:
            try:
                loss = next(steps)
            except StopIteration as end:
                network.cpu()
                return end.value.cpu()
            done += 1
            yield CompressReport("training", done, settings.steps, loss=loss)


def learning_rate_for(network: nn.Module) -> float:
    """The rate of learning at which a pruned or separated network learns fast and does not fall apart."""
    if isinstance(network, RRDBNet):
        return RRDB_LEARNING_RATE
    if isinstance(network, SeparableSRVGG):
        return SEPARABLE_LEARNING_RATE
    assert isinstance(network, SRVGGNetCompact)
    return min(SEPARABLE_LEARNING_RATE, PRUNED_LEARNING_RATE / network.config.features)


def _write_outputs(
    settings: CompressSettings, small: nn.Module, calibration: CalibrationData, folder: Path
) -> list[Path]:
    """Every file that was asked for, in the folder."""
    facts = {
        "scale": str(small.scale),
        "compressed_with": "steadyscale",
        "compressed_from": Path(settings.model).name,
        "pruned": f"{settings.prune:g}",
        "steps": str(settings.steps if settings.needs_training else 0),
    }
    files: list[Path] = []
    if settings.needs_training or settings.half:
        dtype = torch.float16 if settings.half else torch.float32
        main = settings.output_path("").name
        files.append(export(small, folder / main, facts, dtype))
        if settings.separable:
            files.append(export(to_dense(small), folder / settings.output_path("_dense").name, facts, dtype))
    if settings.int8:
        even = export_onnx(equalize(small, calibration.calibration_crops), folder / "even.onnx")
        files.append(
            quantize(even, folder / settings.output_path("_int8", ".onnx").name, calibration.calibration_crops)
        )
    if settings.onnx:
        files.append(export_onnx(small, folder / settings.output_path("", ".onnx").name))
    return files


def _candidates(
    settings: CompressSettings, original: Candidate, small: nn.Module, files: Sequence[Path]
) -> list[Candidate]:
    """Who is measured: the original, and each file as it is read again."""
    return [original, *(Candidate(_describe_file(settings, file), load_upscaler(file), file, small) for file in files)]


def _describe_file(settings: CompressSettings, file: Path) -> str:
    words = [word for word, on in (("pruned", settings.prune), ("separable", settings.separable)) if on]
    if file.suffix == ".onnx":
        words.append("int8 graph" if file.stem.endswith("_int8") else "onnx graph")
    elif settings.half:
        words.append("half precision")
    return ", ".join(words)
