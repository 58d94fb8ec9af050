"""What a file needs beside its frames: codec tags, refusals and the end of encoded audio."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import pytest
import torch
from clock_videos import make_clip
from steadyscale.core.clip import ClipError, ClipInfo
from steadyscale.core.video.decode.video_clip import VideoClip
from steadyscale.core.video.encode.codecs import CODECS, CONTAINERS, Encoding, codec_for
from steadyscale.core.video.encode.output_format import OutputFormat
from steadyscale.core.video.encode.remux import remux
from steadyscale.core.video.encode.writer import write_video
from steadyscale.core.video.format.stream_format import HLG, PQ, Orientation, StreamFormat

INFO = ClipInfo(64, 48, Fraction(24))
SOURCE = StreamFormat("hevc", "yuv420p10le", Orientation(), Fraction(1), 9, False, 9, PQ)


def codec_tag(path: Path) -> str:
    with av.open(str(path)) as container:
        return container.streams.video[0].codec_context.codec_tag


def test_hevc_in_mp4_has_the_tag_that_apple_needs_also_after_remuxing(tmp_path: Path):
    write_video(tmp_path / "out.mp4", iter([torch.zeros(2, 3, 48, 64)]), INFO, encoding=Encoding("hevc"))
    remux(tmp_path / "out.mp4", tmp_path / "copy.mov", container=CONTAINERS[".mov"])
    assert (codec_tag(tmp_path / "out.mp4"), codec_tag(tmp_path / "copy.mov")) == ("hvc1", "hvc1")


def test_a_crf_for_a_codec_without_one_is_refused():
    with pytest.raises(ClipError, match="prores has no crf; leave it out"):
        codec_for(Path("out.mov"), CONTAINERS[".mov"], Encoding("prores", crf=20))


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_hdr_in_8_bits_is_refused(transfer: int):
    frames = torch.zeros(1, 3, 48, 64)
    with pytest.raises(ClipError, match="the source is HDR"):
        OutputFormat.of(
            frames, CODECS["h264"], Encoding(pixel_format="yuv420p"), replace(SOURCE, transfer=transfer), Path("o.mp4")
        )


def test_encoded_audio_has_its_end(tmp_path: Path):
    clip = VideoClip(make_clip(tmp_path / "in.mkv", 12, audio="mp2"))
    write_video(tmp_path / "out.webm", clip.frames(), clip.info, source=clip.path)
    with av.open(str(tmp_path / "out.webm")) as container:
        samples = sum(frame.samples for frame in container.decode(audio=0))
    assert samples >= 23_500, "the encoder was flushed"
