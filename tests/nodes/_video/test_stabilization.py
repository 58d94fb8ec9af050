"""What is measured and plotted gets the settings of the node."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import torch
from node_calls import run_warp
from recorded_calls import RecordedCalls
from steadyscale.core.bars import FirstBars
from steadyscale.core.clip import ClipError, TensorClip
from steadyscale.core.path.trajectory import Correction
from steadyscale.core.stabilize import StabilizeSettings
from steadyscale.core.video.decode.video_clip import VideoClip

MODULE = "steadyscale.nodes._video.stabilization"
IMAGES, MASK = torch.zeros(3, 48, 64, 3), torch.ones(1, 48, 64)


@pytest.mark.parametrize(("resumable", "folders"), [(False, None), (True, [])])
def test_images_are_measured_with_settings_mask_and_flow(fake_host, monkeypatch, resumable, folders):
    module, settings = fake_host.import_("_video.stabilization"), StabilizeSettings(flow="dis")
    calls = RecordedCalls(monkeypatch)
    calls.replace(f"{MODULE}.flow_model", "the flow")
    calls.replace(f"{MODULE}.measure_motion", "the motion")
    assert module.measure_input_motion(IMAGES, 50.0, settings, MASK, resumable) == ("the motion", folders)
    measured = calls.one("measure_motion")
    without_bars = replace(settings, bars=FirstBars())  # none were found
    assert (measured["settings"], measured["mask"], measured["flow"].model) == (without_bars, MASK, "the flow")
    assert measured["clip"].info.fps == 50
    assert calls.one("flow_model")["method"] is settings.flow


def test_a_file_is_measured_in_a_job_with_settings_mask_and_flow(fake_host, clip_file: Path, monkeypatch):
    module, settings = fake_host.import_("_video.stabilization"), StabilizeSettings(flow="dis")
    calls = RecordedCalls(monkeypatch)
    calls.replace(f"{MODULE}.flow_model", "the flow")
    calls.replace(f"{MODULE}.measure_resumable", ("the motion", "folder"))
    video = fake_host.VideoFromFile(str(clip_file))
    assert module.measure_input_motion(video, 50.0, settings, MASK, True) == ("the motion", ["folder"])
    measured = calls.one("measure_resumable")
    without_bars = replace(settings, bars=FirstBars())  # none were found
    assert (measured["settings"], measured["mask"], measured["flow"].model) == (without_bars, MASK, "the flow")
    assert measured["source"] == clip_file


@pytest.mark.parametrize(("border", "max_zoom"), [("crop", 1.5), ("crop-adaptive", 1.5), ("mirror", None)])
def test_the_zoom_budget_is_drawn_for_crops_only(fake_host, monkeypatch, border, max_zoom):
    module, settings = fake_host.import_("_video.stabilization"), StabilizeSettings(border=border, max_zoom=1.5)
    info = TensorClip(IMAGES.movedim(3, 1)).info
    fix = Correction(np.tile(np.eye(3), (3, 1, 1)), [slice(0, 3)], info)
    calls = RecordedCalls(monkeypatch)
    calls.replace(f"{MODULE}.correct_motion", fix)
    calls.replace(f"{MODULE}.plot_trajectory", torch.zeros(1, 3, 8, 9))
    motion = module.Motion(fix.matrices, np.array([0.0, 1.0, 1.0]), info)
    found, plot, info = module.correct_and_plot(motion, settings)
    assert found is fix
    assert plot.shape == (1, 8, 9, 3)
    assert calls.one("correct_motion")["settings"] is settings
    assert calls.one("plot_trajectory")["caption"] == info == "zoom 1.00, 0 cuts"
    assert (calls.one("plot_trajectory")["max_zoom"], calls.one("plot_trajectory")["applied"]) == (max_zoom, fix)


def test_a_second_pass_has_its_own_progress_and_leaves_the_pairs(fake_host, monkeypatch):
    """It may read parts, as for a region, which one bar counts together."""
    module = fake_host.import_("_video.stabilization")
    calls = RecordedCalls(monkeypatch)
    source = module.MotionSource(TensorClip(IMAGES.movedim(3, 1)), [0, 1])
    assert len(list(source.luma_frames(64))) == 3
    original, bars = module.with_progress, []

    def with_progress(stream, total, done, **options):
        bars.append((total, done))
        return original(stream, total, done=done, **options)

    monkeypatch.setattr(module, "with_progress", with_progress)
    calls.replace(f"{MODULE}.show_text")
    second = source.second_pass(3)
    assert [len(list(second.luma_range(64, *part, None))) for part in ((1, 3), (0, 1))] == [2, 1]
    assert bars == [(3, 0), (3, 2)]
    assert calls.one("show_text")["text"].startswith("measuring again")
    assert [len(pair) for pair in source.pairs] == [2, 2]


def test_a_part_of_a_file_is_not_decoded_from_its_start(fake_host, clip_file: Path, monkeypatch):
    source = fake_host.import_("_video.stabilization").MotionSource(VideoClip(clip_file))
    whole = list(source.luma_frames(64))
    monkeypatch.setattr(VideoClip, "_decode", None)  # of the whole file
    np.testing.assert_array_equal(list(source.luma_range(64, 7, 10, None)), whole[7:10])


def test_images_are_padded(fake_host):
    fix = Correction(np.tile(np.eye(3), (3, 1, 1)), [slice(0, 3)], TensorClip(IMAGES.movedim(3, 1)).info)
    images, masks = run_warp(fake_host, IMAGES + 0.5, fix, "black", pad=4)
    assert (images.shape, masks.shape) == ((3, 56, 72, 3), (3, 56, 72))
    assert masks[:, :4].all()
    assert not images[:, :4].any()
    assert torch.allclose(images[:, 4:-4, 4:-4], IMAGES + 0.5)


class Parser:
    """telemetry_parser with a file of three samples, or of none."""

    samples: ClassVar[list[dict]] = []

    def __init__(self, path: str) -> None:
        assert Path(path).is_file()

    def normalized_imu(self) -> list[dict]:
        return self.samples


@pytest.fixture
def parser(monkeypatch) -> type[Parser]:
    monkeypatch.setitem(sys.modules, "telemetry_parser", SimpleNamespace(Parser=Parser))
    samples = [{"timestamp_ms": 10.0 * i, "gyro": [1.0, 2.0, 3.0]} for i in range(3)]
    monkeypatch.setattr(Parser, "samples", samples)
    return Parser


@pytest.mark.parametrize("resumable", [False, True])
def test_the_gyroscope_of_a_file_is_used_only_if_telemetry_is_on(
    fake_host, clip_file: Path, monkeypatch, parser, resumable
):
    module, video = fake_host.import_("_video.stabilization"), fake_host.VideoFromFile(str(clip_file))
    function = "measure_resumable" if resumable else "measure_motion"
    found = {}
    for telemetry in ("auto", "off"):
        with monkeypatch.context() as patch:
            calls = RecordedCalls(patch)
            calls.replace(f"{MODULE}.flow_model", "the flow")
            calls.replace(f"{MODULE}.{function}", ("the motion", "folder"))
            module.measure_input_motion(video, 50.0, StabilizeSettings(telemetry=telemetry), None, resumable)
            found[telemetry] = calls.one(function)["gyro"]
    assert found["off"] is None
    assert found["auto"].rates == pytest.approx(np.radians(np.tile([1.0, 2.0, 3.0], (3, 1))))


def test_telemetry_that_cannot_be_used_is_an_error_before_anything_is_measured(
    fake_host, clip_file: Path, monkeypatch, parser
):
    module, settings = fake_host.import_("_video.stabilization"), StabilizeSettings(telemetry="auto")
    video, calls = fake_host.VideoFromFile(str(clip_file)), RecordedCalls(monkeypatch)
    calls.replace(f"{MODULE}.measure_motion", "the motion")

    def error_of(frames) -> str:
        with pytest.raises(ClipError) as caught:
            module.measure_input_motion(frames, 50.0, settings, None, False)
        return str(caught.value)

    assert error_of(IMAGES).startswith("telemetry is auto, but an IMAGE holds no telemetry; connect a VIDEO")
    monkeypatch.setattr(parser, "samples", [])
    assert "the file holds no gyroscope" in error_of(video)
    monkeypatch.setitem(sys.modules, "telemetry_parser", None)
    assert "pip install 'steadyscale[telemetry]'" in error_of(video)
    assert "\n" not in error_of(video)
    assert calls.calls == []
