import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from repeated import Cancelled, Cancelling, Nearest, clip, nearest, run
from steadyscale.core.clip import ClipError
from steadyscale.core.upscaling.precision import home_of
from steadyscale.core.upscaling.resize import resize
from steadyscale.core.upscaling.settings import Alpha, Finish, Reuse, Target, Tiling
from steadyscale.core.upscaling.upscale import upscale
from torch.utils._python_dispatch import TorchDispatchMode

CPU = torch.device("cpu")


def test_frames_come_out_enlarged_in_order_in_their_chunks():
    frames = clip(7)
    result = list(upscale(iter(frames.split([3, 1, 3])), Nearest()))
    assert [len(chunk) for chunk in result] == [3, 1, 3]
    assert torch.equal(torch.cat(result), nearest(frames))
    assert all(chunk.dtype == torch.float32 and chunk.device == CPU for chunk in result)


def test_nothing_in_nothing_out():
    assert list(upscale(iter([]), Nearest())) == []


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.one_of(st.none(), st.integers(1, 50)), st.integers(0, 70))
def test_any_size_tile_and_halo(height, width, size, halo):
    frames = clip(2, 4, height, width)
    frames[:, 3] = 1.0
    result = run(frames, Nearest(), tiling=Tiling(size, halo))
    assert torch.equal(result[:, :3], nearest(frames[:, :3]))
    assert torch.equal(result[:, 3], torch.ones(2, height * 2, width * 2))


def test_each_frame_goes_through_the_network_once():
    model = Nearest()
    run(clip(5, height=32, width=48), model, tiling=Tiling(size=16))
    assert model.calls == [(1, 3, 16, 16)] * (5 * 2 * 3)


def test_results_are_clamped():
    model = Nearest()
    model.gain.data.fill_(3.0)
    frames = clip(1) - 0.2
    assert torch.equal(run(frames, model), nearest(frames * 3).clamp(0, 1))


def test_the_source_is_not_changed_by_a_network_that_works_in_place():
    class InPlace(Nearest):
        def forward(self, x):
            return nearest(x.mul_(0.5))

    frames = clip(2)
    before = frames.clone()
    assert torch.equal(run(frames, InPlace()), nearest(before * 0.5))
    assert torch.equal(frames, before)


@pytest.mark.parametrize(
    ("target", "width", "height"),
    [
        (Target(), 14, 10),
        (Target(factor=2), 14, 10),
        (Target(factor=1.5), 10, 8),  # 10.5 and 7.5 to the even number, as ClipInfo.scaled
        (Target(factor=3), 21, 15),
        (Target(factor=0.01), 1, 1),
        (Target(size=(13, 31)), 13, 31),
    ],
)
def test_exact_sizes_by_one_pass_and_a_resize(target, width, height):
    frames, model = clip(3, height=5, width=7), Nearest()
    result = run(frames, model, target=target)
    assert result.shape == (3, 3, height, width)
    assert torch.equal(result, resize(nearest(frames), width, height))
    assert len(model.calls) == 3


def test_alpha_is_resized_and_colour_has_no_dark_fringe():
    frames = torch.zeros(1, 4, 16, 16)
    frames[0, 0, 4:12, 4:12] = 0.9
    frames[0, 3, 4:12, 4:12] = 1.0

    class Soft(Nearest):  # mixes neighbours, as networks do
        def forward(self, x):
            return resize(x, x.shape[-1] * 2, x.shape[-2] * 2)

    result = run(frames, Soft())
    assert torch.equal(result[:, 3:], resize(frames[:, 3:], 32, 32))
    visible = result[0, 3] > 0
    assert visible.sum() > 16 * 16
    torch.testing.assert_close(result[0, 0][visible], torch.full((int(visible.sum()),), 0.9))


@pytest.mark.parametrize("channels", [1, 3])
def test_alpha_can_go_through_the_network(channels):
    class Inverting(Nearest):
        in_channels = channels

        def forward(self, x):
            assert x.shape[1] == channels
            return nearest(1 - x)

    frames = clip(3, 4)
    frames[:, 3] = frames[:, 3] * 0.5 + 0.25  # no holes
    result = run(frames, Inverting(), alpha=Alpha.NETWORK)
    torch.testing.assert_close(result, nearest(1 - frames))
    half = run(frames, Inverting(), alpha=Alpha.NETWORK, finish=Finish(strength=0.5, grain=0.3))
    assert (half[:, 3:] - (0.5 * nearest(1 - frames[:, 3:]) + 0.5 * resize(frames[:, 3:], 28, 20))).abs().max() < 0.01
    assert (half[:, :3] - result[:, :3]).abs().max() > 0.1


def test_a_network_of_four_channels_gets_alpha():
    class Four(Nearest):
        in_channels = 4

        def forward(self, x):
            assert x.shape[1] == 4
            return nearest(x.flip(1))

    frames = clip(2, 4)
    assert torch.equal(run(frames, Four()), nearest(frames.flip(1)))
    opaque = run(frames[:, :3], Four())
    assert torch.equal(opaque, nearest(torch.cat([torch.ones(2, 1, 10, 14), frames[:, [2, 1]]], dim=1)))


def test_a_grey_network_gets_each_colour():
    class Grey(Nearest):
        input_channels = 1

        def forward(self, x):
            assert x.shape[1] == 1
            return nearest(x)

    frames = clip(2, 4)
    result = run(frames, Grey())
    assert torch.equal(result[:, :3], nearest(frames[:, :3]))
    assert torch.equal(result[:, 3:], resize(frames[:, 3:], 28, 20))


