"""Commands that answer questions: what a file is, which networks there are, how fast one is on this machine."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from .clip import ClipError, ClipInfo
from .console import tell
from .files import open_clip
from .precision import Precision
from .report import ProgressBars
from .tiles import Tiling
from .video import VideoClip

WEIGHTS = (".safetensors", ".pth", ".pt", ".ckpt", ".param", ".bin", ".onnx")


def bench(args: argparse.Namespace) -> None:
    from ..models import load_upscaler, zoo
    from .trial import footage, trial

    network = load_upscaler(zoo.find(args.model))
    with ProgressBars(args.quiet) as bars:
        width, height = args.size
        frames = bars.watch(footage(width, height, args.frames + 1), "measuring", args.frames + 1)
        found = trial(
            frames,
            network,
            tiling=Tiling(args.tile),
            precision=Precision(args.precision),
            device=chosen_device(args),
            compile_network=args.compile,
        )
    tell(args, {"command": "bench", **found.facts()}, str(found))


def info(args: argparse.Namespace) -> None:
    path = Path(args.file)
    if path.suffix.lower() in WEIGHTS:
        from ..models import load_upscaler

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
            from .tracks import sound_tracks

            facts |= {"kind": "video", "codec": clip.stored.codec, "pixel_format": clip.stored.pixel_format}
            facts |= {"sound": sound_tracks(path)}
    tell(args, {"command": "info", "file": str(path), **facts}, "\n".join(f"{k}: {v}" for k, v in facts.items()))


def models_list(args: argparse.Namespace) -> None:
    from ..models import zoo

    rows = [
        {
            "name": known.name,
            "architecture": known.architecture,
            "scale": known.scale,
            "about": known.about,
            "licence": known.licence,
            "here": zoo.is_here(known.name),
        }
        for known in (*zoo.SHIPPED, *zoo.ENTRIES)
    ]
    lines = [f"{'*' if r['here'] else ' '} {r['name']:<24} {r['scale']}x  {r['about']} ({r['licence']})" for r in rows]
    tell(args, {"command": "models list", "models": rows}, "\n".join([*lines, "* is here already"]))


def models_get(args: argparse.Namespace) -> None:
    from ..models import zoo

    file = zoo.get(args.name, Path(args.to) if args.to else None)
    tell(args, {"command": "models get", "name": args.name, "file": str(file)}, str(file))


def native_build(args: argparse.Namespace) -> None:
    from ..models import native

    library = native.build()
    tell(args, {"command": "native build", "library": str(library)}, str(library))


def native_info(args: argparse.Namespace) -> None:
    from ..models import native

    facts = native.describe()
    tell(args, {"command": "native info", **facts}, "\n".join(f"{k}: {v}" for k, v in facts.items()))


def chosen_device(args: argparse.Namespace) -> torch.device:
    if args.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if args.device == "cuda" and not torch.cuda.is_available():
        raise ClipError("there is no CUDA device here, or this build of torch does not know it; use --device cpu")
    return torch.device(args.device)


def facts_of(info: ClipInfo) -> dict[str, object]:
    return {"width": info.width, "height": info.height, "fps": round(float(info.fps), 6)}
