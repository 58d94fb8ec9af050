"""Cost and quality of models, measured before and after compression."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn

from ...models import Upscaler
from ..metrics import warping_error
from ..motion.optical_flow.flow import FlowMethod, flow_model
from ..runtime.threads.torch_threads import one_thread
from ..training.evaluate.metrics import make_lr_pair, round_to_8bit, score
from .fidelity import Fidelity, TeacherComparison, load_feature_distance

FRAME_SIZE = (320, 180)  # width and height of the input frame that costs are reported for
TIMING_ROUNDS = 5  # the minimum counts, because other load only adds time
TIMING_BUDGET_SECONDS = 30.0  # after which two rounds are enough


@dataclass(frozen=True)
class ModelMetrics:
    """Cost and quality of one model.

    name: "original", or the changes. file: file name. parameters: number of weights and biases. gmacs: 10^9
    multiply-accumulates per frame of FRAME_SIZE. seconds: CPU seconds of one thread per such frame. engine: inference
    engine. psnr: in dB, and ssim: of luma, to the ground truth, means over the evaluation images. warping: mean warping
    error of consecutive frames (`metrics.warping_error`) times 10^6; None without videos. fidelity: distances to the
    first model.
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
    fidelity: Fidelity = field(kw_only=True)


def macs_per_pixel(network: nn.Module, in_channels: int, multiple: int) -> float:
    """Count the multiply-accumulates of all convolutions per input pixel."""
    total = 0

    def count(conv: nn.Module, _: object, output: Tensor) -> None:
        nonlocal total
        assert isinstance(conv, nn.Conv2d)
        total += output[0].numel() * conv.weight[0].numel()

    side = 8 * multiple
    hooks = [conv.register_forward_hook(count) for conv in network.modules() if isinstance(conv, nn.Conv2d)]
    try:
        with torch.enable_grad():  # without gradients an RRDBNet runs in tiles, whose overlap would be counted twice
            network(torch.zeros(1, in_channels, side, side, device=next(network.parameters()).device))
    finally:
        for hook in hooks:
            hook.remove()
    return total / side**2


def seconds_per_frame(upscalers: Sequence[Upscaler]) -> list[float]:
    """Measure the CPU seconds of each upscaler per frame on one thread.

    They take turns, so that other load affects all alike. The first round, with allocations and compilation, is not
    counted.
    """
    frame = torch.rand(1, 3, FRAME_SIZE[1], FRAME_SIZE[0], generator=torch.Generator().manual_seed(1))
    best = [float("inf")] * len(upscalers)
    with one_thread():
        for upscaler in upscalers:
            upscaler(frame)
        start = time.process_time()
        for round_index in range(TIMING_ROUNDS):
            if round_index >= 2 and time.process_time() - start > TIMING_BUDGET_SECONDS:
                break
            for index, upscaler in enumerate(upscalers):
                before = time.process_time()
                upscaler(frame)
                best[index] = min(best[index], time.process_time() - before)
    return best


def mean_warping_error(upscaler: Upscaler, clips: Sequence[Sequence[Tensor]]) -> float | None:
    """Mean warping error times 10^6 of videos that are reduced and upscaled again.

    None without clips. clips: consecutive frames (3, H, W), uint8; a cut among them affects all networks alike. The
    flow is estimated on the original frames, so that it is the same for all networks and not affected by blur.
    """
    flow = flow_model(FlowMethod.FARNEBACK)
    errors: list[float] = []
    for frames in clips:
        pairs = [make_lr_pair(frame, upscaler.scale) for frame in frames]
        results = [round_to_8bit(upscaler(small)) for small, _ in pairs]
        for ((_, first), (_, second)), (result, next_result) in zip(pairwise(pairs), pairwise(results), strict=True):
            errors.append(float(warping_error(result, next_result, flow(first, second))[0]))
    return 1e6 * sum(errors) / len(errors) if errors else None


@dataclass(frozen=True)
class Candidate:
    """A model to measure.

    upscaler: as loaded from the file. network: the module that was written to it, to count parameters and
    multiply-accumulates, which an ONNX graph does not expose.
    """

    name: str
    upscaler: Upscaler
    file: Path
    network: nn.Module


def measure_models(
    candidates: Sequence[Candidate], images: Sequence[Tensor], clips: Sequence[Sequence[Tensor]]
) -> Iterator[ModelMetrics]:
    """Yield the metrics of each candidate. The first is the teacher of the others.

    images: (3, H, W), uint8. clips: see `mean_warping_error`.
    """
    teacher = candidates[0].upscaler
    comparison = TeacherComparison(teacher, images, teacher.scale, load_feature_distance())
    durations = seconds_per_frame([candidate.upscaler for candidate in candidates])
    for candidate, seconds in zip(candidates, durations, strict=True):
        upscaler, network = candidate.upscaler, candidate.network
        scores = score(upscaler, images, upscaler.scale)
        macs = macs_per_pixel(network, upscaler.in_channels, upscaler.multiple)
        yield ModelMetrics(
            name=candidate.name,
            file=candidate.file.name,
            parameters=sum(parameter.numel() for parameter in network.parameters()),
            gmacs=macs * FRAME_SIZE[0] * FRAME_SIZE[1] / 1e9,
            bytes=candidate.file.stat().st_size,
            seconds=seconds,
            engine="openvino" if candidate.file.suffix == ".onnx" else upscaler.engine,
            psnr=scores.psnr,
            ssim=scores.ssim,
            warping=mean_warping_error(upscaler, clips),
            fidelity=comparison.measure(upscaler),
        )
