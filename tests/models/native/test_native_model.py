"""The native CPU engine equals torch for every network, size and thread count."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from native_checks import assert_close, needs_compiler, random_image, randomize_weights
from steadyscale.models import Activation, RRDBConfig, RRDBNet, SRVGGConfig, SRVGGNetCompact, load_upscaler
from steadyscale.models.arch.separable import SeparableSRVGG, to_dense
from steadyscale.models.native import NativeDispatcher, NativeNetwork, engine
from steadyscale.models.native.bindings import Arena, NativeLibrary
from steadyscale.models.native.compile_srvgg import SRVGGCompiler

SIZES = [(1, 1), (2, 7), (7, 2), (6, 6), (37, 53), (33, 8)]


@needs_compiler
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("activation", Activation)
def test_srvgg_equals_torch(library, size, activation):
    network = randomize_weights(SRVGGNetCompact(SRVGGConfig(convs=4, activation=activation)))
    assert_close(NativeNetwork(network, library), network, random_image(1, 3, *size))


@needs_compiler
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("scale", "unshuffle"), [(1, 1), (2, 1), (4, 1), (8, 1), (2, 2), (1, 4)])
def test_rrdb_equals_torch(library, size, scale, unshuffle):
    network = randomize_weights(RRDBNet(RRDBConfig(features=16, growth=8, blocks=2, scale=scale, unshuffle=unshuffle)))
    assert_close(NativeNetwork(network, library), network, random_image(1, 3, *size))


@needs_compiler
@settings(max_examples=25, deadline=None)
@given(
    channels=st.sampled_from([(1, 1), (3, 3), (4, 4), (1, 3)]),
    features=st.integers(1, 70),
    convs=st.integers(0, 4),
    scale=st.integers(1, 5),
    activation=st.sampled_from(Activation),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    batch=st.integers(1, 3),
)
def test_any_srvgg_network(library, channels, features, convs, scale, activation, height, width, batch):
    network = randomize_weights(SRVGGNetCompact(SRVGGConfig(*channels, features, convs, scale, activation)))
    assert_close(NativeNetwork(network, library), network, random_image(batch, channels[0], height, width))


@needs_compiler
@settings(max_examples=25, deadline=None)
@given(
    channels=st.sampled_from([1, 3, 4]),
    features=st.integers(1, 40),
    growth=st.integers(1, 40),
    blocks=st.integers(1, 2),
    scale=st.sampled_from([1, 2, 4]),
    unshuffle=st.sampled_from([1, 2, 4]),
    height=st.integers(1, 30),
    width=st.integers(1, 30),
    batch=st.integers(1, 2),
)
def test_any_rrdb_network(library, channels, features, growth, blocks, scale, unshuffle, height, width, batch):
    network = randomize_weights(RRDBNet(RRDBConfig(channels, channels, features, blocks, growth, scale, unshuffle)))
    assert_close(NativeNetwork(network, library), network, random_image(batch, channels, height, width))


@needs_compiler
@pytest.mark.parametrize("tail_bytes", [1, 3 << 20])
def test_tail_strips_have_no_seams(library, monkeypatch, tail_bytes):
    network = randomize_weights(RRDBNet(RRDBConfig(features=20, growth=4, blocks=1)))
    images = random_image(1, 3, 45, 31)
    monkeypatch.setattr("steadyscale.models.native.compile_rrdb.TAIL_BUDGET_BYTES", tail_bytes)
    assert_close(NativeNetwork(network, library), network, images)


@needs_compiler
def test_results_are_bit_identical_for_any_number_of_threads(library):
    network = randomize_weights(RRDBNet(RRDBConfig(features=24, growth=8, blocks=1)))
    native = NativeNetwork(network, library)
    images = random_image(2, 3, 50, 61)
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 3, 7, 1):
            torch.set_num_threads(threads)
            results.append(native(images))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(result, results[0]) for result in results)


@needs_compiler
@settings(max_examples=12, deadline=None)
@given(convs=st.integers(0, 3), top=st.integers(0, 6), left=st.integers(0, 6), seed=st.integers(0, 99))
def test_window_is_bit_identical_to_the_full_frame_beyond_the_halo(engine_path, convs, top, left, seed):
    """A changed pixel changes results up to the exact halo and no further."""
    network = randomize_weights(SRVGGNetCompact(SRVGGConfig(features=20, convs=convs, scale=2)))
    native, halo = NativeNetwork(network, NativeLibrary(engine_path)), NativeDispatcher(network).exact_halo
    assert halo == 7 + 3 * convs
    images = torch.rand(1, 3, 150, 150, generator=torch.Generator().manual_seed(seed))
    full = native(images)
    top, left = top * 12, left * 12
    window = native(images[..., top : top + 71, left : left + 75])
    rows, cols = slice(halo if top else 0, 71 - halo), slice(halo if left else 0, 75 - halo)
    result = window[..., rows.start * 2 : rows.stop * 2, cols.start * 2 : cols.stop * 2]
    expected = full[
        ..., (top + rows.start) * 2 : (top + rows.stop) * 2, (left + cols.start) * 2 : (left + cols.stop) * 2
    ]
    assert result.numel() > 0
    assert torch.equal(result, expected)

    y, x = 60 + top // 12, 60 + left // 12
    images[..., y, x] += 0.5
    differs = (native(images) != full).any(1)[0]
    rows, cols = (torch.nonzero(differs.any(axis))[:, 0] // 2 for axis in (1, 0))
    assert max(y - rows.min(), rows.max() - y, x - cols.min(), cols.max() - x) <= halo


@needs_compiler
def test_clamping_equals_torch_clamp(library):
    network = randomize_weights(SRVGGNetCompact(SRVGGConfig(features=16, convs=1)))
    native, images = NativeNetwork(network, library), random_image(1, 3, 20, 33) * 6 - 3
    images[0, 1, 3, 4] = float("nan")
    unclamped = native(images)
    assert unclamped.nan_to_num().max() > 1
    assert unclamped.nan_to_num().min() < 0
    assert torch.equal(native(images, clamp=True).nan_to_num(nan=7), unclamped.clamp(0, 1).nan_to_num(nan=7))


@needs_compiler
def test_size_may_change_between_calls(library):
    network = randomize_weights(SRVGGNetCompact(SRVGGConfig(features=16, convs=2)))
    native = NativeNetwork(network, library)
    large, small = random_image(3, 3, 30, 20), random_image(1, 3, 9, 11)
    first = native(large)
    assert_close(native, network, small)
    assert torch.equal(native(large), first)
    assert torch.equal(native(large[1:2]), first[1:2])


@needs_compiler
def test_non_contiguous_images(library):
    network = randomize_weights(SRVGGNetCompact(SRVGGConfig(features=16, convs=1)))
    assert_close(NativeNetwork(network, library), network, random_image(2, 14, 13, 3).permute(0, 3, 1, 2))


@needs_compiler
@pytest.mark.parametrize("name", ["realesr-animevideov3", "realesrgan-x4plus-anime"])
def test_official_networks_equal_torch(engine_path, official_ncnn, sample_image, name):
    stem = "realesr-animevideov3-x4" if name == "realesr-animevideov3" else name
    network = load_upscaler(official_ncnn(stem)).model
    native = engine.make_native_network(network)
    assert native is not None
    images = torch.nn.functional.interpolate(sample_image, size=(44, 51), mode="bicubic").clamp(0, 1)
    assert (native(images).clamp(0, 1) - network(images).clamp(0, 1)).abs().max() <= 5e-5


@needs_compiler
def test_separable_networks_run_as_dense_networks(library):
    network = randomize_weights(SeparableSRVGG(SRVGGConfig(features=12, convs=3, scale=2)))
    assert_close(NativeNetwork(to_dense(network), library), network, random_image(2, 3, 17, 21))
    dispatcher = NativeDispatcher(network)
    assert torch.allclose(
        dispatcher(random_image(1, 3, 9, 30)), network(random_image(1, 3, 9, 30)).clamp(0, 1), atol=1e-4
    )
    assert dispatcher.engine == "native"


@needs_compiler
@pytest.mark.timeout(60)
def test_release_cache_during_a_call_is_safe(library, monkeypatch):
    network = randomize_weights(SRVGGNetCompact(SRVGGConfig(features=8, convs=3, scale=2)))
    native, owner, full_frame = NativeNetwork(network, library), object(), (slice(0, 20), slice(0, 30))
    large = random_image(1, 3, 20, 30)
    small = large[..., :18, :]
    expected = [native(image, clamp=True) for image in (small, large)]
    compile_plan, reserve = SRVGGCompiler.__call__, Arena.reserve

    # The garbage collector may close a stream, which releases the cache, at any allocation.
    def compile_and_release(compiler, *args):
        plan = compile_plan(compiler, *args)
        native.release_cache(owner)
        return plan

    def release_and_reserve(arena, *args, **options):
        native.release_cache(owner)
        return reserve(arena, *args, **options)

    monkeypatch.setattr(SRVGGCompiler, "__call__", compile_and_release)
    monkeypatch.setattr(Arena, "reserve", release_and_reserve)
    for _ in range(2):
        result = torch.zeros_like(expected[1])
        assert native.update_regions(large, [[full_frame], [full_frame]], result, owner)
        assert torch.equal(result, expected[1])
        assert torch.equal(native(small, clamp=True), expected[0])


@needs_compiler
@pytest.mark.parametrize("change", ["float64", "bfloat16", "meta"])
def test_torch_default_dtype_and_device_do_not_matter(engine_path, change):
    networks = [SRVGGNetCompact(SRVGGConfig(features=8, convs=2, activation=a)) for a in Activation]
    networks.append(RRDBNet(RRDBConfig(features=8, growth=4, blocks=1, scale=2)))
    image = random_image(1, 3, 14, 17)
    for network in networks:
        randomize_weights(network)
        expected = NativeDispatcher(network)(image)
        try:
            if change == "meta":
                torch.set_default_device(change)
            else:
                torch.set_default_dtype(getattr(torch, change))
            dispatcher = NativeDispatcher(network)
            results = [dispatcher(image), dispatcher(image)]
        finally:
            torch.set_default_device(None)
            torch.set_default_dtype(torch.float32)
        assert dispatcher.engine == "native"
        assert all(torch.equal(result, expected) for result in results)
