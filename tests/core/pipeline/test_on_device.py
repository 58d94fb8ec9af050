"""Deflickering and warping of frames on a GPU, simulated: the frames of the CPU, also when memory runs out."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from camera_simulation import make_shaken_clip
from steadyscale.core import Border, ClipInfo, flow_model
from steadyscale.core.filters.deflicker import deflicker
from steadyscale.core.motion.optical_flow.flow import FlowMethod
from steadyscale.core.path.trajectory import Correction
from steadyscale.core.warping.warp import warp

DEVICE = "simgpu"


@pytest.fixture(scope="module")
def frames() -> torch.Tensor:
    """A moving texture whose brightness flickers, with alpha."""
    clip, _ = make_shaken_clip(6, 160, 96)
    rgb = torch.cat(list(clip.frames()))
    gains = torch.tensor([1.0, 0.95, 1.03, 0.97, 1.04, 1.0]).view(-1, 1, 1, 1)
    alpha = torch.linspace(0.5, 1, 160).expand(6, 1, 96, 160)
    return torch.cat([(rgb * gains).clamp(0, 1), alpha], dim=1)


@pytest.fixture(scope="module")
def correction(frames) -> Correction:
    angles = torch.linspace(-0.04, 0.04, 6)
    matrices = torch.eye(3, dtype=torch.float64).repeat(6, 1, 1)
    matrices[:, 0, 2], matrices[:, 1, 2] = 3.3, angles.double() * 60
    return Correction(matrices.numpy(), [slice(0, 6)], ClipInfo(160, 96, Fraction(25), 6))


def run_deflicker(frames, device="cpu"):
    flow = flow_model(FlowMethod.FARNEBACK)
    return [f.cpu().float() for f in deflicker(iter(frames.to(device).split(1)), flow, 0.7)]


def run_warp(frames, correction, border, device="cpu"):
    stream = warp(iter(frames.to(device).split(1)), correction, border, device=device, on_device=True)
    return [warped.frames.cpu() for warped in stream]


def assert_close(results, expected, tolerance):
    assert len(results) == len(expected) == 6
    for result, truth in zip(results, expected, strict=True):
        torch.testing.assert_close(result, truth, atol=tolerance, rtol=0)


def test_deflickering_gives_the_frames_of_the_cpu(gpu, frames):
    expected = run_deflicker(frames)
    assert float((torch.cat(expected) - frames).abs().max()) > 0.01, "something is removed"
    before = gpu.read_counters()
    results = run_deflicker(frames, DEVICE)
    used = gpu.read_counters() - before
    # OpenCV interpolates at positions rounded to 1/32 pixel.
    assert_close(results, expected, 0.03)
    assert float((torch.cat(results) - torch.cat(expected)).abs().mean()) < 0.002
    assert used.pageable_bytes == frames.numel() * 4 * 2, "what this test transfers"


@pytest.mark.parametrize(("device", "ahead"), [("cpu", 0), (DEVICE, 1)])
def test_a_device_is_given_the_next_frame_before_the_motion_of_one_is_estimated(gpu, frames, device, ahead):
    taken, at_flow = 0, []

    def stream():
        nonlocal taken
        for frame in frames.to(device).split(1):
            taken += 1
            yield frame

    def flow(first, second):
        at_flow.append(taken)
        return torch.zeros(1, 2, *first.shape[2:])

    results = [f.cpu() for f in deflicker(stream(), flow, 0.7)]
    assert len(results) == 6
    # There and back for each frame but the first.
    assert at_flow == [min(6, number + ahead) for number in range(2, 7) for _ in range(2)]


def test_deflickering_waits_at_most_twice_per_frame_for_the_device(gpu, frames):
    on_device, flow = frames.to(DEVICE), flow_model(FlowMethod.FARNEBACK)
    before = gpu.read_counters()
    count = sum(len(chunk) for chunk in deflicker(iter(on_device.split(1)), flow, 0.7))
    used = gpu.read_counters() - before
    assert count == 6
    assert used.synchronizations <= 2 * count, "of the reduced frame and of the reduced last result"


@pytest.mark.parametrize("border", [Border.MIRROR, Border.WRAP, Border.EDGE, Border.BLACK])
def test_warping_gives_the_frames_of_the_cpu(gpu, frames, correction, border):
    results, expected = run_warp(frames, correction, border, DEVICE), run_warp(frames, correction, border)
    assert float((torch.cat(results) - torch.cat(expected)).abs().mean()) < 0.004
    assert float((torch.cat(results) - frames).abs().mean()) > 0.02, "something moves"


def test_running_out_of_memory_changes_nothing(gpu, frames, correction):
    expected_warp, expected_filter = run_warp(frames, correction, Border.MIRROR, DEVICE), run_deflicker(frames, DEVICE)
    for index in range(8, 40, 4):
        on_device = frames.to(DEVICE)
        gpu.fail_allocation(index)
        assert_close(run_warp(on_device, correction, Border.MIRROR, DEVICE), expected_warp, 0.1)
        gpu.fail_allocation(index)
        assert_close(run_deflicker(on_device, DEVICE), expected_filter, 0.05)
