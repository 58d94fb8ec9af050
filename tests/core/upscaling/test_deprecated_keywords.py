"""The keyword arguments of version 0.1 work, warn at the caller's line, and are no part of the signature."""

from __future__ import annotations

import inspect
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from nearest_upscaler import NearestUpscaler, random_frames
from steadyscale.core.pipeline.upscale_op import UpscaleOp
from steadyscale.core.upscaling.settings import (
    Alpha,
    OutputSize,
    PostProcess,
    Precision,
    Reuse,
    Tiling,
    UpscaleSettings,
    UpscaleStats,
)
from steadyscale.core.upscaling.upscale import upscale

OLD_AND_NEW = [
    ("target", OutputSize(factor=3), "size"),
    ("tiling", Tiling(8), "tiling"),
    ("precision", Precision.FP32, "precision"),
    ("reuse", Reuse(enabled=False), "reuse"),
    ("finish", PostProcess(grain=0.1), "postprocess"),
    ("alpha", Alpha.NETWORK, "alpha"),
    ("compile_network", True, "compile"),
]


@pytest.mark.parametrize(("old", "value", "new"), OLD_AND_NEW)
def test_an_old_keyword_of_the_operation_replaces_one_setting(old: str, value: Any, new: str):
    with pytest.warns(DeprecationWarning, match=f"'{old}' is now UpscaleSettings.{new}") as caught:
        operation = UpscaleOp(NearestUpscaler(), **{old: value})
    assert Path(caught[0].filename) == Path(__file__)
    assert operation.settings == replace(UpscaleSettings(), **{new: value})
    assert [field.name for field in fields(operation)] == ["model", "settings", "device", "stats"]


def test_old_keywords_of_upscale_are_passed_on():
    frames, stats, grain = random_frames(2), UpscaleStats(), PostProcess(grain=0.5)
    with pytest.warns(DeprecationWarning, match="keyword argument") as caught:
        stream = upscale(iter([frames]), NearestUpscaler(), target=OutputSize(factor=1.5), finish=grain, tally=stats)
    assert {Path(warning.filename) for warning in caught} == {Path(__file__)}
    settings = UpscaleSettings(OutputSize(factor=1.5), postprocess=grain)
    assert torch.equal(next(stream), next(upscale(iter([frames]), NearestUpscaler(), settings)))
    assert stats.frames == 2
    with pytest.warns(DeprecationWarning, match="'first' is now first_frame"):
        later = next(upscale(iter([frames]), NearestUpscaler(), settings, first=7))
    assert torch.equal(later, next(upscale(iter([frames]), NearestUpscaler(), settings, first_frame=7)))


def test_the_signature_shows_the_present_names_only():
    assert list(inspect.signature(upscale).parameters) == [
        "frames",
        "model",
        "settings",
        "device",
        "stats",
        "first_frame",
        "on_device",
    ]
    with pytest.raises(TypeError, match="sharpness"):
        upscale(iter([]), NearestUpscaler(), sharpness=1)


def test_old_names_of_fields_are_read():
    with pytest.warns(DeprecationWarning, match="'enabled'"):
        assert Reuse(on=False) == Reuse(enabled=False)
    with pytest.warns(DeprecationWarning, match="OutputSize.resolve"):
        assert OutputSize(factor=2).of(3, 4, 1) == (6, 8)
    with pytest.warns(DeprecationWarning, match="computed_fraction"):
        assert UpscaleStats(pixels=4, pixels_computed=1).share_run == 0.25
