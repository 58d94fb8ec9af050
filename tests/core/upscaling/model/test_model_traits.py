"""Traits of our networks, of wrappers and of foreign networks."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from nearest_upscaler import CancellingModel, NearestUpscaler, repeat_pixels
from steadyscale.core.clip import ClipError
from steadyscale.core.upscaling.model.model_traits import (
    DEFAULT_HALO,
    ModelTraits,
    find_module,
    model_device,
    read_engine,
    read_traits,
)
from steadyscale.models import SRVGGConfig, SRVGGNetCompact, Upscaler
from torch import nn


class Foreign:
    """As spandrel's descriptor: a wrapper that declares channels under another name, and no more."""

    scale, input_channels = 4, 1

    def __init__(self) -> None:
        self.model = nn.Sequential(nn.Conv2d(1, 96, 3))

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        return repeat_pixels(images, 4)


def test_a_foreign_network_has_the_defaults():
    traits = read_traits(Foreign())
    assert traits == ModelTraits(scale=4, name="Sequential", in_channels=1, halo=DEFAULT_HALO, layer_bytes=4 * 96)
    assert traits.estimated_activation_bytes == 4 * 4 * 96 * 16


def test_a_function_has_a_scale_and_the_defaults():
    def double(images: torch.Tensor) -> torch.Tensor:
        return repeat_pixels(images)

    double.scale = 2
    assert read_traits(double) == ModelTraits(scale=2, name="function")


def test_ours_declares_itself(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("STEADYSCALE_NATIVE", "0")
    network = SRVGGNetCompact(SRVGGConfig(features=8, convs=3, scale=2))
    model = Upscaler(network, "small", "SRVGG")
    traits = read_traits(model)
    assert (traits.scale, traits.name, traits.in_channels, traits.halo) == (2, "small", 3, network.halo)
    assert traits.activation_bytes == traits.estimated_activation_bytes == network.activation_bytes
    assert (traits.supports_roi, traits.roi_stages, traits.exact_halo) == (False, (), 0)
    assert read_engine(CancellingModel(model, 1)) == "torch"


def test_a_wrapper_has_the_traits_of_its_network_but_not_its_regions():
    network = NearestUpscaler()
    network.halo, network.in_channels, network.supports_half = 7, 4, False
    network.supports_roi, network.roi_stages, network.exact_halo = True, (3, 9), 9
    wrapped = read_traits(CancellingModel(CancellingModel(network, 1), 1))
    assert (wrapped.halo, wrapped.in_channels, wrapped.supports_half, wrapped.exact_halo) == (7, 4, False, 9)
    assert (wrapped.supports_roi, wrapped.roi_stages) == (False, ())
    assert (read_traits(network).supports_roi, read_traits(network).roi_stages) == (True, (3, 9))


def test_channels_that_are_no_image_are_refused():
    network = NearestUpscaler()
    network.in_channels = 12
    with pytest.raises(ClipError, match="12 channels"):
        read_traits(network)


def test_modules_are_found_in_wrappers_and_in_circles():
    model = NearestUpscaler()
    assert find_module(CancellingModel(CancellingModel(model, 1), 1)) is model
    assert find_module(repeat_pixels) is None
    assert model_device(repeat_pixels) == torch.device("cpu")
    wrapper = CancellingModel(model, 1)
    wrapper.model = wrapper
    assert find_module(wrapper) is None


class Descriptor(Foreign):
    """As spandrel's descriptor: with a statement on tiles, and on sizes."""

    def __init__(self, tiling: str = "SUPPORTED", multiple: int = 1, *layers: nn.Module) -> None:
        super().__init__()
        self.model = nn.Sequential(*self.model, *layers)
        self.tiling = SimpleNamespace(name=tiling)
        self.size_requirements = SimpleNamespace(multiple_of=multiple)


@pytest.mark.parametrize(
    ("model", "multiple", "never_tiled", "blends_tiles"),
    [
        (Descriptor(), 1, False, False),
        (Descriptor("DISCOURAGED"), 1, False, True),
        (Descriptor("INTERNAL"), 1, True, True),
        (Descriptor("SUPPORTED", 4), 4, False, False),
        (Descriptor("SUPPORTED", 16), 16, False, True),
        (Descriptor("SUPPORTED", 1, nn.AdaptiveAvgPool2d(1)), 1, False, True),
        (Descriptor("SUPPORTED", 1, nn.Softmax(-1)), 1, False, True),
        (Descriptor("SUPPORTED", 1, nn.GroupNorm(4, 96)), 1, False, True),
    ],
)
def test_what_a_network_says_of_tiles(model: Descriptor, multiple: int, never_tiled: bool, blends_tiles: bool):
    traits = read_traits(model)
    assert (traits.multiple, traits.never_tiled, traits.blends_tiles) == (multiple, never_tiled, blends_tiles)


def test_a_network_that_changes_the_number_of_channels_is_refused():
    model = Descriptor()
    model.output_channels = 3  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(ClipError, match="turns 1 channels into 3"):
        read_traits(model)
