"""Choice of the engine: torch where it is asked for, and clear errors where an engine cannot run."""

from __future__ import annotations

import pytest
import torch
from nearest_upscaler import CancellingModel, NearestUpscaler, random_frames, repeat_pixels
from steadyscale.core.clip import ClipError
from steadyscale.core.upscaling.settings import Engine, Precision, UpscaleSettings, UpscaleStats
from steadyscale.core.upscaling.upscale import upscale
from steadyscale.models import SRVGGConfig, SRVGGNetCompact, Upscaler
from steadyscale.models.native import engine as native_engine
from torch import Tensor


@pytest.fixture
def native_calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shapes that a native engine gets, which is built for this test and returns gray frames."""
    shapes: list[tuple[int, ...]] = []

    class Native:
        def __call__(self, images: Tensor, **_: object) -> Tensor:
            shapes.append(tuple(images.shape))
            return torch.full((*images.shape[:2], images.shape[2] * 2, images.shape[3] * 2), 0.5)

    monkeypatch.setattr(native_engine, "_active_library", object)
    monkeypatch.setattr(native_engine, "srvgg_exact_halo", lambda *_: 0)
    monkeypatch.setattr(native_engine, "midpoint", lambda *_: 0)
    is_network = lambda module: isinstance(module, SRVGGNetCompact)  # noqa: E731
    monkeypatch.setattr(native_engine, "make_native_network", lambda module: Native() if is_network(module) else None)
    return shapes


def compact() -> Upscaler:
    torch.manual_seed(0)
    return Upscaler(SRVGGNetCompact(SRVGGConfig(features=8, convs=2, scale=2)), "small", "SRVGG")


def run(model, engine: Engine, **options) -> tuple[Tensor, str]:
    stats, settings = UpscaleStats(), UpscaleSettings(engine=engine, **options)
    return next(upscale(iter([random_frames(1)]), model, settings, stats=stats)), stats.engine


def test_torch_runs_although_the_native_engine_is_built(native_calls):
    model = CancellingModel(compact(), 99)
    gray = torch.full((1, 3, 20, 28), 0.5)
    for engine in (Engine.AUTO, Engine.NATIVE):
        result, name = run(model, engine)
        assert torch.equal(result, gray)
        assert name == "native"
    assert len(native_calls) == 2
    result, name = run(model, Engine.TORCH)
    with torch.no_grad():
        expected = model.model.model(random_frames(1)).clamp(0, 1)
    torch.testing.assert_close(result, expected)
    assert (name, len(native_calls)) == ("torch", 2)
    assert run(model, Engine.AUTO)[1] == "native", "the model itself is as before"


def test_the_native_engine_must_be_built():
    with pytest.raises(ClipError, match="not built, or cannot run small; run `steadyscale native build`"):
        run(compact(), Engine.NATIVE)


def test_the_native_engine_must_know_the_network(native_calls):
    with pytest.raises(ClipError, match="cannot run NearestUpscaler"):
        run(NearestUpscaler(), Engine.NATIVE)


def test_the_native_engine_runs_in_fp32_on_cpus(native_calls):
    with pytest.raises(ClipError, match="in fp32, not in fp16"):
        run(compact(), Engine.NATIVE, precision=Precision.FP16)
    with pytest.raises(ClipError, match="on CPUs, not on meta"):
        next(upscale(iter([random_frames(1)]), compact(), UpscaleSettings(engine=Engine.NATIVE), device="meta"))


def test_auto_leaves_a_foreign_network_to_torch():
    result, name = run(NearestUpscaler(), Engine.AUTO)
    assert torch.equal(result, repeat_pixels(random_frames(1)))
    assert name == "torch"


def test_an_attribute_of_another_meaning_is_no_engine():
    model = NearestUpscaler()
    model.engine = object()
    assert run(model, Engine.AUTO)[1] == "torch"
    inner = compact()
    inner.model.engine = object()
    assert run(inner, Engine.AUTO)[1] == "torch"
