"""Regions of interest and partial updates: bit-identical to the full result, for less work."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from native_checks import needs_compiler, random_image, randomize_weights, scale_slices
from steadyscale.core.upscaling.upscale import upscale
from steadyscale.models import RRDBConfig, RRDBNet, SRVGGConfig, SRVGGNetCompact, Upscaler
from steadyscale.models.native import NativeNetwork
from steadyscale.models.native.bindings import Arena, NativeLibrary
from steadyscale.models.native.compile_srvgg import midpoint, srvgg_exact_halo


@st.composite
def rois(draw, height, width):
    """Rows and columns of an image; often they touch its edges."""
    sides = []
    for length in (height, width):
        start = draw(st.sampled_from([0, draw(st.integers(0, length - 1))]))
        sides.append(slice(start, draw(st.sampled_from([length, draw(st.integers(start + 1, length))]))))
    return tuple(sides)


@needs_compiler
@settings(max_examples=60, deadline=None)
@given(data=st.data(), convs=st.integers(0, 5), scale=st.integers(1, 4), threads=st.sampled_from([1, 2]))
def test_roi_is_bit_identical_to_the_full_result(engine_path, data, convs, scale, threads):
    """Small and large images, even and odd numbers of layers, one after the other in the same memory."""
    channels = data.draw(st.sampled_from([(1, 1), (3, 3), (4, 4), (1, 3)]))
    features = data.draw(st.sampled_from([5, 16, 20, 40]))
    native = NativeNetwork(
        randomize_weights(SRVGGNetCompact(SRVGGConfig(*channels, features, convs, scale))), NativeLibrary(engine_path)
    )
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        for _ in range(3):
            height, width = data.draw(st.integers(1, 90)), data.draw(st.integers(1, 90))
            images = random_image(data.draw(st.integers(1, 2)), channels[0], height, width)
            roi = data.draw(rois(height, width))
            result = native(images, roi=roi)
            assert torch.equal(result, native(images)[scale_slices(roi, scale)])
            assert torch.equal(result, native(images, roi=roi))
    finally:
        torch.set_num_threads(before)


@needs_compiler
@settings(max_examples=10, deadline=None)
@given(data=st.data(), unshuffle=st.sampled_from([1, 2]), channels=st.sampled_from([1, 3, 4]))
def test_every_network_and_engine_supports_a_roi(engine_path, data, unshuffle, channels):
    rrdb_config = RRDBConfig(channels, channels, features=8, blocks=1, growth=4, scale=2, unshuffle=unshuffle)
    roi = data.draw(rois(21, 34))
    images = random_image(2, data.draw(st.sampled_from([3, channels])), 21, 34)
    for network in (RRDBNet(rrdb_config), SRVGGNetCompact(SRVGGConfig(channels, channels, 8, 2, 3))):
        model = Upscaler(randomize_weights(network), "small", "small")
        for dtype, engine_used in ((torch.float32, "native"), (torch.float64, "torch")):
            model.to(dtype=dtype)
            full, result = model(images.to(dtype)), model(images.to(dtype), roi=roi)
            assert model.engine == engine_used
            assert torch.equal(result, full[scale_slices(roi, model.scale)])
        assert model(images[:0], roi=roi).shape == result[:0].shape
    assert model.supports_roi


@needs_compiler
@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_result_is_written_to_out_if_it_fits(library, scale):
    native = NativeNetwork(randomize_weights(SRVGGNetCompact(SRVGGConfig(features=8, convs=1, scale=scale))), library)
    images, roi = random_image(2, 3, 20, 31), (slice(3, 17), slice(5, 31))
    expected = native(images, roi=roi)
    surrounding = torch.full((2, 3, 100, 130), 7.0)
    out = surrounding[..., 4 : 4 + 14 * scale, 9 : 9 + 26 * scale]
    assert native(images, roi=roi, out=out) is out
    assert torch.equal(out, expected)
    out.fill_(7)
    assert bool((surrounding == 7).all()), "nothing is written outside of out"
    transposed = torch.empty(2, 3, 26 * scale, 14 * scale).transpose(2, 3)
    wrong_dtype, wrong_shape = torch.empty_like(expected, dtype=torch.float64), torch.empty_like(expected[:1])
    for unusable in (transposed, wrong_dtype, wrong_shape):
        result = native(images, roi=roi, out=unusable)
        assert result is not unusable
        assert torch.equal(result, expected)


def computed_pixels(native, images, roi=None):
    """Number of pixels that each operation is asked to compute."""
    ops = []
    with pytest.MonkeyPatch.context() as patch:
        run = NativeLibrary.run
        patch.setattr(NativeLibrary, "run", lambda self, array, *args: ops.extend(array) or run(self, array, *args))
        native(images, roi=roi)
    return [op_pixels(op) for op in ops]


def op_pixels(op):
    return (op.bottom - op.top) * (op.right - op.left)


@needs_compiler
def test_layers_compute_only_what_the_next_layer_reads(library):
    native = NativeNetwork(randomize_weights(SRVGGNetCompact(SRVGGConfig(features=8, convs=2, scale=2))), library)
    images = random_image(1, 3, 96, 120)
    pixels = computed_pixels(native, images, (slice(42, 54), slice(60, 66)))
    # The 6x6 tiles of the last layer read one more pixel on each side. Shifted tiles start 2 pixels before that, and
    # pixels of a tile behind what is read are not computed. The same holds for the layers before.
    assert pixels[::-1] == [12 * 6, (12 + 4) * (6 + 4), (12 + 10) * (6 + 10), (12 + 14) * (6 + 14)]
    assert sum(pixels[1:]) < sum(computed_pixels(native, images[..., 28:68, 46:80])[1:]) / 2
    assert computed_pixels(native, images)[0] == 96 * 120


@needs_compiler
def test_roi_reads_no_further_than_the_exact_halo(library):
    network = randomize_weights(SRVGGNetCompact(SRVGGConfig(features=8, convs=3, scale=2)))
    native, halo = NativeNetwork(network, library), srvgg_exact_halo(network)
    images = random_image(1, 3, 96, 90)
    roi = slice(48, 60), slice(36, 61)
    full, expected = native(images), native(images, roi=roi)
    nan_outside = torch.full_like(images, torch.nan)
    inside = (..., slice(48 - halo, 60 + halo), slice(36 - halo, 61 + halo))
    nan_outside[inside] = images[inside]
    assert torch.equal(native(nan_outside, roi=roi), expected)
    # Nor does it read what another image has left in the memory.
    native(torch.full_like(images, torch.nan))
    assert torch.equal(native(images, roi=roi), expected)
    native(torch.full_like(images, torch.nan))
    assert torch.equal(native(images), full)


def dirty_rect(rows, cols, halo, height, width):
    """The 12 x 12 tiles that lie nearer to the region than the halo; they hold whole Winograd tiles of 6 x 6."""
    sides = []
    for side, length in ((rows, height), (cols, width)):
        first, end = max(0, side.start - halo + 5), min(length, side.stop + halo - 5)
        sides.append(slice(first // 12 * 12, min(length, -(-end // 12) * 12)))
    return tuple(sides)


@needs_compiler
@settings(max_examples=40, deadline=None)
@given(data=st.data(), convs=st.integers(2, 9), scale=st.integers(1, 4), channels=st.sampled_from([1, 3]))
def test_partial_updates_are_bit_identical_to_the_full_result(engine_path, data, convs, scale, channels):
    network = randomize_weights(SRVGGNetCompact(SRVGGConfig(channels, channels, 8, convs, scale)))
    native, owner = NativeNetwork(network, NativeLibrary(engine_path)), object()
    height, width = data.draw(st.integers(1, 120)), data.draw(st.integers(1, 120))
    full_frame = slice(0, height), slice(0, width)
    image = random_image(1, channels, height, width)
    result = native(image, clamp=True)
    for n in range(4):
        rows, cols = data.draw(rois(height, width))
        image = image.clone()
        image[..., rows, cols] = random_image(1, channels, height, width)[..., rows, cols]
        midpoint_rect, result_rect = (
            dirty_rect(rows, cols, halo, height, width)
            for halo in (srvgg_exact_halo(network, midpoint(network)), srvgg_exact_halo(network))
        )
        assert native.update_regions(image, [[midpoint_rect if n else full_frame], [result_rect]], result, owner)
        assert torch.equal(result, native(image, clamp=True))


@needs_compiler
def test_partial_updates_compute_no_more_than_the_dirty_rects(library):
    """With smaller rectangles some of the result stays old: the halos are no larger than they have to be."""
    network = randomize_weights(SRVGGNetCompact(SRVGGConfig(3, 3, 8, 8, 2)))
    native, owner = NativeNetwork(network, library), object()
    image, full_frame = random_image(1, 3, 180, 200), (slice(0, 180), slice(0, 200))
    result = native(image, clamp=True)
    halos = srvgg_exact_halo(network, midpoint(network)), srvgg_exact_halo(network)
    assert native.update_regions(image, [[full_frame], [(slice(0, 12), slice(0, 12))]], result, owner)
    image = image.clone()
    image[..., 84:96, 96:108] = 9.0
    rects = [dirty_rect(slice(84, 96), slice(96, 108), halo, 180, 200) for halo in halos]
    expected, before = native(image, clamp=True), result.clone()
    for too_small in range(2):
        stages = [(slice(r.start + 12, r.stop - 12), c) if n == too_small else (r, c) for n, (r, c) in enumerate(rects)]
        assert native.update_regions(image, [[rect] for rect in stages], result, owner)
        assert not torch.equal(result, expected)
        assert native.update_regions(image, [[rect] for rect in rects], result, owner)
        assert torch.equal(result, expected)
        result.copy_(before)
    run, ops = NativeLibrary.run, []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(NativeLibrary, "run", lambda self, array, *args: ops.extend(array) or run(self, array, *args))
        assert native.update_regions(image, [[rect] for rect in rects], result, owner)
    assert sum(op_pixels(op) for op in ops) < 0.5 * 10 * 180 * 200
    assert len(ops) == 10


@needs_compiler
def test_cache_belongs_to_one_owner_and_is_limited(library, monkeypatch):
    network = randomize_weights(SRVGGNetCompact(SRVGGConfig(3, 3, 8, 3, 2)))
    native, first, second = NativeNetwork(network, library), object(), object()
    image, region = random_image(1, 3, 60, 70), (slice(12, 36), slice(12, 36))
    full_frame, result = (slice(0, 60), slice(0, 70)), native(image, clamp=True)
    assert not native.update_regions(image, [[region], [region]], result, first)
    assert native.update_regions(image, [[full_frame], [region]], result, first)
    assert native.update_regions(image, [[region], [region]], result, first)
    assert not native.update_regions(image, [[region], [region]], result, second)
    assert not native.update_regions(image[..., :59, :], [[region], [region]], result[..., :118, :], first)
    assert native.update_regions(image, [[full_frame], [region]], result, second)
    assert not native.update_regions(image, [[region], [region]], result, first)
    native.release_cache(first)
    assert native.update_regions(image, [[region], [region]], result, second)
    native.release_cache(second)
    assert not native.update_regions(image, [[region], [region]], result, second)
    assert not native.update_regions(image, [[full_frame], [region]], result[..., 1:, :], first)
    assert not native.update_regions(image.repeat(2, 1, 1, 1), [[full_frame], [region]], result, first)
    with pytest.raises(ValueError, match="not inside the image of 60 rows"):
        native.update_regions(image, [[full_frame], [(slice(12, 61), slice(0, 70))]], result, first)
    monkeypatch.setattr("steadyscale.models.native.native_model.MAX_CACHE_BYTES", 60 * 70 * 8 * 4)
    assert not native.update_regions(image, [[full_frame], [region]], result, first)
    assert torch.equal(result, native(image, clamp=True))


@needs_compiler
def test_networks_without_partial_updates(library):
    for network in (
        RRDBNet(RRDBConfig(features=8, blocks=1, growth=4, scale=2)),
        SRVGGNetCompact(SRVGGConfig(convs=1)),
    ):
        native, image = NativeNetwork(randomize_weights(network), library), random_image(1, 3, 20, 20)
        full_frame = slice(0, 20), slice(0, 20)
        assert not native.update_regions(image, [[full_frame], [full_frame]], native(image, clamp=True), object())
        assert Upscaler(network, "other", "other").roi_stages == ()


@needs_compiler
def test_regions_use_the_memory_of_the_full_frame(library, monkeypatch):
    native = NativeNetwork(randomize_weights(SRVGGNetCompact(SRVGGConfig(features=16, convs=2))), library)
    allocate, sizes = NativeLibrary.allocate, []
    monkeypatch.setattr(NativeLibrary, "allocate", lambda self, size: sizes.append(size) or allocate(self, size))
    images = random_image(1, 3, 60, 80)
    full = native(images)
    planes, scratch = sizes
    for _ in range(2):
        native(images[..., :50, 10:70], roi=(slice(0, 20), slice(7, 30)))
        assert torch.equal(native(images), full)
    assert sizes == [planes, scratch]
    native(images[..., :30, :40])
    assert len(sizes) == 3
    assert sizes[2] < planes / 3


@needs_compiler
@pytest.mark.parametrize("rows", [slice(-1, 3), slice(0, 7), slice(4, 4), slice(5, 2)])
def test_roi_outside_of_the_image_is_rejected(library, rows):
    native = NativeNetwork(randomize_weights(SRVGGNetCompact(SRVGGConfig(features=8, convs=1))), library)
    for roi in ((rows, slice(0, 6)), (slice(0, 6), rows)):
        with pytest.raises(ValueError, match="not inside the image of 6 rows and 6 columns"):
            native(random_image(1, 3, 6, 6), roi=roi)


@needs_compiler
@pytest.mark.parametrize("failing_reservation", range(14))
def test_out_of_memory_during_a_partial_update_loses_nothing(engine_path, monkeypatch, failing_reservation):
    network = randomize_weights(SRVGGNetCompact(SRVGGConfig(features=8, convs=4, scale=2)))
    frames = random_image(1, 3, 60, 80).repeat(8, 1, 1, 1)
    for n in range(1, 8):
        frames[n, :, 10:20, n : n + 9] = 0.1 * n
    model = Upscaler(network, "small", "compact")
    expected = torch.cat([model(frame) for frame in frames.split(1)])
    reserve, update_regions, in_update, outcomes = Arena.reserve, NativeNetwork.update_regions, [], []
    reservations = itertools.count()

    def reserve_or_fail(arena, *args, **options):
        if in_update and next(reservations) == failing_reservation:
            raise MemoryError("not enough memory")
        return reserve(arena, *args, **options)

    def recorded_update(native, *args):
        in_update.append(True)
        outcomes.append(update_regions(native, *args))
        in_update.clear()
        return outcomes[-1]

    monkeypatch.setattr(Arena, "reserve", reserve_or_fail)
    monkeypatch.setattr(NativeNetwork, "update_regions", recorded_update)
    assert torch.equal(torch.cat(list(upscale(iter(frames.split(1)), model))), expected)
    assert outcomes == [True] * (failing_reservation // 6) + [False]
