"""Pieces cover a clip without gaps and end at shots, and each knows which frames it looks at."""

from __future__ import annotations

from fractions import Fraction
from itertools import chain

import numpy as np
import pytest
import torch
from counting import number_of, numbered
from hypothesis import given
from hypothesis import strategies as st
from steadyscale.core.clip import ClipError, TensorClip
from steadyscale.core.jobs.segments import Reading, cut
from steadyscale.core.path.border import Border
from steadyscale.core.path.trajectory import Correction
from steadyscale.core.pipeline.deflicker_op import Calm
from steadyscale.core.pipeline.operation import Operation
from steadyscale.core.pipeline.pipeline import Recipe
from steadyscale.core.pipeline.slicing import made, one_by_one, settled, shots_of, window
from steadyscale.core.pipeline.warp_op import Steady
from steadyscale.core.warping.temporal_fill import REACH

MS = Fraction(1, 1000)


@given(
    gaps=st.lists(st.integers(1, 3000), min_size=1, max_size=80),
    seconds=st.floats(0.01, 20),
    shots=st.lists(st.integers(0, 80)),
)
def test_pieces_follow_one_another_and_none_is_too_long(gaps: list[int], seconds: float, shots: list[int]):
    starts = np.cumsum(gaps).tolist()
    pieces = cut(starts, MS, seconds, [slice(s, s + 1) for s in shots])
    assert [*chain(*pieces)] == [*range(len(starts))]
    for piece in pieces:
        assert len(piece) >= 1
        assert (starts[piece[-1]] - starts[piece[0]]) * MS < seconds or len(piece) == 1


def test_a_piece_ends_where_a_shot_does_if_that_is_not_too_soon():
    starts = [*range(0, 4000, 40)]
    assert cut(starts, MS, 1.0) == [range(25), range(25, 50), range(50, 75), range(75, 100)]
    shots = [slice(0, 5), slice(5, 20), slice(20, 45), slice(45, 100)]
    assert cut(starts, MS, 1.0, shots) == [range(20), range(20, 45), range(45, 70), range(70, 95), range(95, 100)]


def fixed(count: int, border: Border, cut_at: int) -> Recipe:
    clip = TensorClip(numbered(count))
    shots = [slice(0, cut_at), slice(cut_at, count)]
    still = Correction(np.tile(np.eye(3), (count, 1, 1)), shots, clip.info, np.tile(np.eye(3), (count, 1, 1)))
    return Recipe(clip).then(Steady(still, border))


def test_only_what_looks_at_neighbours_is_given_some_and_those_of_its_shot():
    filling = settled(fixed(100, Border.FILL, cut_at=40), 100)
    assert shots_of(filling) == [slice(0, 40), slice(40, 100)]
    assert window(filling, range(30, 40), 100) == range(30 - REACH, 40)
    assert window(filling, range(40, 50), 100) == range(40, 50 + REACH)
    assert window(filling, range(38, 42), 100) == range(38 - REACH, 42 + REACH)
    assert window(filling, range(95, 100), 100) == range(95 - REACH, 100)
    for border in (Border.CROP, Border.BLACK):
        assert window(settled(fixed(100, border, 40), 100), range(30, 40), 100) == range(30, 40)


def test_what_builds_on_its_last_result_is_given_time_to_settle():
    calm = {strength: Recipe(TensorClip(numbered(100)), (Calm(strength),)) for strength in (0.0, 0.6, 1.0)}
    assert window(calm[0.0], range(50, 60), 100) == range(50, 60)
    assert window(calm[0.6], range(50, 60), 100) == range(42, 60), "0.48 ** 8 is below a step of 8 bits"
    assert window(calm[1.0], range(50, 60), 100) == range(25, 60), "and so is 0.8 ** 25"


def test_an_operation_says_what_it_looks_at_or_is_refused():
    class Odd(Operation):
        def run(self, frames, before, first=0):
            return frames

    recipe = Recipe(TensorClip(numbered(20)), (Odd(),))
    with pytest.raises(ClipError, match="Odd does not say how many frames"):
        window(recipe, range(5, 8), 20)
    Odd.context = (2, 1)  # type: ignore[assignment]
    assert window(recipe, range(5, 8), 20) == range(3, 9)
    assert window(recipe, range(20), 20) == range(20)


def test_a_piece_of_the_result_holds_its_own_frames_alone():
    recipe = settled(fixed(60, Border.FILL, cut_at=30), 60)
    seen = window(recipe, range(20, 26), 60)
    frames = (frame for frame in numbered(60)[seen.start : seen.stop].split(1))
    assert [number_of(f[0]) for f in one_by_one(made(recipe, frames, seen, range(20, 26)))] == [*range(20, 26)]


def test_a_correction_of_another_length_is_refused():
    with pytest.raises(ClipError, match="the clip has 59 frames, but motion was measured for 60"):
        settled(fixed(60, Border.CROP, 30), 59)


def test_runs_of_one_reading_may_overlap_and_skip():
    read = []

    def stream():
        for number, frame in enumerate(numbered(40).split(1)):
            read.append(number)
            yield frame

    reading = Reading(stream())
    taken = [
        [number_of(f[0]) for f in reading.run(numbers, keep)]
        for numbers, keep in [(range(2, 10), 7), (range(7, 12), 12), (range(20, 30), 25), (range(25, 40), 40)]
    ]
    assert taken == [[*range(2, 10)], [*range(7, 12)], [*range(20, 30)], [*range(25, 40)]]
    assert read == [*range(40)]
    reading.end()


def test_kept_frames_come_back_to_the_bit():
    frames = torch.cat([numbered(2), torch.rand(2, 3, 48, 64)])
    reading = Reading(iter(frames.split(1)))
    first = [f.clone() for f in reading.run(range(4), keep=0)]
    assert torch.equal(torch.cat(first), frames)
    assert torch.equal(torch.cat([*reading.run(range(4), keep=4)]), frames)


def test_a_clip_of_another_length_than_it_tells_is_noticed():
    with pytest.raises(ClipError, match="ended after 5 frames"):
        [*Reading(iter(numbered(5).split(1))).run(range(6), keep=6)]
    reading = Reading(iter(numbered(5).split(1)))
    assert len([*reading.run(range(4), keep=4)]) == 4
    with pytest.raises(ClipError, match="more frames than the 4"):
        reading.end()
