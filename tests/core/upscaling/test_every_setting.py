"""Every setting of upscaling changes the result, what the network gets, or what runs it."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from nearest_upscaler import NearestUpscaler, random_frames
from recorded_calls import RecordedCalls
from steadyscale.core.upscaling.model.model_traits import read_traits
from steadyscale.core.upscaling.settings import (
    Alpha,
    ColorCorrection,
    Engine,
    OutputSize,
    PostProcess,
    Precision,
    Reuse,
    Tiling,
    UpscaleSettings,
    UpscaleStats,
)
from steadyscale.core.upscaling.upscale import upscale

BASE = UpscaleSettings(tiling=Tiling(size=16, halo=0))
# (settings with the value, settings without it)
CHANGES: dict[str, tuple[UpscaleSettings, UpscaleSettings]] = {
    "size.factor": (replace(BASE, size=OutputSize(factor=1.5)), BASE),
    "size.size": (replace(BASE, size=OutputSize(size=(30, 20))), BASE),
    "tiling.size": (replace(BASE, tiling=Tiling(8, 0)), BASE),
    "tiling.halo": (replace(BASE, tiling=Tiling(16, 3)), BASE),
    "precision": (replace(BASE, precision=Precision.BF16), BASE),
    "reuse.enabled": (replace(BASE, reuse=Reuse(enabled=False)), BASE),
    "reuse.threshold": (replace(BASE, reuse=Reuse(threshold=9)), BASE),
    "postprocess.strength": (replace(BASE, postprocess=PostProcess(strength=0.5)), BASE),
    "postprocess.color_correction": (
        replace(BASE, postprocess=PostProcess(color_correction=ColorCorrection.MEAN)),
        BASE,
    ),
    "postprocess.grain": (replace(BASE, postprocess=PostProcess(grain=0.5)), BASE),
    "postprocess.linear_light": (
        replace(BASE, size=OutputSize(1.5), postprocess=PostProcess(linear_light=True)),
        replace(BASE, size=OutputSize(1.5)),
    ),
    "alpha": (replace(BASE, alpha=Alpha.NETWORK), BASE),
    "compile": (replace(BASE, compile=True), BASE),
    "engine": (replace(BASE, engine=Engine.TORCH), BASE),
}


def leaves(settings: Any, prefix: str = "") -> list[str]:
    """The names of the fields, those of fields included."""
    found: list[str] = []
    for each in fields(settings):
        value = getattr(settings, each.name)
        is_inner = hasattr(value, "__dataclass_fields__")
        found += leaves(value, f"{each.name}.") if is_inner else [prefix + each.name]
    return found


def test_every_setting_is_here():
    assert {*leaves(UpscaleSettings())} == {*CHANGES}


def observe(monkeypatch: pytest.MonkeyPatch, settings: UpscaleSettings) -> tuple[Any, ...]:
    """The result, the inputs of the network, the counters, and how the network is prepared."""
    model, stats = NearestUpscaler(), UpscaleStats()
    model.gain.data.fill_(0.5)
    frame = random_frames(1, 4, 24, 40)
    frames = [frame, frame, (frame + 4 / 255).clamp(0, 1)]
    with monkeypatch.context() as patch:
        calls = RecordedCalls(patch)
        chunk = "steadyscale.core.upscaling.chunk_upscaler"
        calls.replace(f"{chunk}.check_engine", read_traits(model))
        calls.replace("steadyscale.core.upscaling.model.replica.compile_forward")
        result = torch.cat(list(upscale(iter(frames), model, settings, stats=stats)))
        engines = [call["engine"] for call in calls.all("check_engine")]
        return result.shape, result.sum().item(), model.calls, stats, engines, len(calls.all("compile_forward"))


@pytest.mark.parametrize("name", CHANGES)
def test_a_setting_has_an_effect(monkeypatch, name):
    with_value, without = CHANGES[name]
    first = observe(monkeypatch, without)
    assert first == observe(monkeypatch, without), "the same twice"
    assert observe(monkeypatch, with_value) != first


def test_the_chosen_precision_and_engine_are_checked_and_reported(monkeypatch):
    *_, stats, engines, _ = observe(monkeypatch, replace(BASE, precision=Precision.BF16, engine=Engine.TORCH))
    assert (stats.mode, stats.engine) == ("bf16", "torch")
    assert engines == [Engine.TORCH]
