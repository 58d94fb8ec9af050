"""Parts of results: the same bits as the whole, for less work."""

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
def parts(draw, height, width):
    """Rows and columns of a picture; often they begin or end with it."""
    sides = []
    for length in (height, width):
        start = draw(st.sampled_from([0, draw(st.integers(0, length - 1))]))
        sides.append(slice(start, draw(st.sampled_from([length, draw(st.integers(start + 1, length))]))))
    return tuple(sides)


@needs_compiler
@settings(max_examples=60, deadline=None)
@given(data=st.data(), convs=st.integers(0, 5), scale=st.integers(1, 4), threads=st.sampled_from([1, 2]))
def test_a_wanted_part_has_the_bits_of_the_whole(cache, data, convs, scale, threads):
    """Small pictures and large ones, even and odd layers, one after the other in the same memory."""
    channels = data.draw(st.sampled_from([(1, 1), (3, 3), (4, 4), (1, 3)]))
    features = data.draw(st.sampled_from([5, 16, 20, 40]))
    native = NativeNetwork(
        randomize_weights(SRVGGNetCompact(SRVGGConfig(*channels, features, convs, scale))), NativeLibrary(cache)
    )
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        for _ in range(3):
            height, width = data.draw(st.integers(1, 90)), data.draw(st.integers(1, 90))
            images = random_image(data.draw(st.integers(1, 2)), channels[0], height, width)
            wanted = data.draw(parts(height, width))
            made = native(images, roi=wanted)
            assert torch.equal(made, native(images)[scale_slices(wanted, scale)])
            assert torch.equal(made, native(images, roi=wanted))
    finally:
        torch.set_num_threads(before)


@needs_compiler
@settings(max_examples=10, deadline=None)
@given(data=st.data(), unshuffle=st.sampled_from([1, 2]), channels=st.sampled_from([1, 3, 4]))
def test_every_network_gives_a_part_natively_or_with_torch(cache, data, unshuffle, channels):
    dense = RRDBConfig(channels, channels, features=8, blocks=1, growth=4, scale=2, unshuffle=unshuffle)
    wanted = data.draw(parts(21, 34))
    images = random_image(2, data.draw(st.sampled_from([3, channels])), 21, 34)
    for network in (RRDBNet(dense), SRVGGNetCompact(SRVGGConfig(channels, channels, 8, 2, 3))):
        model = Upscaler(randomize_weights(network), "small", "small")
        for kind, engine_used in ((torch.float32, "native"), (torch.float64, "torch")):
            model.to(dtype=kind)
            whole, part = model(images.to(kind)), model(images.to(kind), roi=wanted)
            assert model.engine == engine_used
            assert torch.equal(part, whole[scale_slices(wanted, model.scale)])
        assert model(images[:0], roi=wanted).shape == part[:0].shape
    assert model.supports_roi


@needs_compiler
@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_a_result_is_put_into_a_place_that_can_hold_it(library, scale):
    native = NativeNetwork(randomize_weights(SRVGGNetCompact(SRVGGConfig(features=8, convs=1, scale=scale))), library)
    images, wanted = random_image(2, 3, 20, 31), (slice(3, 17), slice(5, 31))
    truth = native(images, roi=wanted)
    around = torch.full((2, 3, 100, 130), 7.0)
    place = around[..., 4 : 4 + 14 * scale, 9 : 9 + 26 * scale]
    assert native(images, roi=wanted, out=place) is place
    assert torch.equal(place, truth)
    place.fill_(7)
    assert bool((around == 7).all()), "nothing is written beside it"
    turned = torch.empty(2, 3, 26 * scale, 14 * scale).transpose(2, 3)
    for other in (turned, torch.empty_like(truth, dtype=torch.float64), torch.empty(1, 3, 14 * scale, 26 * scale)):
        made = native(images, roi=wanted, out=other)
        assert made is not other
        assert torch.equal(made, truth)


def pixels_made(native, images, wanted=None):
    """How many pixels of planes each step was told to make."""
    steps = []
    with pytest.MonkeyPatch.context() as patch:
        run = NativeLibrary.run
        patch.setattr(NativeLibrary, "run", lambda self, ops, *args: steps.extend(ops) or run(self, ops, *args))
        native(images, roi=wanted)
    return [(op.last - op.first) * (op.right - op.left) for op in steps]


@needs_compiler
def test_layers_make_no_more_of_a_part_than_the_next_one_reads(library):
    native = NativeNetwork(randomize_weights(SRVGGNetCompact(SRVGGConfig(features=8, convs=2, scale=2))), library)
    images = random_image(1, 3, 96, 120)
    made = pixels_made(native, images, (slice(42, 54), slice(60, 66)))
    # The last one's blocks of 6x6 read a pixel more on each side. Blocks half a block off begin 2 pixels before that,
    # and what lies behind what is read is not made of them. And so on, to all that the first block reads.
    assert made[::-1] == [12 * 6, (12 + 4) * (6 + 4), (12 + 10) * (6 + 10), (12 + 14) * (6 + 14)]
    assert sum(made[1:]) < sum(pixels_made(native, images[..., 28:68, 46:80])[1:]) / 2
    assert pixels_made(native, images)[0] == 96 * 120


