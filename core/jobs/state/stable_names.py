"""Stable names of classes and their fields in fingerprints.

They do not depend on the names in the code. The strings here are stored in job.json and must not change. Renaming or
moving a class or a field changes only the key of its entry, so that jobs which were started before can still be
resumed. A class outside this table goes by its module and name; a network of ours by its class attribute
`fingerprint_name`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ...clip import ClipInfo
from ...motion.optical_flow.flow import OpenCVFlow, TorchFarneback
from ...motion.optical_flow.klt import KltTracker
from ...pipeline.deflicker_op import DeflickerOp
from ...pipeline.upscale_op import UpscaleOp
from ...pipeline.warp_op import WarpOp
from ...upscaling.settings import OutputSize, PostProcess, Reuse, Tiling, UpscaleSettings
from ...video.decode.timestamps import TimeRange
from ...video.encode.codecs import Encoding


@dataclass(frozen=True)
class StableName:
    """The name of a class and, by attribute, the names of its settings.

    None instead of a name leaves an attribute out: results do not depend on it. new_fields: attributes that were added
    after version 0.1; they are left out while they have their default, so that earlier jobs can be resumed.
    """

    name: str
    fields: Mapping[str, str | None]
    new_fields: frozenset[str] = frozenset()


STABLE_NAMES: dict[type, StableName] = {
    ClipInfo: StableName("clip", {"width": "width", "height": "height", "fps": "fps", "length": "length"}),
    TimeRange: StableName("time-range", {"start": "start", "duration": "duration"}),
    Encoding: StableName(
        "encoding",
        {"codec": "codec", "crf": "crf", "preset": "preset", "pixel_format": "pixel-format", "encoder": "encoder"},
        new_fields=frozenset({"encoder"}),
    ),
    OpenCVFlow: StableName("opencv-flow", {"estimator": "estimator"}),
    TorchFarneback: StableName("torch-farneback", {"device": "device"}),
    KltTracker: StableName("klt-tracker", {}),
    UpscaleOp: StableName("upscale", {"model": "model", "settings": "settings", "device": "device", "stats": None}),
    UpscaleSettings: StableName(
        "upscale-settings",
        {
            "size": "size",
            "tiling": "tiling",
            "precision": "precision",
            "reuse": "reuse",
            "postprocess": "postprocess",
            "alpha": "alpha",
            "compile": "compile",
            "engine": None,  # Results differ by rounding.
        },
    ),
    OutputSize: StableName("output-size", {"factor": "factor", "size": "size"}),
    Tiling: StableName("tiling", {"size": "size", "halo": "halo"}),
    Reuse: StableName("reuse", {"enabled": "enabled", "threshold": "threshold"}),
    PostProcess: StableName(
        "postprocess",
        {
            "strength": "strength",
            "color_correction": "color-correction",
            "grain": "grain",
            "linear_light": "linear-light",
        },
    ),
    WarpOp: StableName("warp", {"correction": "correction", "border": "border", "pad": "pad", "device": "device"}),
    DeflickerOp: StableName("deflicker", {"strength": "strength", "grain": "grain", "flow": "flow"}),
}
