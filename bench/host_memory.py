"""Peak memory of a ComfyUI server that upscales a VIDEO or an IMAGE (--peer).

    python bench/host_memory.py [--frames 140] [--size 576x576] [--peer] > host_memory.json
    python bench/host_memory.py --frames 300 30000 --size 48x32 --network steadyscale-2x --factor 2 > long.json

Load Video, Upscale Frames, Save Video against Load Video, Get Video Components, Upscale Image (using Model), Create
Video, Save Video, with the same network (realesr-animevideov3, 4x) and clip. Each run starts a server. Several lengths
show whether memory grows with the clip.
`peak_mb` is the peak resident memory of the server during the run, `idle_mb` the memory before. The peer holds the
full clip in memory: 140 frames of 576x576 at 4x are 8.9 GB as float32, and the machine must have two to three times
that. Needs what `make setup` fetches. The JSON goes to stdout.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

import assets
import av
import base_directory
from bootstrap import DEFAULT_NETWORK
from comfyhost import Host
from steadyscale.core import ClipInfo, write_video
from steadyscale.core.upscaling.benchmark import describe_machine, synthetic_frames

CLIP_NAME = "clip.mp4"


def steadyscale_graph(network: str, factor: float) -> dict:
    return {
        "1": {"class_type": "LoadVideo", "inputs": {"file": CLIP_NAME}},
        "2": {"class_type": "SteadyScale_LoadESRGANModel", "inputs": {"model_name": network}},
        "3": {
            "class_type": "SteadyScale_UpscaleFrames",
            "inputs": {"upscale_model": ["2", 0], "frames": ["1", 0], "resize_to": "factor", "factor": factor}
            | {"width": 1920, "height": 1080, "tile": 0, "precision": "auto"},
        },
        "4": _save_video_node(["3", 0]),
    }


def comfyui_graph() -> dict:
    return {
        "1": {"class_type": "LoadVideo", "inputs": {"file": CLIP_NAME}},
        "2": {"class_type": "UpscaleModelLoader", "inputs": {"model_name": f"{DEFAULT_NETWORK}.safetensors"}},
        "3": {"class_type": "GetVideoComponents", "inputs": {"video": ["1", 0]}},
        "5": {"class_type": "ImageUpscaleWithModel", "inputs": {"upscale_model": ["2", 0], "image": ["3", 0]}},
        "6": {"class_type": "CreateVideo", "inputs": {"images": ["5", 0], "fps": ["3", 2]}},
        "4": _save_video_node(["6", 0]),
    }


def _save_video_node(video: list) -> dict:
    inputs = {"video": video, "filename_prefix": "large", "format": "mp4", "codec": "h264"}
    return {"class_type": "SaveVideo", "inputs": inputs}


def measure_route(name: str, graph: dict, frames: int, width: int, height: int) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        base_directory.create_base_directory(base, [assets.get_weights(DEFAULT_NETWORK, Path(sys.executable))])
        write_video(
            base / "input" / CLIP_NAME,
            synthetic_frames(width, height, frames),
            ClipInfo(width, height, Fraction(24), frames),
        )
        with Host(assets.get_comfyui(assets.NEWEST_COMFYUI), base, flags=base_directory.HOST_FLAGS, cpu=True) as host:
            idle = host.rss()
            host.reset_peak()
            start = time.monotonic()
            host.run(graph, timeout=7200).raise_for_status()
            seconds, peak = time.monotonic() - start, host.rss(peak=True)
        (output,) = (base / "output").rglob("*.mp4")
        with av.open(str(output)) as result:
            count = sum(1 for _ in result.demux(video=0) if _.size)
    if count != frames:
        raise SystemExit(f"{name}: the result has {count} frames instead of {frames}")
    return {"route": name, "frames": frames, "idle_mb": idle, "peak_mb": peak, "seconds": round(seconds, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, nargs="+", default=[140])
    parser.add_argument("--size", default="576x576")
    parser.add_argument(
        "--network", default=f"{DEFAULT_NETWORK}.safetensors", help="of our route, by its name in ComfyUI"
    )
    parser.add_argument("--factor", type=float, default=4.0, help="of our route")
    parser.add_argument("--peer", action="store_true", help="ComfyUI's own nodes too; needs more than 20 GB of memory")
    options = parser.parse_args()
    width, height = (int(side) for side in options.size.split("x"))
    graph = steadyscale_graph(options.network, options.factor)
    rows = [measure_route("steadyscale, VIDEO", graph, frames, width, height) for frames in options.frames]
    if options.peer:
        rows += [measure_route("ComfyUI, IMAGE", comfyui_graph(), frames, width, height) for frames in options.frames]
    clip = {"size": options.size, "scale": options.factor, "network": Path(options.network).stem}
    json.dump(
        {"machine": describe_machine(), "comfyui": assets.NEWEST_COMFYUI, "clip": clip, "rows": rows},
        sys.stdout,
        indent=2,
    )
    print()


if __name__ == "__main__":
    main()
