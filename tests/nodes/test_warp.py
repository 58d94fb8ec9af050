"""Warp/Pad Frames on IMAGE and VIDEO: frames and masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from node_calls import run_upscale, run_warp
from numbered_video import numbered_frames, read_number
from steadyscale.core.clip import ClipError, TensorClip
from steadyscale.core.path.trajectory import Correction
from steadyscale.core.video.decode.video_clip import VideoClip


def test_image_input_gives_images_and_masks(fake_host, clip_file: Path):
    images = numbered_frames(3).permute(0, 2, 3, 1)
    made = run_upscale(fake_host, images)
    assert [read_number(frame.permute(2, 0, 1)) for frame in made] == [0, 1, 2]
    info = TensorClip(numbered_frames(3)).info
    identity = Correction(np.tile(np.eye(3), (3, 1, 1)), [slice(0, 3)], info)
    steady, masks = run_warp(fake_host, images, identity)
    assert torch.allclose(steady, images, atol=1e-5)
    assert masks.shape == (3, 48, 64)


def test_video_mask_is_the_union_of_all_frames(fake_host, clip_file: Path):
    info = VideoClip(clip_file).info
    matrices = np.tile(np.eye(3), (12, 1, 1))
    matrices[5, 0, 2], matrices[9, 1, 2] = 10, -6  # right, and up
    moved = Correction(matrices, [slice(0, 12)], info)
    mask = run_warp(fake_host, fake_host.VideoFromFile(str(clip_file)), moved, "edge")[1]
    assert mask.shape == (1, 48, 64)
    assert mask[0, :, :10].all()
    assert mask[0, -6:].all()
    assert not mask[0, :-8, 12:].any()
    padded = run_warp(fake_host, fake_host.VideoFromFile(str(clip_file)), moved, "edge", pad=4)[1]
    assert padded.shape == (1, 56, 72)
    assert padded[0, :4].all()
    with pytest.raises(ClipError, match="padded frame cannot be cropped"):
        run_warp(fake_host, fake_host.VideoFromFile(str(clip_file)), moved, "crop", pad=4)
