"""The dense blocks in Triton, in its interpreter on the CPU: equal to those in torch."""

from __future__ import annotations

import sys

import pytest
import torch
import torch.nn.functional as F
from steadyscale.models import RRDBConfig, RRDBNet

MODULES = ("fused_convolution", "fused_trunk")


@pytest.fixture
def interpreter(monkeypatch):
    """Triton reads the variable where a kernel is defined, so that its module is imported anew."""
    pytest.importorskip("triton", reason="torch brings Triton on Linux only")
    names = [f"steadyscale.models.arch.{name}" for name in MODULES]
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    for name in names:
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield
    for name in names:
        sys.modules.pop(name, None)


def random_network(**options) -> RRDBNet:
    torch.manual_seed(3)
    network = RRDBNet(RRDBConfig(blocks=1, scale=1, **options)).eval().requires_grad_(False)
    for parameter in network.parameters():
        parameter.normal_(0, 1.5 * max(parameter[0].numel(), 1) ** -0.5)
    return network


def test_fused_blocks_equal_those_in_torch(interpreter):
    network, images = random_network(features=5, growth=3), torch.rand(2, 3, 3, 4)
    expected = network(images)
    assert float(expected.std()) > 0.1
    (fused,) = network.alternatives(has_triton=True).values()
    with torch.no_grad():
        result = fused(images.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(result, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_more_pixels_and_channels_than_a_program_has(interpreter, monkeypatch, dtype):
    from steadyscale.models.arch import fused_convolution

    for name in ("PIXELS", "MAX_OUT_TILE", "MAX_IN_TILE"):
        monkeypatch.setattr(fused_convolution, name, 16)
    # The first channels of the target hold what a block of blocks started with.
    source, target = torch.randn(2, 3, 4, 40).to(dtype), torch.randn(2, 3, 4, 40).to(dtype)
    weight, bias = torch.randn(3, 3, 32, 20).div(9).to(dtype), torch.randn(20).to(dtype)
    before, x = target.float(), source.float()
    convolved = F.conv2d(x[..., :32].movedim(3, 1), weight.float().permute(3, 2, 0, 1), bias.float(), padding=1)
    truth = (convolved.movedim(1, 3) * 0.5 + x[..., :20]) * 0.5 + before[..., :20]
    options = {"slope": 0.2, "scale": 0.5, "precision": "ieee"}
    fused_convolution.convolve(source, weight, bias, target, fused_convolution.OUTER_RESIDUAL, **options)
    tolerance = 1e-5 if dtype is torch.float32 else 2e-3
    torch.testing.assert_close(target[..., :20].float(), truth, atol=tolerance, rtol=tolerance)
    assert torch.equal(target[..., 20:].float(), before[..., 20:]), "other channels are not written"


def test_without_triton_there_is_no_alternative():
    assert random_network(features=4, growth=2).alternatives(has_triton=False) == {}
