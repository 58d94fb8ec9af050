"""Gradients within the steps of a generator, and the mode of the caller between them."""

from __future__ import annotations

import torch
from steadyscale.core.training.loop.grad_mode import with_gradients


def test_steps_have_gradients_and_the_caller_keeps_its_mode():
    results = []

    def steps():
        for number in range(2):
            weight = torch.ones(1, requires_grad=True)
            (weight * 3).sum().backward()
            results.append((torch.is_inference_mode_enabled(), float(weight.grad)))
            yield number

    with torch.inference_mode():
        items = []
        for item in with_gradients(steps()):
            assert torch.is_inference_mode_enabled()
            items.append(item)
    assert (items, results) == ([0, 1], [(False, 3.0), (False, 3.0)])


def test_closing_the_generator_closes_the_steps():
    ended = []

    def steps():
        try:
            yield 1
            yield 2
        finally:
            ended.append(torch.is_inference_mode_enabled())

    stream = with_gradients(steps())
    assert next(stream) == 1
    stream.close()
    assert ended == [False]
