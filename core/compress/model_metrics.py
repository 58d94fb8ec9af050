"""What a model costs and what it gives: the figures that are compared before and after."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn

from ...models import Upscaler
from ..metrics import warping_error
from ..motion.flow import FlowMethod, flow_model
from ..runtime.torch_threads import one_thread
from ..training.evaluate.metrics import make_lr_pair, round_to_8bit, score

FRAME_SIZE = (320, 180)  # width and height of the frame that costs are told for
TIMING_ROUNDS = 5  # of timing, of which the least counts, for whatever else the machine does only adds
TIMING_BUDGET_SECONDS = 30.0  # of timing, after which two rounds have to do


@dataclass(frozen=True)
class ModelMetrics:
    """name: original, or what was made of it. file: its name. parameters: weights and biases. gmacs: billions of
    multiplications, and seconds: CPU seconds of one thread, that a frame of 320x180 takes. engine: what ran it. psnr
    (dB), ssim: of brightness, mean over the pictures held out. warping: mean squared difference of neighbouring frames
    carried onto each other (`metrics.warping_error`), in millionths; None without videos.
    """

    name: str
    file: str
    parameters: int
    gmacs: float
    bytes: int
    seconds: float
    engine: str
    psnr: float
    ssim: float
    warping: float | None = None


def macs_per_pixel(network: nn.Module, in_channels: int, multiple: int) -> float:
    """How many multiplications the convolutions take for one pixel of the input."""
    total = 0

    def count(conv: nn.Module, _: object, output: Tensor) -> None:
        nonlocal total
        assert isinstance(conv, nn.Conv2d)
        total += output[0].numel() * conv.weight[0].numel()

    side = 8 * multiple
    hooks = [conv.register_forward_hook(count) for conv in network.modules() if isinstance(conv, nn.Conv2d)]
    try:
        with torch.enable_grad():  # with it an RRDBNet makes its picture in one piece, without twice-made margins
            network(torch.zeros(1, in_channels, side, side, device=next(network.parameters()).device))
    finally:
        for hook in hooks:
            hook.remove()
    return total / side**2


def seconds_per_frame(upscalers: Sequence[Upscaler]) -> list[float]:
    """CPU seconds for each to enlarge one frame on one thread. They take turns, so that what else the machine does
    meets all alike; the first turn, in which memory is taken and programs are compiled, does not count."""
    frame = torch.rand(1, 3, FRAME_SIZE[1], FRAME_SIZE[0], generator=torch.Generator().manual_seed(1))
    best = [float("inf")] * len(upscalers)
    with one_thread():
        for upscaler in upscalers:
            upscaler(frame)
        begun = time.process_time()
        for done in range(TIMING_ROUNDS):
            if done >= 2 and time.process_time() - begun > TIMING_BUDGET_SECONDS:
                break
            for index, upscaler in enumerate(upscalers):
                before = time.process_time()
                upscaler(frame)
                best[index] = min(best[index], time.process_time() - before)
    return best


def mean_warping_error(upscaler: Upscaler, clips: Sequence[Sequence[Tensor]]) -> float | None:
    """The mean warping error, in millionths, of videos enlarged from small copies of themselves.

    runs: neighbouring frames (3, H, W), uint8; a cut among them weighs on all networks alike. Motion is measured on the
    true frames, so that it is the same for all networks and blurring does not hide flicker from it.
    """
    flow, found = flow_model(FlowMethod.FARNEBACK), []
    for frames in clips:
        pairs = [make_lr_pair(frame, upscaler.scale) for frame in frames]
        made = [round_to_8bit(upscaler(small)) for small, _ in pairs]
        for ((_, first), (_, second)), (ours, next_one) in zip(pairwise(pairs), pairwise(made), strict=True):
            found.append(float(warping_error(ours, next_one, flow(first, second))[0]))
    return 1e6 * sum(found) / len(found) if found else None


@dataclass(frozen=True)
class Candidate:
    """Who is measured: a name for people, the file as it was read again, and the network that was stored in it, which
    a graph does not show."""

    name: str
    upscaler: Upscaler
    file: Path
    network: nn.Module


def measure_models(
    candidates: Sequence[Candidate], images: Sequence[Tensor], clips: Sequence[Sequence[Tensor]]
) -> Iterator[ModelMetrics]:
    """The figures of each, one after the other. pictures: (3, H, W), uint8. runs: see `warping`."""
    seconds = seconds_per_frame([entrant.upscaler for entrant in candidates])
    for entrant, taken in zip(candidates, seconds, strict=True):
        upscaler, network = entrant.upscaler, entrant.network
        scores = score(upscaler, images, upscaler.scale)
        macs = macs_per_pixel(network, upscaler.in_channels, upscaler.multiple)
        yield ModelMetrics(
            name=entrant.name,
            file=entrant.file.name,
            parameters=sum(parameter.numel() for parameter in network.parameters()),
            gmacs=macs * FRAME_SIZE[0] * FRAME_SIZE[1] / 1e9,
            bytes=entrant.file.stat().st_size,
            seconds=taken,
            engine="openvino" if entrant.file.suffix == ".onnx" else upscaler.engine,
            psnr=scores.psnr,
            ssim=scores.ssim,
            warping=mean_warping_error(upscaler, clips),
        )
