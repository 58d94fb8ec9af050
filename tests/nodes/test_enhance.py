"""Test that Enhance Video measures, upscales and warps in one pass."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from camera_simulation import make_shaken_clip
from steadyscale.core.motion.estimate import estimate_motion
from steadyscale.core.motion.optical_flow.flow import flow_model
from steadyscale.core.pipeline.upscale_op import UpscaleOp
from steadyscale.core.pipeline.warp_op import WarpOp
from steadyscale.core.video.decode.video_clip import VideoClip
from steadyscale.core.video.encode.writer import write_video

SETTINGS = {
    "fps": 1.0,
    "resize_to": "model scale",
    "factor": 2.0,
    "width": 1,
    "height": 1,
    "smoothing": "kalman",
    "seconds": 3.0,
    "max_zoom": 2.0,
    "border": "crop",
}


class Network:
    scale, halo = 2, 2

    def __call__(self, frames: torch.Tensor) -> torch.Tensor:
        return F.interpolate(frames, scale_factor=2, mode="bilinear")


@pytest.fixture
def shaky(tmp_path: Path) -> Path:
    clip, _ = make_shaken_clip(16, 160, 120)
    write_video(tmp_path / "shaky.mp4", clip.frames(), clip.info)
    return tmp_path / "shaky.mp4"


def shake(clip) -> float:
    """RMS acceleration of the camera, as a share of the frame width."""
    steps = estimate_motion(clip, flow_model()).steps[1:, :2, 2]
    return float(((steps[1:] - steps[:-1]) ** 2).mean() ** 0.5) / clip.info.width


def test_video_is_upscaled_and_stabilized(fake_host, shaky: Path):
    node = fake_host.import_("enhance").EnhanceVideo
    video, plot = node.execute(fake_host.VideoFromFile(str(shaky)), upscale_model=Network(), **SETTINGS).result
    assert [type(operation) for operation in video.plan.pipeline.operations] == [UpscaleOp, WarpOp]
    assert video.plan.pipeline.info.fps == Fraction(25)
    assert fake_host.files() == [], "measuring needs no file"
    made = VideoClip(video.get_stream_source())
    assert (made.info.width, made.info.height) == (320, 240)
    assert sum(1 for _ in made.frames()) == 16
    assert shake(made) < shake(VideoClip(shaky)) / 4
    assert plot.ndim == 4


def test_image_input_gives_image_output(fake_host, shaky: Path):
    images = torch.cat(list(VideoClip(shaky).frames())).movedim(1, -1)
    node = fake_host.import_("enhance").EnhanceVideo
    made = node.execute(images, upscale_model=Network(), **{**SETTINGS, "fps": 25.0}).result[0]
    assert made.shape == (16, 240, 320, 3)
    assert made.std() > 0.5 * images.std()
