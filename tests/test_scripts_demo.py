"""Test the demo without a host: its clip, cutting a clip, the contact sheet."""

from __future__ import annotations

from pathlib import Path

import av
import contact_sheet
import demo
import numpy as np
import pytest
import script_support
import shaken_sample
from PIL import Image


@pytest.fixture
def ramp(tmp_path: Path) -> Path:
    """40 frames at 20 fps of gray levels 20, 24, 28, …; B-frames reorder the packets."""
    path = tmp_path / "ramp.mp4"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=20, options={"crf": "4", "bf": "3", "g": "40"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for index in range(40):
            image = np.full((64, 96, 3), 20 + 4 * index, np.uint8)
            output.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        output.mux(stream.encode(None))
    return path


def levels(path: Path) -> list[int]:
    """Which frames of `ramp` these are."""
    return [round((frame.to_ndarray(format="rgb24").mean() - 20) / 4) for _, frame in contact_sheet.decode_frames(path)]


class TestShorten:
    def test_the_beginning_is_kept_without_gaps(self, ramp: Path, tmp_path: Path) -> None:
        (tmp_path / "input").mkdir()
        short = demo.shorten_clip(ramp, tmp_path / "input", 1.0)
        found = levels(short)
        assert found == list(range(len(found)))
        assert 16 <= len(found) <= 20  # up to a group of B-frames less than a second

    @pytest.mark.parametrize("seconds", [None, 2.0, 60.0])
    def test_a_short_clip_is_used_as_it_is(self, ramp: Path, tmp_path: Path, seconds: float | None) -> None:
        (tmp_path / "input").mkdir()
        assert demo.shorten_clip(ramp, tmp_path / "input", seconds).samefile(ramp)

    def test_what_is_no_video_is_refused_by_name(self, tmp_path: Path) -> None:
        text = tmp_path / "letter.txt"
        text.write_text("Dear all")
        with pytest.raises(script_support.SetupError, match=r"letter\.txt"):
            demo.shorten_clip(text, tmp_path, 1.0)


def test_length_is_seconds_or_all() -> None:
    assert demo.parse_length("", cpu=True) == demo.CPU_CLIP_SECONDS
    assert demo.parse_length("", cpu=False) is None
    assert demo.parse_length("all", cpu=True) is None
    assert demo.parse_length("0.5", cpu=False) == 0.5
    for wrong in ("-1", "0", "many", "nan", "inf"):
        with pytest.raises(script_support.SetupError, match="LENGTH"):
            demo.parse_length(wrong, cpu=True)


class TestContactSheet:
    def test_moments_are_spread_evenly(self, ramp: Path) -> None:
        shades = [np.asarray(image).mean() for image in contact_sheet.sample_frames(ramp, 4)]
        assert [round((shade - 20) / 4) for shade in shades] == [5, 15, 25, 35]

    def test_the_mean_is_over_half_a_second_in_the_middle(self, ramp: Path) -> None:
        assert abs(np.asarray(contact_sheet.mean_frame(ramp)).mean() - (20 + 4 * 19.5)) < 1.5

    def test_the_sheet_shows_both_and_the_plot(self, ramp: Path, tmp_path: Path) -> None:
        plot = Image.new("RGB", (300, 100), "#00ff00")
        contact_sheet.draw_contact_sheet(ramp, ramp, plot, tmp_path / "sheet.png", num_rows=2)
        with Image.open(tmp_path / "sheet.png") as sheet:
            pixels = np.asarray(sheet.convert("RGB"))
        green = (pixels == (0, 255, 0)).all(axis=2)
        assert green[-60, pixels.shape[1] // 2]
        assert not green[: pixels.shape[0] // 2].any()
        first = pixels[MIDDLE_OF_FIRST_ROW, contact_sheet.MARGIN + 100]
        assert abs(int(first[0]) - (20 + 4 * 10)) <= 4


MIDDLE_OF_FIRST_ROW = contact_sheet.MARGIN + 38 + 30 + 2 * contact_sheet.GAP + 200


class TestSample:
    def test_the_shake_is_what_it_says_and_always_the_same(self) -> None:
        path = shaken_sample.make_shake_path(200, 6.0, 0.5)
        assert np.allclose(path.std(axis=0), (6.0, 6.0, 0.5))
        assert np.array_equal(path, shaken_sample.make_shake_path(200, 6.0, 0.5))
        assert np.abs(np.diff(path, axis=0)).mean() > 0.5  # it moves between frames

    def test_the_window_is_moved_and_rotated(self) -> None:
        frame = np.zeros((272, 640, 3), np.uint8)
        frame[136 + 10, 320 + 30] = 255
        seen = np.asarray(shaken_sample.render_window(Image.fromarray(frame), 30, 10, 0.0))
        row, column = np.unravel_index(seen[..., 0].argmax(), seen.shape[:2])
        assert abs(row - shaken_sample.WINDOW_SIZE[1] / 2) <= 1
        assert abs(column - shaken_sample.WINDOW_SIZE[0] / 2) <= 1

    def test_the_window_stays_inside_the_frame(self) -> None:
        white = Image.new("RGB", (640, 272), "white")
        for x, y, angle in shaken_sample.make_shake_path(
            len(shaken_sample.SHOT_FRAMES), shaken_sample.SHIFT_PIXELS, shaken_sample.TURN_DEGREES
        ):
            assert np.asarray(shaken_sample.render_window(white, x, y, angle)).min() == 255
