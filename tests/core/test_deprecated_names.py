"""Deprecated attributes and keyword arguments of the public types and functions still work, and warn."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from numbered_video import make_video, numbered_frames
from steadyscale.core import (
    ClipInfo,
    Correction,
    CorruptionReport,
    ImageClip,
    Motion,
    TimeRange,
    VideoClip,
    Warped,
    flow_to_image,
    limit_zoom,
    stabilize_live,
    write_images,
)
from steadyscale.core.geometry import matrices_from_parameters
from steadyscale.core.warping.live import FrameMotion

INFO = ClipInfo(64, 48, Fraction(25), 3)
IDENTITY = np.tile(np.eye(3), (3, 1, 1))


def deprecated(old: str, new: str):
    return pytest.warns(DeprecationWarning, match=rf"{old}\W.*is now \W?.*{new}\W")


def test_clip_info_within() -> None:
    with deprecated(r"ClipInfo\.within", r"ClipInfo\.fit_within"):
        assert INFO.within(32) == INFO.fit_within(32)


def test_motion_trust() -> None:
    with deprecated("'trust'", "'confidence"):
        motion = Motion(IDENTITY, trust=np.array([0.0, 1, 1]), info=INFO)
    with deprecated(r"Motion\.trust", r"Motion\.confidence"):
        assert motion.trust is motion.confidence


def test_correction_bends() -> None:
    with deprecated("'bends'", "'distorts_rows"):
        fix = Correction(IDENTITY, [slice(0, 3)], INFO, bends=True)
    with deprecated(r"Correction\.bends", r"Correction\.distorts_rows"):
        assert fix.bends is fix.distorts_rows is True


def test_warped_invented() -> None:
    frames, mask = torch.zeros(1, 3, 4, 4), torch.ones(1, 4, 4)
    with deprecated("'invented'", "'fill_mask"):
        warped = Warped(frames=frames, invented=mask)
    with deprecated(r"Warped\.invented", r"Warped\.fill_mask"):
        assert warped.invented is warped.fill_mask is mask
    assert len(warped) == 2


def test_limit_zoom_most() -> None:
    fix = Correction(matrices_from_parameters(np.array([[3.0, 0, 0, 0]] * 3)), [slice(0, 3)], INFO)
    with deprecated("'most'", "'max_zoom"):
        limited = limit_zoom(fix, most=1.05)
    assert np.array_equal(limited.matrices, limit_zoom(fix, max_zoom=1.05).matrices)
    assert not np.array_equal(limited.matrices, fix.matrices)


def test_flow_to_image_largest() -> None:
    flow = torch.ones(1, 2, 8, 8)
    with deprecated("'largest'", "'max_motion"):
        assert torch.equal(flow_to_image(flow, largest=4.0), flow_to_image(flow, max_motion=4.0))


def test_stabilize_live_measured() -> None:
    def motions():
        return iter([FrameMotion(torch.rand(1, 3, 48, 64), np.eye(3), 0.0)])

    with deprecated("'measured'", "'frame_motions"):
        assert len(list(stabilize_live(measured=motions(), fps=Fraction(25)))) == 1


@pytest.mark.parametrize(
    ("old", "new"),
    [("cut", "trim"), ("stored", "stream_format")],
)
def test_video_clip(old: str, new: str, tmp_path: Path) -> None:
    clip = VideoClip(make_video(tmp_path / "clip.mp4", 2))
    with deprecated(rf"VideoClip\.{old}", rf"VideoClip\.{new}"):
        assert getattr(clip, old) == getattr(clip, new)


def test_time_range_and_corruption_report() -> None:
    part, report = TimeRange(1.0, 2.0), CorruptionReport()
    with deprecated(r"TimeRange\.ticks", r"TimeRange\.to_ticks"):
        assert part.ticks(Fraction(1, 10)) == part.to_ticks(Fraction(1, 10))
    with deprecated(r"CorruptionReport\.table", r"CorruptionReport\.to_table"):
        assert report.table() == report.to_table() == []
    with deprecated(r"CorruptionReport\.add", r"CorruptionReport\.merge"):
        assert report.add == report.merge


def test_where_of_image_sequences(tmp_path: Path) -> None:
    with deprecated("'where'", "'path"):
        assert write_images(where=tmp_path / "out", frames=iter(numbered_frames(2).split(1))) == 2
    with deprecated("'where'", "'path"):
        assert len(ImageClip(where=tmp_path / "out").files) == 2
