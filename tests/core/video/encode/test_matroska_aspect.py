"""Non-square pixels are kept in every container, however a file is written."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import pytest
from numbered_video import make_video, read_numbers
from steadyscale.core.clip import ClipError
from steadyscale.core.jobs.run import run_job
from steadyscale.core.jobs.state.folder import open_job
from steadyscale.core.pipeline.pipeline import Pipeline
from steadyscale.core.video.decode.video_clip import VideoClip
from steadyscale.core.video.encode.codecs import CODECS, CONTAINERS, Encoding, container_for
from steadyscale.core.video.encode.matroska_aspect import PLACEHOLDER_TITLE, write_display_size
from steadyscale.core.video.encode.remux import remux
from steadyscale.core.video.encode.writer import write_video
from steadyscale.core.video.verify.verify import VerificationError, verify_output

SIZE = (72, 64)  # both pixel aspect ratios give integer display sizes
PAIRS = [(codec, suffix) for suffix, container in CONTAINERS.items() for codec in container.codecs if suffix != ".m4v"]
ASPECT_RATIOS = [Fraction(4, 3), Fraction(8, 9)]


@pytest.fixture(params=ASPECT_RATIOS, ids=str)
def wide_pixels(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return make_video(tmp_path / "wide.mp4", 6, size=SIZE, pixel_aspect=request.param, audio_start=0.0)


def pixel_aspect(path: Path) -> Fraction:
    assert PLACEHOLDER_TITLE.encode() not in path.read_bytes()
    with av.open(str(path)) as container:
        return container.streams.video[0].sample_aspect_ratio


@pytest.mark.parametrize(("codec", "suffix"), PAIRS)
def test_every_codec_in_every_container(tmp_path: Path, wide_pixels: Path, codec: str, suffix: str):
    clip, out = VideoClip(wide_pixels), tmp_path / f"out{suffix}"
    write_video(out, clip.frames(), clip.info, encoding=Encoding(codec), source=wide_pixels)
    assert pixel_aspect(out) == clip.stream_format.pixel_aspect
    assert VideoClip(out).stream_format.pixel_aspect == clip.stream_format.pixel_aspect
    assert read_numbers(VideoClip(out)) == [*range(6)]


@pytest.mark.parametrize("name", ["a.mkv ffv1", "a.webm vp9", "a.mkv prores", "a.mkv h264"])
def test_jobs_and_copies_keep_the_pixel_aspect_ratio(tmp_path: Path, wide_pixels: Path, name: str):
    file, codec = name.split()
    clip, target = VideoClip(wide_pixels), tmp_path / file
    with open_job(tmp_path / "job", wide_pixels) as job:
        run_job(job, Pipeline(clip), target, encoding=Encoding(codec), segment_seconds=0.1)
    assert pixel_aspect(target) == clip.stream_format.pixel_aspect
    assert read_numbers(VideoClip(target)) == [*range(6)]
    again = tmp_path / f"again_{file}"
    remux(target, again, container=container_for(again), metadata={"note": "x"})
    assert pixel_aspect(again) == clip.stream_format.pixel_aspect
    assert read_numbers(VideoClip(again)) == [*range(6)]
    with av.open(str(again)) as result:
        assert {key.lower(): value for key, value in result.metadata.items()}["note"] == "x"


def test_square_pixels_need_no_display_size(tmp_path: Path):
    source = make_video(tmp_path / "square.mp4", 3)
    clip = VideoClip(source)
    write_video(tmp_path / "out.mkv", clip.frames(), clip.info, encoding=Encoding("ffv1"), source=source)
    assert pixel_aspect(tmp_path / "out.mkv") in (None, 1)
    with pytest.raises(ClipError, match="no space is reserved for the pixel aspect ratio"):
        write_display_size(tmp_path / "out.mkv", Fraction(4, 3))


def test_verification_finds_a_wrong_pixel_aspect_ratio(tmp_path: Path):
    wide_pixels = make_video(tmp_path / "wide.mp4", 3, size=SIZE, pixel_aspect=Fraction(4, 3))
    clip = VideoClip(wide_pixels)
    write_video(tmp_path / "square.mp4", clip.frames(), clip.info)
    with pytest.raises(VerificationError, match=r"the pixel aspect ratio was 1\.333 and is 1\.000"):
        verify_output(tmp_path / "square.mp4", wide_pixels, frame_count=3, info=clip.info)
    assert set(CODECS) == {codec for codec, _ in PAIRS}, "all codecs are tested above"
