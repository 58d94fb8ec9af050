"""Stabilizing frames as they arrive: a known shake, a bounded delay, one pass."""

from __future__ import annotations

import io
import json
import subprocess
import threading
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from camera_simulation import make_shaken_clip
from cli_process import cli_command
from clock_videos import raw_times
from numbered_video import make_video, read_numbers
from steadyscale.core import ClipError, ClipInfo, Encoding, Keyframe, StabilizeSettings, open_clip, write_clip
from steadyscale.core.api import stabilize_live_video
from steadyscale.core.video.decode.live_source import open_live_source
from steadyscale.core.video.encode.y4m_pipe import write_y4m

COUNT, AHEAD, SIZE = 40, 6, (192, 112)


@pytest.fixture(scope="module")
def shaken() -> torch.Tensor:
    """40 frames under a known shake."""
    clip, _ = make_shaken_clip(COUNT, *SIZE, pixels=4.0)
    return torch.cat(list(clip.frames()))


def y4m_parts(frames: torch.Tensor) -> list[bytes]:
    """The header, and each frame."""
    height, width = frames.shape[-2:]
    pipe, ends = io.BytesIO(), []

    def one_by_one():
        for frame in frames.split(1):
            ends.append(len(pipe.getvalue()))
            yield frame

    write_y4m(pipe, one_by_one(), ClipInfo(width, height, Fraction(25)))
    data = pipe.getvalue()
    return [data[a:b] for a, b in zip([0, *ends], [*ends, len(data)], strict=True)]


def frame_change(frames: torch.Tensor) -> float:
    """Mean change from frame to frame of the inner part, without the finest detail."""
    inner = frames[..., 24:-24, 36:-36]
    return float(torch.nn.functional.avg_pool2d(inner.diff(dim=0), 4).abs().mean())


def read_y4m(data: bytes) -> torch.Tensor:
    with av.open(io.BytesIO(data), format="yuv4mpegpipe") as container:
        frames = [torch.from_numpy(frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
    return torch.stack(frames).permute(0, 3, 1, 2) / 255


def test_through_pipes_the_shake_stops_and_the_delay_is_bounded(shaken):
    """Frames go in one by one; each comes out once the look-ahead, and what the reader probes, has followed it."""
    words = ["stabilize", "-", "-", "--live", "--lookahead", AHEAD, "--border", "mirror", "--device", "cpu", "--json"]
    header, *frames = y4m_parts(shaken)
    with subprocess.Popen(
        cli_command(*words), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stderr is not None
        output, arrived = bytearray(), threading.Condition()

        def collect() -> None:
            while piece := child.stdout.read1(2**20):
                with arrived:
                    output.extend(piece)
                    arrived.notify_all()

        reader = threading.Thread(target=collect)
        reader.start()
        child.stdin.write(header)
        delays = []
        for sent, frame in enumerate(frames, 1):
            child.stdin.write(frame)
            child.stdin.flush()
            if sent == COUNT // 2:
                # No more is sent: what has to come by now comes, or this waits forever.
                enough = len(header) + (sent - AHEAD - 2) * len(frame)
                with arrived:
                    assert arrived.wait_for(lambda enough=enough: len(output) >= enough, timeout=120)
                    delays.append(sent - (len(output) - len(header)) // len(frame))
        child.stdin.close()
        reader.join()
        report = json.loads(child.stderr.read().splitlines()[-1])
    assert child.returncode == 0
    assert (report["frames_in"], report["frames_out"], report["input"], report["output"]) == (COUNT, COUNT, "-", "-")
    assert AHEAD <= delays[0] <= AHEAD + 2
    result = read_y4m(bytes(output))
    assert result.shape == shaken.shape
    assert frame_change(result[5:]) < 0.4 * frame_change(shaken[5:])


def test_from_file_to_file(tmp_path: Path, shaken):
    write_clip(tmp_path / "in.mkv", iter(shaken.split(1)), ClipInfo(*SIZE, Fraction(25)), encoding=Encoding("ffv1"))
    calls = []
    report = stabilize_live_video(
        tmp_path / "in.mkv",
        tmp_path / "out.mkv",
        settings=StabilizeSettings(border="mirror"),
        look_ahead=AHEAD,
        encoding=Encoding("ffv1"),
        device="cpu",
        progress=calls.append,
    )
    result = torch.cat(list(open_clip(tmp_path / "out.mkv").frames()))
    assert (report.frames_in, report.frames_out, report.info.size, report.info.fps) == (COUNT, COUNT, SIZE, 25)
    assert frame_change(result[5:]) < 0.4 * frame_change(shaken[5:])
    assert [call.done for call in calls] == list(range(COUNT + 1))


def test_a_stop_ends_the_clip_and_keeps_what_came(tmp_path: Path):
    source = make_video(tmp_path / "in.mp4", 12)
    asked = iter([False] * 8 + [True] * 100)
    report = stabilize_live_video(
        source,
        tmp_path / "out.mkv",
        settings=StabilizeSettings(border="edge"),
        look_ahead=3,
        device="cpu",
        stop=lambda: next(asked),
    )
    assert (report.frames_in, report.frames_out) == (8, 8)
    assert open_clip(tmp_path / "out.mkv").info.length == 8


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"smoothing": "l1"}, "'l1' needs the whole clip"),
        ({"border": "fill"}, "needs future frames"),
        ({"border": "edge", "pad": 2}, "cannot be padded"),
        ({"keyframes": (Keyframe(0, strength=0.5),)}, r"keyframes are given \(1\); live"),
    ],
)
def test_settings_that_need_the_whole_clip_are_refused(tmp_path: Path, clip_file: Path, settings, message):
    with pytest.raises(ClipError, match=message):
        stabilize_live_video(clip_file, tmp_path / "o.mkv", settings=StabilizeSettings(**settings), device="cpu")
    assert not (tmp_path / "o.mkv").exists()


