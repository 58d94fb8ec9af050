from __future__ import annotations

import math
from pathlib import Path

import av
import pytest
import torch


@pytest.fixture(scope="session")
def shaky_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 frames of a texture that swings 6 pixels to either side."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, 30, 40, generator=generator)
    scene = torch.nn.functional.interpolate(coarse, scale_factor=8, mode="bicubic", align_corners=False).clamp(0, 1)
    path = tmp_path_factory.mktemp("shaken") / "shaken.mp4"
    with av.open(str(path), "w") as sink:
        stream = sink.add_stream("libx264", rate=24, options={"crf": "5"})
        stream.width, stream.height = 160, 128
        for i in range(20):
            x = 60 + round(6 * math.sin(i * 2.1))
            crop = (scene[0, :, 40:168, x : x + 160] * 255).byte().permute(1, 2, 0).contiguous().numpy()
            sink.mux(stream.encode(av.VideoFrame.from_ndarray(crop, format="rgb24")))
        sink.mux(stream.encode(None))
    return path
