"""ComfyUI's node *Upscale Image (using Model)* beside `upscale`.

They alternate, on the same frames in main memory.
"""

from __future__ import annotations

import copy
import importlib.util
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from steadyscale.core import upscale
from steadyscale.core.upscaling.benchmark import speed_fields
from steadyscale.core.upscaling.settings import UpscaleStats
from steadyscale.models import Upscaler
from torch import Tensor

from .networks import make_upscaler, photos
from .peer import import_comfyui, run_eagerly, upscale_like_comfyui
from .session import NotAvailable, Row, Session

CASES = (("compact4x", (960, 540)), ("rrdb23", (512, 512)), ("rrdb23", (960, 540)), ("compact2x", (1920, 1080)))
FRAMES, ROUNDS = 3, 3

Runner = Callable[[Tensor], Tensor]  # IMAGE (n, h, w, 3) float32 on the CPU -> (n, h * scale, w * scale, 3), the same


def run(session: Session) -> None:
    if session.comfyui is not None:
        import_comfyui(session.comfyui, session.device)
    for network, size in CASES[: session.count(len(CASES), 2)]:
        _compare(session, network, session.size(*size))


def summarize(rows: list[Row]) -> str:
    ratios = [row for row in rows if row.get("times_peer") is not None]
    return "; ".join(f"{row['network']} {row['size']} {row['times_peer']:.2f}x {row['peer']}" for row in ratios)


def _compare(session: Session, network: str, size: tuple[int, int]) -> None:
    model = make_upscaler(network, is_quick=session.is_quick)
    images = torch.cat(photos(*size, session.count(FRAMES, 2))).movedim(1, 3).contiguous()
    keys = speed_fields(network, "", *size)

    def measure() -> Row:
        peer, run_peer = _make_peer(session, model)
        stats = UpscaleStats()
        runners: dict[str, Runner] = {"ours": lambda batch: _run_ours(session, model, batch, stats), peer: run_peer}
        results, seconds = {}, {name: [] for name in runners}
        for turn in range(session.count(ROUNDS) + 1):
            for name, runner in runners.items():
                session.accelerator.release_cache()
                start = time.perf_counter()
                result = runner(images)
                session.accelerator.synchronize()
                if turn or session.is_quick:  # the first run loads, compiles and warms caches
                    seconds[name].append(time.perf_counter() - start)
                results[name] = result
        ours, theirs = (len(images) / statistics.median(seconds[name]) for name in ("ours", peer))
        difference = (results["ours"] - results[peer]).abs()
        return {
            "peer": peer,
            "dtype": stats.mode,
            # It runs in float32, in which torch uses TF32 for convolutions by default.
            "peer_dtype": "tf32" if session.accelerator.has_tf32 else "fp32",
            "fps": ours,
            "peer_fps": theirs,
            "times_peer": ours / theirs,
            "share_within_1_of_255": float((difference <= 1.0001 / 255).float().mean()),
            "seconds_all": {name: list(values) for name, values in seconds.items()},
        }

    session.measure_row(measure, **keys)


def _run_ours(session: Session, model: Upscaler, images: Tensor, stats: UpscaleStats) -> Tensor:
    """Run the `upscale` stage with its defaults.

    The library, the command line and the nodes use it.
    """
    n, height, width, _ = images.shape
    out, done = torch.empty(n, height * model.scale, width * model.scale, 3), 0
    for frames in upscale(iter(images.movedim(3, 1).split(1)), model, device=session.device, stats=stats):
        out[done : done + len(frames)] = frames.movedim(1, 3)
        done += len(frames)
    return out


def _make_peer(session: Session, model: Upscaler) -> tuple[str, Runner]:
    """The name of the peer, and the function that runs it.

    It is ComfyUI's node if its tree is given; else its steps, with spandrel's network or an equal one.
    """
    if session.comfyui is not None:
        from comfy_extras.nodes_upscale_model import ImageUpscaleWithModel

        node = getattr(ImageUpscaleWithModel, "execute", None) or ImageUpscaleWithModel().upscale
        descriptor = _load_spandrel(model)
        return "ComfyUI", torch.inference_mode()(lambda images: node(descriptor, images)[0])
    # spandrel does not recognize the narrow networks of a quick run.
    if importlib.util.find_spec("spandrel") is not None and not session.is_quick:
        descriptor = _load_spandrel(model)
        return "spandrel", lambda images: upscale_like_comfyui(
            images, descriptor.model, descriptor, model.scale, session.accelerator
        )
    network = copy.deepcopy(model.model)
    return "eager copy", lambda images: upscale_like_comfyui(
        images, network, lambda tile: run_eagerly(network, tile), model.scale, session.accelerator
    )


def _load_spandrel(model: Upscaler) -> Any:
    from spandrel import ModelLoader

    try:
        return ModelLoader().load_from_state_dict(model.model.state_dict()).eval()
    except Exception as error:
        raise NotAvailable(f"spandrel cannot load this network: {error}") from error
