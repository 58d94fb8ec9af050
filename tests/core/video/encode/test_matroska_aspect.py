"""Pixels that are not square stay so in every container, however a file is made."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import pytest
from numbered_video import make_video, read_numbers
from steadyscale.core.clip import ClipError
from steadyscale.core.jobs.folder import open_job
from steadyscale.core.jobs.run import run_job
from steadyscale.core.pipeline.pipeline import Pipeline
from steadyscale.core.video.decode.video_clip import VideoClip
from steadyscale.core.video.encode.codecs import CODECS, CONTAINERS, Encoding, container_for
from steadyscale.core.video.encode.matroska_aspect import PLACEHOLDER_TITLE, write_display_size
from steadyscale.core.video.encode.remux import remux
from steadyscale.core.video.encode.writer import write_video
from steadyscale.core.video.verify.verify import VerificationError, verify_output

SIZE = (72, 64)  # both shapes of pixels give whole sides of a display
PAIRS = [(codec, suffix) for suffix, box in CONTAINERS.items() for codec in box.codecs if suffix != ".m4v"]
SHAPES = [Fraction(4, 3), Fraction(8, 9)]


@pytest.fixture(params=SHAPES, ids=str)
def wide(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return make_video(tmp_path / "wide.mp4", 6, size=SIZE, pixel_aspect=request.param, audio_start=0.0)


def shape(path: Path) -> Fraction:
    assert PLACEHOLDER_TITLE.encode() not in path.read_bytes()
    with av.open(str(path)) as container:
        return container.streams.video[0].sample_aspect_ratio


@pytest.mark.parametrize(("codec", "suffix"), PAIRS)
def test_every_codec_in_every_container(tmp_path: Path, wide: Path, codec: str, suffix: str):
    clip, out = VideoClip(wide), tmp_path / f"out{suffix}"
    write_video(out, clip.frames(), clip.info, encoding=Encoding(codec), source=wide)
    assert shape(out) == clip.stream_format.pixel_aspect
    assert VideoClip(out).stream_format.pixel_aspect == clip.stream_format.pixel_aspect
    assert read_numbers(VideoClip(out)) == [*range(6)]


@pytest.mark.parametrize("name", ["a.mkv ffv1", "a.webm vp9", "a.mkv prores", "a.mkv h264"])
def test_jobs_and_copies_keep_it(tmp_path: Path, wide: Path, name: str):
    file, codec = name.split()
    clip, target = VideoClip(wide), tmp_path / file
    with open_job(tmp_path / "job", wide) as job:
        run_job(job, Pipeline(clip), target, encoding=Encoding(codec), segment_seconds=0.1)
    assert shape(target) == clip.stream_format.pixel_aspect
    assert read_numbers(VideoClip(target)) == [*range(6)]
    again = tmp_path / f"again_{file}"
    remux(target, again, container=container_for(again), metadata={"note": "x"})
    assert shape(again) == clip.stream_format.pixel_aspect
    assert read_numbers(VideoClip(again)) == [*range(6)]
    with av.open(str(again)) as made:
        assert {key.lower(): value for key, value in made.metadata.items()}["note"] == "x"


def test_square_pixels_need_nothing(tmp_path: Path):
    source = make_video(tmp_path / "square.mp4", 3)
    clip = VideoClip(source)
    write_video(tmp_path / "out.mkv", clip.frames(), clip.info, encoding=Encoding("ffv1"), source=source)
    assert shape(tmp_path / "out.mkv") in (None, 1)
    with pytest.raises(ClipError, match="no room for the shape of its pixels"):
        write_display_size(tmp_path / "out.mkv", Fraction(4, 3))


def test_the_contract_misses_it(tmp_path: Path):
    wide = make_video(tmp_path / "wide.mp4", 3, size=SIZE, pixel_aspect=Fraction(4, 3))
    clip = VideoClip(wide)
    write_video(tmp_path / "square.mp4", clip.frames(), clip.info)
    with pytest.raises(VerificationError, match=r"pixels were 1\.333 times as wide as high and are 1\.000"):
        verify_output(tmp_path / "square.mp4", wide, frame_count=3, info=clip.info)
    assert set(CODECS) == {codec for codec, _ in PAIRS}, "all codecs are tried above"
