"""Learning in whatever mode the caller is, who keeps that mode between the steps."""

from __future__ import annotations

import torch
from steadyscale.core.training.loop.grad_mode import with_gradients


def test_each_step_can_learn_and_the_callers_mode_stays_its_own():
    seen = []

    def steps():
        for number in range(2):
            weight = torch.ones(1, requires_grad=True)
            (weight * 3).sum().backward()
            seen.append((torch.is_inference_mode_enabled(), float(weight.grad)))
            yield number

    with torch.inference_mode():
        found = []
        for item in with_gradients(steps()):
            assert torch.is_inference_mode_enabled()
            found.append(item)
    assert (found, seen) == ([0, 1], [(False, 3.0), (False, 3.0)])


def test_closing_it_closes_the_steps():
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
