"""Memory of large frames: used again when nobody holds the frame, and never before."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from steadyscale.core.clip import ClipError
from steadyscale.core.runtime import buffer_pool as room
from steadyscale.core.runtime.buffer_pool import BufferPool
from steadyscale.core.upscaling.upscale import upscale
from torch import nn


class Doubled(nn.Module):
    scale, halo = 2, 0

    def forward(self, x):
        return x.repeat_interleave(2, -2).repeat_interleave(2, -1)


def test_a_block_is_used_again_when_the_last_tensor_in_it_is_gone():
    room = BufferPool()
    first = room.empty(1, 3, 4, 5)
    assert (first.shape, first.dtype) == ((1, 3, 4, 5), torch.float32)
    first.fill_(1.0)
    place, part = first.data_ptr(), first[0, 1]
    del first
    second = room.empty(1, 3, 4, 5)
    second.fill_(2.0)
    assert second.data_ptr() != place, "a part of the first is still there"
    assert bool((part == 1.0).all())
    del part
    assert room.empty(1, 3, 4, 5).data_ptr() == place


def test_another_size_starts_anew_and_blocks_of_the_old_one_are_not_taken_for_it():
    room = BufferPool()
    small = room.empty(1, 3, 4, 5)
    large = room.empty(1, 3, 8, 10)
    del small
    place = large.data_ptr()
    del large
    again = room.empty(1, 3, 8, 10)
    assert again.data_ptr() == place
    assert again.numel() == 240
    assert room.empty(1, 3, 4, 5).fill_(1.0).numel() == 60


def test_no_more_than_one_block_waits_for_a_frame(monkeypatch):
    made, block = [], room._map_block
    monkeypatch.setattr(room, "_map_block", lambda size: made.append(size) or block(size))
    some = BufferPool()
    frames = [some.empty(1, 3, 4, 5) for _ in range(4)]
    frames.clear()
    frames = [some.empty(1, 3, 4, 5) for _ in range(2)]
    assert made == [240] * 5


def test_a_stream_whose_frames_are_let_go_lies_in_one_place_and_one_whose_frames_are_held_in_many():
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
def test_a_process_that_is_forked_off_does_not_write_into_the_frames_of_this_one():
    done = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0.0"]


def test_frames_that_no_memory_holds_are_refused_in_one_line():
    with pytest.raises(ClipError, match="not enough memory for upscaled frames of 4000000000") as caught:
        BufferPool().empty(1, 10**6, 10**6, 10**6)
    assert "\n" not in str(caught.value)
