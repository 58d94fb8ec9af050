"""The operations pass their settings on, on the CPU and on a device."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from recorded_calls import RecordedCalls
from steadyscale.core.clip import ClipError, ClipInfo
from steadyscale.core.crop.border import FILL_RADIUS_FRAMES, Border
from steadyscale.core.path.trajectory import Correction
from steadyscale.core.pipeline.deflicker_op import DeflickerOp
from steadyscale.core.pipeline.upscale_op import UpscaleOp
from steadyscale.core.pipeline.warp_op import WarpOp
from steadyscale.core.upscaling.settings import OutputSize, UpscaleSettings, UpscaleStats

INFO = ClipInfo(64, 48, Fraction(24), 4)
STILL = Correction(np.tile(np.eye(3), (4, 1, 1)), [slice(0, 4)], INFO)


class Network:
    scale, halo = 2, 2


@pytest.mark.parametrize("on_device", [False, True])
def test_upscaling_gets_settings_counters_device_and_frame_number(monkeypatch, on_device):
    calls = RecordedCalls(monkeypatch)
    calls.replace("steadyscale.core.pipeline.upscale_op.upscale", iter([]))
    settings, stats, network, frames = UpscaleSettings(OutputSize(3)), UpscaleStats(), Network(), iter([])
    operation = UpscaleOp(network, settings, "cuda:1", stats)
    (operation.run_on_device if on_device else operation.run)(frames, INFO, 7)
    called = calls.calls[0][1]
    assert called.pop("frames" if "frames" in called else "args") is not None
    called = {**called, **called.pop("kwargs", {})}
    assert {key: called[key] for key in ("device", "first_frame")} == {"device": "cuda:1", "first_frame": 7}
    assert called["stats"] is stats
    assert bool(called.get("on_device", False)) == on_device
    assert operation.output_info(INFO).size == (192, 144)


@pytest.mark.parametrize("on_device", [False, True])
def test_warping_gets_border_pad_and_device(monkeypatch, on_device):
    calls = RecordedCalls(monkeypatch)
    calls.replace("steadyscale.core.warping.warp.warp", iter([]))
    operation = WarpOp(STILL, Border.MIRROR, 3, "meta")
    run = operation.run_on_device if on_device else operation.run
    assert list(run(iter([torch.zeros(1, 3, 48, 64)]), INFO)) == []
    called = calls.one("warp")
    assert (called["border"], called["pad"], str(called["device"])) == (Border.MIRROR, 3, "meta")
    assert called["on_device"] == on_device


def test_frames_on_a_device_are_warped_there(monkeypatch):
    calls = RecordedCalls(monkeypatch)
    calls.replace("steadyscale.core.warping.warp.warp", iter([]))
    list(WarpOp(STILL).run_on_device(iter([torch.zeros(1, 3, 48, 64, device="meta")]), INFO))
    assert calls.one("warp")["device"] == torch.device("meta")


def test_deflickering_gets_flow_and_strength_and_grain_goes_on_counting(monkeypatch):
    calls = RecordedCalls(monkeypatch)
    chunks = [torch.zeros(2, 3, 4, 4), torch.zeros(1, 3, 4, 4)]
    calls.replace("steadyscale.core.pipeline.deflicker_op.deflicker", iter(chunks))
    calls.replace("steadyscale.core.pipeline.deflicker_op.add_film_grain_rgba", "grained")
    assert list(DeflickerOp(0.4, 0.25, "the flow").run(iter([]), INFO, 7)) == ["grained"] * 2
    assert (calls.one("deflicker")["flow"], calls.one("deflicker")["strength"]) == ("the flow", 0.4)
    grained = calls.all("add_film_grain_rgba")
    assert [(each["grain"], each["first_frame"]) for each in grained] == [(0.25, 7), (0.25, 9)]


def test_the_frames_that_an_operation_looks_at():
    assert UpscaleOp(Network()).temporal_context == (0, 0)
    assert WarpOp(STILL, Border.FILL).temporal_context == (FILL_RADIUS_FRAMES, FILL_RADIUS_FRAMES)
    assert WarpOp(STILL, Border.MIRROR).temporal_context == (0, 0)
    before, after = DeflickerOp(1.0).temporal_context
    assert (0.8**before, after) == (pytest.approx(1 / 256, rel=0.2), 0)
    assert 0.8**before <= 1 / 256
    assert DeflickerOp(0.0).temporal_context == (0, 0)


def test_a_crop_cannot_be_padded():
    for border in (Border.CROP, Border.CROP_ADAPTIVE):
        with pytest.raises(ClipError, match="a padded frame cannot be cropped"):
            WarpOp(STILL, border, 1)
    assert WarpOp(STILL, Border.EDGE, 2).output_info(INFO).size == (68, 52)
