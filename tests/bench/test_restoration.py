"""Test the step pattern of bench/restoration.py on images whose pattern is known, and its image of soft edges."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from steadyscale.core.training.evaluate.metrics import bicubic

BENCH = Path(__file__).parents[2] / "bench"
SLOPE = 2 / 255  # per pixel


@pytest.fixture
def restoration(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    before = set(sys.modules)
    yield importlib.import_module("restoration")
    for name in set(sys.modules) - before:
        if str(BENCH) in str(getattr(sys.modules[name], "__file__", None)):
            del sys.modules[name]


def nearest(image):
    return F.interpolate(image, scale_factor=4, mode="nearest")


def ramp(peak):
    """(1, 3, 64, 96): rises by SLOPE per pixel up to the column `peak`, and falls after it."""
    columns = torch.arange(96.0)
    return (0.2 + SLOPE * torch.minimum(columns, 2 * peak - columns)).expand(1, 3, 64, 96).clone()


@pytest.mark.parametrize("peak", [96, 48])
def test_steps_of_nearest_upsampling_are_measured_in_levels(restoration, peak):
    """The sawtooth of a ramp is -1.5, -0.5, 0.5, 1.5 times its slope; of a rise and a fall, the steps do not cancel."""
    truth = ramp(peak)
    stepped = nearest(F.avg_pool2d(truth, 4))
    expected = 255 * SLOPE * 1.25**0.5
    assert restoration.step_pattern(stepped, truth) == pytest.approx(expected, rel=0.05)
    if peak == 48:
        assert restoration.phase_unevenness(stepped) < 0.01, "its patterns at both sides cancel"


def test_what_is_not_periodic_is_no_step(restoration):
    truth = ramp(96)
    tint = torch.tensor([0.05, -0.03, 0.0])[:, None, None]
    random = torch.Generator().manual_seed(3)
    noise = 4 / 255 * torch.randn(truth.shape, generator=random)
    assert restoration.step_pattern(0.6 * truth + tint, truth) < 0.05
    assert restoration.step_pattern(truth + noise, truth) < 4 / 2, "mostly averaged out"


def test_soft_edges_show_the_steps_of_nearest_upsampling_alone(restoration):
    image = restoration.draw_soft_edges()
    assert image.float().std((1, 2)).min() > 40, "saturated colors in all channels"
    assert max(image.int().diff(dim=axis).abs().max() for axis in (1, 2)) < 40, "no hard edges"
    scores = {name: restoration.score_soft_edges(network) for name, network in (("n", nearest), ("b", bicubic(4)))}
    assert scores["n"]["soft_edge_steps"] > 10 * scores["b"]["soft_edge_steps"]
    assert all(score["soft_edge_drift"] < 0.1 for score in scores.values())
    tinted = restoration.score_soft_edges(lambda x: bicubic(4)(x) * 0.96)
    assert tinted["soft_edge_drift"] > 2
    assert tinted["soft_edge_steps"] == pytest.approx(scores["b"]["soft_edge_steps"], abs=0.2)


def test_drift_is_that_of_the_channel_that_moved_most(restoration):
    tints = [torch.tensor([1.0, -3.0, 2.0])[:, None, None] / 255, torch.zeros(3, 1, 1)]
    truths = [ramp(96), ramp(48)]
    results = [truth + tint for truth, tint in zip(truths, tints, strict=True)]
    assert restoration.measure_drift(results, truths) == pytest.approx(3 / 2, abs=1e-3)
    assert restoration.measure_drift(truths, [F.avg_pool2d(truth, 4) for truth in truths]) < 1e-3
