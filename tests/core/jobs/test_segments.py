"""Segments cover a clip without gaps, end at shots, and have temporal context."""

from __future__ import annotations

from fractions import Fraction
from itertools import chain

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numbered_video import numbered_frames, read_number
from steadyscale.core.clip import ClipError, TensorClip
from steadyscale.core.crop.border import Border
from steadyscale.core.jobs.segments import FrameReader, split_clip
from steadyscale.core.path.trajectory import Correction
from steadyscale.core.pipeline.deflicker_op import DeflickerOp
from steadyscale.core.pipeline.operation import Operation
from steadyscale.core.pipeline.pipeline import Pipeline
from steadyscale.core.pipeline.slicing import pipeline_shots, render_piece, resolve_zoom, source_range, unbatch
from steadyscale.core.pipeline.warp_op import WarpOp
from steadyscale.core.warping.temporal_fill import FILL_RADIUS_FRAMES

MS = Fraction(1, 1000)


@given(
    gaps=st.lists(st.integers(1, 3000), min_size=1, max_size=80),
    seconds=st.floats(0.01, 20),
    shots=st.lists(st.integers(0, 80)),
)
def test_segments_are_consecutive_and_none_is_too_long(gaps: list[int], seconds: float, shots: list[int]):
    starts = np.cumsum(gaps).tolist()
    segments = split_clip(starts, MS, seconds, [slice(s, s + 1) for s in shots])
    assert [*chain(*segments)] == [*range(len(starts))]
    for segment in segments:
        assert len(segment) >= 1
        assert (starts[segment[-1]] - starts[segment[0]]) * MS < seconds or len(segment) == 1


def test_a_segment_ends_with_a_shot_in_its_second_half():
    starts = [*range(0, 4000, 40)]
    assert split_clip(starts, MS, 1.0) == [range(25), range(25, 50), range(50, 75), range(75, 100)]
    shots = [slice(0, 5), slice(5, 20), slice(20, 45), slice(45, 100)]
    assert split_clip(starts, MS, 1.0, shots) == [
        range(20),
        range(20, 45),
        range(45, 70),
        range(70, 95),
        range(95, 100),
    ]


def make_still_pipeline(count: int, border: Border, cut_at: int) -> Pipeline:
    clip = TensorClip(numbered_frames(count))
    shots = [slice(0, cut_at), slice(cut_at, count)]
    correction = Correction(np.tile(np.eye(3), (count, 1, 1)), shots, clip.info, np.tile(np.eye(3), (count, 1, 1)))
    return Pipeline(clip).then(WarpOp(correction, border))


def test_temporal_context_stays_within_the_shot():
    filling = resolve_zoom(make_still_pipeline(100, Border.FILL, cut_at=40), 100)
    assert pipeline_shots(filling) == [slice(0, 40), slice(40, 100)]
    assert source_range(filling, range(30, 40), 100) == range(30 - FILL_RADIUS_FRAMES, 40)
    assert source_range(filling, range(40, 50), 100) == range(40, 50 + FILL_RADIUS_FRAMES)
    assert source_range(filling, range(38, 42), 100) == range(38 - FILL_RADIUS_FRAMES, 42 + FILL_RADIUS_FRAMES)
    assert source_range(filling, range(95, 100), 100) == range(95 - FILL_RADIUS_FRAMES, 100)
    for border in (Border.CROP, Border.BLACK):
        assert source_range(resolve_zoom(make_still_pipeline(100, border, 40), 100), range(30, 40), 100) == range(
            30, 40
        )


def test_recursive_filters_get_frames_to_settle():
    pipelines = {
        strength: Pipeline(TensorClip(numbered_frames(100)), (DeflickerOp(strength),)) for strength in (0.0, 0.6, 1.0)
    }
    assert source_range(pipelines[0.0], range(50, 60), 100) == range(50, 60)
    assert source_range(pipelines[0.6], range(50, 60), 100) == range(42, 60), "0.48 ** 8 is below 1/255"
    assert source_range(pipelines[1.0], range(50, 60), 100) == range(25, 60), "0.8 ** 25 is too"


def test_an_operation_without_temporal_context_is_refused():
    class Custom(Operation):
        def run(self, frames, before, first=0):
            return frames

    pipeline = Pipeline(TensorClip(numbered_frames(20)), (Custom(),))
    with pytest.raises(ClipError, match="Custom does not say how many frames"):
        source_range(pipeline, range(5, 8), 20)
    Custom.temporal_context = (2, 1)  # type: ignore[assignment]
    assert source_range(pipeline, range(5, 8), 20) == range(3, 9)
    assert source_range(pipeline, range(20), 20) == range(20)


def test_a_rendered_piece_has_no_frames_of_its_context():
    pipeline = resolve_zoom(make_still_pipeline(60, Border.FILL, cut_at=30), 60)
    window = source_range(pipeline, range(20, 26), 60)
    frames = (frame for frame in numbered_frames(60)[window.start : window.stop].split(1))
    assert [read_number(f[0]) for f in unbatch(render_piece(pipeline, frames, window, range(20, 26)))] == [
        *range(20, 26)
    ]


def test_a_correction_of_another_length_is_refused():
    with pytest.raises(ClipError, match="the clip has 59 frames, but motion was measured for 60"):
        resolve_zoom(make_still_pipeline(60, Border.CROP, 30), 59)


def test_ranges_of_a_reader_may_overlap_and_skip():
    read = []

    def stream():
        for number, frame in enumerate(numbered_frames(40).split(1)):
            read.append(number)
            yield frame

    reader = FrameReader(stream())
    ranges = [
        [read_number(f[0]) for f in reader.read_range(numbers, keep)]
        for numbers, keep in [(range(2, 10), 7), (range(7, 12), 12), (range(20, 30), 25), (range(25, 40), 40)]
    ]
    assert ranges == [[*range(2, 10)], [*range(7, 12)], [*range(20, 30)], [*range(25, 40)]]
    assert read == [*range(40)]
    reader.expect_end()


def test_kept_frames_are_restored_bit_identically():
    frames = torch.cat([numbered_frames(2), torch.rand(2, 3, 48, 64)])
    reader = FrameReader(iter(frames.split(1)))
    first = [f.clone() for f in reader.read_range(range(4), keep=0)]
    assert torch.equal(torch.cat(first), frames)
    assert torch.equal(torch.cat([*reader.read_range(range(4), keep=4)]), frames)


def test_a_clip_of_another_length_than_claimed_is_an_error():
    with pytest.raises(ClipError, match="ended after 5 frames"):
        [*FrameReader(iter(numbered_frames(5).split(1))).read_range(range(6), keep=6)]
    reader = FrameReader(iter(numbered_frames(5).split(1)))
    assert len([*reader.read_range(range(4), keep=4)]) == 4
    with pytest.raises(ClipError, match="more frames than its 4 packets"):
        reader.expect_end()
