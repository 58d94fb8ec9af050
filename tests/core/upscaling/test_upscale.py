import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from nearest_upscaler import Cancelled, CancellingModel, NearestUpscaler, random_frames, repeat_pixels, run_upscale
from steadyscale.core.clip import ClipError
from steadyscale.core.upscaling.model.model_traits import model_device
from steadyscale.core.upscaling.resize import resize
from steadyscale.core.upscaling.settings import Alpha, OutputSize, PostProcess, Reuse, Tiling
from steadyscale.core.upscaling.upscale import upscale
from torch.utils._python_dispatch import TorchDispatchMode

CPU = torch.device("cpu")


def test_frames_are_upscaled_in_order_and_in_their_chunks():
    frames = random_frames(7)
    result = list(upscale(iter(frames.split([3, 1, 3])), NearestUpscaler()))
    assert [len(chunk) for chunk in result] == [3, 1, 3]
    assert torch.equal(torch.cat(result), repeat_pixels(frames))
    assert all(chunk.dtype == torch.float32 and chunk.device == CPU for chunk in result)


def test_an_empty_stream_stays_empty():
    assert list(upscale(iter([]), NearestUpscaler())) == []


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.one_of(st.none(), st.integers(1, 50)), st.integers(0, 70))
def test_any_size_tile_and_halo(height, width, size, halo):
    frames = random_frames(2, 4, height, width)
    frames[:, 3] = 1.0
    result = run_upscale(frames, NearestUpscaler(), tiling=Tiling(size, halo))
    assert torch.equal(result[:, :3], repeat_pixels(frames[:, :3]))
    assert torch.equal(result[:, 3], torch.ones(2, height * 2, width * 2))


def test_each_frame_goes_through_the_network_once():
    model = NearestUpscaler()
    run_upscale(random_frames(5, height=32, width=48), model, tiling=Tiling(size=16))
    assert model.calls == [(1, 3, 16, 16)] * (5 * 2 * 3)


def test_results_are_clamped():
    model = NearestUpscaler()
    model.gain.data.fill_(3.0)
    frames = random_frames(1) - 0.2
    assert torch.equal(run_upscale(frames, model), repeat_pixels(frames * 3).clamp(0, 1))


def test_the_source_is_not_changed_by_a_network_that_works_in_place():
    class InPlace(NearestUpscaler):
        def forward(self, x):
            return repeat_pixels(x.mul_(0.5))

    frames = random_frames(2)
    before = frames.clone()
    assert torch.equal(run_upscale(frames, InPlace()), repeat_pixels(before * 0.5))
    assert torch.equal(frames, before)


@pytest.mark.parametrize(
    ("target", "width", "height"),
    [
        (OutputSize(), 14, 10),
        (OutputSize(factor=2), 14, 10),
        (OutputSize(factor=1.5), 10, 8),  # 10.5 and 7.5 to the even number, as ClipInfo.scaled
        (OutputSize(factor=3), 21, 15),
        (OutputSize(factor=0.01), 1, 1),
        (OutputSize(size=(13, 31)), 13, 31),
    ],
)
def test_other_sizes_take_one_pass_and_a_resize(target, width, height):
    frames, model = random_frames(3, height=5, width=7), NearestUpscaler()
    result = run_upscale(frames, model, size=target)
    assert result.shape == (3, 3, height, width)
    assert torch.equal(result, resize(repeat_pixels(frames), width, height))
    assert len(model.calls) == 3


def test_alpha_is_resized_and_color_has_no_dark_fringe():
    frames = torch.zeros(1, 4, 16, 16)
    frames[0, 0, 4:12, 4:12] = 0.9
    frames[0, 3, 4:12, 4:12] = 1.0

    class Soft(NearestUpscaler):  # mixes neighbors, as networks do
        def forward(self, x):
            return resize(x, x.shape[-1] * 2, x.shape[-2] * 2)

    result = run_upscale(frames, Soft())
    assert torch.equal(result[:, 3:], resize(frames[:, 3:], 32, 32))
    visible = result[0, 3] > 0
    assert visible.sum() > 16 * 16
    torch.testing.assert_close(result[0, 0][visible], torch.full((int(visible.sum()),), 0.9))


