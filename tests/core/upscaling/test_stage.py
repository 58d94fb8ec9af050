import logging

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from steadyscale.core.clip import ClipError
from steadyscale.core.upscaling import memory
from steadyscale.core.upscaling.memory import choose_cut, guessed_bytes
from steadyscale.core.upscaling.precision import Runner, borrowed, fault_of, formats, home_of, module_of
from steadyscale.core.upscaling.resize import resize
from steadyscale.core.upscaling.settings import Alpha, Finish, Precision, Reuse, Target, Tiling
from steadyscale.core.upscaling.stage import upscale
from steadyscale.core.upscaling.tiles import SMALLEST_CORE, Cut, window_pixels
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

CPU, CARD = torch.device("cpu"), torch.device("cuda")


def nearest(x, scale=2):
    return x.repeat_interleave(scale, -2).repeat_interleave(scale, -1)


class Nearest(nn.Module):
    """Enlarges by repeating pixels; the answer is known. `calls` are the shapes it was shown."""

    scale, halo = 2, 0

    def __init__(self, scale=2):
        super().__init__()
        self.scale = scale
        self.gain = nn.Parameter(torch.ones(1))
        self.calls = []

    def forward(self, x):
        self.calls.append(tuple(x.shape))
        return nearest(x * self.gain, self.scale)


def clip(frames, channels=3, height=10, width=14, seed=0):
    return torch.rand(frames, channels, height, width, generator=torch.Generator().manual_seed(seed))


def run(frames, model, **settings):
    chunks = frames if isinstance(frames, list) else [frames]
    return torch.cat(list(upscale(iter(chunks), model, **settings)))


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


class Cancelled(Exception):
    pass


class Cancelling:
    """A wrapper as a node would write it: shows its network as `.model`, and raises when the user cancels."""

    def __init__(self, model, after):
        self.model, self.scale, self.left = model, model.scale, after

    def __call__(self, x):
        if self.left == 0:
            raise Cancelled
        self.left -= 1
        return self.model(x)


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


@pytest.mark.parametrize(("whole", "calls"), [(False, [(1, 3, 220, 220)] * 4), (True, [(1, 3, 400, 400)])])
def test_a_network_that_keeps_its_memory_is_shown_whole_frames(free, whole, calls):
    free(1e12)
    model = Nearest()
    model.halo, model.whole_frames = 18, whole
    run(clip(1, 3, 400, 400), model)
    assert model.calls == calls


class Frugal(Nearest):
    """Makes what is wanted alone; `made` are the sizes of that."""

    makes_parts, halo = True, 6

    def __init__(self):
        super().__init__()
        self.made = []

    def forward(self, x, wanted=None):
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


def test_half_weights_are_widened_on_the_cpu_and_back_when_the_stream_is_closed():
    model = Nearest().half()
    place = model.gain.data_ptr()
    stream = upscale(iter(clip(3).split(1)), model)
    assert model.gain.dtype == torch.float16  # nothing has run yet
    next(stream)
    assert model.gain.dtype == torch.float32
    assert not torch.is_inference_mode_enabled()
    stream.close()
    assert model.gain.dtype == torch.float16
    assert model.gain.data_ptr() == place


def test_each_cast_starts_from_the_lent_weights_and_counters_stay_whole_numbers():
    model = Nearest()
    model.gain.data.fill_(1 / 3)
    model.register_buffer("steps", torch.arange(3))
    model.register_buffer("mean", torch.full((2,), 0.1))
    with borrowed(model, CPU) as cast:
        cast(torch.bfloat16)
        assert (model.gain.dtype, model.steps.dtype, model.mean.dtype) == (torch.bfloat16, torch.int64, torch.bfloat16)
        cast(torch.float32)
        assert model.gain.item() == torch.tensor(1 / 3).item()
        cast(torch.float16)
    assert model.gain.item() == torch.tensor(1 / 3).item()
    assert (model.gain.dtype, model.mean.dtype) == (torch.float32, torch.float32)
    assert model.steps.tolist() == [0, 1, 2]


def test_a_model_without_a_module_is_moved_by_its_own_means():
    class Plain:
        scale, halo, device = 2, 0, CPU

        def __init__(self):
            self.moves = []

        def to(self, device):
            self.moves.append(str(device))

        def __call__(self, x):
            return nearest(x, 3)

    model = Plain()
    with pytest.raises(ClipError, match="scale of 2"):
        run(clip(1), model)
    assert model.moves == []
    with borrowed(model, CARD):
        assert model.moves == ["cuda"]
    assert model.moves == ["cuda", "cpu"]


def test_trained_on_weights_still_train_after_a_stream():
    model = Nearest()
    run(clip(1), model)
    model(clip(1)).sum().backward()
    assert model.gain.grad is not None


class Overflowing(Nearest):
    """Right in fp32, not a number in fp16, slightly off in bf16."""

    def forward(self, x):
        result = super().forward(x)
        return result * torch.nan if x.dtype == torch.float16 else result


