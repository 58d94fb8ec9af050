"""The ONNX Runtime engine: torch's results, and torch itself wherever the engine cannot give them."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import onnxruntime
import pytest
import torch
from nearest_upscaler import CancellingModel, NearestUpscaler, random_frames, repeat_pixels
from steadyscale.core.clip import ClipError
from steadyscale.core.upscaling.model import onnx_engine, onnx_graph
from steadyscale.core.upscaling.model.model_traits import find_module
from steadyscale.core.upscaling.model.onnx_engine import OnnxModule
from steadyscale.core.upscaling.model.onnx_providers import OnnxSession
from steadyscale.core.upscaling.settings import Alpha, Engine, Precision, Reuse, Tiling, UpscaleSettings, UpscaleStats
from steadyscale.core.upscaling.upscale import upscale
from steadyscale.models import RRDBConfig, RRDBNet, SRVGGConfig, SRVGGNetCompact, Upscaler
from torch import Tensor, nn

FALLBACK = "the ONNX Runtime engine is not used, torch runs instead"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STEADYSCALE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def exports(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shapes that were exported."""
    shapes: list[tuple[int, ...]] = []
    export = onnx_graph.export_graph

    def counting(module: nn.Module, example: Tensor, path: Path, **options: object) -> None:
        shapes.append(tuple(example.shape))
        export(module, example, path, **options)

    monkeypatch.setattr(onnx_graph, "export_graph", counting)
    return shapes


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shapes of the sessions that were started."""
    shapes: list[tuple[int, ...]] = []

    class Counting(OnnxSession):
        def __init__(self, graph: Path, provider: object, like: Tensor) -> None:
            super().__init__(graph, provider, like)
            shapes.append(tuple(like.shape))

    monkeypatch.setattr(onnx_engine, "OnnxSession", Counting)
    return shapes


def compact(channels: int = 3) -> Upscaler:
    torch.manual_seed(0)
    config = SRVGGConfig(in_channels=channels, out_channels=channels, features=8, convs=2, scale=2)
    return Upscaler(SRVGGNetCompact(config), "small", "SRVGG")


def run(model, frames: Tensor, engine: Engine = Engine.ONNX, stats: UpscaleStats | None = None, **settings) -> Tensor:
    chunks = iter(frames.split(1))
    return torch.cat(list(upscale(chunks, model, UpscaleSettings(engine=engine, **settings), stats=stats)))


def fallbacks(caplog: pytest.LogCaptureFixture) -> list[str]:
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert all(message.startswith(FALLBACK) for message in warnings)
    return warnings


# ---- the same results ----


NETWORKS = {
    "compact": compact,
    "rrdb": lambda: Upscaler(RRDBNet(RRDBConfig(features=8, growth=4, blocks=1)), "rrdb", "RRDB"),
    "unshuffle": lambda: Upscaler(RRDBNet(RRDBConfig(features=8, growth=4, blocks=1, scale=2, unshuffle=2)), "u", "R"),
    "gray": lambda: compact(1),
    "rgba": lambda: compact(4),
    "wrapped": lambda: CancellingModel(compact(), 99),
    "foreign": NearestUpscaler,
}


@pytest.mark.parametrize("tile", [None, 32])
@pytest.mark.parametrize("name", NETWORKS)
def test_results_are_those_of_torch(name: str, tile: int | None, sessions, caplog):
    model, stats = NETWORKS[name](), UpscaleStats()
    frames, tiling = random_frames(3, height=44, width=60), Tiling(tile)
    result = run(model, frames, stats=stats, tiling=tiling)
    torch.testing.assert_close(result, run(model, frames, Engine.TORCH, tiling=tiling), atol=1e-4, rtol=0)
    assert stats.engine == "onnx (CPU)"
    assert len(sessions) == 1, "all windows of a stream have one shape"
    assert not fallbacks(caplog)


@pytest.mark.parametrize("alpha", list(Alpha))
def test_transparent_frames(alpha: Alpha):
    model, frames = compact(), random_frames(2, channels=4, height=20, width=24)
    expected = run(model, frames, Engine.TORCH, alpha=alpha)
    torch.testing.assert_close(run(model, frames, alpha=alpha), expected, atol=1e-4, rtol=0)


def test_weights_that_were_loaded_in_inference_mode(caplog):
    with torch.inference_mode():
        model = compact()
    frames, stats = random_frames(2), UpscaleStats()
    torch.testing.assert_close(run(model, frames, stats=stats), run(model, frames, Engine.TORCH), atol=1e-4, rtol=0)
    assert stats.engine == "onnx (CPU)"


def test_the_module_and_its_wrapper_are_not_modified():
    model, frames = CancellingModel(compact(), 99), random_frames(2)
    module = find_module(model)
    module.train()
    names = dict(vars(model.model)), dict(vars(module)), {name: id(p) for name, p in module.named_parameters()}
    versions = [parameter._version for parameter in module.parameters()]
    list(upscale(iter([frames]), model, UpscaleSettings(engine=Engine.ONNX)))
    assert (dict(vars(model.model)), dict(vars(module)), {n: id(p) for n, p in module.named_parameters()}) == names
    assert [parameter._version for parameter in module.parameters()] == versions
    assert all(part.training for part in module.modules())


def test_a_network_that_works_in_place_gets_every_frame_as_it_is():
    class InPlace(NearestUpscaler):
        def forward(self, x: Tensor) -> Tensor:
            return repeat_pixels(x.mul_(0.5))

    frames = random_frames(3)
    torch.testing.assert_close(run(InPlace(), frames), repeat_pixels(frames * 0.5))


# ---- graphs and sessions ----


def test_a_second_run_takes_the_graph_from_the_cache(exports, cache: Path, monkeypatch):
    frames = random_frames(2)
    first = run(compact(), frames)
    assert exports == [(1, 3, 10, 14)]
    assert torch.equal(run(compact(), frames), first)
    assert len(exports) == 1
    assert [path.name for path in cache.rglob("*") if path.is_file()] == ["graph.onnx"]
    with torch.no_grad():
        changed = compact()
        next(changed.model.parameters()).mul_(2)
    torch.testing.assert_close(run(changed, frames), run(changed, frames, Engine.TORCH), atol=1e-4, rtol=0)
    assert len(exports) == 2, "other weights are another graph"


def test_an_attribute_that_is_no_weight_makes_another_graph(exports):
    for scale in (2, 3):
        model, frames = NearestUpscaler(scale), random_frames(1)
        assert torch.equal(run(model, frames), repeat_pixels(frames, scale))
    assert len(exports) == 2


def test_old_graphs_are_removed_when_the_cache_is_too_large(exports, cache: Path, monkeypatch):
    monkeypatch.setattr(onnx_graph, "MAX_CACHE_BYTES", 1)
    for height in (10, 12, 14):
        run(compact(), random_frames(1, height=height))
    assert len(list((cache / "onnx").iterdir())) == 1
    run(compact(), random_frames(1, height=14))
    assert len(exports) == 3, "the last one stays"


def test_further_shapes_run_in_torch_until_they_come_up_often(sessions, monkeypatch):
    monkeypatch.setattr(onnx_engine, "CALLS_BEFORE_SESSION", 2)
    monkeypatch.setattr(onnx_engine, "MAX_SESSIONS", 2)
    plain = compact().model
    module = OnnxModule(plain, plain)
    images = [random_frames(1, width=width) for width in (8, 12, 16)]
    with torch.inference_mode():
        for image in [images[0], *images[1:] * 3, images[0]]:
            torch.testing.assert_close(module(image), plain(image), atol=1e-4, rtol=0)
    assert [shape[-1] for shape in sessions] == [8, 12, 16]
    assert len(module._sessions) == 2


def test_changed_regions_do_not_start_sessions(sessions):
    """A cursor moves: each frame has a window of another shape."""
    frames = random_frames(1, height=60, width=80).repeat(6, 1, 1, 1)
    for index in range(1, 6):
        frames[index, :, 20 : 30 + index, 10 * index : 10 * index + 6] = 1.0
    stats = UpscaleStats()
    result = run(compact(), frames, stats=stats)
    assert stats.computed_fraction < 0.8
    assert len(sessions) == 1
    expected = run(compact(), frames, Engine.TORCH, reuse=Reuse(enabled=False))
    torch.testing.assert_close(result, expected, atol=1e-4, rtol=0)


# ---- torch instead ----


def wrong(session: OnnxSession, image: Tensor) -> Tensor:
    return OnnxSession.__call__(session, image) + 0.01


def black(session: OnnxSession, image: Tensor) -> Tensor:
    return torch.zeros_like(OnnxSession.__call__(session, image))


def nan(session: OnnxSession, image: Tensor) -> Tensor:
    return torch.full_like(OnnxSession.__call__(session, image), torch.nan)


def small(session: OnnxSession, image: Tensor) -> Tensor:
    return OnnxSession.__call__(session, image)[..., :-1]


@pytest.mark.parametrize("fault", [wrong, black, nan, small])
@pytest.mark.parametrize("level", [1.0, 0.0], ids=["bright", "black frames"])
def test_a_graph_with_a_wrong_result_is_not_used(fault, level: float, cache: Path, monkeypatch, caplog):
    monkeypatch.setattr(onnx_engine, "OnnxSession", type("Faulty", (OnnxSession,), {"__call__": fault}))
    frames, stats = random_frames(3) * level, UpscaleStats()
    assert torch.equal(run(compact(), frames, stats=stats), run(compact(), frames, Engine.TORCH))
    assert len(fallbacks(caplog)) == 1
    assert stats.engine == "torch"
    assert not list(cache.rglob("graph.onnx")), "the next run exports it again"


def test_a_result_that_the_tracer_stores_as_a_constant_is_not_used(caplog):
    class ThroughNumpy(NearestUpscaler):
        def forward(self, x: Tensor) -> Tensor:
            return torch.from_numpy(repeat_pixels(x.detach()).numpy().copy())

    frames = random_frames(3)
    assert torch.equal(run(ThroughNumpy(), frames), repeat_pixels(frames))
    assert len(fallbacks(caplog)) == 1


def test_a_network_that_cannot_be_exported_runs_in_torch(exports, caplog):
    class Sorting(NearestUpscaler):
        def forward(self, x: Tensor) -> Tensor:
            return repeat_pixels(torch.special.bessel_j0(x))  # there is no such operator in ONNX

    frames = random_frames(3)
    assert torch.equal(run(Sorting(), frames), repeat_pixels(torch.special.bessel_j0(frames)))
    assert len(exports) == len(fallbacks(caplog)) == 1, "it is tried once"


def test_an_error_in_mid_stream_loses_no_frame(monkeypatch, caplog):
    calls = []

    class Failing(OnnxSession):
        def __call__(self, image: Tensor) -> Tensor:
            calls.append(image)
            if len(calls) > 3:
                raise onnxruntime.capi.onnxruntime_pybind11_state.RuntimeException("Failed to allocate memory")
            return super().__call__(image)

    monkeypatch.setattr(onnx_engine, "OnnxSession", Failing)
    frames, stats = random_frames(5), UpscaleStats()
    expected = run(compact(), frames, Engine.TORCH)
    torch.testing.assert_close(run(compact(), frames, stats=stats), expected, atol=1e-4, rtol=0)
    assert len(calls) == 4
    assert "Failed to allocate memory" in fallbacks(caplog)[0]
    assert (stats.frames, stats.engine) == (5, "torch")


def test_when_torch_runs_out_of_memory_tiles_shrink():
    class Large(NearestUpscaler):
        def forward(self, x: Tensor) -> Tensor:
            if x.shape[-1] > 64:
                raise torch.cuda.OutOfMemoryError
            return super().forward(x)

    frames = random_frames(2, height=40, width=100)
    assert torch.equal(run(Large(), frames), repeat_pixels(frames))


def test_an_error_of_the_network_itself_is_raised():
    class Broken(NearestUpscaler):
        def forward(self, x: Tensor) -> Tensor:
            raise KeyError("my own fault")

    with pytest.raises(KeyError, match="my own fault"):
        run(Broken(), random_frames(1))


def test_a_cache_that_cannot_be_written_is_done_without(cache: Path, caplog):
    cache.write_text("not a folder")
    frames = random_frames(2)
    assert torch.equal(run(compact(), frames), run(compact(), frames, Engine.TORCH))
    assert len(fallbacks(caplog)) == 1


def test_bfloat16_runs_in_torch(caplog):
    frames, stats = random_frames(2), UpscaleStats()
    result = run(compact(), frames, stats=stats, precision=Precision.BF16)
    assert torch.equal(result, run(compact(), frames, Engine.TORCH, precision=Precision.BF16))
    assert stats.engine == "torch"
    assert any("not in torch.bfloat16" in record.getMessage() for record in caplog.records)


def test_float16_is_compared_with_float32(caplog):
    frames, stats = random_frames(2), UpscaleStats()
    result = run(compact(), frames, stats=stats, precision=Precision.FP16)
    torch.testing.assert_close(result, run(compact(), frames, Engine.TORCH), atol=2 / 255, rtol=0)


# ---- what is missing ----


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_a_missing_package_is_named(package: str, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ClipError, match=rf"needs .*{package}.*pip install 'steadyscale\[onnx\]'"):
        run(compact(), random_frames(1))
    run(compact(), random_frames(1), Engine.AUTO)


@pytest.mark.parametrize("engine", [Engine.ONNX, Engine.TORCH])
def test_a_function_runs_as_it_is(engine: Engine, caplog):
    def double(images: Tensor) -> Tensor:
        return repeat_pixels(images)

    double.scale = 2
    frames = random_frames(2)
    assert torch.equal(run(double, frames, engine), repeat_pixels(frames))
    assert [record.getMessage() for record in caplog.records if "no torch module" in record.getMessage()]