@pytest.mark.parametrize("channels", [1, 3])
def test_alpha_can_go_through_the_network(channels):
    class Inverting(NearestUpscaler):
        in_channels = channels

        def forward(self, x):
            assert x.shape[1] == channels
            return repeat_pixels(1 - x)

    frames = random_frames(3, 4)
    frames[:, 3] = frames[:, 3] * 0.5 + 0.25  # no holes
    result = run_upscale(frames, Inverting(), alpha=Alpha.NETWORK)
    torch.testing.assert_close(result, repeat_pixels(1 - frames))
    half = run_upscale(frames, Inverting(), alpha=Alpha.NETWORK, postprocess=PostProcess(strength=0.5, grain=0.3))
    assert (
        half[:, 3:] - (0.5 * repeat_pixels(1 - frames[:, 3:]) + 0.5 * resize(frames[:, 3:], 28, 20))
    ).abs().max() < 0.01
    assert (half[:, :3] - result[:, :3]).abs().max() > 0.1


def test_a_network_of_four_channels_gets_alpha():
    class Four(NearestUpscaler):
        in_channels = 4

        def forward(self, x):
            assert x.shape[1] == 4
            return repeat_pixels(x.flip(1))

    frames = random_frames(2, 4)
    assert torch.equal(run_upscale(frames, Four()), repeat_pixels(frames.flip(1)))
    opaque = run_upscale(frames[:, :3], Four())
    assert torch.equal(opaque, repeat_pixels(torch.cat([torch.ones(2, 1, 10, 14), frames[:, [2, 1]]], dim=1)))


def test_a_gray_network_gets_each_color_channel():
    class Gray(NearestUpscaler):
        input_channels = 1

        def forward(self, x):
            assert x.shape[1] == 1
            return repeat_pixels(x)

    frames = random_frames(2, 4)
    result = run_upscale(frames, Gray())
    assert torch.equal(result[:, :3], repeat_pixels(frames[:, :3]))
    assert torch.equal(result[:, 3:], resize(frames[:, 3:], 28, 20))


def test_a_value_that_is_not_finite_is_reported_with_its_frame():
    frames = random_frames(5)
    frames[3, 1, 2, 4] = torch.nan
    stream = upscale(iter(frames.split(2)), NearestUpscaler())
    assert torch.equal(next(stream), repeat_pixels(frames[:2]))
    with pytest.raises(ClipError, match="frame 3 "):
        next(stream)


@pytest.mark.parametrize("wrong", [torch.rand(3, 8, 8), torch.rand(1, 2, 8, 8), torch.zeros(1, 3, 8, 8).byte()])
def test_frames_of_a_wrong_shape_or_dtype_are_refused(wrong):
    with pytest.raises(ClipError, match="B, 3 or 4, H, W"):
        list(upscale(iter([wrong]), NearestUpscaler()))


def test_a_model_with_other_channels_is_refused():
    model = NearestUpscaler()
    model.in_channels = 12
    with pytest.raises(ClipError, match="12 channels"):
        list(upscale(iter([random_frames(1)]), model))


class Limited(NearestUpscaler):
    def __init__(self, pixels):
        super().__init__()
        self.pixels, self.refused = pixels, 0

    def forward(self, x):
        if x.shape[0] * x.shape[2] * x.shape[3] > self.pixels:
            self.refused += 1
            raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes.")
        return super().forward(x)


@pytest.mark.parametrize("target", [OutputSize(), OutputSize(factor=1.5)])
def test_out_of_memory_loses_and_repeats_nothing_and_the_plan_is_kept(target):
    frames, model = random_frames(4, height=96, width=96), Limited(48 * 48)
    result = run_upscale([frames[:2], frames[2:]], model, size=target)
    size = round(96 * (target.factor or 2))
    assert torch.equal(result, resize(repeat_pixels(frames), size, size))
    assert model.refused == 1  # the second frame starts with the tile that worked in the first
    assert sum(b * h * w for b, _, h, w in model.calls) == 4 * 96 * 96


def test_too_little_memory_is_an_error():
    model = Limited(3)
    with pytest.raises(ClipError, match="64x80 frame"):
        run_upscale(random_frames(1, height=80, width=64), model)
    assert model_device(model) == CPU


