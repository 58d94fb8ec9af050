"""Joined recordings: a beep that starts with frame 12 of each part is heard with that frame of the result."""

from __future__ import annotations

from pathlib import Path

import pytest
from clock_videos import beep_times, join_bytes, make_clip, raw_times
from numbered_video import read_numbers
from steadyscale.core.video.decode.video_clip import VideoClip
from steadyscale.core.video.encode.writer import write_video

BEEP_FRAME, FPS = 12, 24
WRAP = round(2**33 / 90_000)  # seconds after which the clock of a transport stream starts again


def make_part(path: Path, *, fps: int = FPS, **options) -> Path:
    codec, muxer = ("mpeg2video", "vob") if path.suffix == ".vob" else ("libx264", None)
    return make_clip(
        path, codec=codec, muxer=muxer, fps=fps, beep=BEEP_FRAME / fps, options={"bf": "2", "g": "24"}, **options
    )


def check_joined(source: Path, target: Path, count: int) -> None:
    clip = VideoClip(source)
    write_video(target, clip.frames(), clip.info, source=source)
    numbers, times = read_numbers(VideoClip(target)), raw_times(target)
    assert numbers == list(range(24)) * count
    flashes = [times[n] for n, number in enumerate(numbers) if number == BEEP_FRAME]
    assert beep_times(target) == pytest.approx(flashes, abs=0.012)
    assert flashes[-1] - flashes[0] < (count - 1) * 1.6


@pytest.mark.parametrize(("audio", "target"), [("aac", ".webm"), ("mp2", ".mp4"), ("aac", ".mkv")])
def test_audio_is_in_sync_also_where_it_is_encoded_anew(audio: str, target: str, tmp_path: Path):
    """The audio of the parts is longer, shorter and as long as the video: gaps stay gaps."""
    parts = [
        make_part(tmp_path / f"{n}.ts", audio=audio, audio_seconds=seconds) for n, seconds in enumerate([1.4, 0.7, 1.0])
    ]
    check_joined(join_bytes(tmp_path / "joined.ts", *parts), tmp_path / f"out{target}", 3)


@pytest.mark.parametrize("starts", [(WRAP - 1, WRAP - 1), (WRAP - 1, 0), (WRAP - 2, 40, WRAP - 2)])
def test_clocks_that_wrap_around(starts: tuple[int, ...], tmp_path: Path, caplog: pytest.LogCaptureFixture):
    parts = [make_part(tmp_path / f"{n}.ts", start_seconds=start) for n, start in enumerate(starts)]
    source, target = join_bytes(tmp_path / "joined.ts", *parts), tmp_path / "out.mkv"
    if len(starts) == 2:
        check_joined(source, target, 2)
    else:  # the step forward before is a gap
        clip = VideoClip(source)
        write_video(target, clip.frames(), clip.info, source=source)
        assert read_numbers(VideoClip(target)) == list(range(24)) * 3
        gaps = [b - a for a, b in zip(raw_times(target), raw_times(target)[1:], strict=False)]
        assert gaps[23] == pytest.approx(41, abs=1)
        assert gaps[47] < 0.1
    assert caplog.text.count("its timestamps start again") == 1


def test_discontinuity_flags_change_nothing(tmp_path: Path):
    part = make_part(tmp_path / "part.ts")
    flagged, seen = bytearray(part.read_bytes()), set[int]()
    for at in range(0, len(flagged), 188):
        pid = (flagged[at + 1] & 31) << 8 | flagged[at + 2]
        if flagged[at + 3] & 0x20 and flagged[at + 4] and pid not in seen:  # has an adaptation field
            flagged[at + 5] |= 0x80
            seen.add(pid)
    assert seen
    (tmp_path / "flagged.ts").write_bytes(flagged)
    check_joined(join_bytes(tmp_path / "joined.ts", part, tmp_path / "flagged.ts"), tmp_path / "out.mkv", 2)


def test_audio_that_is_late_in_the_file_belongs_to_its_part(tmp_path: Path):
    """The last packet of the first part comes when the video of the second is at the same moment of the clock."""
    part = make_part(tmp_path / "part.vob", fps=25, audio="ac3", audio_seconds=0.96)
    check_joined(join_bytes(tmp_path / "joined.vob", part, part), tmp_path / "out.mkv", 2)


def test_subtitles_move_with_their_part(tmp_path: Path):
    part = make_part(tmp_path / "part.ts", subtitle=0.25)
    source, target = join_bytes(tmp_path / "joined.ts", part, part, part), tmp_path / "out.mkv"
    check_joined(source, target, 3)
    video, subtitles = raw_times(target), raw_times(target, "subtitles")
    assert subtitles == pytest.approx([video[n * 24 + 6] for n in range(3)], abs=0.002)