def test_a_bad_value_is_found_in_its_frame():
    frames = clip(5)
    frames[3, 1, 2, 4] = torch.nan
    stream = upscale(iter(frames.split(2)), Nearest())
    assert torch.equal(next(stream), nearest(frames[:2]))
    with pytest.raises(ClipError, match="frame 3 "):
        next(stream)


@pytest.mark.parametrize("wrong", [torch.rand(3, 8, 8), torch.rand(1, 2, 8, 8), torch.zeros(1, 3, 8, 8).byte()])
def test_wrong_frames_are_refused(wrong):
    with pytest.raises(ClipError, match="B, 3 or 4, H, W"):
        list(upscale(iter([wrong]), Nearest()))


def test_a_model_of_other_channels_is_refused():
    model = Nearest()
    model.in_channels = 12
    with pytest.raises(ClipError, match="12 channels"):
        list(upscale(iter([clip(1)]), model))


class Limited(Nearest):
    def __init__(self, pixels):
        super().__init__()
        self.pixels, self.refused = pixels, 0

    def forward(self, x):
        if x.shape[0] * x.shape[2] * x.shape[3] > self.pixels:
            self.refused += 1
            raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes.")
        return super().forward(x)


@pytest.mark.parametrize("target", [Target(), Target(factor=1.5)])
def test_out_of_memory_loses_and_repeats_nothing_and_is_remembered(target):
    frames, model = clip(4, height=96, width=96), Limited(48 * 48)
    result = run([frames[:2], frames[2:]], model, target=target)
    size = round(96 * (target.factor or 2))
    assert torch.equal(result, resize(nearest(frames), size, size))
    assert model.refused == 1  # the second frame starts with the tile that worked in the first
    assert sum(b * h * w for b, _, h, w in model.calls) == 4 * 96 * 96


def test_hopelessly_little_memory_is_an_error_and_weights_are_back():
    model = Limited(3)
    with pytest.raises(ClipError, match="64x80 frame"):
        run(clip(1, height=80, width=64), model)
    assert home_of(model) == CPU


def test_a_cancel_passes_within_one_tile_and_weights_are_back():
    model = Nearest().half().train()
    weights, place = model.gain, model.gain.data_ptr()
    with pytest.raises(Cancelled):
        run(clip(2, height=64, width=64), Cancelling(model, after=5), tiling=Tiling(size=32))
    assert len(model.calls) == 5
    assert model.gain is weights
    assert model.gain.dtype == torch.float16
    assert model.gain.data_ptr() == place
    assert model.training


def test_a_wrapper_need_not_repeat_what_the_network_says():
    class Four(Nearest):
        in_channels, halo = 4, 12

    model = Four()
    run(clip(1, 3, 64, 64), Cancelling(model, after=99), tiling=Tiling(size=32))
    assert model.calls == [(1, 4, 44, 44)] * 4


class Frugal(Nearest):
    """Makes what is wanted alone; `made` are the sizes of that."""

    makes_parts, halo = True, 6

    def __init__(self):
        super().__init__()
        self.made = []

    def forward(self, x, wanted=None, out=None):
        rows, cols = wanted or (slice(0, x.shape[-2]), slice(0, x.shape[-1]))
        self.made.append((rows.stop - rows.start, cols.stop - cols.start))
        return super().forward(x)[..., rows.start * 2 : rows.stop * 2, cols.start * 2 : cols.stop * 2]


def test_a_network_that_makes_parts_is_asked_for_tiles_and_changed_boxes_without_their_halos():
    model, frames = Frugal(), clip(1, 3, 64, 96).repeat(2, 1, 1, 1)
    frames[1, :, 30, 40] = 1.0
    made = run(frames, model, tiling=Tiling(size=32))
    assert torch.equal(made, run(frames, Nearest(), reuse=Reuse(on=False)))
    assert model.made == [(32, 32)] * 6 + [(24, 24)]  # The tiles that the pixel is in reach of.
    assert model.calls[0] == (1, 3, 40, 48)


def test_what_wraps_a_network_that_makes_parts_is_not_asked_for_them():
    model, frames = Frugal(), clip(1, 3, 64, 64)
    made = run(frames, Cancelling(model, after=99), tiling=Tiling(size=32))
    assert torch.equal(made, run(frames, Nearest()))
    assert model.made == [(shape[-2], shape[-1]) for shape in model.calls]


class Made(TorchDispatchMode):
    """Counts tensors of at least so many numbers that come into being."""

    def __init__(self, least):
        super().__init__()
        self.least, self.count = least, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor) and out.numel() >= self.least:
            given = [*args, *(kwargs or {}).values()]
            known = {g.untyped_storage().data_ptr() for g in given if isinstance(g, torch.Tensor)}
            self.count += out.untyped_storage().data_ptr() not in known
        return out


def test_a_large_frame_is_made_by_the_network_put_in_its_place_and_kept_once():
    class Repeated(Nearest):
        def forward(self, x):
            return F.interpolate(x, scale_factor=2, mode="nearest")

    frames = clip(3, height=40, width=50)
    large = 3 * 80 * 100
    with Made(large) as made:
        for _ in upscale(iter(frames.split(1)), Repeated()):
            pass
    # Of each frame the network's result, for ours lies in a `Room`; besides, what is kept of the first, once.
    assert 3 <= made.count <= 3 + 2
