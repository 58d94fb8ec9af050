"""Temporal losses against known flicker, and the filter in training against the filter in use."""

import pytest
import torch
from steadyscale.core.filters.deflicker import deflicker
from steadyscale.core.motion.optical_flow.flow import FlowMethod, flow_model
from steadyscale.core.training.data.clips import measure_motion
from steadyscale.core.training.losses.temporal import deflickered, neighbor_pairs, temporal_consistency
from torch.autograd import gradcheck


def still(count: int, side: int = 12, dtype=torch.float32):
    """No motion within clips of `count` frames, two of them: flow and confidence."""
    confidence = torch.ones(2 * count, 1, side, side, dtype=dtype)
    confidence[[0, count]] = 0
    return torch.zeros(2 * count, 2, side, side, dtype=dtype), confidence


def test_only_changes_of_the_error_cost():
    flow, confidence = still(3)
    target = torch.rand(6, 3, 12, 12)
    constant = torch.rand(1, 3, 12, 12).repeat(6, 1, 1, 1)
    assert temporal_consistency(target + constant, target, flow, confidence) < 1e-6
    signs = torch.tensor([1.0, -1, 1, 1, -1, 1]).view(6, 1, 1, 1)
    assert temporal_consistency(target + 0.1 * signs, target, flow, confidence) == pytest.approx(0.2, abs=1e-6)
    # The jump between the two clips costs nothing.
    levels = torch.tensor([0.0, 0, 0, 1, 1, 1]).view(6, 1, 1, 1)
    assert temporal_consistency(target + levels, target, flow, confidence) < 1e-6
    assert temporal_consistency(target + 0.1 * signs, target, flow, torch.zeros_like(confidence)) == 0


def test_an_error_that_moves_with_the_scene_costs_nothing():
    flow, confidence = still(3, 24)
    flow[:, 0] = -2.0  # the scene moves to the right by 2 pixels per frame: a point was further left before
    wide = torch.rand(1, 3, 24, 40)
    error = torch.cat([wide[..., 8 - 2 * t : 32 - 2 * t] for t in (0, 1, 2)] * 2)
    target = torch.rand(6, 3, 24, 24)
    confidence[..., :2] = 0  # enters the frame
    assert temporal_consistency(target + error, target, flow, confidence) < 1e-5
    assert temporal_consistency(target + error, target, -flow, confidence) > 0.1


def test_the_loss_filters_as_the_deflicker_filter_does(texture_factory):
    generator = torch.Generator().manual_seed(1)
    wide = texture_factory(5, 160).float()[None] / 255 * 0.6 + 0.2
    frames = torch.cat([wide[..., 20:116, 20 + 3 * t : 116 + 3 * t] for t in range(4)])
    frames += 0.02 * torch.randn(frames.shape, generator=generator)
    motion = measure_motion(frames)
    ours = deflickered(frames, motion.flow, motion.confidence, 4, 0.6)
    used = torch.cat(list(deflicker(iter([frames]), flow_model(FlowMethod.DIS), 0.6)))
    assert torch.equal(ours[0], frames[0])
    inside = (slice(1, None), ..., slice(8, -8), slice(8, -8))
    assert (ours - used)[inside].abs().mean() < 0.25 * (ours - frames)[inside].abs().mean()
    noise = [(x[3] - wide[0, :, 20:116, 29:125])[..., 8:-8, 8:-8].std() for x in (frames, ours)]
    assert noise[1] < 0.8 * noise[0]


def test_the_filter_blends_by_strength_and_never_across_clips():
    flow, confidence = still(2)
    frames = torch.rand(4, 3, 12, 12)
    assert torch.equal(deflickered(frames, flow, confidence, 2, 0.0), frames)
    result = deflickered(frames, flow, confidence, 2, 0.5)
    assert torch.equal(result[[0, 2]], frames[[0, 2]])
    assert torch.equal(deflickered(frames.roll(2, 0), flow, confidence, 2, 0.5), result.roll(2, 0))
    flat = torch.tensor([0.50, 0.51, 0.2, 0.2]).view(4, 1, 1, 1).expand(4, 3, 12, 12) + 0.2 * torch.rand(1, 3, 12, 12)
    blended = deflickered(flat, flow, confidence, 2, 0.5)
    inner = (slice(None), slice(4, 8), slice(4, 8))  # where the local range does not limit the result
    share = (blended[1] - flat[1])[inner].median() / (flat[0] - flat[1])[inner].median()
    assert share == pytest.approx(0.4, abs=0.01)  # 0.8, the filter's largest weight, times the strength


def test_pairs_join_a_frame_with_the_aligned_one_before():
    flow, confidence = still(3)
    frames = torch.rand(6, 3, 12, 12)
    confidence[..., :6] = 0
    pairs = neighbor_pairs(frames, flow, confidence, 3)
    assert pairs.shape == (4, 6, 12, 12)
    for pair, index in zip(pairs, (1, 2, 4, 5), strict=True):
        assert torch.equal(pair[:3], frames[index])
        assert torch.allclose(pair[3:, :, 6:], frames[index - 1][..., 6:], atol=1e-5)
        assert torch.equal(pair[3:, :, :6], frames[index][..., :6])


def test_gradients():
    flow, confidence = still(2, 6, torch.float64)
    flow += 0.3
    confidence *= 0.7
    frames, target = torch.rand(2, 4, 1, 6, 6, dtype=torch.float64).unbind(0)
    frames.requires_grad_()
    assert gradcheck(lambda x: temporal_consistency(x, target, flow, confidence), frames)
    assert gradcheck(lambda x: neighbor_pairs(x, flow, confidence, 2), frames)
    # The bounds of the filter are constants, so only what they do not limit has the exact gradient.
    deflickered(frames, flow, confidence, 2, 0.5).sum().backward()
    assert frames.grad is not None
    assert frames.grad.isfinite().all()
    assert frames.grad[[0, 2]].abs().min() >= 0.9
