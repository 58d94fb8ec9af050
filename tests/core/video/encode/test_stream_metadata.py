"""Creation date, and language and title of the video track, are those of the source."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from steadyscale.core.video.decode.video_clip import VideoClip
from steadyscale.core.video.encode.writer import write_video


def make_tagged(path: Path, language: str = "deu") -> Path:
    with av.open(str(path), "w") as sink:
        stream = sink.add_stream("libx264", 24)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.metadata.update({"language": language, "title": "Main camera"})
        sink.metadata["creation_time"] = "2020-01-02T03:04:05Z"
        for number in range(3):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 90, np.uint8), format="rgb24")
            frame.pts = number
            sink.mux(stream.encode(frame))
        sink.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("source", [".mkv", ".mp4", ".mov"])
@pytest.mark.parametrize("target", [".mkv", ".mp4", ".mov"])
def test_date_language_and_title_are_kept(source: str, target: str, tmp_path: Path):
    path, out = make_tagged(tmp_path / f"in{source}"), tmp_path / f"out{target}"
    clip = VideoClip(path)
    write_video(out, clip.frames(), clip.info, source=path)
    with av.open(str(path)) as before, av.open(str(out)) as after:
        assert after.metadata["creation_time"] == before.metadata["creation_time"] == "2020-01-02T03:04:05.000000Z"
        old, new = before.streams.video[0].metadata, after.streams.video[0].metadata
        if source != ".mov":  # FFmpeg stores ger in MOV
            assert old["language"] == "deu"
            assert new["language"] == ("ger" if target == ".mov" else "deu")
        assert new["title" if target == ".mkv" else "name"] == "Main camera"


@pytest.mark.parametrize(("language", "becomes"), [("nld", "dut"), ("zho", "chi"), ("fre", "fra"), ("cze", "ces")])
def test_mov_stores_the_code_that_ffmpeg_knows(language: str, becomes: str, tmp_path: Path):
    silent, path, out = make_tagged(tmp_path / "in.mp4", language), tmp_path / "audio.mkv", tmp_path / "out.mov"
    with av.open(str(silent)) as old, av.open(str(path), "w") as sink:
        video = sink.add_stream_from_template(old.streams.video[0])
        audio = sink.add_stream("pcm_s16le", rate=8000, layout="mono")
        video.metadata["language"] = audio.metadata["language"] = language
        for packet in old.demux(old.streams.video[0]):
            if packet.size:
                packet.stream = video
                sink.mux(packet)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1000), np.int16), format="s16", layout="mono")
        silence.sample_rate, silence.pts = 8000, 0
        sink.mux(audio.encode(silence))
    clip = VideoClip(path)
    write_video(out, clip.frames(), clip.info, source=path)
    with av.open(str(out)) as container:
        assert [stream.language for stream in container.streams] == [becomes, becomes]
