"""A stored plan: its settings as JSON values, and whether it suits this machine."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...bars import Bars
from ...clip import ClipError
from ...stabilization_report import StabilizationReport
from ...upscaling.settings import (
    Alpha,
    ColorCorrection,
    Engine,
    OutputSize,
    PostProcess,
    Precision,
    Reuse,
    Tiling,
    UpscaleSettings,
)
from ...video.decode.packets import demux
from ...video.images.sequence_paths import is_image_source, list_image_files

if TYPE_CHECKING:
    from ...jobs.state.job_plan import JobPlan
    from ...jobs.state.layout import JobFolder


def load_job_plan(folder: JobFolder) -> JobPlan:
    """Load the plan of a job. Raises ClipError unless `plan_job` has written one."""
    from ...jobs.state.job_plan import load_plan

    plan = load_plan(folder)
    assert plan is not None, "it is needed"
    if not plan.command:
        raise ClipError(
            f"{folder.path}: this job belongs to the run that began it (--resumable, or a workflow); resume that, or "
            "plan a job of its own (--plan)"
        )
    return plan


def check_source(path: Path, plan: JobPlan) -> None:
    """Raise ClipError where the content of the source is not that of the plan."""
    from ...jobs.state.fingerprint import hash_files

    files = list_image_files(path) if is_image_source(path) else [path]
    try:
        digest = hash_files(files)
    except OSError as e:
        raise ClipError(f"{path}: {demux.error_message(e)}; check the name and the disk") from e
    if digest != plan.source_hash:
        raise ClipError(
            f"{path}: its content is not that of the plan's source; restore the file, or plan the job again"
        )


def decode_stabilization(document: dict[str, Any]) -> StabilizationReport:
    """Convert JSON values in a plan to the report of a stabilization."""
    values = dict(document)
    if values["bars"] is not None:
        values["bars"] = Bars(**values["bars"])
    return StabilizationReport(**values)


def encode_upscaling(settings: UpscaleSettings) -> dict[str, Any]:
    """Convert settings to JSON values."""
    document = asdict(settings)
    for name in ("precision", "alpha", "engine"):
        document[name] = document[name].value
    document["postprocess"]["color_correction"] = settings.postprocess.color_correction.value
    return document


def decode_upscaling(document: dict[str, Any]) -> UpscaleSettings:
    """Convert the JSON values of `encode_upscaling` to settings."""
    size, post = document["size"], document["postprocess"]
    return UpscaleSettings(
        size=OutputSize(size["factor"], None if size["size"] is None else tuple(size["size"])),
        tiling=Tiling(**document["tiling"]),
        precision=Precision(document["precision"]),
        reuse=Reuse(**document["reuse"]),
        postprocess=PostProcess(**(post | {"color_correction": ColorCorrection(post["color_correction"])})),
        alpha=Alpha(document["alpha"]),
        compile=document["compile"],
        engine=Engine(document["engine"]),
    )
