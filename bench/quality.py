"""How true to the picture the shipped networks are, beside bicubic and beside a network ten times as large.

    python bench/quality.py --photographs FOLDER [--clip FILE ...] [--other FILE ...] > quality.json

PSNR and SSIM of brightness on photographs by the protocol of core/training/measure.py; LPIPS (AlexNet) where its
weights are on this machine. Clips are reduced, rounded to 8 bits and enlarged again: PSNR by the same protocol, and the
warping error, which is flicker, of neighbouring frames along the flow of the true ones. Cost is CPU seconds of one
thread for a frame of 320x180, least of alternating runs. `stream` is the whole command, decode to encode, 320x180 to
640x360, all threads. The JSON goes to stdout.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from steadyscale.core import ClipInfo, VideoClip, flow_model, write_video
from steadyscale.core.metrics import warping_error
from steadyscale.core.training.measure import Enlarger, bicubic, compare, small_and_large
from steadyscale.core.trial import footage, machine
from steadyscale.models import load_upscaler, zoo
from torch import Tensor

SIDE = 1024  # photographs are reduced to this, so that what a camera's JPEG left of its own is gone


def photographs(folder: Path) -> Iterator[Tensor]:
    """(3, H, W) uint8, at most SIDE pixels a side."""
    for file in sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png")):
        picture = Image.open(file).convert("RGB")
        picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
        yield torch.from_numpy(np.array(picture)).movedim(2, 0)


def perceptual() -> Any:
    """torchmetrics' LPIPS, or None where its weights would have to be downloaded."""
    cached = Path(torch.hub.get_dir()) / "checkpoints" / "alexnet-owt-7be5be79.pth"
    if not cached.is_file():
        return None
    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

    return LearnedPerceptualImagePatchSimilarity(net_type="alex", normalize=True)


@torch.inference_mode()
def on_photographs(enlarge: Enlarger, folder: Path, scale: int, judge: Any) -> dict[str, float]:
    scores, seen = [], []
    for picture in photographs(folder):
        small, large = small_and_large(picture, scale)
        made = enlarge(small).clamp(0, 1)
        scores.append(compare(made, large, scale))
        if judge is not None:
            seen.append(float(judge(made, large)))
    found = {"psnr_y": float(np.mean([s.psnr for s in scores])), "ssim_y": float(np.mean([s.ssim for s in scores]))}
    return found | ({"lpips": float(np.mean(seen))} if seen else {})


@torch.inference_mode()
def on_clip(enlarge: Enlarger, file: Path, scale: int, count: int) -> dict[str, float]:
    """PSNR of each frame, and how much neighbours differ along the true flow; `flicker_of_truth` is the clip's own."""
    flow, psnr, flicker, own = flow_model(), [], [], []
    pairs = []
    for frame in islice(VideoClip(file).frames(), count):
        small, large = small_and_large((frame[0] * 255).round().byte(), scale)
        made = enlarge(small).clamp(0, 1)
        psnr.append(compare(made, large, scale).psnr)
        pairs.append((made, large))
        if len(pairs) == 2:
            (before, first), (after, second) = pairs
            moved = flow(first, second)
            flicker.append(float(warping_error(before, after, moved)[0]))
            own.append(float(warping_error(first, second, moved)[0]))
            pairs = pairs[1:]
    return {
        "psnr_y": float(np.mean(psnr)),
        "warping_error_1e6": 1e6 * float(np.mean(flicker)),
        "warping_error_of_truth_1e6": 1e6 * float(np.mean(own)),
    }


@torch.inference_mode()
def cost(networks: dict[str, Enlarger], rounds: int = 5) -> dict[str, float]:
    """CPU milliseconds of one thread for a frame of 320x180, by name."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    frames = [*footage(320, 180, 2)]
    least = dict.fromkeys(networks, float("inf"))
    for _ in range(rounds):
        for name, network in networks.items():
            for frame in frames:
                began = time.process_time()
                network(frame)
                least[name] = min(least[name], time.process_time() - began)
    torch.set_num_threads(threads)
    return {name: round(1000 * seconds, 2) for name, seconds in least.items()}


def stream(count: int = 480) -> dict[str, float]:
    """Frames per second of `steadyscale upscale` with its defaults; what it takes to start is taken off."""
    with tempfile.TemporaryDirectory() as scratch:
        seconds, cpu = {}, {}
        for frames in (count // 8, count):
            source = Path(scratch) / f"{frames}.mp4"
            write_video(source, footage(320, 180, frames), ClipInfo(320, 180, Fraction(24), frames))
            code = "import sys; from steadyscale.core.cli import main; sys.exit(main(sys.argv[1:]))"
            command = [sys.executable, "-c", code, "upscale", str(source), str(Path(scratch) / "large.mp4"), "--quiet"]
            times, began = os.times(), time.perf_counter()
            subprocess.run(command, check=True)
            seconds[frames] = time.perf_counter() - began
            cpu[frames] = sum(os.times()[2:4]) - sum(times[2:4])
    short, long = sorted(seconds)
    each = (seconds[long] - seconds[short]) / (long - short)
    return {"fps": round(1 / each, 1), "cpu_ms_per_frame": round(1000 * (cpu[long] - cpu[short]) / (long - short), 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=Path, required=True, help="a folder of pictures that nobody learnt from")
    parser.add_argument("--clip", type=Path, action="append", default=[], help="a video, repeatable")
    parser.add_argument("--frames", type=int, default=24, help="of each clip (default 24)")
    parser.add_argument("--other", action="append", default=[], help="a weight file or name to set beside, repeatable")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)

    judge, rows = perceptual(), []
    models = {shipped.name: load_upscaler(shipped.path) for shipped in zoo.SHIPPED}
    models |= {Path(name).stem: load_upscaler(zoo.find(name)) for name in options.other}
    contenders = [(f"bicubic-{scale}x", scale, bicubic(scale)) for scale in (2, 4)]
    contenders += [(name, int(model.scale), model) for name, model in models.items()]
    costs = cost({name: enlarge for name, _, enlarge in contenders})
    for name, scale, enlarge in contenders:
        row: dict[str, object] = {"name": name, "scale": scale, "cpu_ms_320x180": costs[name]}
        if name in models:
            row["parameters"] = models[name].parameters_count
        row["photographs"] = on_photographs(enlarge, options.photographs, scale, judge)
        row |= {clip.stem: on_clip(enlarge, clip, scale, options.frames) for clip in options.clip}
        rows.append(row)
    files = {s.path.name: hashlib.sha256(s.path.read_bytes()).hexdigest() for s in zoo.SHIPPED}
    facts = {"machine": machine(), "sha256": files, "photographs": sum(1 for _ in photographs(options.photographs))}
    facts["lpips"] = "AlexNet" if judge else "left out: its weights are not on this machine"
    json.dump(facts | {"stream_320x180_to_640x360": stream(), "rows": rows}, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
