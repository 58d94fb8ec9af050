"""The command `steadyscale info`."""

from __future__ import annotations

import argparse
from pathlib import Path

from ...core.api.report import info_fields
from ...core.video.decode.video_clip import VideoClip
from ...core.video.open import open_clip
from ..console import print_report
from ..io_options import add_fps_option

WEIGHT_SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt", ".param", ".bin", ".onnx")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_fps_option(parser)
    parser.add_argument("file", metavar="FILE")


def run(args: argparse.Namespace) -> None:
    path = Path(args.file)
    if path.suffix.lower() in WEIGHT_SUFFIXES:
        from ...models import load_upscaler

        network = load_upscaler(path)
        facts: dict[str, object] = {
            "kind": "weights",
            "architecture": network.architecture,
            "scale": network.scale,
            "channels": network.in_channels,
            "parameters": network.parameters_count,
        }
    else:
        clip = open_clip(path, fps=args.fps)
        facts = {"kind": "pictures", **info_fields(clip.info), "frames": clip.info.length}
        if isinstance(clip, VideoClip):
            from ...core.video.encode.stream_copy import list_audio_tracks

            facts |= {
                "kind": "video",
                "codec": clip.stream_format.codec,
                "pixel_format": clip.stream_format.pixel_format,
            }
            facts |= {"sound": list_audio_tracks(path)}
    print_report(
        args, {"command": "info", "file": str(path), **facts}, "\n".join(f"{k}: {v}" for k, v in facts.items())
    )
