from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from camera_simulation import make_shaken_clip
from numbered_video import make_video
from steadyscale.core import (
    Border,
    ClipError,
    TensorClip,
    Trajectory,
    VideoClip,
    correction,
    estimate_motion,
    flow_model,
    smooth,
)
from steadyscale.core.pipeline.pipeline import Pipeline
from steadyscale.core.pipeline.preview_frames import preview_frames, read_frame
from steadyscale.core.pipeline.upscale_op import UpscaleOp
from steadyscale.core.pipeline.warp_op import WarpOp


class Doubling:
    """Each pixel four times; it counts the images that it computed."""

    scale = 2
    halo = 0

    def __init__(self) -> None:
        self.computed = 0

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        self.computed += len(images)
        return images.repeat_interleave(2, -1).repeat_interleave(2, -2)


def numbered(count: int) -> TensorClip:
    return TensorClip(torch.arange(count).view(-1, 1, 1, 1).expand(-1, 3, 8, 12) / 100)


def test_the_requested_frames_and_no_others():
    frames = torch.cat(list(preview_frames(numbered(20), range(7, 11))))
    assert torch.allclose(frames[:, 0, 0, 0] * 100, torch.tensor([7.0, 8, 9, 10]))


def test_it_ends_with_the_clip_and_raises_where_nothing_is_left():
    assert len(list(preview_frames(numbered(20), range(18, 40)))) == 2
    with pytest.raises(ClipError, match="there is no frame 20: the clip has 20 frames"):
        next(iter(preview_frames(numbered(20), range(20, 30))))


def test_frames_of_a_file(tmp_path: Path):
    clip = VideoClip(make_video(tmp_path / "clip.mp4"))
    full = torch.cat(list(clip.frames()))
    assert torch.equal(torch.cat(list(preview_frames(clip, range(5, 8)))), full[5:8])
    assert torch.equal(read_frame(clip, 11), full[11:12])


@pytest.mark.parametrize("border", [Border.CROP, Border.CROP_ADAPTIVE, Border.MIRROR, Border.FILL])
def test_a_pipeline_previews_what_the_full_run_gives(border: Border):
    clip, _ = make_shaken_clip(24, 96, 64, pixels=2.0)
    path = Trajectory.of(estimate_motion(clip, flow_model()))
    network = Doubling()
    fix = correction(path, smooth(path, seconds=1.0))
    pipeline = Pipeline(clip).then(UpscaleOp(network)).then(WarpOp(fix, border))
    preview = torch.cat(list(preview_frames(pipeline, range(10, 13))))
    computed = network.computed
    full = torch.cat(list(pipeline.frames()))
    assert torch.allclose(preview, full[10:13], atol=1e-5)
    assert np.abs((full[9:12] - preview).numpy()).mean() > 1e-3, "and not its neighbours"
    if border is not Border.FILL:
        assert computed <= 6, "other frames cost nothing"
