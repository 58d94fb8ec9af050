"""Creation date, and language and title of the video track, are those of the source."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from steadyscale.core.video.decode.video_clip import VideoClip
from steadyscale.core.video.encode.writer import write_video


def make_tagged(path: Path) -> Path:
    with av.open(str(path), "w") as sink:
        stream = sink.add_stream("libx264", 24)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.metadata.update({"language": "deu", "title": "Main camera"})
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
        if ".mov" not in (source, target):  # MOV has a code for some languages only
            assert new["language"] == old["language"] == "deu"
        assert new["title" if target == ".mkv" else "name"] == "Main camera"
