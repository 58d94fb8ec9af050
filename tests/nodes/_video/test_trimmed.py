"""Test trims: only the part is rendered, or read from a rendered file."""

from __future__ import annotations

import gc
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from node_calls import CountingUpscaler, run_upscale, run_warp
from numbered_video import read_numbers
from steadyscale.core.path.trajectory import Correction
from steadyscale.core.pipeline.upscale_op import UpscaleOp
from steadyscale.core.video.decode.video_clip import VideoClip


def test_only_the_trimmed_part_is_rendered(fake_host, clip_file: Path, tmp_path: Path):
    network = CountingUpscaler()
    whole = run_upscale(fake_host, fake_host.VideoFromFile(str(clip_file)), network)
    part = whole.as_trimmed(0.125, 0.25).as_trimmed(-0.125, 0)
    assert (part.get_frame_count(), part.get_duration()) == (3, 0.125)
    assert network.frame_count == 0
    part.save_to(str(tmp_path / "out.mp4"))
    assert read_numbers(VideoClip(tmp_path / "out.mp4")) == [6, 7, 8]
    assert network.frame_count == 3
    twice = run_upscale(fake_host, part, resize_to="factor", factor=0.5)
    assert [type(o) for o in twice.plan.pipeline.operations] == [UpscaleOp, UpscaleOp], "still one plan"
    assert read_numbers(VideoClip(twice.get_stream_source())) == [6, 7, 8]
    assert whole.as_trimmed(0.6) is None
    assert whole.as_trimmed(0.25, 0.5, strict_duration=True) is None


def test_trimmed_part_is_stabilized_like_the_full_video(fake_host, clip_file: Path):
    info = VideoClip(clip_file).info
    matrices = np.tile(np.eye(3), (12, 1, 1))
    matrices[:, 0, 2] = np.arange(12) % 5 - 2
    moves = Correction(matrices, [slice(0, 5), slice(5, 12)], info)
    whole = run_warp(fake_host, fake_host.VideoFromFile(str(clip_file)), moves, "crop")[0]
    part = whole.as_trimmed(0.125, 0.25)
    frames = list(whole.plan.pipeline.frames())
    assert len(frames) == 12
    pairs = zip(part.plan.pipeline.frames(), frames[3:9], strict=True)
    assert all((ours - theirs).abs().max() < 1e-4 for ours, theirs in pairs)


def test_trim_of_frames_in_memory_reads_the_lossless_master(fake_host, clip_file: Path, tmp_path: Path):
    network = CountingUpscaler()
    images = torch.cat(list(VideoClip(clip_file).frames())).movedim(1, -1)
    source = fake_host.VideoFromComponents(fake_host.Components(images, Fraction(24)))
    whole = run_upscale(fake_host, source, network)
    whole.get_stream_source()
    part = whole.as_trimmed(0.125, 0.25).as_trimmed(-0.125, 0)
    assert part.get_active_trim_window() == (0.25, 0.125)
    part.save_to(str(tmp_path / "out.mp4"))
    assert read_numbers(VideoClip(tmp_path / "out.mp4")) == [6, 7, 8]
    again = run_upscale(fake_host, part, resize_to="factor", factor=0.5)
    del part, whole
    gc.collect()
    assert read_numbers(VideoClip(again.get_stream_source())) == [6, 7, 8]
    assert network.frame_count == 24, "the file and the master"