def test_the_learned_smoother_steers_live(tmp_path: Path, clip_file: Path):
    settings = StabilizeSettings(smoothing="learned", border="mirror")
    report = stabilize_live_video(clip_file, tmp_path / "out.mkv", settings=settings, look_ahead=2, device="cpu")
    assert report.frames_out == 12


def test_a_live_source_gives_the_frames_of_a_file(clip_file: Path):
    with open_live_source(str(clip_file)) as source:
        frames = torch.cat(list(source.frames()))
        assert source.info == ClipInfo(64, 48, Fraction(24))
    assert torch.equal(frames, torch.cat(list(open_clip(clip_file).frames())))
    assert read_numbers(open_clip(clip_file)) == list(range(12))


UNEVEN = [0, 33, 67, 150, 183, 400, 433, 467, 500, 600, 633, 667]


@pytest.mark.parametrize(("suffix", "codec", "look_ahead"), [(".mp4", "h264", 2), (".mkv", "ffv1", 0)])
def test_live_frames_keep_their_timestamps(suffix: str, codec: str, look_ahead: int, tmp_path: Path):
    source = make_video(tmp_path / "in.mkv", 12, starts=[5000 + t for t in UNEVEN], time_base=Fraction(1, 1000))
    settings = StabilizeSettings(border="edge")
    out = tmp_path / f"out{suffix}"
    stabilize_live_video(source, out, settings=settings, look_ahead=look_ahead, encoding=Encoding(codec), device="cpu")
    assert [round(t * 1000) for t in raw_times(out)] == UNEVEN


def test_live_timestamps_ascend(clip_file: Path):
    """One is repeated, one missing, and then they start again."""
    with open_live_source(str(clip_file)) as source:
        tick = round(1 / 24 / source.time_base)
        given = [7, 7 + tick, 7 + tick, 7 + 2 * tick, None, 7 + 4 * tick, 2, 2 + tick, 2 + 5 * tick]
        for pts in given:
            source._append_time(pts)
        expected = [0, 1, 1.5, 2, 3, 4, 5, 6, 10]
        assert list(source.times.starts) == [int(n * tick) for n in expected]
        gaps = [b - a for a, b in pairwise(source.times.starts)]
        assert list(source.times.durations) == [*gaps, tick]


@pytest.mark.parametrize(("name", "message"), [("missing.mp4", "no such file"), ("v4l2:/dev/none", "capture device")])
def test_a_source_that_cannot_be_opened_is_reported(tmp_path: Path, name: str, message: str):
    with pytest.raises(ClipError, match=message):
        stabilize_live_video(name, tmp_path / "out.mkv", device="cpu")


@pytest.mark.parametrize("on_damage", ["fail", "keep"])
def test_an_mp4_whose_index_is_at_its_end_is_explained(tmp_path: Path, on_damage: str):
    """Noise makes the file larger than what FFmpeg buffers of a pipe; in a smaller one the index is found."""
    random = np.random.default_rng(0)
    noise = random.integers(0, 255, (240, 320, 3), np.uint8)
    source = make_video(tmp_path / "in.mp4", 4, size=(320, 240), draw=lambda *_: noise)
    words = ["stabilize", "-", tmp_path / "out.mkv", "--live", "--on-damage", on_damage]
    done = subprocess.run(cli_command(*words), input=source.read_bytes(), capture_output=True, check=False)
    assert done.returncode == 1
    assert b"give the file name, or pipe Matroska or MPEG-TS" in done.stderr
    assert b"--on-damage" not in done.stderr


def test_the_command_refuses_to_resume_a_live_run(tmp_path: Path, clip_file: Path, run_cli):
    code, _, stderr = run_cli("stabilize", clip_file, tmp_path / "o.mkv", "--live", "--resumable")
    assert (code, "leave out --resumable and --job" in stderr) == (1, True)