def test_the_self_check_takes_the_first_format_that_is_right(caplog):
    model = Overflowing()
    frames = (clip(1, height=6, width=6) * 255).round() / 255
    with borrowed(model, CPU) as cast, caplog.at_level(logging.INFO, "steadyscale"):
        runner = Runner(model, cast, CPU, [torch.float16, torch.bfloat16, torch.float32])
        runner.settle(frames)
        assert runner.dtype == torch.bfloat16
        result = runner(frames)
        assert result.dtype == torch.bfloat16, "half the bytes come back from a card"
        torch.testing.assert_close(result.float(), nearest(frames), atol=1 / 255, rtol=0)
    assert "not finite" in caplog.text
    assert "runs in torch.bfloat16" in caplog.text
    assert model.gain.dtype == torch.float32


def test_a_format_that_fails_later_is_left_and_the_tile_done_again():
    class Bright(Nearest):
        def forward(self, x):
            return super().forward(x * 60000 * 2) / 120000

    model, frames = Bright(), clip(1, height=6, width=6)
    frames[..., :3, :] *= 0.01
    with borrowed(model, CPU) as cast:
        runner = Runner(model, cast, CPU, [torch.float16, torch.float32])
        runner.settle(frames[..., :3, :])
        assert runner.dtype == torch.float16
        torch.testing.assert_close(runner(frames), nearest(frames))
        assert runner.dtype == torch.float32


def test_a_result_that_is_not_finite_in_the_last_format_is_an_error():
    with pytest.raises(ClipError, match=r"float16 is not finite"):
        run(clip(1), Overflowing(), precision=Precision.FP16)
    assert torch.equal(run(clip(1), Overflowing()), nearest(clip(1)))


def test_what_the_self_check_calls_a_fault():
    truth = clip(1)
    assert fault_of(truth, truth) is None
    assert fault_of(truth + 0.9 / 255, truth) is None
    assert "differs" in str(fault_of(truth + 1.5 / 255, truth))
    assert "black" in str(fault_of(torch.zeros_like(truth), truth))
    assert "finite" in str(fault_of(truth / 0, truth))
    assert fault_of(torch.zeros_like(truth), torch.zeros_like(truth)) is None


def test_formats_to_try():
    assert formats(Precision.AUTO, CPU) == (torch.float32,)
    assert formats(Precision.AUTO, CARD) == (torch.float16, torch.bfloat16, torch.float32)
    assert formats(Precision.BF16, CARD) == (torch.bfloat16,)


def test_modules_are_found_in_wrappers():
    model = Nearest()
    assert module_of(Cancelling(Cancelling(model, 1), 1)) is model
    assert module_of(nearest) is None
    assert home_of(nearest) == CPU


@pytest.fixture
def free(monkeypatch):
    def is_free(count):
        monkeypatch.setattr(memory, "free_memory", lambda device: count)

    return is_free


def test_the_policy_on_a_cpu(free):
    free(1e12)
    cut = choose_cut(1080, 1920, 8, 18, CPU, Tiling(), 1000.0, layer=256.0)
    assert 1 << 24 < window_pixels(1080, 1920, cut.size, 18) * 256 < 1 << 25, "a layer's result is at most 32 MB"
    assert choose_cut(361, 361, 8, 18, CPU, Tiling(), 1000.0, layer=256.0) == Cut(1, 361)
    assert choose_cut(1080, 1920, 8, 18, CPU, Tiling(), 1000.0, layer=1024.0).size < cut.size / 1.8
    assert choose_cut(1080, 1920, 8, 64, CPU, Tiling(), 1000.0) == Cut(1, 1920)
    assert choose_cut(1080, 1920, 8, 64, CPU, Tiling(size=77), 1000.0) == Cut(1, 77)
    assert choose_cut(1080, 1920, 8, 18, CPU, Tiling(), 1000.0, whole=True) == Cut(1, 1920)
    free(1e9)
    assert choose_cut(1080, 1920, 8, 18, CPU, Tiling(), 1000.0, whole=True).size < 1080


def test_the_policy_on_a_card(free):
    free(1e12)
    assert choose_cut(270, 480, 64, 64, CARD, Tiling(), 1000.0) == Cut((1 << 20) // (270 * 480), 480)
    assert choose_cut(270, 480, 2, 64, CARD, Tiling(), 1000.0) == Cut(2, 480)
    assert choose_cut(2160, 3840, 2, 64, CARD, Tiling(), 1000.0).frames == 1


@settings(deadline=None)
@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(0, 64), st.sampled_from([CPU, CARD]), st.floats(1, 1e12))
def test_the_automatic_cut_stays_below_what_is_free(height, width, halo, device, available):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "free_memory", lambda device: available)
        cut = choose_cut(height, width, 4, halo, device, Tiling(), 100.0)
    needed = cut.frames * window_pixels(height, width, cut.size, halo) * 100.0
    assert needed < available or (cut.frames == 1 and cut.size <= SMALLEST_CORE)


def test_the_guess_at_memory_follows_the_widest_layer():
    net = nn.Sequential(nn.Conv2d(3, 64, 3), nn.Conv2d(64, 3, 3))
    assert guessed_bytes(net, 4) == 64 * 16 * 4 * 4
    net.activation_bytes = 12.0  # a network knows better
    assert guessed_bytes(net, 4) == 12.0
    assert memory.free_memory(CPU) > 1e6


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
