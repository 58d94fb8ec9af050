"""Compress a model, and write the results only if they are good enough.

All files are written into a temporary folder beside the output, loaded again and measured. They are moved to their
final names when all have passed; closing the generator earlier leaves no files.
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
from ..runtime.files.atomic_write import temp_path
from ..training.errors import TrainingError
from ..training.evaluate.metrics import bicubic, score
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
from .quality_limits import Verdict, describe_failures, judge
from .restore_detail import restore_detail
from .settings import CompressSettings

# Compact networks allow learning rates in inverse proportion to their width; separable ones start far from the optimum
# and need high rates; dense blocks need low ones.
PRUNED_LEARNING_RATE = 0.032  # divided by the number of channels
SEPARABLE_LEARNING_RATE = 3e-3
RRDB_LEARNING_RATE = 2e-4


@dataclass(frozen=True)
class CompressReport:
    """Progress of a compression.

    stage: reading, pruning, training, writing or measuring, and finally done or refused. step, total: progress within
    the stage; total is 0 if unknown. loss: of a training step. metrics: of the original and of each file measured so
    far. files: the files written, in the last report. rejection: why nothing was written. verdicts: each quantity of
    each file with its limits, in the last report.
    """

    stage: str
    step: int = 0
    total: int = 0
    loss: float | None = None
    metrics: tuple[ModelMetrics, ...] = ()
    files: tuple[Path, ...] = ()
    rejection: str = ""
    verdicts: tuple[Verdict, ...] = ()


def compress(settings: CompressSettings) -> Generator[CompressReport, None, None]:
    """Compress a model, and yield a report after each step.

    Raises CompressionError, or WeightsError for the model. A loss of quality beyond the limit raises nothing: the stage
    of the last report is "refused", and no file is written.
    """
    return with_gradients(_run(settings))


def _run(settings: CompressSettings) -> Generator[CompressReport, None, None]:
    yield CompressReport("reading")
    if settings.onnx or settings.int8:
        check_dependencies()  # before the training, which takes long
    model = zoo.find_weights(settings.model)
    if settings.output_path("").resolve() == model.resolve():
        raise CompressionError(f"{settings.output} is the model itself; choose another output")
    original = load_upscaler(model)
    network = original.model
    if model.suffix.lower() == ".onnx":
        raise CompressionError(
            f"{settings.model} is an ONNX graph; compress the .safetensors file that it was exported from"
        )
    # Separable networks are subclasses of these two. They can be stored and exported; pruning and to_separable reject
    # them.
    if not isinstance(network, (SRVGGNetCompact, RRDBNet)) or original.in_channels != 3:
        raise CompressionError(
            f"{settings.model} is {original.architecture} with {original.in_channels} channels; only SRVGGNetCompact "
            "and RRDBNet (ESRGAN) with 3 channels can be compressed"
        )
    _make_folder(settings.output_path("").parent)  # an error here is better before the training than after it
    calibration = load_calibration(settings.calibrate, original.scale, original.multiple)
    small = (yield from _prune_and_finetune(settings, network, calibration)) if settings.needs_training else network

    yield CompressReport("writing")
    with temp_path(settings.output_path("")) as folder:
        folder.mkdir()
        try:
            files = _write_outputs(settings, small, calibration, folder)
        except TrainingError as error:
            raise CompressionError(str(error)) from error
        measured: list[ModelMetrics] = []
        # The dense equivalent of a separable network computes the same and is not measured.
        tested = [file for file in files if file.name != settings.output_path("_dense").name]
        first = Candidate("original", original, model, network)
        for metrics in measure_models(
            _candidates(settings, first, small, tested), calibration.eval_images, calibration.eval_clips
        ):
            measured.append(metrics)
            yield CompressReport("measuring", len(measured), 1 + len(tested), metrics=tuple(measured))
        bicubic_psnr = score(bicubic(original.scale), calibration.eval_images, original.scale).psnr
        verdicts = judge(measured, bicubic_psnr, settings.limits)
        failures = describe_failures(verdicts)
        if failures and settings.quality_gate:
            rejection = f"{failures}; nothing was written: train for more steps, prune less, or allow more"
            yield CompressReport("refused", metrics=tuple(measured), rejection=rejection, verdicts=verdicts)
            return
        targets = [settings.output_path("").with_name(file.name) for file in files]
        for file, target in zip(files, targets, strict=True):
            os.replace(file, target)
    yield CompressReport("done", metrics=tuple(measured), files=tuple(targets), verdicts=verdicts)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CompressionError(
            f"{folder} cannot be created as the folder of the result ({error.strerror}); choose another output"
        ) from error


def _prune_and_finetune(
    settings: CompressSettings, network: SRVGGNetCompact | RRDBNet, calibration: CalibrationData
) -> Generator[CompressReport, None, nn.Module]:
    """Prune the network, make it separable, and fine-tune it."""
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
    finetune_settings = FinetuneSettings(
        settings.steps,
        crop=calibration.crop,
        min_resize=calibration.min_resize,
        learning_rate=learning_rate_for(small),
        seed=settings.seed,
    )
    steps, step = finetune(small, network, network.scale, calibration.train_images, finetune_settings, device), 0
    with closing(steps):
        while True:
            try:
                loss = next(steps)
            except StopIteration as end:
                network.cpu()
                small = end.value.cpu()
                if isinstance(small, SRVGGNetCompact):  # the last convolution of an RRDBNet has too many inputs
                    restore_detail(small, network, calibration.calibration_crops)
                return small
            step += 1
            yield CompressReport("training", step, settings.steps, loss=loss)


def learning_rate_for(network: nn.Module) -> float:
    """Return a learning rate at which fine-tuning of the network is fast and stable."""
    if isinstance(network, RRDBNet):
        return RRDB_LEARNING_RATE
    if isinstance(network, SeparableSRVGG):
        return SEPARABLE_LEARNING_RATE
    assert isinstance(network, SRVGGNetCompact)
    return min(SEPARABLE_LEARNING_RATE, PRUNED_LEARNING_RATE / network.config.features)


def _write_outputs(
    settings: CompressSettings, small: nn.Module, calibration: CalibrationData, folder: Path
) -> list[Path]:
    """Write all files that the settings ask for, and return their paths."""
    metadata = {
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
        files.append(export(small, folder / main, metadata, dtype))
        if settings.separable:
            files.append(export(to_dense(small), folder / settings.output_path("_dense").name, metadata, dtype))
    if settings.int8:
        crops = calibration.calibration_crops
        equalized = export_onnx(equalize(small, crops), folder / "equalized.onnx")
        files.append(quantize(equalized, folder / settings.output_path("_int8", ".onnx").name, crops))
    if settings.onnx:
        files.append(export_onnx(small, folder / settings.output_path("", ".onnx").name))
    return files


def _candidates(
    settings: CompressSettings, original: Candidate, small: nn.Module, files: Sequence[Path]
) -> list[Candidate]:
    """Return the models to measure: the original, and each file as loaded again."""
    return [original, *(Candidate(_describe_file(settings, file), load_upscaler(file), file, small) for file in files)]


def _describe_file(settings: CompressSettings, file: Path) -> str:
    """Describe the changes in a file, such as "pruned, int8 graph"."""
    words = [word for word, on in (("pruned", settings.prune), ("separable", settings.separable)) if on]
    if file.suffix == ".onnx":
        words.append("int8 graph" if file.stem.endswith("_int8") else "onnx graph")
    elif settings.half:
        words.append("half precision")
    return ", ".join(words)