def test_a_cancel_is_raised_within_one_tile_and_weights_are_untouched():
    model = NearestUpscaler().half().train()
    weights, place = model.gain, model.gain.data_ptr()
    with pytest.raises(Cancelled):
        run_upscale(random_frames(2, height=64, width=64), CancellingModel(model, max_calls=5), tiling=Tiling(size=32))
    assert len(model.calls) == 5
    assert model.gain is weights
    assert model.gain.dtype == torch.float16
    assert model.gain.data_ptr() == place
    assert model.training


def test_a_wrapper_has_the_traits_of_its_network():
    class Four(NearestUpscaler):
        in_channels, halo = 4, 12

    model = Four()
    run_upscale(random_frames(1, 3, 64, 64), CancellingModel(model, max_calls=99), tiling=Tiling(size=32))
    assert model.calls == [(1, 4, 44, 44)] * 4


class RoiNetwork(NearestUpscaler):
    """Supports roi. `sizes`: the sizes of its results."""

    supports_roi, halo = True, 6

    def __init__(self):
        super().__init__()
        self.sizes = []

    def forward(self, x, roi=None, out=None):
        rows, cols = roi or (slice(0, x.shape[-2]), slice(0, x.shape[-1]))
        self.sizes.append((rows.stop - rows.start, cols.stop - cols.start))
        return super().forward(x)[..., rows.start * 2 : rows.stop * 2, cols.start * 2 : cols.stop * 2]


def test_a_network_that_supports_roi_computes_cores_and_changed_regions_only():
    model, frames = RoiNetwork(), random_frames(1, 3, 64, 96).repeat(2, 1, 1, 1)
    frames[1, :, 30, 40] = 1.0
    result = run_upscale(frames, model, tiling=Tiling(size=32))
    assert torch.equal(result, run_upscale(frames, NearestUpscaler(), reuse=Reuse(enabled=False)))
    assert model.sizes == [(32, 32)] * 6 + [(24, 24)]  # The tiles whose receptive field contains the pixel.
    assert model.calls[0] == (1, 3, 40, 48)


def test_roi_is_not_passed_to_wrappers_that_do_not_declare_it():
    model, frames = RoiNetwork(), random_frames(1, 3, 64, 64)
    result = run_upscale(frames, CancellingModel(model, max_calls=99), tiling=Tiling(size=32))
    assert torch.equal(result, run_upscale(frames, NearestUpscaler()))
    assert model.sizes == [(shape[-2], shape[-1]) for shape in model.calls]


class AllocationCounter(TorchDispatchMode):
    """Counts allocations of tensors with at least `least` elements."""

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


def test_large_tensors_are_allocated_once_per_frame_only():
    class Repeated(NearestUpscaler):
        def forward(self, x):
            return F.interpolate(x, scale_factor=2, mode="nearest")

    frames = random_frames(3, height=40, width=50)
    large = 3 * 80 * 100
    with AllocationCounter(large) as allocated:
        for _ in upscale(iter(frames.split(1)), Repeated()):
            pass
    # For each frame the network's result and ours; once the buffers for reuse.
    assert 2 * 3 <= allocated.count <= 2 * 3 + 2


def test_tiles_of_a_network_that_looks_at_the_whole_frame_are_blended():
    """Its result is the mean of its input, and half of a frame is black, so hard tiles would have a seam."""

    class Mean(torch.nn.Module):
        scale, halo = 1, 16

        def __init__(self) -> None:
            super().__init__()
            self.pool = torch.nn.AdaptiveAvgPool2d(1)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.pool(images).expand_as(images)

    frames = torch.cat([torch.zeros(1, 3, 64, 64), torch.ones(1, 3, 64, 64)], dim=3)
    result = run_upscale(frames, Mean(), tiling=Tiling(size=64))
    steps = result[0, 0, 32].diff()
    assert result[0, 0, 32, -1] - result[0, 0, 32, 0] > 0.5
    assert 0 < steps.max() < 0.1


def test_tiles_begin_at_multiples_of_the_windows_of_a_network():
    """A checkerboard of blocks of 8 pixels is multiplied by the same one, laid from the corner of each input."""

    class Windows(torch.nn.Module):
        scale, halo, multiple = 1, 8, 8

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            rows, cols = (torch.arange(side) // 8 for side in images.shape[2:])
            return images * ((rows[:, None] + cols) % 2)

    frames = torch.ones(1, 3, 100, 150)
    assert torch.allclose(run_upscale(frames, Windows(), tiling=Tiling(size=36)), Windows()(frames), atol=1e-6)
