"""What the demo does around the host: the clip it makes, the part of a clip it takes, the picture it draws."""

from __future__ import annotations

from pathlib import Path

import av
import contact_sheet
import demo
import numpy as np
import pytest
import sample
import steps
from PIL import Image


@pytest.fixture
def ramp(tmp_path: Path) -> Path:
    """40 frames, 20 a second, of grey levels 20, 24, 28, … With B-frames, so the order of packets is another."""
    path = tmp_path / "ramp.mp4"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=20, options={"crf": "4", "bf": "3", "g": "40"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for index in range(40):
            picture = np.full((64, 96, 3), 20 + 4 * index, np.uint8)
            output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        output.mux(stream.encode(None))
    return path


def levels(path: Path) -> list[int]:
    """Which frames of `ramp` these are."""
    return [round((frame.to_ndarray(format="rgb24").mean() - 20) / 4) for _, frame in contact_sheet.decode(path)]


class TestShorten:
    def test_the_beginning_is_kept_without_gaps(self, ramp: Path, tmp_path: Path) -> None:
        (tmp_path / "input").mkdir()
        short = demo.shorten(ramp, tmp_path / "input", 1.0)
        found = levels(short)
        assert found == list(range(len(found)))
        assert 16 <= len(found) <= 20  # up to a group of B-frames less than a second

    @pytest.mark.parametrize("seconds", [None, 2.0, 60.0])
    def test_a_short_clip_is_used_as_it_is(self, ramp: Path, tmp_path: Path, seconds: float | None) -> None:
        (tmp_path / "input").mkdir()
        assert demo.shorten(ramp, tmp_path / "input", seconds).resolve() == ramp

    def test_what_is_no_video_is_refused_by_name(self, tmp_path: Path) -> None:
        text = tmp_path / "letter.txt"
        text.write_text("Dear all")
        with pytest.raises(steps.Trouble, match=r"letter\.txt"):
            demo.shorten(text, tmp_path, 1.0)


def test_length_is_seconds_or_all() -> None:
    assert demo.seconds_wanted("", cpu=True) == demo.CPU_SECONDS
    assert demo.seconds_wanted("", cpu=False) is None
    assert demo.seconds_wanted("all", cpu=True) is None
    assert demo.seconds_wanted("0.5", cpu=False) == 0.5
    for wrong in ("-1", "0", "many", "nan", "inf"):
        with pytest.raises(steps.Trouble, match="LENGTH"):
            demo.seconds_wanted(wrong, cpu=True)


class TestContactSheet:
    def test_moments_are_spread_evenly(self, ramp: Path) -> None:
        shades = [np.asarray(image).mean() for image in contact_sheet.frames_at(ramp, 4)]
        assert [round((shade - 20) / 4) for shade in shades] == [5, 15, 25, 35]

    def test_the_mean_is_over_half_a_second_in_the_middle(self, ramp: Path) -> None:
        assert abs(np.asarray(contact_sheet.mean(ramp)).mean() - (20 + 4 * 19.5)) < 1.5

    def test_the_sheet_shows_both_and_the_plot(self, ramp: Path, tmp_path: Path) -> None:
        plot = Image.new("RGB", (300, 100), "#00ff00")
        contact_sheet.draw(ramp, ramp, plot, tmp_path / "sheet.png", moments=2)
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
        path = sample.shake(200, 6.0, 0.5)
        assert np.allclose(path.std(axis=0), (6.0, 6.0, 0.5))
        assert np.array_equal(path, sample.shake(200, 6.0, 0.5))
        assert np.abs(np.diff(path, axis=0)).mean() > 0.5  # it moves between frames

    def test_the_window_shows_the_place_it_is_told(self) -> None:
        frame = np.zeros((272, 640, 3), np.uint8)
        frame[136 + 10, 320 + 30] = 255
        seen = np.asarray(sample.window(Image.fromarray(frame), 30, 10, 0.0))
        row, column = np.unravel_index(seen[..., 0].argmax(), seen.shape[:2])
        assert abs(row - sample.SIZE[1] / 2) <= 1
        assert abs(column - sample.SIZE[0] / 2) <= 1

    def test_the_window_stays_inside_the_frame(self) -> None:
        white = Image.new("RGB", (640, 272), "white")
        for x, y, angle in sample.shake(len(sample.SHOT), sample.SHIFT, sample.TURN):
            assert np.asarray(sample.window(white, x, y, angle)).min() == 255
