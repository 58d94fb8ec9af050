"""The command `steadyscale info`."""

from __future__ import annotations

import argparse
from pathlib import Path

from ...core.video.decode.video_clip import VideoClip
from ...core.video.open import open_clip
from ..console import tell
from ..io_options import add_rate, facts_of

WEIGHTS = (".safetensors", ".pth", ".pt", ".ckpt", ".param", ".bin", ".onnx")


def add_arguments(command: argparse.ArgumentParser) -> None:
    add_rate(command)
    command.add_argument("file", metavar="FILE")


def run(args: argparse.Namespace) -> None:
    path = Path(args.file)
    if path.suffix.lower() in WEIGHTS:
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
        facts = {"kind": "pictures", **facts_of(clip.info), "frames": clip.info.length}
        if isinstance(clip, VideoClip):
            from ...core.video.encode.stream_copy import sound_tracks

            facts |= {"kind": "video", "codec": clip.stored.codec, "pixel_format": clip.stored.pixel_format}
            facts |= {"sound": sound_tracks(path)}
    tell(args, {"command": "info", "file": str(path), **facts}, "\n".join(f"{k}: {v}" for k, v in facts.items()))
