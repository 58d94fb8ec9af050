"""Test the least-squares fit of the last convolution on pairs that a known network made."""

from __future__ import annotations

import copy

import pytest
import refit_last_layer
import torch
from steadyscale.models import SRVGGConfig, SRVGGNetCompact


@pytest.fixture
def known():
    torch.manual_seed(4)
    return SRVGGNetCompact(SRVGGConfig(features=4, convs=1, scale=2))


@pytest.fixture
def changed(known):
    """The known network with another last convolution."""
    network = copy.deepcopy(known)
    with torch.no_grad():
        network.body[-1].weight += 0.1 * torch.randn_like(network.body[-1].weight)
        network.body[-1].bias += 0.05
    return network


@torch.no_grad()
def draw(known):
    images = torch.rand(3, 2, 3, 20, 24, generator=torch.Generator().manual_seed(9))
    return [(image, known(image)) for image in images]


def largest_error(network, known):
    image = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return float((network(image) - known(image)).abs().max())


def test_the_known_weights_are_found(known, changed):
    before = largest_error(changed, known)
    refit_last_layer.apply_change(changed, refit_last_layer.accumulate(changed, draw(known)).solve())
    assert before > 0.05
    assert largest_error(changed, known) < 0.02 * before


def test_half_a_step_leaves_half_of_the_error(known, changed):
    before = largest_error(changed, known)
    whole = refit_last_layer.accumulate(changed, draw(known))
    half = refit_last_layer.NormalEquations(whole.features, whole.errors / 2)
    refit_last_layer.apply_change(changed, half.solve())
    assert largest_error(changed, known) == pytest.approx(before / 2, rel=0.05)


def test_pairs_are_parsed():
    pairs = refit_last_layer.Pairs.parse("a=b/c=0.3:1")
    assert (str(pairs.folder), pairs.weight, pairs.step) == ("a=b/c", 0.3, 1.0)
