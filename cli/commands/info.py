"""The command `steadyscale info`."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from ...core.api.report import info_fields
from ...core.video.decode.video_clip import VideoClip
from ...core.video.open import open_clip
from ..console import print_report
from ..io_options import add_fps_option

WEIGHT_SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt", ".param", ".bin", ".onnx")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_fps_option(parser)
    parser.add_argument(
        "file",
        metavar="FILE",
        help="a video file, a folder or pattern of images, a weight file, or a name from `steadyscale models list`",
    )


def run(args: argparse.Namespace) -> None:
    path = _find_weights(args.file) or Path(args.file)
    if path.suffix.lower() in WEIGHT_SUFFIXES:
        from ...models import load_upscaler

        model = load_upscaler(path)
        report: dict[str, object] = {
            "kind": "weights",
            "architecture": model.architecture,
            "scale": model.scale,
            "channels": model.in_channels,
            "frames": 1 + sum(model.frames_context),
            "parameters": model.parameters_count,
        }
    else:
        clip = open_clip(path, fps=args.fps)
        report = {"kind": "pictures", **info_fields(clip.info), "frames": clip.info.length}
        if isinstance(clip, VideoClip):
            from ...core.video.encode.stream_copy import list_audio_tracks

            report |= {
                "kind": "video",
                "codec": clip.stream_format.codec,
                "pixel_format": clip.stream_format.pixel_format,
            }
            report |= {"sound": list_audio_tracks(path)}
    print_report(
        args, {"command": "info", "file": str(path), **report}, "\n".join(f"{k}: {v}" for k, v in report.items())
    )


def _find_weights(name: str) -> Path | None:
    """The weights of that name; None for another name, or a file of that name.

    Raises WeightsError where it is not downloaded yet.
    """
    if os.path.lexists(name):
        return None
    from ...models.zoo import zoo

    is_known = zoo.find_bundled(name) is not None or name in [entry.name for entry in zoo.ENTRIES]
    return zoo.find_weights(name) if is_known else None
