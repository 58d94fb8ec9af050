"""Choice between the native engine and torch."""

import copy
import logging

import pytest
import torch
from native_checks import needs_compiler, random_image, randomize_weights
from steadyscale.models import SRVGGConfig, SRVGGNetCompact, Upscaler
from steadyscale.models.native import NativeDispatcher, NativeNetwork, engine


@needs_compiler
def test_env_var_and_other_dtypes_select_torch(engine_path, monkeypatch):
    network = randomize_weights(SRVGGNetCompact(SRVGGConfig(features=8, convs=1)))
    images = random_image(1, 3, 8, 9)
    run = NativeDispatcher(network)
    assert run.engine == "torch"
    run(images)
    assert run.engine == "native"
    double = NativeDispatcher(network.double())
    assert double(images.double()).dtype is torch.float64
    assert double.engine == "torch"
    network.float()
    monkeypatch.setenv(engine.ENGINE_ENV_VAR, "0")
    off = NativeDispatcher(network)
    assert not off.ready
    assert torch.equal(off(images), network(images).clamp(0, 1))
    assert off.engine == "torch"


@needs_compiler
def test_upscaler_reports_its_engine_and_can_be_copied(engine_path):
    model = Upscaler(randomize_weights(SRVGGNetCompact(SRVGGConfig(features=8, convs=1))), "small", "SRVGGNetCompact")
    images = random_image(2, 3, 8, 9)
    assert model.prefers_full_frames
    result = model(images)
    assert model.engine == "native"
    copied = copy.deepcopy(model)
    assert torch.equal(copied(images), result)
    assert copied.engine == "native"
    model.to(dtype=torch.float64)(images.double())
    assert model.engine == "torch"


@needs_compiler
def test_gradients_select_torch(engine_path):
    run = NativeDispatcher(randomize_weights(SRVGGNetCompact(SRVGGConfig(features=8, convs=1))))
    with torch.enable_grad():
        run(random_image(1, 3, 4, 4).requires_grad_()).sum().backward()
    assert run.engine == "torch"


@needs_compiler
@pytest.mark.parametrize("change", ["in place", "replaced", "there and back"])
def test_changed_weights_are_detected(engine_path, change):
    network = randomize_weights(SRVGGNetCompact(SRVGGConfig(features=8, convs=1)))
    run = NativeDispatcher(network)
    images = random_image(1, 3, 8, 9)
    before = run(images)
    if change == "in place":
        network.body[0].weight.mul_(-1)
    elif change == "replaced":
        network.body[0].weight.data = network.body[0].weight.data * -1
    else:
        network.half().float()
        network.body[0].weight.data.mul_(-1)
    after = run(images)
    assert run.engine == "native"
    assert (after - before).abs().max() > 1e-2
    assert (after - network(images).clamp(0, 1)).abs().max() < 1e-4


@needs_compiler
def test_weights_are_prepacked_once(engine_path, monkeypatch):
    created = []
    original = engine.NativeNetwork
    monkeypatch.setattr(engine, "NativeNetwork", lambda *args: created.append(1) or original(*args))
    network = randomize_weights(SRVGGNetCompact(SRVGGConfig(features=8, convs=1)))
    run = NativeDispatcher(network)
    originals = [(tensor, tensor.data) for tensor in network.parameters()]
    for _ in range(3):
        for tensor, data in originals:  # as moving the weights back to the CPU does
            tensor.data = data.to("cpu", torch.float32)
        run(random_image(1, 3, 8, 9))
    assert created == [1]


@needs_compiler
def test_failed_self_check_selects_torch(engine_path, monkeypatch, caplog):
    class Wrong(NativeNetwork):
        def __call__(self, images):
            return super().__call__(images) + 1e-3

    monkeypatch.setattr(engine, "NativeNetwork", Wrong)
    network = randomize_weights(SRVGGNetCompact(SRVGGConfig(features=8, convs=1)))
    run, images = NativeDispatcher(network), random_image(1, 3, 8, 9)
    with caplog.at_level(logging.WARNING):
        assert torch.equal(run(images), network(images).clamp(0, 1))
    assert run.engine == "torch"
    assert "differs from torch by" in caplog.text


def test_other_modules_have_no_native_version():
    assert engine.make_native_network(torch.nn.Conv2d(3, 3, 3)) is None
