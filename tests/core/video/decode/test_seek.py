"""A range of frames is decoded from the key frame before it, and is what a run from the start gives."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from corrupt_videos import corrupt_packet
from numbered_video import make_video, read_numbers
from steadyscale.core.video.decode.corruption_report import OnDamage
from steadyscale.core.video.decode.packets import demux
from steadyscale.core.video.decode.timestamps import TimeRange
from steadyscale.core.video.decode.video_clip import VideoClip

COUNT, GOP = 40, 8
X264 = {"g": str(GOP), "keyint_min": str(GOP), "sc_threshold": "0"}


class DecodedFrames:
    """Counts the frames that come out of all decoders."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count, make_decoder = 0, demux.software_decoder

        def counting_decoder(stream):
            decoder = make_decoder(stream)

            class Counting:
                @staticmethod
                def decode(packet):
                    frames = decoder.decode(packet)
                    self.count += len(frames)
                    return frames

            return Counting

        monkeypatch.setattr(demux, "software_decoder", counting_decoder)


def read_range(clip: VideoClip, first: int, stop: int) -> list[int]:
    class Part:
        @staticmethod
        def frames(batch: int):
            return clip.frames(batch, first, stop)

    return read_numbers(Part)


@pytest.mark.parametrize(
    ("suffix", "codec", "options"),
    [
        (".mp4", "libx264", X264),
        (".mkv", "libx264", X264 | {"x264-params": "open-gop=1"}),
        (".mov", "libx264", X264 | {"bf": "0"}),
        (".mkv", "libvpx-vp9", {"g": str(GOP), "keyint_min": str(GOP), "lag-in-frames": "0", "cpu-used": "8"}),
        (".mp4", "mpeg4", {"g": str(GOP), "bf": "2"}),
        (".mkv", "ffv1", {"g": str(GOP)}),
        (".ts", "libx264", X264),
    ],
)
def test_frames_after_a_seek_are_those_of_a_run_from_the_start(
    suffix: str, codec: str, options: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog
):
    pixel_format = "bgr0" if codec == "ffv1" else "yuv420p"
    path = make_video(tmp_path / f"a{suffix}", COUNT, codec=codec, options=options, pixel_format=pixel_format)
    clip = VideoClip(path)
    frames = [*clip.frames()]
    decoded = DecodedFrames(monkeypatch)
    for first, stop in ((1, 2), (7, 9), (8, 16), (15, 17), (23, 31), (39, 40)):
        decoded.count = 0
        part = [*clip.frames(1, first, stop)]
        assert len(part) == stop - first
        assert all(frame.equal(frames[number]) for number, frame in enumerate(part, first))
        assert decoded.count <= stop - first + (2 if suffix == ".ts" else 1) * GOP
    assert caplog.messages == []


def test_the_frames_of_a_time_range_are_counted_from_its_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    clip = VideoClip(make_video(tmp_path / "a.mp4", COUNT, options=X264), window=TimeRange(0.5, 1.0))
    decoded = DecodedFrames(monkeypatch)
    assert read_range(clip, 10, 14) == [22, 23, 24, 25]
    assert decoded.count <= 4 + GOP


@pytest.mark.parametrize("policy", [*OnDamage])
def test_a_damaged_range_is_what_a_run_from_the_start_makes_of_it(policy: OnDamage, tmp_path: Path, caplog):
    path = corrupt_packet(make_video(tmp_path / "a.mp4", COUNT, options=X264 | {"bf": "0"}), 19, 0.5)
    clip = VideoClip(path, on_damage=policy)
    assert read_range(clip, 26, 30) == [26, 27, 28, 29]
    assert caplog.messages == [], "the damage is elsewhere"
    if policy is OnDamage.FAIL:
        with pytest.raises(Exception, match="frame 19") as from_start:
            [*clip.frames()]
        with pytest.raises(Exception, match="frame 19") as after_seek:
            [*clip.frames(1, 18, 22)]
        assert str(after_seek.value) == str(from_start.value)
        return
    part = [*clip.frames(1, 18, 22)]
    table = clip.damage.to_table()
    whole = VideoClip(path, on_damage=policy)
    frames = [*whole.frames()][18:22]
    assert all(frame.equal(same) for frame, same in zip(part, frames, strict=True))
    assert table == whole.damage.to_table() != []
    assert "frame 18 is reached by decoding from the start" in caplog.text or "frame 19" in caplog.text


@pytest.mark.parametrize(
    ("suffix", "codec", "options", "reason"),
    [
        (".ts", "libx264", {"x264-params": "intra-refresh=1:keyint=8", "bf": "0"}, "can(not)? be decoded alone"),
        (".h264", "libx264", X264, "do not tell its frames apart"),
    ],
)
def test_where_seeking_is_not_exact_decoding_starts_at_the_first_frame(
    suffix: str, codec: str, options: dict[str, str], reason: str, tmp_path: Path, caplog
):
    clip = VideoClip(make_video(tmp_path / f"a{suffix}", COUNT, codec=codec, options=options))
    caplog.clear()
    assert read_range(clip, 30, 33) == [30, 31, 32]
    [message] = caplog.messages
    assert re.search(rf"frame 30 is reached by decoding from the start \(.*({reason})", message), message
