"""A training run of the Train node: folder, preview of curves, report."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from ..core.clip import Frames
from ..core.training import StepReport, TrainConfig, read_log, train
from ..core.training.data.sources import TrainingSources
from ..core.training.loop.checkpoint import find_newest
from ..core.training.loop.trainer import CHECKPOINTS_FOLDER
from ..core.training.presets import TrainPreset, config_hash, preset_config
from ..core.video.images.image_clip import ImageClip
from ..core.visualize.training_curves import plot_run
from ._comfy.adapter import PREVIEW_INTERVAL_SECONDS, PREVIEW_MAX_SIDE, preview_image, progress_bar, stop_if_cancelled
from ._comfy.node_text import show_text
from ._comfy.paths import model_folder, output_folder
from ._training_data import RUNS_FOLDER

log = logging.getLogger(__name__)


def build_run_config(preset: TrainPreset, sources: TrainingSources, device: str) -> TrainConfig:
    """Return the settings of the run, with its folder.

    Equal presets and training data give the same folder, so that a run resumes.
    """
    root = output_folder() / RUNS_FOLDER
    config = preset_config(preset, sources, root / preset.name, device)
    return preset_config(preset, sources, root / f"{preset.name}-{config_hash(config, sources)}", device)


def run_training(config: TrainConfig, bicubic_psnr: float) -> None:
    """Train, with the curves as the preview of the node.

    A cancel leaves a checkpoint and reports its path.
    """
    bar = progress_bar(config.steps)
    last_preview, report = time.monotonic(), None
    try:
        with closing(train(config, resume=True)) as reports:
            for report in reports:
                preview = None
                if time.monotonic() - last_preview > PREVIEW_INTERVAL_SECONDS:
                    preview = "JPEG", preview_image(draw_curves(config, bicubic_psnr)[0]), PREVIEW_MAX_SIDE
                    show_text(_format_progress(report))
                    last_preview = time.monotonic()
                bar.update_absolute(report.step, config.steps, preview)
                stop_if_cancelled()
    except BaseException:  # the host cancels with an exception of its own
        if report is not None and (newest := find_newest(config.folder / CHECKPOINTS_FOLDER)):
            state = (
                f"Stopped after step {report.step} of {config.steps}; the state is kept in {_output_path(newest)}.\n"
            )
            text = f"{state}Run the same inputs again to continue from there."
            show_text(text)
            log.warning("Train ESRGAN: %s", text.replace("\n", " "))
        raise


def _format_progress(report: StepReport) -> str:
    losses = ", ".join(f"{name} {value:.4g}" for name, value in report.losses.items())
    return f"step {report.step} of {report.steps}: {losses}"


def draw_curves(config: TrainConfig, bicubic_psnr: float) -> Frames:
    """Plot the log of the run, with the newest sample image."""
    samples = sorted((config.folder / "samples").glob("step_*.png"))
    sample = next(ImageClip(samples[-1]).frames()) if samples else None
    return plot_run(read_log(config.folder), config.steps, bicubic=bicubic_psnr, sample=sample)


def format_report(config: TrainConfig, models: Sequence[Path], sources: TrainingSources, bicubic_psnr: float) -> str:
    """Describe the finished run.

    It names the weight files, the PSNR of the first one, the training data and the folder of the run. bicubic_psnr: in
    dB.
    """
    key = f"psnr/{config.network.scales[0]}x"
    scores = [line[key] for line in read_log(config.folder) if key in line]
    psnr = scores[-1] if scores else float("nan")
    image = "an image that it was not trained on" if sources.held_out_unseen else "an image that it was trained on"
    return "\n".join([
        *(f"{model.relative_to(model_folder()).as_posix()} in models/upscale_models" for model in models),
        f"{psnr:.2f} dB on {image}; bicubic {bicubic_psnr:.2f} dB",
        f"{config.steps} steps on {len(sources.train)} files, crops of {config.data.crop}, seed {config.seed}",
        f"the run: {_output_path(config.folder)}",
    ])  # fmt: skip


def _output_path(path: Path) -> str:
    """Return a path within ComfyUI's output folder for display."""
    return f"output/{path.relative_to(output_folder()).as_posix()}"
