import pytest
import torch
from steadyscale.core.clip import ClipError
from steadyscale.core.upscaling.regions.reuse import REUSE_TIMEOUT_FRAMES, RegionReuse
from steadyscale.core.upscaling.resize import resize
from steadyscale.core.upscaling.settings import (
    ColorCorrection,
    OutputSize,
    PostProcess,
    Reuse,
    UpscaleSettings,
    UpscaleStats,
)
from steadyscale.core.upscaling.stream import UpscaleStream
from steadyscale.core.upscaling.upscale import upscale
from torch import nn


class Nearest(nn.Module):
    scale, halo, in_channels = 2, 0, 3

    def __init__(self):
        super().__init__()
        self.calls = []

    def forward(self, x):
        self.calls.append(tuple(x.shape))
        return x.repeat_interleave(2, -2).repeat_interleave(2, -1)


def film(channels=3):
    """Nine frames: new, the same, a changed corner, new, new, the same, the same, a changed corner, new."""
    generator = torch.Generator().manual_seed(0)
    frames = torch.rand(9, channels, 130, 190, generator=generator)
    for n in (1, 2, 5, 6, 7):
        frames[n] = frames[n - 1]
    for n in (2, 7):
        frames[n, :3, 100:, 150:] = torch.rand(3, 30, 40, generator=generator)
    return frames


def run(frames, chunk, model=None, stats=None, **settings):
    return torch.cat(
        list(upscale(iter(frames.split(chunk)), model or Nearest(), UpscaleSettings(**settings), stats=stats))
    )


@pytest.mark.parametrize("chunk", [1, 2, 3, 9])
@pytest.mark.parametrize("target", [OutputSize(), OutputSize(factor=1.3), OutputSize(size=(190, 130))])
@pytest.mark.parametrize("with_canvas", [False, True])
def test_all_paths_give_the_same_frames_in_order(monkeypatch, chunk, target, with_canvas):
    """New, partly new and repeated frames in one chunk; with a separate canvas, as on a GPU, and without."""
    if with_canvas:
        monkeypatch.setattr(UpscaleStream, "_can_write_directly", lambda *_: False)
    frames, stats = film(), UpscaleStats()
    result = run(frames, chunk, size=target, stats=stats)
    large = frames.repeat_interleave(2, -2).repeat_interleave(2, -1)
    truth = torch.cat([resize(frame[None], *target.resolve(190, 130, 2)) for frame in large])
    assert torch.equal(result, truth)
    assert (stats.frames, stats.repeated_frames, stats.tiles_reused) == (9, 3, 2 * 164)
    assert stats.pixels_computed == 4 * 130 * 190 + 2 * 34 * 46


@pytest.mark.parametrize("in_channels", [1, 3, 4])
def test_postprocessing_is_the_same_for_reused_and_computed_frames(in_channels):
    model = Nearest()
    model.in_channels = in_channels
    post = PostProcess(strength=0.6, color_correction=ColorCorrection.WAVELET, grain=0.3)
    frames = film(4)
    plain = run(frames, 1, model, postprocess=post, reuse=Reuse(enabled=False))
    calls = len(model.calls)
    for chunk in (1, 4):
        assert torch.equal(run(frames, chunk, model, postprocess=post), plain)
    assert len(model.calls) - calls < 2 * calls


@pytest.mark.parametrize("chunk", [1, 5, 40])
def test_outputs_of_camera_footage_are_not_kept_until_a_frame_repeats(monkeypatch, chunk):
    is_kept, copy_output = [], RegionReuse.copy_output

    def note(self, result):
        copy_output(self, result)
        is_kept.append(self._output is not None)

    monkeypatch.setattr(RegionReuse, "copy_output", note)
    moving = torch.rand(20, 3, 40, 60, generator=torch.Generator().manual_seed(3))
    frames, stats = torch.cat([moving, moving[-1:].expand(5, -1, -1, -1), moving]), UpscaleStats()
    model = Nearest()
    result = run(frames, chunk, model, stats)
    assert torch.equal(result, frames.repeat_interleave(2, -2).repeat_interleave(2, -1))
    # The first repeated frame is computed once more, because the output of the one before was not is_kept.
    assert (stats.frames, stats.repeated_frames) == (45, 4)
    assert sum(shape[0] for shape in model.calls) == 41
    if chunk == 1:
        assert is_kept == [n < REUSE_TIMEOUT_FRAMES for n in range(20)] + [True] + [
            n < REUSE_TIMEOUT_FRAMES for n in range(20)
        ]


def test_out_of_memory_for_a_changed_tile_loses_nothing():
    class Limited(Nearest):
        def forward(self, x):
            if len(self.calls) > 4 and x.shape[-1] * x.shape[-2] > 40 * 40:
                raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes.")
            return super().forward(x)

    frames = film()
    assert torch.equal(run(frames, 3, Limited()), frames.repeat_interleave(2, -2).repeat_interleave(2, -1))


def test_a_wrong_result_size_for_a_region_is_an_error():
    class Broken(Nearest):
        def forward(self, x):
            return super().forward(x)[..., 1:] if self.calls else super().forward(x)

    with pytest.raises(ClipError, match="scale of 2"):
        run(film(), 1, Broken())


@pytest.mark.parametrize("chunk", [1, 3])
@pytest.mark.parametrize("target", [OutputSize(), OutputSize(factor=1.3)])
def test_frames_may_be_requested_in_and_out_of_inference_mode(chunk, target):
    """Buffers that are is_kept are written to with the next frame."""
    frames = film()
    expected, result = run(frames, chunk, size=target), []
    stream = upscale(iter(frames.split(chunk)), Nearest(), UpscaleSettings(size=target))
    for n in range(0, 9, chunk):
        with torch.inference_mode(n // chunk % 2 == 0):
            result.append(next(stream).clone())
    with torch.inference_mode():
        assert torch.equal(torch.cat(result), expected)
