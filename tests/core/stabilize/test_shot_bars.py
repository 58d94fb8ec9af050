"""Bars that change at a cut: each shot keeps its own, and is stabilized as a clip of the area inside them."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from itertools import chain

import cv2
import numpy as np
import pytest
import torch
from av.video.frame import VideoFrame
from camera_simulation import make_shake_path, make_texture, render_camera
from steadyscale.core import geometry
from steadyscale.core.bars import NO_BARS, BarDetection, Bars
from steadyscale.core.clip import ClipError, ClipInfo, TensorClip
from steadyscale.core.crop.border import Border
from steadyscale.core.motion import bar_changes
from steadyscale.core.path.motion import Motion
from steadyscale.core.path.serialize import load_path, save_path
from steadyscale.core.path.trajectory import Correction
from steadyscale.core.pipeline.pipeline import Pipeline
from steadyscale.core.pipeline.slicing import render_piece
from steadyscale.core.pipeline.warp_op import WarpOp, union_fill_mask
from steadyscale.core.smoothing.keyframes import Keyframe
from steadyscale.core.smoothing.smooth import Smoothing
from steadyscale.core.stabilization_report import report_stabilization
from steadyscale.core.stabilize import StabilizeSettings, correct_motion, measure_motion
from steadyscale.core.video.format.stream_format import BT709, Orientation, StreamFormat
from steadyscale.core.visualize.crop_overlay import draw_crop_overlay
from steadyscale.core.warping.warp import warp
from steadyscale.core.warping.warp_yuv import warp_yuv

WIDTH, HEIGHT, COUNT = 160, 112, 12  # COUNT frames a shot
SHOT_BARS = (Bars(top=16, bottom=20), NO_BARS, Bars(left=24, right=20))
SHOTS = [slice(i * COUNT, (i + 1) * COUNT) for i in range(3)]
AREAS = [(..., *bars.area(HEIGHT, WIDTH)) for bars in SHOT_BARS]
YUV = StreamFormat("h264", "yuv420p", Orientation(), Fraction(1), BT709, False, BT709, BT709)


@pytest.fixture(scope="module")
def inside() -> list[torch.Tensor]:
    """Frames (N, 3, h, w) of a hand-held camera for each shot."""
    info, shots = ClipInfo(WIDTH, HEIGHT, Fraction(25)), []
    for seed, bars in enumerate(SHOT_BARS):
        poses = geometry.matrices_from_parameters(make_shake_path(COUNT, pixels=4, zoom=0, seed=seed))
        width, height = bars.active_info(info).size
        shots.append(render_camera(make_texture(200, 260, seed), poses, width, height) * 0.8 + 0.2)
    return shots


@pytest.fixture(scope="module")
def film(inside: list[torch.Tensor]) -> torch.Tensor:
    """(N, 3, H, W): the shots with their bars, which have noise."""
    frames = 0.03 * torch.rand(3 * COUNT, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))
    for shot, area, scene in zip(SHOTS, AREAS, inside, strict=True):
        frames[shot][area] = scene
    return frames


@pytest.fixture(scope="module")
def motion(film: torch.Tensor):
    return measure_motion(TensorClip(film, Fraction(25)))


@pytest.fixture(scope="module")
def fix(motion) -> Correction:
    return correct_motion(motion)


def moved_correction(border_pixels: float = 6.0) -> Correction:
    """A correction by whole pixels, to the right and down."""
    matrices = geometry.matrices_from_parameters(np.tile([border_pixels, 2.0, 0, 0], (3 * COUNT, 1)))
    info = ClipInfo(WIDTH, HEIGHT, Fraction(25), 3 * COUNT)
    return Correction(matrices, SHOTS, info, matrices, shot_bars=SHOT_BARS)


def test_each_shot_is_measured_inside_its_own_bars(motion, fix, inside):
    assert motion.shot_bars == fix.shot_bars == SHOT_BARS
    assert [s.start for s in motion.shots] == [s.start for s in SHOTS]
    assert (motion.bars, motion.dark_sides, motion.info.size) == (None, None, (WIDTH, HEIGHT))
    for part, shot, scene in zip(fix.split_by_bars(), SHOTS, inside, strict=True):
        own = measure_motion(TensorClip(scene, Fraction(25)), StabilizeSettings(bars=BarDetection.NONE))
        assert part.info.size == own.info.size
        points = np.array([[0.0, 0.0], [40.0, 30.0]])
        found, wanted = (geometry.transform_points(steps, points[None]) for steps in (motion.steps[shot], own.steps))
        assert found[1:] == pytest.approx(wanted[1:], abs=0.15)


@pytest.mark.parametrize("border", [Border.CROP, Border.CROP_ADAPTIVE, Border.MIRROR, Border.FILL])
def test_bars_stay_bit_identical_and_the_rest_is_warped_alone(fix, film, inside, border):
    results = list(warp(iter(film.split(5)), fix, border))
    frames, fill_mask = (torch.cat([getattr(w, name) for w in results]) for name in ("frames", "fill_mask"))
    assert frames.shape == film.shape
    for shot, area, part, scene in zip(SHOTS, AREAS, fix.split_by_bars(), inside, strict=True):
        kept = torch.ones(HEIGHT, WIDTH, dtype=torch.bool)
        kept[area] = False
        assert torch.equal(frames[shot][..., kept], film[shot][..., kept])
        assert fill_mask[shot][..., kept].sum() == 0
        if border is not Border.CROP:  # which has one zoom for all
            alone = torch.cat([w.frames for w in warp(iter(scene.split(4)), replace(part, bars=None), border)])
            assert torch.equal(frames[shot][area], alone)
        elif border is Border.CROP:
            assert fill_mask.sum() == 0


def test_a_single_set_of_bars_or_none_needs_no_second_look(inside, film, monkeypatch):
    def fail(*_: object) -> None:
        raise AssertionError("the clip is read again")

    monkeypatch.setattr("steadyscale.core.stabilize.measure.find_shot_bars", fail)
    everywhere = measure_motion(TensorClip(inside[1], Fraction(25)))
    assert (everywhere.bars, everywhere.shot_bars) == (None, None)
    letterbox = measure_motion(TensorClip(film[SHOTS[0]], Fraction(25)))
    assert (letterbox.bars, letterbox.shot_bars) == (SHOT_BARS[0], None)
    for bars in (BarDetection.NONE, Bars(top=16, bottom=16)):  # what is given holds for the clip
        given = measure_motion(TensorClip(film, Fraction(25)), StabilizeSettings(bars=bars))
        assert given.shot_bars is None


@pytest.mark.parametrize("full_frames", [1, 9])
def test_a_few_frames_without_bars_leave_the_others_theirs(inside, film, full_frames):
    frames = torch.cat([inside[1][:full_frames], film[SHOTS[0]], film[SHOTS[0]]])
    motion = measure_motion(TensorClip(frames, Fraction(25)))
    assert motion.bars is None
    assert motion.shot_bars is not None
    assert motion.shot_bars[0] == NO_BARS
    assert set(motion.shot_bars[1:]) == {SHOT_BARS[0]}


def test_a_dark_shot_keeps_the_bars_of_its_neighbor(film, motion):
    dark = film.clone()
    dark[SHOTS[0]] *= 0.05
    clip = TensorClip(torch.cat([film[SHOTS[0]], dark[SHOTS[0]], film[SHOTS[1]]]), Fraction(25))
    first = Bars(top=16, bottom=20)
    assert bar_changes.find_shot_bars(clip, motion) == (first, first, NO_BARS)


def test_paths_with_changing_bars_are_saved_and_others_have_no_new_key(motion, fix, tmp_path):
    for value in (motion, fix):
        save_path(value, tmp_path / "path.json")
        found = load_path(tmp_path / "path.json")
        assert isinstance(found, (Motion, Correction))
        assert found.shot_bars == SHOT_BARS
        assert found.info == value.info
    document = json.loads((tmp_path / "path.json").read_text(encoding="utf-8"))
    assert document["shot_bars"] == [[0, 16, 0, 20], [0, 0, 0, 0], [24, 0, 20, 0]]
    save_path(replace(fix, shot_bars=None), tmp_path / "path.json")
    assert "shot_bars" not in json.loads((tmp_path / "path.json").read_text(encoding="utf-8"))
    for broken in ([[0, 16, 0, 20]], [[0, 60, 0, 60], [0, 0, 0, 0], [0, 0, 0, 0]], [[0, 0.5, 0, 0]] * 3):
        (tmp_path / "path.json").write_text(json.dumps(document | {"shot_bars": broken}), encoding="utf-8")
        with pytest.raises(ClipError, match="is damaged"):
            load_path(tmp_path / "path.json")


def test_a_larger_clip_has_larger_bars(fix):
    double = fix.scaled(2)
    assert double.shot_bars == tuple(bars.scaled(2, 2) for bars in SHOT_BARS)
    assert double.frame_info.size == (2 * WIDTH, 2 * HEIGHT)
    for part, large in zip(fix.split_by_bars(), double.split_by_bars(), strict=True):
        assert large.matrices[:, :2, 2] == pytest.approx(2 * part.matrices[:, :2, 2])


def test_yuv_frames_are_warped_as_those_of_each_shot(fix):
    random = np.random.default_rng(0)
    planes = random.integers(16, 235, (3 * COUNT, HEIGHT * 3 // 2, WIDTH), np.uint8)
    frames = [[VideoFrame.from_ndarray(plane, format="yuv420p")] for plane in planes]
    correction = moved_correction()
    results = list(chain.from_iterable(warp_yuv(cv2, iter(frames), correction, Border.EDGE, YUV)))
    for shot, bars in zip(SHOTS, SHOT_BARS, strict=True):
        for number in (shot.start, shot.stop - 1):
            found, source = results[number].to_ndarray()[:HEIGHT], planes[number][:HEIGHT]
            rows, columns = bars.area(HEIGHT, WIDTH)
            inner, moved = source[rows, columns], found[rows, columns]
            assert np.array_equal(moved[2:, 6:], inner[:-2, :-6])
            outside = np.ones((HEIGHT, WIDTH), bool)
            outside[rows, columns] = False
            assert np.array_equal(found[outside], source[outside])


def test_a_part_of_the_clip_is_rendered_with_its_bars(film):
    clip, correction = TensorClip(film, Fraction(25)), moved_correction()
    whole = torch.cat([w.frames for w in warp(iter(film.split(1)), correction, Border.EDGE)])
    piece = range(COUNT - 2, COUNT + 3)  # across a cut
    pipeline = Pipeline(clip).then(WarpOp(correction, Border.EDGE))
    frames = (film[i : i + 1] for i in piece)
    assert torch.equal(torch.cat(list(render_piece(pipeline, frames, piece, piece))), whole[piece.start : piece.stop])


def test_the_filled_area_and_the_overlay_are_those_of_each_area(film):
    correction = moved_correction()
    mask = union_fill_mask(WarpOp(correction, Border.MIRROR), correction.frame_info)[0]
    assert mask[:, 0].any()  # of the shot without bars
    overlays = [draw_crop_overlay(film[s.start : s.start + 1], correction, s.start, Border.MIRROR) for s in SHOTS]
    assert len({tuple(overlay.shape) for overlay in overlays}) == 3
    with pytest.raises(ClipError, match="there is no frame 36"):
        draw_crop_overlay(film[:1], correction, 36)


def test_a_pad_is_refused_and_too_many_frames_are_reported(film):
    with pytest.raises(ClipError, match="cannot be padded"):
        next(warp(iter(film.split(1)), moved_correction(), Border.MIRROR, pad=4))
    with pytest.raises(ClipError, match="more than the 36 frames"):
        list(warp(iter([film, film[:1]]), moved_correction(), Border.EDGE))
    with pytest.raises(ClipError, match="ended after 30 frames"):
        list(warp(iter([film[:30]]), moved_correction(), Border.EDGE))


def test_keyframes_have_the_time_of_the_clip(motion):
    """The strength is 0 in the last shot only."""
    keyframes = (Keyframe(0.9, strength=1.0), Keyframe(0.96, strength=0.0))
    plain, keyed = (
        correct_motion(motion, StabilizeSettings(border=Border.MIRROR, keyframes=keys)) for keys in ((), keyframes)
    )
    assert np.abs(keyed.matrices[24:] - np.eye(3)).max() < 1e-9
    assert keyed.matrices[:22] == pytest.approx(plain.matrices[:22], abs=0.2)
    assert np.abs(plain.matrices[24:, :2, 2]).max() > 0.5
    assert keyed.times is None, "the frames are evenly spaced"


def test_the_reference_is_a_frame_of_the_clip(motion):
    held = correct_motion(
        motion, StabilizeSettings(smoothing=Smoothing.LOCKED, border=Border.MIRROR, reference=COUNT + 3)
    )
    assert held.matrices[COUNT + 3] == pytest.approx(np.eye(3), abs=1e-6)
    with pytest.raises(ClipError, match="frame 999 cannot be the reference: the clip has frames 0 to 35"):
        correct_motion(motion, StabilizeSettings(smoothing=Smoothing.LOCKED, reference=999))


def test_the_report_names_the_bars_of_all_shots(motion, fix):
    report = report_stabilization(motion, fix, Border.CROP)
    first, last = {"left": 0, "top": 16, "right": 0, "bottom": 20}, {"left": 24, "top": 0, "right": 20, "bottom": 0}
    assert report.as_dict()["shot_bars"] == [first, dict.fromkeys(first, 0), last]
    assert "bars by shot (top 16, bottom 20 px; none; left 24, right 20 px)" in str(report)
