"""Replicas of networks: the caller's module is never modified, whatever happens to the stream."""

from __future__ import annotations

import functools
import gc
import weakref
from collections import OrderedDict
from typing import Any

import pytest
import torch
from nearest_upscaler import Cancelled, CancellingModel, NearestUpscaler, random_frames, repeat_pixels, run_upscale
from steadyscale.core.clip import ClipError
from steadyscale.core.upscaling.model import replica as module_under_test
from steadyscale.core.upscaling.model.replica import replica_of
from steadyscale.core.upscaling.settings import Precision, Tiling, UpscaleSettings
from steadyscale.core.upscaling.upscale import upscale
from steadyscale.models import RRDBConfig, RRDBNet, SRVGGConfig, SRVGGNetCompact, Upscaler
from torch import Tensor, nn

CPU, META = torch.device("cpu"), torch.device("meta")
FP16, BF16 = (UpscaleSettings(precision=precision) for precision in (Precision.FP16, Precision.BF16))


class Network(NearestUpscaler):
    """With a buffer, a list of layers outside of the module tree, a bound method and a module used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.gain.data.fill_(1 / 3)
        self.register_buffer("steps", torch.arange(3))
        self.register_buffer("mean", torch.full((2,), 0.1))
        self.layer = nn.Conv2d(3, 3, 1)
        self.blocks = nn.ModuleList([self.layer, nn.Conv2d(3, 3, 1)])
        self.layers = [self.layer, {"last": self.blocks[1]}]
        self.run = self.run_layers
        self.partial = functools.partial(type(self).run_layers, self)
        self.seen: list[torch.dtype] = []

    def run_layers(self, x: Tensor) -> Tensor:
        return self.layers[1]["last"](self.layers[0](x))

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x.dtype)
        return repeat_pixels(self.run(x) + self.partial(x) + self.gain + self.mean.sum())


def state_of(module: nn.Module) -> list[Any]:
    """All that a caller can see of a module: objects by identity, values by copy."""
    state: list[Any] = []
    for part in module.modules():
        state.append((id(part), type(part), part.training, {name: id(value) for name, value in vars(part).items()}))
        for hooks in (part._forward_hooks, part._forward_pre_hooks):
            state.append((type(hooks), list(hooks.items())))
    for tensor in (*module.parameters(), *module.buffers()):
        values = (id(tensor), tensor.data_ptr(), tensor.dtype, tensor.device, tensor.requires_grad, tensor.tolist())
        state.append(values)
    return state


@pytest.fixture(autouse=True)
def _no_replica_is_left():
    yield
    gc.collect()
    assert module_under_test._entries == {}


@pytest.mark.parametrize("settings", [UpscaleSettings(), FP16, BF16])
@pytest.mark.parametrize("training", [False, True])
def test_the_callers_module_is_untouched_during_and_after_a_stream(settings: UpscaleSettings, training: bool):
    torch.manual_seed(0)
    model = Network().train(training)
    hooked: list[torch.dtype] = []
    model.layer.register_forward_hook(lambda layer, args, result: hooked.append(result.dtype))
    before, frames = state_of(model), random_frames(3, height=6, width=6)
    stream = upscale(iter(frames.split(1)), model, settings)
    first = next(stream)
    assert state_of(model) == before
    with torch.inference_mode():
        expected = model.eval()(frames[:1]).clamp(0, 1)
        model.train(training)
    torch.testing.assert_close(first, expected, atol=0.02, rtol=0)  # bfloat16 has 8 bits
    assert len(list(stream)) == 2
    assert state_of(model) == before
    assert hooked, "hooks of the caller run in the replica as well"


@pytest.mark.parametrize("way", ["error", "abandoned", "closed"])
def test_the_callers_module_is_untouched_after_a_stream_that_did_not_end(way: str):
    model = Network().train()
    before, frames = state_of(model), random_frames(2, height=64, width=64)
    settings = UpscaleSettings(tiling=Tiling(32), precision=Precision.BF16)
    if way == "error":
        with pytest.raises(Cancelled):
            list(upscale(iter(frames.split(1)), CancellingModel(model, max_calls=5), settings))
    else:
        stream = upscale(iter(frames.split(1)), model, settings)
        next(stream)
        if way == "closed":
            stream.close()
        del stream
    gc.collect()
    assert state_of(model) == before
    assert module_under_test._entries == {}


def test_a_replica_is_cast_moved_and_complete():
    model = Network().train()
    with replica_of(model, META, torch.bfloat16) as replica:
        assert isinstance(replica, Network)
        assert {part.training for part in replica.modules()} == {False}
        assert (replica.gain.dtype, replica.steps.dtype, replica.mean.dtype) == (
            torch.bfloat16,
            torch.int64,
            torch.bfloat16,
        )
        assert {tensor.device for tensor in (*replica.parameters(), *replica.buffers())} == {META}
        assert replica.layer is replica.blocks[0] is replica.layers[0], "one module stays one"
        assert replica.layer is not model.layer
        assert replica.run.__self__ is replica.partial.args[0] is replica
        assert replica(torch.rand(1, 3, 4, 4, device=META, dtype=torch.bfloat16)).device == META
        replica.steps = torch.zeros(1, device=META)
        assert model.steps.tolist() == [0, 1, 2], "what the replica assigns stays its own"


def test_a_model_that_fits_is_used_as_it_is():
    model = CancellingModel(Network().eval(), 9)
    with replica_of(model, CPU, torch.float32) as used:
        assert used is model
    assert module_under_test._entries == {}


def test_a_dtype_starts_from_the_callers_weights():
    model = NearestUpscaler().eval()
    model.gain.data.fill_(1 / 3)
    with replica_of(model, CPU, torch.float16), replica_of(model, CPU, torch.float32) as exact:
        assert exact.gain.item() == torch.tensor(1 / 3).item()


def test_streams_share_a_replica_and_the_last_one_releases_it():
    model = Network()
    with replica_of(model, CPU, torch.float16) as first:
        with replica_of(model, CPU, torch.float16) as second, replica_of(model, CPU, torch.bfloat16) as other:
            assert first is second
            assert other is not first
            reference, weight = weakref.ref(first), weakref.ref(first.gain)
            del second, other
        assert first(random_frames(1).half()).dtype == torch.float16, "it outlives one of its users"
        del first
    gc.disable()
    try:
        assert weight() is None, "memory is released without the garbage collector"
    finally:
        gc.enable()
    gc.collect()
    assert reference() is None


def test_changed_weights_are_another_network():
    model = NearestUpscaler().eval()
    with replica_of(model, CPU, torch.float16) as before:
        model.gain.data.add_(1)
        with torch.no_grad():
            model.gain.add_(1)
        with replica_of(model, CPU, torch.float16) as after:
            assert (before.gain.item(), after.gain.item()) == (1.0, 3.0)


def test_two_streams_of_one_model_run_in_different_dtypes_at_once():
    model, frames = Network(), random_frames(3, height=6, width=6)
    half = upscale(iter(frames.split(1)), model, FP16)
    brain = upscale(iter(frames.split(1)), model, BF16)
    plain = upscale(iter(frames.split(1)), model)
    for results in zip(half, brain, plain, strict=True):
        for result in results[:2]:
            torch.testing.assert_close(result, results[2], atol=0.01, rtol=0)
    assert model.seen == [torch.float16, torch.bfloat16, torch.float32] * 3


def test_a_stream_of_a_stream_may_use_the_same_model():
    model, frames = NearestUpscaler(), random_frames(3)
    inner = upscale(iter(frames.split(1)), model, FP16)
    twice = torch.cat(list(upscale(inner, model)))
    assert (twice - repeat_pixels(repeat_pixels(frames))).abs().max() < 1e-3


@pytest.mark.parametrize("loaded", [False, True])
@pytest.mark.parametrize("run", [False, True])
@pytest.mark.parametrize("precision", [Precision.FP16, Precision.BF16, Precision.FP32])
def test_models_are_loaded_and_run_in_and_out_of_inference_mode(loaded: bool, run: bool, precision: Precision):
    frames = random_frames(1, height=8, width=8)
    with torch.inference_mode(loaded):
        torch.manual_seed(0)
        model = Upscaler(SRVGGNetCompact(SRVGGConfig(features=4, convs=1, scale=2)), "small", "SRVGG")
        expected = model(frames)
    with torch.inference_mode(run):
        stream = upscale(iter([frames, frames]), model, UpscaleSettings(precision=precision))
        result = next(stream)
    with torch.inference_mode(not run):
        again = next(stream)
    torch.testing.assert_close(result, expected, atol=0.05, rtol=0)
    assert torch.equal(result, again)


def test_weights_can_be_trained_after_a_stream():
    model = NearestUpscaler()
    run_upscale(random_frames(1), model, precision=Precision.BF16)
    model(random_frames(1)).sum().backward()
    assert model.gain.grad is not None


@pytest.mark.parametrize(
    "network",
    [SRVGGNetCompact(SRVGGConfig(features=8, convs=2, scale=2)), RRDBNet(RRDBConfig(features=8, growth=4, blocks=1))],
    ids=["compact", "rrdb"],
)
def test_wrappers_are_copied_to_call_the_replica(network: nn.Module):
    model = Upscaler(network, "small", "kind")
    wrapper = CancellingModel(model, max_calls=1)
    with replica_of(wrapper, CPU, torch.float64) as used:
        assert used is not wrapper
        assert used.model is not model
        assert used.model.model is not network
        images = torch.rand(1, 3, 8, 8, dtype=torch.float64)
        torch.testing.assert_close(used(images), model(images.float()).double(), atol=1e-5, rtol=0)
        assert used.calls_left == 0
        assert wrapper.calls_left == 1
    assert wrapper.model is model
    assert model.model is network


def test_a_descriptor_of_spandrel_calls_the_replica():
    spandrel = pytest.importorskip("spandrel")
    network = SRVGGNetCompact(SRVGGConfig(features=8, convs=2, scale=2))
    descriptor = spandrel.ModelLoader().load_from_state_dict(network.state_dict())
    frames = random_frames(2, height=9, width=11)
    with torch.inference_mode():
        expected = torch.cat([descriptor(frame[None]) for frame in frames]).clamp(0, 1)
    before = state_of(descriptor.model)
    for settings in (UpscaleSettings(), FP16, BF16):
        result = torch.cat(list(upscale(iter(frames.split(1)), descriptor, settings)))
        torch.testing.assert_close(result, expected, atol=0.02, rtol=0)
        assert state_of(descriptor.model) == before


def test_scripted_and_compiled_modules_have_replicas():
    network = nn.Sequential(OrderedDict(first=nn.Conv2d(3, 3, 1), second=nn.ReLU())).eval()
    images = torch.rand(1, 3, 4, 4)
    expected = network(images)
    compiled = torch.compile(network, backend="eager")
    for model in (torch.jit.trace(network, images), compiled, nn.Sequential(compiled)):
        with replica_of(model, CPU, torch.float64) as replica:
            torch.testing.assert_close(replica(images.double()).float(), expected)
        assert next(model.parameters()).dtype == torch.float32


def test_a_model_without_a_module_is_moved_by_its_own_method():
    class Plain:
        scale, halo, device = 2, 0, CPU

        def __init__(self) -> None:
            self.moves: list[str] = []

        def to(self, device: torch.device) -> None:
            self.moves.append(str(device))

        def __call__(self, x: Tensor) -> Tensor:
            return repeat_pixels(x, 3)

    model = Plain()
    with pytest.raises(ClipError, match="scale of 2"):
        run_upscale(random_frames(1), model)
    assert model.moves == []
    with replica_of(model, META, torch.float32) as used:
        assert used is model
        assert model.moves == ["meta"]
    assert model.moves == ["meta", "cpu"]
