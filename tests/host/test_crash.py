"""Test that a resumable run continues after ComfyUI was killed."""

from __future__ import annotations

import os
import shutil
import signal
from hashlib import sha256
from pathlib import Path

import aiohttp
import pytest
from comfyhost import Host, HostError, RunResult
from job_run import audio_packets, frame_hashes
from numbered_video import make_video, read_numbers
from steadyscale.core.video.decode.video_clip import VideoClip

pytestmark = pytest.mark.host

MODEL = "realesr-animevideov3.safetensors"
FRAMES, PIECE = 40, 10  # one frame a second, so that a segment holds ten


def graph(name: str) -> dict:
    settings = {"resize_to": "factor", "factor": 2.0, "width": 1, "height": 1, "tile": 0, "precision": "fp32"}
    return {
        "1": {"class_type": "LoadVideo", "inputs": {"file": name}},
        "2": {"class_type": "SteadyScale_LoadESRGANModel", "inputs": {"model_name": MODEL}},
        "3": {
            "class_type": "SteadyScale_UpscaleFrames",
            "inputs": {"upscale_model": ["2", 0], "frames": ["1", 0], "resumable": True, **settings},
        },
        "4": {
            "class_type": "SaveVideo",
            "inputs": {"video": ["3", 0], "filename_prefix": name, "format": "mp4", "codec": "h264"},
        },
    }


def kept(host: Host) -> dict[str, str]:
    """The finished segments, and hashes of what they hold."""
    files = (host.base / "output" / "steadyscale_jobs").rglob("segment-*.mp4")
    return {file.name: sha256(file.read_bytes()).hexdigest() for file in sorted(files)}


def result(host: Host, run: RunResult) -> Path:
    item = run.outputs["4"]["images"][0]
    return host.base / "output" / item["subfolder"] / item["filename"]


def frames_made(run: RunResult) -> int:
    return max((data["value"] for kind, data in run.events if kind == "progress" and data["node"] == "4"), default=0)


@pytest.mark.slow
def test_run_resumes_after_the_host_was_killed(restartable_host: Host) -> None:
    host = restartable_host
    starts = [24_000 * number for number in range(FRAMES)]
    make_video(host.base / "input" / "long.mp4", FRAMES, starts=starts, audio_start=0.1)
    shutil.copy(host.base / "input" / "long.mp4", host.base / "input" / "other.mp4")

    def kill(event: str, data: dict) -> None:
        if event == "progress" and data["value"] >= 2 * PIECE + 5:
            os.kill(host.pid, signal.SIGKILL)

    with pytest.raises((HostError, aiohttp.ClientError, OSError)):
        host.run(graph("long.mp4"), kill, timeout=300)
    host.stop()
    before = kept(host)
    assert len(before) >= 2
    assert not list((host.base / "output").glob("*.mp4"))
    host.start()
    assert kept(host) == before, "a start of ComfyUI empties its temp folder, and not this one"
    run = host.run(graph("long.mp4"), timeout=300).raise_for_status()
    assert frames_made(run) == FRAMES - PIECE * len(before), "what was finished is not computed again"
    assert f"resuming, {len(before)} of 4 segments are finished" in host.log()
    assert read_numbers(VideoClip(result(host, run))) == [*range(FRAMES)]
    assert not list((host.base / "output" / "steadyscale_jobs").iterdir()), "the result is saved"
    undisturbed = host.run(graph("other.mp4"), timeout=300).raise_for_status()
    assert frames_made(undisturbed) == FRAMES
    assert frame_hashes(result(host, run)) == frame_hashes(result(host, undisturbed))
    assert audio_packets(result(host, run)) == audio_packets(result(host, undisturbed))
