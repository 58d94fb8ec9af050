"""Test that nodes without a connected model use the bundled one for the size of the result."""

from __future__ import annotations

import inspect

import pytest
import torch
from node_calls import UPSCALE_SETTINGS, CountingUpscaler, run_upscale
from recorded_calls import RecordedCalls
from steadyscale.models import load_upscaler
from steadyscale.models.zoo.bundled import find_bundled

FRAMES = torch.rand(1, 12, 16, 3, generator=torch.Generator().manual_seed(0))


def bundled(name: str):
    model = find_bundled(name)
    assert model
    return load_upscaler(model.path)


@pytest.mark.parametrize(
    ("settings", "name", "shape"),
    [
        ({}, "steadyscale-restore-2x", (1, 24, 32, 3)),
        ({"resize_to": "factor", "factor": 2.0}, "steadyscale-restore-2x", (1, 24, 32, 3)),
        ({"resize_to": "factor", "factor": 2.5}, "steadyscale-restore-4x", (1, 30, 40, 3)),
        ({"resize_to": "size", "width": 32, "height": 24}, "steadyscale-restore-2x", (1, 24, 32, 3)),
        ({"resize_to": "size", "width": 34, "height": 24}, "steadyscale-restore-4x", (1, 24, 34, 3)),
        ({"resize_to": "size", "width": 32, "height": 26}, "steadyscale-restore-4x", (1, 26, 32, 3)),
    ],
)
def test_images_are_upscaled_by_the_bundled_network_of_that_size(fake_host, settings, name, shape):
    node = fake_host.import_("upscale").UpscaleFrames
    made = node.execute(FRAMES, **{**UPSCALE_SETTINGS, **settings}).result[0]
    assert made.shape == shape
    assert torch.equal(made, run_upscale(fake_host, FRAMES, bundled(name), **settings))


def test_the_size_of_a_video_is_known_without_reading_it(fake_host, clip_file):
    video = fake_host.VideoFromFile(str(clip_file), crop=(32, 24))
    assert fake_host.import_("_video.inputs").size_from_input(video) == (32, 24)


def test_a_connected_model_is_used(fake_host):
    network = CountingUpscaler()
    assert fake_host.import_("_default_model").model_or_default(network) is network


def test_a_host_with_patchers_gets_one_for_the_bundled_network(fake_host, monkeypatch: pytest.MonkeyPatch):
    module = fake_host.import_("_default_model")
    calls = RecordedCalls(monkeypatch)
    calls.replace("steadyscale.nodes._default_model.attach_patcher", "patched")
    assert module.model_or_default(None) == "patched"
    assert calls.one("attach_patcher")["model"].name == "steadyscale-restore-2x"


@pytest.mark.parametrize(
    ("module", "node"),
    [("upscale", "UpscaleFrames"), ("enhance", "EnhanceVideo"), ("benchmark", "BenchmarkUpscaler")],
)
def test_upscaling_nodes_run_without_a_model(fake_host, module, node):
    parameters = inspect.signature(getattr(fake_host.import_(module), node).execute).parameters
    assert parameters["upscale_model"].default is None
