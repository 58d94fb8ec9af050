import math

import pytest
import torch
import torch.nn.functional as F
from steadyscale.core.clip import ClipError
from steadyscale.core.filters.deflicker import MAX_BLEND_WEIGHT, deflicker, local_min_max
from steadyscale.core.metrics import warping_error
from steadyscale.core.motion.flow import FlowMethod, flow_model

HEIGHT, WIDTH = 144, 208
STEP = (1.37, -0.61)  # pixels that the picture of `pan` moves left and up a frame


@pytest.fixture(autouse=True)
def one_thread():
    """On frames this small, threads spend their time waiting for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def picture(height=HEIGHT, width=WIDTH, seed=0, finest=4):
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


def pan(frames, step=STEP, finest=4):
    """Frames of a picture that moves by `step`, shifted exactly, by its Fourier transform."""
    height, width = 2 * HEIGHT, 2 * WIDTH
    waves = torch.fft.rfft2(picture(height, width, finest=finest)[0])
    down, across = torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)
    shifts = (torch.exp(2j * math.pi * i * (across * step[0] + down * step[1])) for i in range(frames))
    moved = (torch.fft.irfft2(waves * shift, s=(height, width)) for shift in shifts)
    rows, columns = slice(HEIGHT // 2, HEIGHT // 2 + HEIGHT), slice(WIDTH // 2, WIDTH // 2 + WIDTH)
    return torch.stack([m[:, rows, columns] for m in moved]).clamp(0, 1)


def noise(frames, amount, seed=5):
    return frames + amount * torch.randn(frames.shape, generator=torch.Generator().manual_seed(seed))


def run(frames, strength=0.6, chunk=1, method=FlowMethod.DIS, **settings):
    return torch.cat(list(deflicker(iter(frames.split(chunk)), flow_model(method), strength, **settings)))


def crawl(frames, step=STEP):
    """Mean warping error against the true motion, once the stage has settled."""
    flow = torch.tensor(step).view(1, 2, 1, 1).expand(1, 2, *frames.shape[-2:])
    pairs = zip(frames[5:].split(1), frames[4:].split(1), strict=False)
    return sum(float(warping_error(now, before, flow)[0]) for now, before in pairs) / (len(frames) - 5)


def error(frames, truth):
    return float(((frames - truth)[5:, :, 16:-16, 16:-16] ** 2).mean())


def detail(frames):
    """(N,): energy of the differences between neighbouring pixels."""
    inner = frames[..., 16:-16, 16:-16]
    return (inner.diff(dim=-1) ** 2).mean((1, 2, 3)) + (inner.diff(dim=-2) ** 2).mean((1, 2, 3))


@pytest.mark.parametrize("method", list(FlowMethod))
def test_noise_on_a_pan_goes_and_the_truth_stays(method):
    truth = pan(12)
    noisy = noise(truth, 0.04).clamp(0, 1)
    made = run(noisy, method=method)
    assert crawl(made) < 0.3 * crawl(noisy)
    assert error(made, truth) < 0.45 * error(noisy, truth)
    assert torch.equal(made[0], noisy[0])


def test_shimmer_of_details_goes_too():
    """What networks that enlarge four times do: details of the size of an input pixel differ from frame to frame."""
    truth = pan(12)
    dots = torch.randn(12, 3, HEIGHT // 4, WIDTH // 4, generator=torch.Generator().manual_seed(2))
    shimmer = (truth + 0.02 * F.interpolate(dots, (HEIGHT, WIDTH), mode="bicubic", align_corners=False)).clamp(0, 1)
    made = run(shimmer)
    assert crawl(made) < 0.45 * crawl(shimmer)
    assert error(made, truth) < 0.65 * error(shimmer, truth)


def test_it_works_without_opencv(monkeypatch):
    monkeypatch.setattr("steadyscale.core.filters.deflicker.optional_opencv", lambda: None)
    frames = noise(pan(8), 0.04).clamp(0, 1)
    without = run(frames)  # the flow is measured as before: what is looked up is tested
    monkeypatch.undo()
    difference = (without - run(frames)).abs()
    assert difference[..., 16:-16, 16:-16].max() < 0.01
    # At the edge, rounding decides whether a place is still in the frame.
    assert (difference > 0.01).float().mean() < 1e-3
    assert not torch.equal(without, frames)


def test_more_strength_steadies_more():
    noisy = noise(pan(10), 0.04).clamp(0, 1)
    errors = [crawl(run(noisy, strength)) for strength in (0.2, 0.5, 1.0)]
    assert crawl(noisy) > errors[0] > errors[1] > errors[2]


def test_motion_is_measured_small_and_applied_large():
    noisy = noise(pan(10), 0.04).clamp(0, 1)
    assert crawl(run(noisy, side=WIDTH // 2)) < 0.3 * crawl(noisy)


@pytest.mark.parametrize("strength", [0.6, 1.0])
@pytest.mark.parametrize("speed", [4, 15])
def test_a_bright_square_leaves_no_ghost(strength, speed):
    background, size = 0.7 * picture(seed=3), 48
    frames = background.repeat(9, 1, 1, 1)
    for i, frame in enumerate(frames):
        frame[:, 50 : 50 + size, 10 + speed * i : 10 + speed * i + size] = 0.95
    changes = (run(frames, strength) - frames).abs() * 255
    for i in range(1, 9):
        uncovered = changes[i, :, 50 : 50 + size, 10 + speed * (i - 1) : 10 + speed * i]
        assert float(uncovered.max()) < 4
        assert float(uncovered.mean()) < 1
        assert float(changes[i].mean()) < 0.5
        assert float((frames[i] - frames[i - 1]).abs().max()) * 255 > 100  # what a ghost could have shown


@pytest.mark.parametrize("method", list(FlowMethod))
def test_a_cut_begins_anew(method):
    frames = torch.cat([noise(pan(4), 0.02), noise(picture(seed=9).repeat(4, 1, 1, 1), 0.02)]).clamp(0, 1)
    made = run(frames, method=method)
    assert torch.equal(made[4], frames[4])
    assert torch.equal(made[4:], run(frames[4:], method=method))
    assert not torch.equal(made[5], frames[5])


def test_another_size_begins_anew():
    large, small = picture().repeat(2, 1, 1, 1), picture(90, 120).repeat(2, 1, 1, 1)
    made = list(deflicker(iter([large, small]), flow_model(FlowMethod.DIS), 1.0))
    assert torch.equal(made[0], large)
    assert torch.equal(made[1], small)


@pytest.mark.parametrize("chunk", [1, 3, 7])
def test_repeats_give_the_last_result_to_the_bit(chunk):
    noisy = noise(pan(4), 0.03).clamp(0, 1)
    frames = noisy[[0, 1, 1, 1, 2, 3, 3]]
    made = run(frames, 0.8, chunk)
    assert torch.equal(made[2], made[1])
    assert torch.equal(made[3], made[1])
    assert torch.equal(made[6], made[5])
    assert torch.equal(made[[0, 1, 4, 5]], run(noisy, 0.8))
    assert not torch.equal(made[1], frames[1])


def test_a_change_of_one_pixel_is_no_repeat():
    frames = picture().repeat(3, 1, 1, 1)
    frames[1:, :, 70, 100] = 1.0
    made = run(frames, side=32)
    assert float((made[1:, :, 70, 100] - made[:1, :, 70, 100]).min()) > 0.02


def test_noise_on_a_still_picture_goes():
    truth = picture().repeat(12, 1, 1, 1)
    noisy = noise(truth, 0.03).clamp(0, 1)
    made = run(noisy)
    assert crawl(made, (0.0, 0.0)) < 0.3 * crawl(noisy, (0.0, 0.0))
    assert error(made, truth) < 0.45 * error(noisy, truth)


# On smooth ground the neighbourhood allows nothing, and all that is gained is gained by the gain.
@pytest.mark.parametrize(("step", "finest"), [((0.0, 0.0), 4), (STEP, 4), ((0.0, 0.0), 32), (STEP, 16)])
def test_flicker_of_the_light_goes(step, finest):
    truth = pan(14, step, finest)
    if finest == 32:
        truth = (6 * truth).round() / 6  # flat patches
    gains = 1 + 0.04 * (2 * torch.rand(14, 1, 1, 1, generator=torch.Generator().manual_seed(1)) - 1)
    made = run((truth * gains).clamp(0, 1))
    left, before = (f.mean((1, 2, 3)) / truth.mean((1, 2, 3)) for f in (made, truth * gains))
    assert float(left[3:].diff().abs().mean()) < 0.55 * float(before[3:].diff().abs().mean())
    assert crawl(made, step) < 0.35 * crawl((truth * gains).clamp(0, 1), step)
    assert error(made, truth) < 0.8 * error(truth * gains, truth)


def test_light_that_is_switched_on_is_followed_at_once():
    frames = (0.5 * picture()).repeat(6, 1, 1, 1)
    frames[3:] *= 1.6
    made = run(frames, 1.0)
    torch.testing.assert_close(made, frames, atol=2 / 255, rtol=0)


def test_a_slow_fade_comes_late_by_no_more_than_a_frame():
    levels = torch.linspace(1.0, 0.6, 12).view(-1, 1, 1, 1)
    made = run(picture() * levels)
    shown = made.mean((1, 2, 3)) / picture().mean()
    assert bool((shown[1:] <= levels.flatten()[:-1] + 2e-3).all())
    assert bool((shown >= levels.flatten() - 2e-3).all())


@pytest.mark.parametrize("strength", [0.6, 1.0])
def test_sharpness_does_not_drift_away(strength):
    truth = pan(61)
    ratio = detail(run(truth, strength)) / detail(truth)
    assert float((ratio[10:] - 1).abs().max()) < (0.05 if strength < 1 else 0.15)
    assert abs(float(ratio[60] - ratio[20])) < 0.03


def test_strength_0_hands_the_chunks_on():
    def never(first, second):
        raise AssertionError("there is nothing to measure")

    chunks = list(torch.rand(6, 3, 20, 30).split(2))
    assert all(a is b for a, b in zip(deflicker(iter(chunks), never, 0.0), chunks, strict=True))


@pytest.mark.parametrize("channels", [3, 4])
def test_chunks_come_out_as_they_came_in(channels):
    frames = noise(pan(7), 0.03).clamp(0, 1)
    if channels == 4:
        frames = torch.cat([frames, frames[:, :1]], dim=1)
    whole = run(frames, chunk=1)
    for chunk in (3, 7):
        made = list(deflicker(iter(frames.split(chunk)), flow_model(FlowMethod.DIS), 0.6))
        assert [m.shape for m in made] == [c.shape for c in frames.split(chunk)]
        assert torch.equal(torch.cat(made), whole)
    assert list(deflicker(iter([]), flow_model())) == []


def test_a_result_may_be_written_into():
    frames = noise(pan(5), 0.03).clamp(0, 1)
    whole = run(frames)
    for made, expected in zip(deflicker(iter(frames.split(1)), flow_model(FlowMethod.DIS), 0.6), whole, strict=True):
        assert torch.equal(made[0], expected)
        made.zero_()


def test_alpha_is_blended_and_what_it_hides_is_not_followed():
    truth = torch.cat([pan(8), 0.2 + 0.6 * pan(8)[:, :1]], dim=1)
    made = run(noise(truth, 0.03).clamp(0, 1))
    assert error(made[:, 3:], truth[:, 3:]) < 0.5 * error(noise(truth, 0.03)[:, 3:], truth[:, 3:])
    hidden = truth.clone()
    hidden[..., :100, :] = torch.rand(8, 4, 100, WIDTH, generator=torch.Generator().manual_seed(0))
    hidden[:, 3, :100] = 0.0  # nothing to see above, another mess in every frame
    made = run(hidden)
    assert float(made[:, 3, :96].max()) == 0.0
    torch.testing.assert_close(made[:, :, 110:-8, 8:-8], truth[:, :, 110:-8, 8:-8], atol=0.03, rtol=0)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (5, 3), (17, 40)])
def test_tiny_frames(size):
    frames = torch.rand(3, 3, *size, generator=torch.Generator().manual_seed(0))
    made = run(frames)
    assert made.shape == frames.shape
    assert torch.equal(made[0], frames[0])
    assert 0 <= float(made.min()) <= float(made.max()) <= 1
    grey = torch.full((3, 3, *size), 0.4)
    torch.testing.assert_close(run(noise(grey, 1e-3)), grey, atol=5e-3, rtol=0)


def test_around_is_the_5_by_5_pixels_that_are_there():
    for size in ((37, 51), (1, 1), (2, 7)):
        plane = torch.rand(size)
        least, greatest = local_min_max(plane)
        assert torch.equal(greatest, F.max_pool2d(plane[None], 5, 1, 2)[0])
        assert torch.equal(least, -F.max_pool2d(-plane[None], 5, 1, 2)[0])


def two_frames():
    """Frames that differ by what their neighbourhoods allow: where the pattern has room for the last result."""
    frames = torch.full((2, 3, 32, 32), 0.5)
    frames[:, :, ::2, ::2] = 0.4
    frames[1, :, ::2, 1::2] += 0.01
    return frames


def test_the_share_of_the_last_result_is_as_stated():
    seen = []

    def still(first, second):
        seen.append((first, second))
        return torch.zeros(1, 2, *first.shape[-2:])

    frames = two_frames()[[0, 1, 0]]
    made = torch.cat(list(deflicker(iter(frames.split(1)), still, 0.5)))
    expected = frames[1] + 0.5 * MAX_BLEND_WEIGHT * (frames[0] - frames[1])
    torch.testing.assert_close(made[1, :, 4:-4, 4:-4], expected[:, 4:-4, 4:-4], atol=1e-3, rtol=0)
    for measured, wanted in zip(seen[2], (frames[2], made[1]), strict=True):  # from the frame to the last result
        torch.testing.assert_close(measured[0], wanted)
    for measured, wanted in zip(seen[3], (made[1], frames[2]), strict=True):  # and back
        torch.testing.assert_close(measured[0], wanted)


def test_a_flow_that_does_not_find_its_way_back_is_not_believed():
    calls = []

    def lost(first, second):
        calls.append(len(calls))
        flow = torch.zeros(1, 2, *first.shape[-2:])
        flow[:, 0] = 2.0 * (len(calls) % 2)  # by a period of the pattern, which looks the same there
        return flow

    frames = two_frames()
    made = torch.cat(list(deflicker(iter(frames.split(1)), lost, 1.0)))
    assert len(calls) == 2
    assert torch.equal(made, frames)


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
def test_strengths_that_cannot_be_are_refused(strength):
    with pytest.raises(ValueError, match="from 0 to 1"):
        run(torch.rand(1, 3, 8, 8), strength)