@needs_compiler
def test_a_part_reads_no_further_than_the_reach(library):
    """As far as the network says, and no pixel of what is beyond it."""
    network = randomize_weights(SRVGGNetCompact(SRVGGConfig(features=8, convs=3, scale=2)))
    native, reach = NativeNetwork(network, library), srvgg_exact_halo(network)
    images = random_image(1, 3, 96, 90)
    wanted = slice(48, 60), slice(36, 61)
    whole, truth = native(images), native(images, roi=wanted)
    beyond = torch.full_like(images, torch.nan)
    seen = (..., slice(48 - reach, 60 + reach), slice(36 - reach, 61 + reach))
    beyond[seen] = images[seen]
    assert torch.equal(native(beyond, roi=wanted), truth)
    native(torch.full_like(images, torch.nan))  # Nor what another picture has left in the memory.
    assert torch.equal(native(images, roi=wanted), truth)
    native(torch.full_like(images, torch.nan))
    assert torch.equal(native(images), whole)


def around(rows, cols, reach, height, width):
    """Whole tiles of 12 x 12 that are nearer than the reach, of which blocks of 6 come out whole."""
    sides = []
    for side, length in ((rows, height), (cols, width)):
        first, end = max(0, side.start - reach + 5), min(length, side.stop + reach - 5)
        sides.append(slice(first // 12 * 12, min(length, -(-end // 12) * 12)))
    return tuple(sides)


@needs_compiler
@settings(max_examples=40, deadline=None)
@given(data=st.data(), convs=st.integers(2, 9), scale=st.integers(1, 4), channels=st.sampled_from([1, 3]))
def test_what_is_renewed_in_two_steps_has_the_bits_of_the_whole(cache, data, convs, scale, channels):
    network = randomize_weights(SRVGGNetCompact(SRVGGConfig(channels, channels, 8, convs, scale)))
    native, owner = NativeNetwork(network, NativeLibrary(cache)), object()
    height, width = data.draw(st.integers(1, 120)), data.draw(st.integers(1, 120))
    whole = slice(0, height), slice(0, width)
    image = random_image(1, channels, height, width)
    made = native(image, clamp=True)
    for n in range(4):
        rows, cols = data.draw(parts(height, width))
        image = image.clone()
        image[..., rows, cols] = random_image(1, channels, height, width)[..., rows, cols]
        near, far = (
            around(rows, cols, reach, height, width)
            for reach in (srvgg_exact_halo(network, midpoint(network)), srvgg_exact_halo(network))
        )
        assert native.update_regions(image, [[near if n else whole], [far]], made, owner)
        assert torch.equal(made, native(image, clamp=True))


@needs_compiler
def test_the_two_steps_make_no_more_than_they_must_and_renew_what_is_near(library):
    """Of one that is told too little, something is old: the reaches are no larger than they have to be."""
    network = randomize_weights(SRVGGNetCompact(SRVGGConfig(3, 3, 8, 8, 2)))
    native, owner = NativeNetwork(network, library), object()
    image, whole = random_image(1, 3, 180, 200), (slice(0, 180), slice(0, 200))
    made, reaches = (
        native(image, clamp=True),
        (srvgg_exact_halo(network, midpoint(network)), srvgg_exact_halo(network)),
    )
    assert native.update_regions(image, [[whole], [(slice(0, 12), slice(0, 12))]], made, owner)
    image = image.clone()
    image[..., 84:96, 96:108] = 9.0
    right = [around(slice(84, 96), slice(96, 108), reach, 180, 200) for reach in reaches]
    truth, before = native(image, clamp=True), made.clone()
    for small in range(2):
        steps = [(slice(r.start + 12, r.stop - 12), c) if n == small else (r, c) for n, (r, c) in enumerate(right)]
        assert native.update_regions(image, [[part] for part in steps], made, owner)
        assert not torch.equal(made, truth)
        assert native.update_regions(image, [[part] for part in right], made, owner)
        assert torch.equal(made, truth)
        made.copy_(before)
    run, ops = NativeLibrary.run, []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            NativeLibrary, "run", lambda library, steps, *rest: ops.extend(steps) or run(library, steps, *rest)
        )
        assert native.update_regions(image, [[part] for part in right], made, owner)
    renewed = sum((op.last - op.first) * (op.right - op.left) for op in ops)
    assert renewed < 0.5 * 10 * 180 * 200
    assert len(ops) == 10


@needs_compiler
def test_a_middle_is_kept_for_one_owner_and_not_where_it_is_large(library, monkeypatch):
    network = randomize_weights(SRVGGNetCompact(SRVGGConfig(3, 3, 8, 3, 2)))
    native, first, second = NativeNetwork(network, library), object(), object()
    image, part = random_image(1, 3, 60, 70), (slice(12, 36), slice(12, 36))
    whole, made = (slice(0, 60), slice(0, 70)), native(image, clamp=True)
    assert not native.update_regions(image, [[part], [part]], made, first)
    assert native.update_regions(image, [[whole], [part]], made, first)
    assert native.update_regions(image, [[part], [part]], made, first)
    assert not native.update_regions(image, [[part], [part]], made, second)
    assert not native.update_regions(image[..., :59, :], [[part], [part]], made[..., :118, :], first)
    assert native.update_regions(image, [[whole], [part]], made, second)
    assert not native.update_regions(image, [[part], [part]], made, first)
    native.release_cache(first)
    assert native.update_regions(image, [[part], [part]], made, second)
    native.release_cache(second)
    assert not native.update_regions(image, [[part], [part]], made, second)
    assert not native.update_regions(image, [[whole], [part]], made[..., 1:, :], first)
    assert not native.update_regions(image.repeat(2, 1, 1, 1), [[whole], [part]], made, first)
    with pytest.raises(ValueError, match="no part of a picture of 60 rows"):
        native.update_regions(image, [[whole], [(slice(12, 61), slice(0, 70))]], made, first)
    monkeypatch.setattr("steadyscale.models.native.native_model.MAX_CACHE_BYTES", 60 * 70 * 8 * 4)
    assert not native.update_regions(image, [[whole], [part]], made, first)
    assert torch.equal(made, native(image, clamp=True))


@needs_compiler
def test_networks_of_another_kind_renew_nothing(library):
    for network in (
        RRDBNet(RRDBConfig(features=8, blocks=1, growth=4, scale=2)),
        SRVGGNetCompact(SRVGGConfig(convs=1)),
    ):
        native, image = NativeNetwork(randomize_weights(network), library), random_image(1, 3, 20, 20)
        whole = slice(0, 20), slice(0, 20)
        assert not native.update_regions(image, [[whole], [whole]], native(image, clamp=True), object())
        assert Upscaler(network, "other", "other").roi_stages == ()


@needs_compiler
def test_parts_use_the_memory_of_the_whole(library, monkeypatch):
    native = NativeNetwork(randomize_weights(SRVGGNetCompact(SRVGGConfig(features=16, convs=2))), library)
    allocate, taken = NativeLibrary.allocate, []
    monkeypatch.setattr(NativeLibrary, "allocate", lambda self, size: taken.append(size) or allocate(self, size))
    images = random_image(1, 3, 60, 80)
    whole = native(images)
    planes, scratch = taken
    for _ in range(2):
        native(images[..., :50, 10:70], roi=(slice(0, 20), slice(7, 30)))
        assert torch.equal(native(images), whole)
    assert taken == [planes, scratch]
    native(images[..., :30, :40])
    assert len(taken) == 3
    assert taken[2] < planes / 3


@needs_compiler
@pytest.mark.parametrize("rows", [slice(-1, 3), slice(0, 7), slice(4, 4), slice(5, 2)])
def test_what_is_no_part_of_the_picture_is_refused(library, rows):
    native = NativeNetwork(randomize_weights(SRVGGNetCompact(SRVGGConfig(features=8, convs=1))), library)
    for wanted in ((rows, slice(0, 6)), (slice(0, 6), rows)):
        with pytest.raises(ValueError, match="no part of a picture of 6 rows and 6 columns"):
            native(random_image(1, 3, 6, 6), roi=wanted)


@needs_compiler
@pytest.mark.parametrize("at", range(14))
def test_memory_that_runs_out_while_a_part_is_renewed_loses_nothing(cache, monkeypatch, at):
    network = randomize_weights(SRVGGNetCompact(SRVGGConfig(features=8, convs=4, scale=2)))
    frames = random_image(1, 3, 60, 80).repeat(8, 1, 1, 1)
    for n in range(1, 8):
        frames[n, :, 10:20, n : n + 9] = 0.1 * n
    model = Upscaler(network, "small", "compact")
    whole = torch.cat([model(frame) for frame in frames.split(1)])
    take, renew, renewing, takes, done = Arena.reserve, NativeNetwork.update_regions, [], itertools.count(), []

    def scarce(store, *args, **named):
        if renewing and next(takes) == at:
            raise MemoryError("not enough memory")
        return take(store, *args, **named)

    def renewed(native, *args):
        renewing.append(True)
        done.append(renew(native, *args))
        renewing.clear()
        return done[-1]

    monkeypatch.setattr(Arena, "allocate", scarce)
    monkeypatch.setattr(NativeNetwork, "update_regions", renewed)
    assert torch.equal(torch.cat(list(upscale(iter(frames.split(1)), model))), whole)
    assert done == [True] * (at // 6) + [False]
