import math
from functools import cache

import pytest
import torch
import torch.nn.functional as F
from steadyscale.core.clip import ClipError
from steadyscale.core.filters.deflicker import MAX_BLEND_WEIGHT, deflicker, local_min_max
from steadyscale.core.metrics import warping_error
from steadyscale.core.motion.optical_flow.flow import FlowMethod, flow_model
from steadyscale.models.zoo.bundled import RESTORE_DEFLICKER

HEIGHT, WIDTH = 144, 208
STEP = (1.37, -0.61)  # pixels that the image of `pan` moves left and up a frame


@pytest.fixture(autouse=True)
def one_thread():
    """On frames this small, several threads are slower than one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def make_image(height=HEIGHT, width=WIDTH, seed=0, finest=4):
    """(1, 3, H, W) in [0.1, 0.9]: detail of all sizes from 64 pixels down to `finest`."""
    generator = torch.Generator().manual_seed(seed)
    result = torch.zeros(1, 3, height, width)
    for size, share in ((64, 1.0), (32, 0.7), (16, 0.5), (8, 0.35), (4, 0.25)):
        if size < finest:
            continue
        dots = torch.randn(1, 3, height // size + 2, width // size + 2, generator=generator)
        result += share * F.interpolate(dots, (height, width), mode="bicubic", align_corners=False)
    result = (result - result.mean()) / result.std()
    return (0.5 + 0.15 * result).clamp(0.1, 0.9)


@cache
def pan(frames, step=STEP, finest=4):
    """Frames of an image that moves by `step`, shifted exactly by its Fourier transform; not to be written to."""
    height, width = 2 * HEIGHT, 2 * WIDTH
    waves = torch.fft.rfft2(make_image(height, width, finest=finest)[0])
    down, across = torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)
    shifts = (torch.exp(2j * math.pi * i * (across * step[0] + down * step[1])) for i in range(frames))
    moved = (torch.fft.irfft2(waves * shift, s=(height, width)) for shift in shifts)
    rows, columns = slice(HEIGHT // 2, HEIGHT // 2 + HEIGHT), slice(WIDTH // 2, WIDTH // 2 + WIDTH)
    return torch.stack([m[:, rows, columns] for m in moved]).clamp(0, 1)


def noise(frames, amount, seed=5):
    return frames + amount * torch.randn(frames.shape, generator=torch.Generator().manual_seed(seed))


def run(frames, strength=0.6, chunk=1, method=FlowMethod.DIS, **settings):
    return torch.cat(list(deflicker(iter(frames.split(chunk)), flow_model(method), strength, **settings)))


def mean_warping_error(frames, step=STEP):
    """Mean warping error against the true motion, after the first frames."""
    flow = torch.tensor(step).view(1, 2, 1, 1).expand(1, 2, *frames.shape[-2:])
    pairs = zip(frames[5:].split(1), frames[4:].split(1), strict=False)
    return sum(float(warping_error(now, before, flow)[0]) for now, before in pairs) / (len(frames) - 5)


def error(frames, truth):
    return float(((frames - truth)[5:, :, 16:-16, 16:-16] ** 2).mean())


def detail(frames):
    """(N,): energy of the differences between neighboring pixels."""
    inner = frames[..., 16:-16, 16:-16]
    return (inner.diff(dim=-1) ** 2).mean((1, 2, 3)) + (inner.diff(dim=-2) ** 2).mean((1, 2, 3))


@pytest.mark.parametrize("method", list(FlowMethod))
def test_noise_on_a_pan_is_removed_and_detail_stays(method):
    truth = pan(12)
    noisy = noise(truth, 0.04).clamp(0, 1)
    result = run(noisy, method=method)
    assert mean_warping_error(result) < 0.3 * mean_warping_error(noisy)
    assert error(result, truth) < 0.45 * error(noisy, truth)
    assert torch.equal(result[0], noisy[0])


def test_flicker_of_detail_is_removed():
    """As 4x networks do: detail of the size of an input pixel differs between frames."""
    truth = pan(12)
    dots = torch.randn(12, 3, HEIGHT // 4, WIDTH // 4, generator=torch.Generator().manual_seed(2))
    shimmer = (truth + 0.02 * F.interpolate(dots, (HEIGHT, WIDTH), mode="bicubic", align_corners=False)).clamp(0, 1)
    result = run(shimmer)
    assert mean_warping_error(result) < 0.45 * mean_warping_error(shimmer)
    assert error(result, truth) < 0.65 * error(shimmer, truth)


def test_deflicker_without_opencv(monkeypatch):
    monkeypatch.setattr("steadyscale.core.filters.deflicker.optional_opencv", lambda: None)
    frames = noise(pan(8), 0.04).clamp(0, 1)
    without = run(frames)  # the flow is measured as before: what is looked up is tested
    monkeypatch.undo()
    difference = (without - run(frames)).abs()
    assert difference[..., 16:-16, 16:-16].max() < 0.01
    # At the edge, rounding decides whether a place is still in the frame.
    assert (difference > 0.01).float().mean() < 1e-3
    assert not torch.equal(without, frames)


def test_a_higher_strength_removes_more_flicker():
    noisy = noise(pan(10), 0.04).clamp(0, 1)
    errors = [mean_warping_error(run(noisy, strength)) for strength in (0.2, 0.5, 1.0)]
    assert mean_warping_error(noisy) > errors[0] > errors[1] > errors[2]


def test_motion_is_estimated_on_reduced_frames():
    noisy = noise(pan(10), 0.04).clamp(0, 1)
    assert mean_warping_error(run(noisy, side=WIDTH // 2)) < 0.3 * mean_warping_error(noisy)


@pytest.mark.parametrize("strength", [RESTORE_DEFLICKER, 0.6, 1.0])
@pytest.mark.parametrize("speed", [4, 15])
def test_a_bright_square_leaves_no_ghost(strength, speed):
    background, size = 0.7 * make_image(seed=3), 48
    frames = background.repeat(9, 1, 1, 1)
    for i, frame in enumerate(frames):
        frame[:, 50 : 50 + size, 10 + speed * i : 10 + speed * i + size] = 0.95
    changes = (run(frames, strength) - frames).abs() * 255
    for i in range(1, 9):
        uncovered = changes[i, :, 50 : 50 + size, 10 + speed * (i - 1) : 10 + speed * i]
        assert float(uncovered.max()) < 4
        assert float(uncovered.mean()) < 1
        assert float(changes[i].mean()) < 0.5
        assert float((frames[i] - frames[i - 1]).abs().max()) * 255 > 100  # a ghost would be visible


@pytest.mark.parametrize("method", list(FlowMethod))
def test_a_cut_resets_the_filter(method):
    frames = torch.cat([noise(pan(4), 0.02), noise(make_image(seed=9).repeat(4, 1, 1, 1), 0.02)]).clamp(0, 1)
    result = run(frames, method=method)
    assert torch.equal(result[4], frames[4])
    assert torch.equal(result[4:], run(frames[4:], method=method))
    assert not torch.equal(result[5], frames[5])


def test_another_size_resets_the_filter():
    large, small = make_image().repeat(2, 1, 1, 1), make_image(90, 120).repeat(2, 1, 1, 1)
    result = list(deflicker(iter([large, small]), flow_model(FlowMethod.DIS), 1.0))
    assert torch.equal(result[0], large)
    assert torch.equal(result[1], small)


@pytest.mark.parametrize("chunk", [1, 3, 7])
def test_repeated_frames_give_a_bit_identical_result(chunk):
    noisy = noise(pan(4), 0.03).clamp(0, 1)
    frames = noisy[[0, 1, 1, 1, 2, 3, 3]]
    result = run(frames, 0.8, chunk)
    assert torch.equal(result[2], result[1])
    assert torch.equal(result[3], result[1])
    assert torch.equal(result[6], result[5])
    assert torch.equal(result[[0, 1, 4, 5]], run(noisy, 0.8))
    assert not torch.equal(result[1], frames[1])


def test_a_change_of_one_pixel_is_not_a_repeat():
    frames = make_image().repeat(3, 1, 1, 1)
    frames[1:, :, 70, 100] = 1.0
    result = run(frames, side=32)
    assert float((result[1:, :, 70, 100] - result[:1, :, 70, 100]).min()) > 0.02


def test_noise_on_a_still_image_is_removed():
    truth = make_image().repeat(12, 1, 1, 1)
    noisy = noise(truth, 0.03).clamp(0, 1)
    result = run(noisy)
    assert mean_warping_error(result, (0.0, 0.0)) < 0.3 * mean_warping_error(noisy, (0.0, 0.0))
    assert error(result, truth) < 0.45 * error(noisy, truth)


# On smooth ground the neighbourhood allows nothing, and all that is gained is gained by the gain.
@pytest.mark.parametrize(("step", "finest"), [((0.0, 0.0), 4), (STEP, 4), ((0.0, 0.0), 32), (STEP, 16)])
def test_flicker_of_exposure_is_removed(step, finest):
    truth = pan(14, step, finest)
    if finest == 32:
        truth = (6 * truth).round() / 6  # flat patches
    gains = 1 + 0.04 * (2 * torch.rand(14, 1, 1, 1, generator=torch.Generator().manual_seed(1)) - 1)
    result = run((truth * gains).clamp(0, 1))
    left, before = (f.mean((1, 2, 3)) / truth.mean((1, 2, 3)) for f in (result, truth * gains))
    assert float(left[3:].diff().abs().mean()) < 0.55 * float(before[3:].diff().abs().mean())
    assert mean_warping_error(result, step) < 0.35 * mean_warping_error((truth * gains).clamp(0, 1), step)
    assert error(result, truth) < 0.8 * error(truth * gains, truth)


def test_a_sudden_change_of_light_is_not_delayed():
    frames = (0.5 * make_image()).repeat(6, 1, 1, 1)
    frames[3:] *= 1.6
    result = run(frames, 1.0)
    torch.testing.assert_close(result, frames, atol=2 / 255, rtol=0)


def test_a_slow_fade_is_delayed_by_at_most_a_frame():
    levels = torch.linspace(1.0, 0.6, 12).view(-1, 1, 1, 1)
    result = run(make_image() * levels)
    levels_out = result.mean((1, 2, 3)) / make_image().mean()
    assert bool((levels_out[1:] <= levels.flatten()[:-1] + 2e-3).all())
    assert bool((levels_out >= levels.flatten() - 2e-3).all())


@pytest.mark.parametrize("strength", [0.6, 1.0])
def test_sharpness_does_not_decay(strength):
    truth = pan(61)[..., 24:-24, 32:-32]
    ratio = detail(run(truth, strength)) / detail(truth)
    assert float((ratio[10:] - 1).abs().max()) < (0.05 if strength < 1 else 0.15)
    assert abs(float(ratio[60] - ratio[20])) < 0.03


def test_strength_0_passes_chunks_on():
    def never(first, second):
        raise AssertionError("there is nothing to measure")

    chunks = list(torch.rand(6, 3, 20, 30).split(2))
    assert all(a is b for a, b in zip(deflicker(iter(chunks), never, 0.0), chunks, strict=True))


@pytest.mark.parametrize("channels", [3, 4])
def test_chunks_keep_their_shape_and_dtype(channels):
    frames = noise(pan(7), 0.03).clamp(0, 1)
    if channels == 4:
        frames = torch.cat([frames, frames[:, :1]], dim=1)
    whole = run(frames, chunk=1)
    for chunk in (3, 7):
        result = list(deflicker(iter(frames.split(chunk)), flow_model(FlowMethod.DIS), 0.6))
        assert [m.shape for m in result] == [c.shape for c in frames.split(chunk)]
        assert torch.equal(torch.cat(result), whole)
    assert list(deflicker(iter([]), flow_model())) == []


def test_a_consumer_may_modify_the_result():
    frames = noise(pan(5), 0.03).clamp(0, 1)
    whole = run(frames)
    for result, expected in zip(deflicker(iter(frames.split(1)), flow_model(FlowMethod.DIS), 0.6), whole, strict=True):
        assert torch.equal(result[0], expected)
        result.zero_()


def test_alpha_is_blended_and_hidden_color_is_ignored():
    truth = torch.cat([pan(8), 0.2 + 0.6 * pan(8)[:, :1]], dim=1)
    result = run(noise(truth, 0.03).clamp(0, 1))
    assert error(result[:, 3:], truth[:, 3:]) < 0.5 * error(noise(truth, 0.03)[:, 3:], truth[:, 3:])
    hidden = truth.clone()
    hidden[..., :100, :] = torch.rand(8, 4, 100, WIDTH, generator=torch.Generator().manual_seed(0))
    hidden[:, 3, :100] = 0.0  # nothing to see above, another mess in every frame
    result = run(hidden)
    assert float(result[:, 3, :96].max()) == 0.0
    torch.testing.assert_close(result[:, :, 110:-8, 8:-8], truth[:, :, 110:-8, 8:-8], atol=0.03, rtol=0)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (5, 3), (17, 40)])
def test_tiny_frames(size):
    frames = torch.rand(3, 3, *size, generator=torch.Generator().manual_seed(0))
    result = run(frames)
    assert result.shape == frames.shape
    assert torch.equal(result[0], frames[0])
    assert 0 <= float(result.min()) <= float(result.max()) <= 1
    gray = torch.full((3, 3, *size), 0.4)
    torch.testing.assert_close(run(noise(gray, 1e-3)), gray, atol=5e-3, rtol=0)


@pytest.mark.parametrize("with_opencv", [False, True])
def test_local_range_is_that_of_5_by_5_pixels(with_opencv):
    cv2 = pytest.importorskip("cv2") if with_opencv else None
    for size in ((3, 37, 51), (1, 1, 1), (2, 2, 7)):
        planes = torch.rand(size)
        least, greatest = local_min_max(planes, cv2)
        assert torch.equal(greatest, F.max_pool2d(planes, 5, 1, 2))
        assert torch.equal(least, -F.max_pool2d(-planes, 5, 1, 2))


def two_frames():
    """Frames whose difference lies within the local range, so that the last result is not clamped."""
    frames = torch.full((2, 3, 32, 32), 0.5)
    frames[:, :, ::2, ::2] = 0.4
    frames[1, :, ::2, 1::2] += 0.01
    return frames


def test_the_weight_of_the_last_result_is_as_documented():
    seen = []

    def still(first, second):
        seen.append((first, second))
        return torch.zeros(1, 2, *first.shape[-2:])

    frames = two_frames()[[0, 1, 0]]
    result = torch.cat(list(deflicker(iter(frames.split(1)), still, 0.5)))
    expected = frames[1] + 0.5 * MAX_BLEND_WEIGHT * (frames[0] - frames[1])
    torch.testing.assert_close(result[1, :, 4:-4, 4:-4], expected[:, 4:-4, 4:-4], atol=1e-3, rtol=0)
    for measured, wanted in zip(seen[2], (frames[2], result[1]), strict=True):  # from the frame to the last result
        torch.testing.assert_close(measured[0], wanted)
    for measured, wanted in zip(seen[3], (result[1], frames[2]), strict=True):  # and back
        torch.testing.assert_close(measured[0], wanted)


def test_inconsistent_flow_has_no_confidence():
    calls = []

    def lost(first, second):
        calls.append(len(calls))
        flow = torch.zeros(1, 2, *first.shape[-2:])
        flow[:, 0] = 2.0 * (len(calls) % 2)  # by a period of the pattern, which looks the same there
        return flow

    frames = two_frames()
    result = torch.cat(list(deflicker(iter(frames.split(1)), lost, 1.0)))
    assert len(calls) == 2
    assert torch.equal(result, frames)


@pytest.mark.parametrize("wrong", [torch.rand(1, 2, 8, 8), torch.rand(3, 8, 8), torch.rand(0, 3, 8, 8)])
def test_wrong_shapes_are_refused(wrong):
    with pytest.raises(ClipError, match="from frame 1 on"):
        list(deflicker(iter([torch.rand(1, 3, 8, 8), wrong]), flow_model()))


def test_values_that_are_not_finite_are_refused():
    frames = torch.rand(3, 3, 40, 40)
    frames[2, 1, 5, 6] = float("nan")
    with pytest.raises(ClipError, match=r"frame 2 .* not finite"):
        run(frames, chunk=3)


@pytest.mark.parametrize("strength", [-0.1, 1.1, float("nan")])
def test_invalid_strengths_are_refused(strength):
    with pytest.raises(ValueError, match="from 0 to 1"):
        run(torch.rand(1, 3, 8, 8), strength)


def test_the_last_result_stays_within_the_range_of_the_frame_around_it():
    """Along a flow that is wrong, and so smooth that it looks consistent, bright and dark areas would leave ghosts."""
    frame = torch.full((2, 3, 96, 128), 0.5)
    frame[0, :, :, 60:68] = 0.51  # A line that a flow of 0 carries into the second frame, where it is gone,
    frame[0, :, 40:48, :40] = 0.49  # and a dark one.

    def still(first, second):
        return torch.zeros(1, 2, *first.shape[-2:])

    result = torch.cat(list(deflicker(iter(frame.split(1)), still, 1.0)))
    assert (result[1] - 0.5).abs().max() < 1e-6


def test_the_frame_after_a_cut_between_similar_dark_scenes_is_not_changed():
    """Most of both is dark, and would be blended; but the lamp is elsewhere."""
    y, x = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    left, right = (
        (0.05 + 0.9 * torch.exp(-((x - column) ** 2 + (y - 72) ** 2) / 1250) + 0.05 * (make_image(seed=seed) - 0.5))
        for seed, column in ((1, 50), (2, 158))
    )
    frames = torch.cat([left, left, right, right]).clamp(0, 1)
    assert torch.equal(run(frames, strength=1.0)[2], frames[2])


def dark(level, seed, noise_seed, amount=0.004, offset=0.0):
    """A dark scene, whose mean is half of `level`, with noise."""
    return noise(offset + level * make_image(seed=seed), amount, noise_seed).clamp(0, 1)


@pytest.mark.parametrize("level", [0.1, 0.2, 0.4])
@pytest.mark.parametrize("offset", [0.0, 0.02])
def test_a_cut_between_dark_scenes_of_one_brightness_resets_the_filter(level, offset):
    """They differ by 0.01 to 0.05 on average, and the flow matches parts of them."""
    frames = torch.cat([dark(level, 1, 1), dark(level, 2, 2, offset=offset), dark(level, 2, 3, offset=offset)])
    result = run(frames, strength=1.0)
    assert torch.equal(result[1], frames[1])
    assert not torch.equal(result[2], frames[2])


SAME_SCENES = {
    "noise": lambda: (dark(0.1, 1, 1, 0.02), dark(0.1, 1, 2, 0.02)),
    "flicker": lambda: (dark(0.2, 1, 1), dark(0.2, 1, 2) * 1.2),
    "light": lambda: (dark(0.2, 1, 1), dark(0.2, 1, 2) + 0.05),
    "flat": lambda: tuple(noise(torch.full((1, 3, HEIGHT, WIDTH), 0.1), 0.03, seed) for seed in (1, 2)),
    "pan": lambda: tuple((0.1 * pan(2, (7, -5))).split(1)),
}


@pytest.mark.parametrize("name", SAME_SCENES)
def test_noise_flicker_and_motion_of_a_dark_scene_are_no_cut(name):
    frames = torch.cat(SAME_SCENES[name]())
    assert not torch.equal(run(frames, strength=1.0)[1], frames[1])
