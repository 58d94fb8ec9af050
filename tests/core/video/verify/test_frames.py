"""A result must have as many frames as were written, all of them intact, of the expected size."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
from corrupt_videos import FRAME_COUNT, FRAME_SIZE, corrupt_packet, make_moving_video
from steadyscale.core.clip import ClipInfo
from steadyscale.core.video.verify.verify import VerificationError, verify_output

INFO = ClipInfo(*FRAME_SIZE, Fraction(24))


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_moving_video(tmp_path_factory.mktemp("result") / "result.mkv", "ffv1")


def test_an_intact_result_is_accepted(result: Path):
    verify_output(result, None, frame_count=FRAME_COUNT, info=INFO)


@pytest.mark.parametrize("count", [FRAME_COUNT - 1, FRAME_COUNT + 1])
def test_more_and_fewer_frames_are_found(result: Path, count: int):
    with pytest.raises(VerificationError, match=rf"result\.mkv: .*{FRAME_COUNT} frames instead of {count}"):
        verify_output(result, None, frame_count=count, info=INFO)


def test_a_corrupt_frame_is_found(tmp_path: Path):
    """Its packet is there, with its timestamp: only decoding shows it."""
    broken = corrupt_packet(make_moving_video(tmp_path / "result.mp4"), 24, 0.5)
    with pytest.raises(VerificationError, match=r"\d frames are corrupt"):
        verify_output(broken, None, frame_count=FRAME_COUNT, info=INFO)


@pytest.mark.parametrize(
    ("width", "height", "is_accepted"), [(-1, 0, True), (0, -1, True), (1, 0, False), (0, -2, False)]
)
def test_frames_may_be_larger_by_a_pixel_and_not_smaller(result: Path, width: int, height: int, is_accepted: bool):
    info = ClipInfo(FRAME_SIZE[0] + width, FRAME_SIZE[1] + height, Fraction(24))
    if is_accepted:
        verify_output(result, None, frame_count=FRAME_COUNT, info=info)
        return
    with pytest.raises(VerificationError, match=rf"frames are 160x96 instead of {info.width}x{info.height}"):
        verify_output(result, None, frame_count=FRAME_COUNT, info=info)
