"""Frame buffers are recycled when the last reference to a frame is dropped, and never before."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from steadyscale.core.clip import ClipError
from steadyscale.core.runtime import buffer_pool
from steadyscale.core.runtime.buffer_pool import BufferPool
from steadyscale.core.upscaling.upscale import upscale
from torch import nn


class Doubled(nn.Module):
    scale, halo = 2, 0

    def forward(self, x):
        return x.repeat_interleave(2, -2).repeat_interleave(2, -1)


def test_a_buffer_is_recycled_when_its_last_tensor_is_gone():
    pool = BufferPool()
    first = pool.empty(1, 3, 4, 5)
    assert (first.shape, first.dtype) == ((1, 3, 4, 5), torch.float32)
    first.fill_(1.0)
    place, part = first.data_ptr(), first[0, 1]
    del first
    second = pool.empty(1, 3, 4, 5)
    second.fill_(2.0)
    assert second.data_ptr() != place, "a part of the first is still there"
    assert bool((part == 1.0).all())
    del part
    assert pool.empty(1, 3, 4, 5).data_ptr() == place


def test_buffers_of_another_size_are_not_recycled():
    pool = BufferPool()
    small = pool.empty(1, 3, 4, 5)
    large = pool.empty(1, 3, 8, 10)
    del small
    place = large.data_ptr()
    del large
    again = pool.empty(1, 3, 8, 10)
    assert again.data_ptr() == place
    assert again.numel() == 240
    assert pool.empty(1, 3, 4, 5).fill_(1.0).numel() == 60


def test_at_most_one_free_buffer_is_kept(monkeypatch):
    mapped, block = [], buffer_pool._map_block
    monkeypatch.setattr(buffer_pool, "_map_block", lambda size: mapped.append(size) or block(size))
    pool = BufferPool()
    frames = [pool.empty(1, 3, 4, 5) for _ in range(4)]
    frames.clear()
    frames = [pool.empty(1, 3, 4, 5) for _ in range(2)]
    assert mapped == [240] * 5


def test_a_stream_recycles_the_buffers_of_dropped_frames_only():
    frames = torch.rand(8, 3, 10, 12)
    places = set()
    for number, out in enumerate(upscale(iter(frames.split(1)), Doubled())):
        assert torch.equal(out, Doubled()(frames[number : number + 1]))
        places.add(out.data_ptr())
        del out
    assert len(places) <= 2
    held = list(upscale(iter(frames.split(1)), Doubled()))
    assert len({out.data_ptr() for out in held}) == 8
    assert torch.equal(torch.cat(held), Doubled()(frames))


FORKED = """
import os
from steadyscale.core.runtime.buffer_pool import BufferPool
frame = BufferPool().empty(1, 3, 4, 5).zero_()
child = os.fork()
if child == 0:
    frame.fill_(1.0)
    os._exit(0)
os.waitpid(child, 0)
print(float(frame.max()))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="processes are not forked there")
def test_a_forked_process_does_not_write_into_our_frames():
    done = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0.0"]


def test_frames_that_exceed_memory_are_refused_in_one_line():
    with pytest.raises(ClipError, match="not enough memory for upscaled frames of 4000000000") as caught:
        BufferPool().empty(1, 10**6, 10**6, 10**6)
    assert "\n" not in str(caught.value)
