"""Frame buffers can be written to inside and outside of inference mode."""

from __future__ import annotations

import pytest
import torch
from steadyscale.core.clip import ClipError
from steadyscale.core.runtime.device.frame_buffers import empty_frames, empty_like


def test_buffers_are_no_inference_tensors():
    with torch.inference_mode():
        frames = torch.rand(1, 3, 4, 5)
        buffers = empty_frames(1, 3, 4, 5), empty_like(frames)
    for buffer in buffers:
        assert not buffer.is_inference()
        assert (buffer.shape, buffer.dtype) == (frames.shape, torch.float32)
        buffer.copy_(frames)


def test_frames_that_exceed_memory_are_refused_in_one_line():
    with pytest.raises(ClipError, match="not enough memory for upscaled frames of 4000000000") as caught:
        empty_frames(1, 10**6, 10**6, 10**6)
    assert "\n" not in str(caught.value)
