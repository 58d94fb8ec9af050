"""Benchmark of upscaling on a GPU against ComfyUI's node.

    python bench/upscale_gpu.py --model FILE [--model FILE ...] --comfyui /path/to/ComfyUI > gpu.json

Both run in one process, alternating, on the same frames. Both start from and end with float32 frames in host memory, as
IMAGE does. ComfyUI's code is imported and run as the host runs it. Frames per second are the best of the rounds;
`drift_of_255` is the largest difference from the network in float32 without tiles, in steps of 1/255; `of_peak`
compares the operations of the network's convolutions with the fastest half-precision matrix product on this GPU.
`--device cpu` runs everything without a GPU, slowly.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from steadyscale.core.runtime.accelerator import accelerator_for, resolve_device
from torch import Tensor
from upscale import synthetic_photo

Runner = Callable[[Tensor], Tensor]  # IMAGE (n, h, w, 3) float32 on the CPU -> (n, h * scale, w * scale, 3), the same


def steadyscale_runner(model: Any, device: torch.device) -> Runner:
    """SteadyScale's `upscale` stage with its defaults.

    The library, the command line and the nodes use it.
    """
    from steadyscale.core.upscaling.upscale import upscale

    def run(images: Tensor) -> Tensor:
        n, height, width, _ = images.shape
        out = torch.empty(n, height * model.scale, width * model.scale, 3)
        done = 0
        for large in upscale(iter(images.movedim(3, 1).split(1)), model, device=device):
            out[done : done + len(large)] = large.movedim(1, 3)
            done += len(large)
        return out

    return run


def comfyui_runner(model: Any) -> Runner:
    """ComfyUI's *Upscale Image (using Model)* on the same weights."""
    from comfy_extras.nodes_upscale_model import ImageUpscaleWithModel
    from spandrel import ModelLoader

    descriptor = ModelLoader().load_from_state_dict(model.model.state_dict()).eval()
    node = getattr(ImageUpscaleWithModel, "execute", None) or ImageUpscaleWithModel().upscale

    @torch.inference_mode()
    def run(images: Tensor) -> Tensor:
        return node(descriptor, images)[0]

    return run


def import_comfyui(tree: Path, device: torch.device) -> None:
    """Import ComfyUI, which reads its options at import, without our command line."""
    own_argv, sys.argv = sys.argv, ["main.py", *(["--cpu"] if device.type == "cpu" else [])]
    sys.path.insert(0, str(tree))
    import comfy.options

    comfy.options.enable_args_parsing()
    import comfy.model_management

    sys.argv = own_argv


def reference_output(model: Any, image: Tensor, device: torch.device) -> Tensor:
    """Run the network on a frame in float32 without tiles and TF32.

    (h, w, 3) -> (H, W, 3).
    """
    module = model.model.to(device)
    with torch.inference_mode(), accelerator_for(device).tf32(False):
        result = module(image.movedim(2, 0)[None].to(device)).clamp(0, 1)[0].movedim(0, 2).cpu()
    module.to("cpu")
    return result


def measure_peak_flops(device: torch.device) -> float:
    """Peak operations per second of a matrix product, in float16 on a GPU."""
    accelerator = accelerator_for(device)
    n, dtype = (1024, torch.float32) if accelerator.is_cpu else (8192, torch.float16)
    a, b = torch.rand(n, n, device=device).to(dtype), torch.rand(n, n, device=device).to(dtype)
    best = 0.0
    for _ in range(10):
        start = time.perf_counter()
        a @ b
        accelerator.synchronize()
        best = max(best, 2 * n**3 / (time.perf_counter() - start))
    return best


def count_flops(module: torch.nn.Module, height: int, width: int) -> float:
    """Multiplications and additions of the convolutions for one frame.

    By their definition, whatever algorithm computes them.
    """
    total, small = 0, 32

    def count(conv: torch.nn.Conv2d, _: object, out: Tensor) -> None:
        nonlocal total
        total += 2 * conv.weight[0].numel() * out.numel()

    hooks = [m.register_forward_hook(count) for m in module.modules() if isinstance(m, torch.nn.Conv2d)]
    with torch.no_grad():
        module(torch.zeros(1, 3, small, small))
    for hook in hooks:
        hook.remove()
    return total * height * width / small**2


def benchmark_model(file: Path, options: argparse.Namespace) -> list[dict[str, object]]:
    """Run both contenders on one network; returns one row for each."""
    from steadyscale.models import load_upscaler

    device = torch.device(options.device)
    accelerator = accelerator_for(device)
    width, height = (int(side) for side in options.size.split("x"))
    images = torch.from_numpy(np.stack([synthetic_photo(width, height, seed=4 + n) for n in range(options.frames)]))
    model = load_upscaler(file)
    reference, work = reference_output(model, images[-1], device), count_flops(model.model, height, width)
    runs = {"ours": steadyscale_runner(model, device)} | ({"comfyui": comfyui_runner(model)} if options.comfyui else {})
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    rows: dict[str, dict[str, object]] = {}
    for turn in range(options.rounds + 1):
        for name, run in runs.items():
            accelerator.release_cache()
            if accelerator.reports_peak_memory:
                accelerator.reset_peak_memory()
            start = time.perf_counter()
            result = run(images)
            accelerator.synchronize()
            if turn:  # the first run warms the caches, and its result is compared
                seconds[name].append(time.perf_counter() - start)
                continue
            drift = float((result[-1] - reference).abs().max()) * 255
            peak_mb = accelerator.peak_memory() / 2**20 if accelerator.reports_peak_memory else None
            rows[name] = {"path": name, "drift_of_255": round(drift, 3), "card_mb": peak_mb and round(peak_mb)}
    for name, row in rows.items():
        fps = options.frames / min(seconds[name])
        row |= {"network": file.stem, "size": options.size, "fps": round(fps, 3)}
        row |= {"seconds_all": [round(s, 3) for s in seconds[name]], "of_peak": round(fps * work / options.peak, 4)}
        if "comfyui" in rows:
            row["times_comfyui"] = round(min(seconds["comfyui"]) / min(seconds[name]), 2)
    return list(rows.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, action="append", required=True, help="a weight file, repeatable")
    parser.add_argument("--comfyui", type=Path, help="a ComfyUI tree; without it ours runs alone")
    parser.add_argument("--size", default="1280x720", help="of the frames before upscaling (default 1280x720)")
    parser.add_argument("--frames", type=int, default=8, help="frames of the clip, all different (default 8)")
    parser.add_argument("--rounds", type=int, default=3, help="timed runs of each (default 3)")
    parser.add_argument("--device", default="auto", help="any device of torch (default: a GPU if there is one)")
    options = parser.parse_args()
    options.device = resolve_device(options.device)
    device = torch.device(options.device)
    if options.comfyui:
        import_comfyui(options.comfyui.resolve(), device)
    options.peak = measure_peak_flops(device)
    rows = [row for file in options.model for row in benchmark_model(file.resolve(), options)]
    machine = {
        "device": accelerator_for(device).name,
        "torch": torch.__version__,
        "peak_tflops": round(options.peak / 1e12, 2),
    }
    json.dump({"machine": machine, "frames": options.frames, "rows": rows}, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
