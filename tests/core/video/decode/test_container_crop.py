"""Crops of containers are reported, once per file."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from numbered_video import make_video
from steadyscale.core.video.decode.container_crop import read_container_crop
from steadyscale.core.video.decode.packets.ebml import TRACK_ENTRY, TRACKS, VIDEO, find_element
from steadyscale.core.video.decode.video_clip import VideoClip
from steadyscale.core.video.encode.codecs import CONTAINERS
from steadyscale.core.video.encode.remux import remux


def element(element_id: bytes, content: bytes) -> bytes:
    return element_id + (len(content) | 0x0100000000000000).to_bytes(8, "big") + content


def test_the_crop_of_matroska_is_reported_once(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    path = tmp_path / "crop.mkv"
    remux(make_video(tmp_path / "in.mp4", 3), path, container=CONTAINERS[".mkv"])
    assert read_container_crop(path) == ""
    content = path.read_bytes()
    start, tracks = find_element(content, TRACKS, path)
    crop = element(b"\x54\xaa", b"\x08") + element(b"\x54\xbb", b"\x08") + element(b"\x54\xdd", b"\x02")
    at = tracks.index(VIDEO, tracks.index(b"\xb0") - 12)  # before the width
    length = tracks[at + 1] & 0x7F if tracks[at + 1] & 0x80 else 0
    assert length, "a short element"
    video = element(VIDEO, tracks[at + 2 : at + 2 + length] + crop)
    track = tracks[:at] + video + tracks[at + 2 + length :]
    entry_at = track.index(TRACK_ENTRY)
    entry_bytes = 9 - track[entry_at + 1].bit_length()
    entry = element(TRACK_ENTRY, track[entry_at + 1 + entry_bytes :])
    header_bytes = len(content[:start]) - content[:start].rindex(TRACKS)
    segment = content[: start - header_bytes] + element(TRACKS, entry) + content[start + len(tracks) :]
    path.write_bytes(segment)
    assert read_container_crop(path) == "pixels cropped: left 0, top 8, right 2, bottom 8"


def test_the_clean_aperture_of_mp4_is_reported_once(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    path = make_video(tmp_path / "crop.mp4", 3)
    assert read_container_crop(path) == ""
    # The box pasp of square pixels, 16 bytes, and the next 24 make room for clap in place: this test is about reading.
    content = path.read_bytes()
    box = struct.pack(">I4s8I", 40, b"clap", 48, 1, 32, 1, 0, 1, 0, 1)
    moov = content.index(b"moov")
    grown = content[: moov - 4] + struct.pack(">I", struct.unpack_from(">I", content, moov - 4)[0] + 40) + b"moov" + box
    (tmp_path / "clap.mp4").write_bytes(grown + content[moov + 4 :])
    assert read_container_crop(tmp_path / "clap.mp4") == "clean aperture 48x32"


def test_a_clip_logs_it_once(tmp_path: Path, monkeypatch, caplog: pytest.LogCaptureFixture):
    path = make_video(tmp_path / "in.mp4", 3)
    monkeypatch.setattr("steadyscale.core.video.decode.container_crop.read_container_crop", lambda _: "left 8")
    VideoClip(path), VideoClip(path)
    assert caplog.text.count("players show a part of its frames only (left 8)") == 1
