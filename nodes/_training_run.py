"""A training run as its node shows it: the folder it keeps, its curves while it learns, its words when it is over."""

from __future__ import annotations

import logging
import time
from contextlib import closing
from pathlib import Path

import comfy.utils
import folder_paths

from ..core.clip import Frames
from ..core.training import Config, Report, read_log, train
from ..core.training.data.sources import Material
from ..core.training.loop.checkpoint import newest
from ..core.training.loop.trainer import CHECKPOINTS
from ..core.training.presets import Wish, config_of, label_of
from ..core.video.images.image_clip import ImageClip
from ..core.visualize.training_curves import run_picture
from ._comfy.adapter import PREVIEW_EVERY, PREVIEW_SIDE, picture_of, stop_if_cancelled
from ._comfy.node_text import show_text
from ._comfy.paths import model_folder
from ._training_data import RUNS

log = logging.getLogger(__name__)


def config_for(wish: Wish, material: Material, device: str) -> Config:
    """The settings, and in them the folder of the run: the same wish on the same material finds the same one."""
    root = Path(folder_paths.get_output_directory()) / RUNS
    config = config_of(wish, material, root / wish.name, device)
    return config_of(wish, material, root / f"{wish.name}-{label_of(config, material)}", device)


def run_to_end(config: Config, least: float) -> None:
    """Train to the end, with the curves as the node's preview. A cancel leaves a checkpoint and says where."""
    bar = comfy.utils.ProgressBar(config.steps)
    shown, report = time.monotonic(), None
    try:
        with closing(train(config, resume=True)) as reports:
            for report in reports:
                preview = None
                if time.monotonic() - shown > PREVIEW_EVERY:
                    preview = "JPEG", picture_of(curves(config, least)[0]), PREVIEW_SIDE
                    show_text(_progress(report))
                    shown = time.monotonic()
                bar.update_absolute(report.step, config.steps, preview)
                stop_if_cancelled()
    except BaseException:  # the host's own exception for a cancel is none of ours
        if report is not None and (kept := newest(config.folder / CHECKPOINTS)):
            told = f"stopped after step {report.step} of {config.steps}; all of it is kept in {_shown(kept)}.\n"
            text = f"{told}Run the same inputs again to go on from there."
            show_text(text)
            log.warning("Train ESRGAN: %s", text.replace("\n", " "))
        raise


def _progress(report: Report) -> str:
    losses = ", ".join(f"{name} {value:.4g}" for name, value in report.losses.items())
    return f"step {report.step} of {report.steps}: {losses}"


def curves(config: Config, least: float) -> Frames:
    samples = sorted((config.folder / "samples").glob("step_*.png"))
    sample = next(ImageClip(samples[-1]).frames()) if samples else None
    return run_picture(read_log(config.folder), config.steps, bicubic=least, sample=sample)


def report_of(config: Config, saved: Path, material: Material, least: float) -> str:
    facts = [line for line in read_log(config.folder) if f"psnr/{config.network.scales[0]}x" in line]
    measured = facts[-1][f"psnr/{config.network.scales[0]}x"] if facts else float("nan")
    where = "a picture that it was not shown" if material.unseen else "a picture that it has learnt from"
    return "\n".join([
        f"{saved.relative_to(model_folder()).as_posix()} in models/upscale_models",
        f"{measured:.2f} dB on {where}; bicubic {least:.2f} dB",
        f"{config.steps} steps on {len(material.train)} files, crops of {config.data.crop}, seed {config.seed}",
        f"the run: {_shown(config.folder)}",
    ])  # fmt: skip


def _shown(path: Path) -> str:
    """A path within ComfyUI's output folder, as people find it."""
    return f"output/{path.relative_to(folder_paths.get_output_directory()).as_posix()}"
