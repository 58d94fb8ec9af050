"""The native CPU engine: torch's results, for every network, size and thread count, or none at all."""

import copy
import ctypes
import itertools
import logging
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from steadyscale.models import Activation, RRDBConfig, RRDBNet, SRVGGConfig, SRVGGNetCompact, Upscaler, load_upscaler
from steadyscale.models.native import Native, NativeNetwork, NoCompilerError, build, describe, engine, find
from steadyscale.models.native.build import FLAGS, SOURCE, TARGETS, cpu_name, find_compiler
from steadyscale.models.native.library import ABI, Library, Op
from steadyscale.models.native.networks import srvgg_reach
from steadyscale.models.separable import SeparableSRVGG, dense

needs_compiler = pytest.mark.skipif(find_compiler() is None, reason="there is no C++ compiler on this machine")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A cache folder of this module's own, with the engine built in it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STEADYSCALE_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.delenv(engine.SWITCH, raising=False)
        yield build()


@pytest.fixture(scope="module")
def library(cache):
    return Library(cache)


@pytest.fixture(autouse=True)
def no_grad():
    with torch.no_grad():
        yield


def randomised(network):
    """The same network with weights that keep results near [0, 1] and slopes that matter."""
    generator = torch.Generator().manual_seed(3)
    for name, parameter in network.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.ndim == 4:
            parameter.copy_(noise * (2 / (9 * parameter.shape[1])) ** 0.5)
        else:
            parameter.copy_(noise * 0.1 + (0.2 if name.endswith("weight") else 0.0))
    return network.eval().requires_grad_(False)


def noise(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(5))


def assert_same(native, network, images, limit=1e-4):
    truth = network(images)
    result = native(images)
    assert result.shape == truth.shape
    assert images.numel() < 100 or truth.std() > 1e-3, "the network must make something of the picture"
    assert (result - truth).abs().max() <= limit * max(1.0, float(truth.abs().max()))


SIZES = [(1, 1), (2, 7), (7, 2), (6, 6), (37, 53), (33, 8)]


@needs_compiler
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("activation", Activation)
def test_compact_equals_torch(library, size, activation):
    network = randomised(SRVGGNetCompact(SRVGGConfig(convs=4, activation=activation)))
    assert_same(NativeNetwork(network, library), network, noise(1, 3, *size))


@needs_compiler
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("scale", "unshuffle"), [(1, 1), (2, 1), (4, 1), (8, 1), (2, 2), (1, 4)])
def test_rrdb_equals_torch(library, size, scale, unshuffle):
    network = randomised(RRDBNet(RRDBConfig(features=16, growth=8, blocks=2, scale=scale, unshuffle=unshuffle)))
    assert_same(NativeNetwork(network, library), network, noise(1, 3, *size))


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
def test_any_compact_network(library, channels, features, convs, scale, activation, height, width, batch):
    network = randomised(SRVGGNetCompact(SRVGGConfig(*channels, features, convs, scale, activation)))
    assert_same(NativeNetwork(network, library), network, noise(batch, channels[0], height, width))


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
    network = randomised(RRDBNet(RRDBConfig(channels, channels, features, blocks, growth, scale, unshuffle)))
    assert_same(NativeNetwork(network, library), network, noise(batch, channels, height, width))


@needs_compiler
@pytest.mark.parametrize("tail_bytes", [1, 3 << 20])
def test_strips_of_the_tail_leave_no_seams(library, monkeypatch, tail_bytes):
    network = randomised(RRDBNet(RRDBConfig(features=20, growth=4, blocks=1)))
    images = noise(1, 3, 45, 31)
    monkeypatch.setattr("steadyscale.models.native.networks.TAIL_BYTES", tail_bytes)
    assert_same(NativeNetwork(network, library), network, images)


@needs_compiler
def test_results_are_bit_equal_for_any_number_of_threads_and_again(library):
    network = randomised(RRDBNet(RRDBConfig(features=24, growth=8, blocks=1)))
    native = NativeNetwork(network, library)
    images = noise(2, 3, 50, 61)
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
def test_a_window_has_the_same_bits_as_the_whole_beyond_its_reach(cache, convs, top, left, seed):
    """And what lies that far from a change keeps them, but for what lies a little nearer."""
    network = randomised(SRVGGNetCompact(SRVGGConfig(features=20, convs=convs, scale=2)))
    native, reach = NativeNetwork(network, Library(cache)), Native(network).reach
    assert reach == 7 + 3 * convs
    images = torch.rand(1, 3, 150, 150, generator=torch.Generator().manual_seed(seed))
    whole = native(images)
    top, left = top * 12, left * 12
    window = native(images[..., top : top + 71, left : left + 75])
    rows, cols = slice(reach if top else 0, 71 - reach), slice(reach if left else 0, 75 - reach)
    ours = window[..., rows.start * 2 : rows.stop * 2, cols.start * 2 : cols.stop * 2]
    same = whole[..., (top + rows.start) * 2 : (top + rows.stop) * 2, (left + cols.start) * 2 : (left + cols.stop) * 2]
    assert ours.numel() > 0
    assert torch.equal(ours, same)

    y, x = 60 + top // 12, 60 + left // 12
    images[..., y, x] += 0.5
    differs = (native(images) != whole).any(1)[0]
    rows, cols = (torch.nonzero(differs.any(axis))[:, 0] // 2 for axis in (1, 0))
    assert max(y - rows.min(), rows.max() - y, x - cols.min(), cols.max() - x) <= reach


@st.composite
def parts(draw, height, width):
    """Rows and columns of a picture; often they begin or end with it."""
    sides = []
    for length in (height, width):
        start = draw(st.sampled_from([0, draw(st.integers(0, length - 1))]))
        sides.append(slice(start, draw(st.sampled_from([length, draw(st.integers(start + 1, length))]))))
    return tuple(sides)


def enlarged(sides, scale):
    return (..., *(slice(side.start * scale, side.stop * scale) for side in sides))


@needs_compiler
@settings(max_examples=60, deadline=None)
@given(data=st.data(), convs=st.integers(0, 5), scale=st.integers(1, 4), threads=st.sampled_from([1, 2]))
def test_a_wanted_part_has_the_bits_of_the_whole(cache, data, convs, scale, threads):
    """Small pictures and large ones, even and odd layers, one after the other in the same memory."""
    channels = data.draw(st.sampled_from([(1, 1), (3, 3), (4, 4), (1, 3)]))
    features = data.draw(st.sampled_from([5, 16, 20, 40]))
    native = NativeNetwork(randomised(SRVGGNetCompact(SRVGGConfig(*channels, features, convs, scale))), Library(cache))
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        for _ in range(3):
            height, width = data.draw(st.integers(1, 90)), data.draw(st.integers(1, 90))
            images = noise(data.draw(st.integers(1, 2)), channels[0], height, width)
            wanted = data.draw(parts(height, width))
            made = native(images, wanted=wanted)
            assert torch.equal(made, native(images)[enlarged(wanted, scale)])
            assert torch.equal(made, native(images, wanted=wanted))
    finally:
        torch.set_num_threads(before)


@needs_compiler
@settings(max_examples=10, deadline=None)
@given(data=st.data(), unshuffle=st.sampled_from([1, 2]), channels=st.sampled_from([1, 3, 4]))
def test_every_network_gives_a_part_natively_or_with_torch(cache, data, unshuffle, channels):
    dense = RRDBConfig(channels, channels, features=8, blocks=1, growth=4, scale=2, unshuffle=unshuffle)
    wanted = data.draw(parts(21, 34))
    images = noise(2, data.draw(st.sampled_from([3, channels])), 21, 34)
    for network in (RRDBNet(dense), SRVGGNetCompact(SRVGGConfig(channels, channels, 8, 2, 3))):
        model = Upscaler(randomised(network), "small", "small")
        for kind, engine_used in ((torch.float32, "native"), (torch.float64, "torch")):
            model.to(dtype=kind)
            whole, part = model(images.to(kind)), model(images.to(kind), wanted=wanted)
            assert model.engine == engine_used
            assert torch.equal(part, whole[enlarged(wanted, model.scale)])
        assert model(images[:0], wanted=wanted).shape == part[:0].shape
    assert model.makes_parts


@needs_compiler
@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_a_result_is_put_into_a_place_that_can_hold_it(library, scale):
    native = NativeNetwork(randomised(SRVGGNetCompact(SRVGGConfig(features=8, convs=1, scale=scale))), library)
    images, wanted = noise(2, 3, 20, 31), (slice(3, 17), slice(5, 31))
    truth = native(images, wanted=wanted)
    around = torch.full((2, 3, 100, 130), 7.0)
    place = around[..., 4 : 4 + 14 * scale, 9 : 9 + 26 * scale]
    assert native(images, wanted=wanted, out=place) is place
    assert torch.equal(place, truth)
    place.fill_(7)
    assert bool((around == 7).all()), "nothing is written beside it"
    turned = torch.empty(2, 3, 26 * scale, 14 * scale).transpose(2, 3)
    for other in (turned, torch.empty_like(truth, dtype=torch.float64), torch.empty(1, 3, 14 * scale, 26 * scale)):
        made = native(images, wanted=wanted, out=other)
        assert made is not other
        assert torch.equal(made, truth)


def pixels_made(native, images, wanted=None):
    """How many pixels of planes each step was told to make."""
    steps = []
    with pytest.MonkeyPatch.context() as patch:
        run = Library.run
        patch.setattr(Library, "run", lambda self, ops, *args: steps.extend(ops) or run(self, ops, *args))
        native(images, wanted=wanted)
    return [(op.last - op.first) * (op.right - op.left) for op in steps]


@needs_compiler
def test_layers_make_no_more_of_a_part_than_the_next_one_reads(library):
    native = NativeNetwork(randomised(SRVGGNetCompact(SRVGGConfig(features=8, convs=2, scale=2))), library)
    images = noise(1, 3, 96, 120)
    made = pixels_made(native, images, (slice(42, 54), slice(60, 66)))
    # The last one's blocks of 6x6 read a pixel more on each side. Blocks half a block off begin 2 pixels before that,
    # and what lies behind what is read is not made of them. And so on, to all that the first block reads.
    assert made[::-1] == [12 * 6, (12 + 4) * (6 + 4), (12 + 10) * (6 + 10), (12 + 14) * (6 + 14)]
    assert sum(made[1:]) < sum(pixels_made(native, images[..., 28:68, 46:80])[1:]) / 2
    assert pixels_made(native, images)[0] == 96 * 120


@needs_compiler
def test_a_part_reads_no_further_than_the_reach(library):
    """As far as the network says, and no pixel of what is beyond it."""
    network = randomised(SRVGGNetCompact(SRVGGConfig(features=8, convs=3, scale=2)))
    native, reach = NativeNetwork(network, library), srvgg_reach(network)
    images = noise(1, 3, 96, 90)
    wanted = slice(48, 60), slice(36, 61)
    whole, truth = native(images), native(images, wanted=wanted)
    beyond = torch.full_like(images, torch.nan)
    seen = (..., slice(48 - reach, 60 + reach), slice(36 - reach, 61 + reach))
    beyond[seen] = images[seen]
    assert torch.equal(native(beyond, wanted=wanted), truth)
    native(torch.full_like(images, torch.nan))  # Nor what another picture has left in the memory.
    assert torch.equal(native(images, wanted=wanted), truth)
    native(torch.full_like(images, torch.nan))
    assert torch.equal(native(images), whole)


@needs_compiler
def test_parts_use_the_memory_of_the_whole(library, monkeypatch):
    native = NativeNetwork(randomised(SRVGGNetCompact(SRVGGConfig(features=16, convs=2))), library)
    allocate, taken = Library.allocate, []
    monkeypatch.setattr(Library, "allocate", lambda self, size: taken.append(size) or allocate(self, size))
    images = noise(1, 3, 60, 80)
    whole = native(images)
    planes, scratch = taken
    for _ in range(2):
        native(images[..., :50, 10:70], wanted=(slice(0, 20), slice(7, 30)))
        assert torch.equal(native(images), whole)
    assert taken == [planes, scratch]
    native(images[..., :30, :40])
    assert len(taken) == 3
    assert taken[2] < planes / 3


@needs_compiler
@pytest.mark.parametrize("rows", [slice(-1, 3), slice(0, 7), slice(4, 4), slice(5, 2)])
def test_what_is_no_part_of_the_picture_is_refused(library, rows):
    native = NativeNetwork(randomised(SRVGGNetCompact(SRVGGConfig(features=8, convs=1))), library)
    for wanted in ((rows, slice(0, 6)), (slice(0, 6), rows)):
        with pytest.raises(ValueError, match="no part of a picture of 6 rows and 6 columns"):
            native(noise(1, 3, 6, 6), wanted=wanted)


@needs_compiler
def test_clamping_is_torchs_own(library):
    network = randomised(SRVGGNetCompact(SRVGGConfig(features=16, convs=1)))
    native, images = NativeNetwork(network, library), noise(1, 3, 20, 33) * 6 - 3
    images[0, 1, 3, 4] = float("nan")
    plain = native(images)
    assert plain.nan_to_num().max() > 1
    assert plain.nan_to_num().min() < 0
    assert torch.equal(native(images, clamped=True).nan_to_num(nan=7), plain.clamp(0, 1).nan_to_num(nan=7))


@needs_compiler
def test_sizes_may_change_between_calls_and_pictures_stay_apart(library):
    network = randomised(SRVGGNetCompact(SRVGGConfig(features=16, convs=2)))
    native = NativeNetwork(network, library)
    large, small = noise(3, 3, 30, 20), noise(1, 3, 9, 11)
    first = native(large)
    assert_same(native, network, small)
    assert torch.equal(native(large), first)
    assert torch.equal(native(large[1:2]), first[1:2])


@needs_compiler
def test_pictures_that_are_not_contiguous(library):
    network = randomised(SRVGGNetCompact(SRVGGConfig(features=16, convs=1)))
    assert_same(NativeNetwork(network, library), network, noise(2, 14, 13, 3).permute(0, 3, 1, 2))


@needs_compiler
@pytest.mark.parametrize("name", ["realesr-animevideov3", "realesrgan-x4plus-anime"])
def test_official_networks_on_a_picture(cache, official_ncnn, picture, name):
    stem = "realesr-animevideov3-x4" if name == "realesr-animevideov3" else name
    network = load_upscaler(official_ncnn(stem)).model
    native = engine.native_network(network)
    assert native is not None
    images = torch.nn.functional.interpolate(picture, size=(44, 51), mode="bicubic").clamp(0, 1)
    assert (native(images).clamp(0, 1) - network(images).clamp(0, 1)).abs().max() <= 5e-5


# ---- when it is used ----


@needs_compiler
def test_the_switch_and_other_formats_lead_to_torch(cache, monkeypatch):
    network = randomised(SRVGGNetCompact(SRVGGConfig(features=8, convs=1)))
    images = noise(1, 3, 8, 9)
    run = Native(network)
    assert run.engine == "torch"
    run(images)
    assert run.engine == "native"
    double = Native(network.double())
    assert double(images.double()).dtype is torch.float64
    assert double.engine == "torch"
    network.float()
    monkeypatch.setenv(engine.SWITCH, "0")
    off = Native(network)
    assert not off.ready
    assert torch.equal(off(images), network(images).clamp(0, 1))
    assert off.engine == "torch"


@needs_compiler
def test_an_upscaler_says_what_it_runs_on_and_can_be_copied(cache):
    model = Upscaler(randomised(SRVGGNetCompact(SRVGGConfig(features=8, convs=1))), "small", "SRVGGNetCompact")
    images = noise(2, 3, 8, 9)
    assert model.whole_frames
    result = model(images)
    assert model.engine == "native"
    twin = copy.deepcopy(model)
    assert torch.equal(twin(images), result)
    assert twin.engine == "native"
    model.to(dtype=torch.float64)(images.double())
    assert model.engine == "torch"


@needs_compiler
def test_gradients_are_torchs_business(cache):
    run = Native(randomised(SRVGGNetCompact(SRVGGConfig(features=8, convs=1))))
    with torch.enable_grad():
        run(noise(1, 3, 4, 4).requires_grad_()).sum().backward()
    assert run.engine == "torch"


@needs_compiler
@pytest.mark.parametrize("change", ["in place", "replaced", "there and back"])
def test_changed_weights_are_noticed(cache, change):
    network = randomised(SRVGGNetCompact(SRVGGConfig(features=8, convs=1)))
    run = Native(network)
    images = noise(1, 3, 8, 9)
    before = run(images)
    if change == "in place":
        network.body[0].weight.mul_(-1)
    elif change == "replaced":
        network.body[0].weight.data = network.body[0].weight.data * -1
    else:
        network.half().float()
        network.body[0].weight.data.mul_(-1)
    after = run(images)
    assert run.engine == "native"
    assert (after - before).abs().max() > 1e-2
    assert (after - network(images).clamp(0, 1)).abs().max() < 1e-4


@needs_compiler
def test_weights_are_transformed_once(cache, monkeypatch):
    made = []
    original = engine.NativeNetwork
    monkeypatch.setattr(engine, "NativeNetwork", lambda *args: made.append(1) or original(*args))
    network = randomised(SRVGGNetCompact(SRVGGConfig(features=8, convs=1)))
    run = Native(network)
    own = [(tensor, tensor.data) for tensor in network.parameters()]
    for _ in range(3):
        for tensor, data in own:  # As a loan to the CPU does.
            tensor.data = data.to("cpu", torch.float32)
        run(noise(1, 3, 8, 9))
    assert made == [1]


@needs_compiler
def test_wrong_results_are_not_used(cache, monkeypatch, caplog):
    class Wrong(NativeNetwork):
        def __call__(self, images):
            return super().__call__(images) + 1e-3

    monkeypatch.setattr(engine, "NativeNetwork", Wrong)
    network = randomised(SRVGGNetCompact(SRVGGConfig(features=8, convs=1)))
    run, images = Native(network), noise(1, 3, 8, 9)
    with caplog.at_level(logging.WARNING):
        assert torch.equal(run(images), network(images).clamp(0, 1))
    assert run.engine == "torch"
    assert "differs from torch by" in caplog.text


def test_other_networks_have_no_twin():
    assert engine.native_network(torch.nn.Conv2d(3, 3, 3)) is None


# ---- building ----


@needs_compiler
def test_building_again_finds_what_is_there(cache):
    changed = cache.stat().st_mtime_ns
    assert build() == cache == find()
    assert cache.stat().st_mtime_ns == changed
    assert describe()["library"] == str(cache)
    assert [path.name for path in cache.parent.iterdir()] == [cache.name]


@needs_compiler
def test_python_and_c_agree_on_the_structure(cache):
    loaded = ctypes.CDLL(str(cache))
    assert loaded.steadyscale_op_bytes() == ctypes.sizeof(Op)
    assert loaded.steadyscale_abi() == ABI


# The least, as on a CPU that the source does not know; and the vectors of most PCs, where this one has them.
VECTORS = [(), *(target for target in TARGETS if target == ("-mavx2", "-mfma") and "avx2" in cpu_name())]


@needs_compiler
@pytest.mark.parametrize("target", VECTORS)
def test_other_vectors_give_the_same_results(tmp_path, target):
    made = tmp_path / "other.so"
    subprocess.run([*find_compiler(), *FLAGS, *target, "-o", str(made), str(SOURCE)], check=True)
    network = randomised(RRDBNet(RRDBConfig(features=12, growth=6, blocks=1)))
    assert_same(NativeNetwork(network, Library(made)), network, noise(1, 3, 13, 20))

    compact, images = randomised(SRVGGNetCompact(SRVGGConfig(features=24, convs=4, scale=3))), noise(1, 3, 70, 61)
    native = NativeNetwork(compact, Library(made))
    assert_same(native, compact, images)
    whole = native(images)
    for rows, cols in itertools.product((slice(0, 1), slice(31, 50), slice(69, 70)), (slice(0, 61), slice(17, 18))):
        assert torch.equal(native(images, wanted=(rows, cols)), whole[enlarged((rows, cols), 3)])


def test_without_a_compiler_there_is_an_error_and_torch(tmp_path, monkeypatch):
    monkeypatch.setenv("STEADYSCALE_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(NoCompilerError, match=r"no C\+\+ compiler was found"):
        build()
    assert find() is None
    network = randomised(SRVGGNetCompact(SRVGGConfig(features=8, convs=1)))
    run, images = Native(network), noise(1, 3, 8, 9)
    assert torch.equal(run(images), network(images).clamp(0, 1))
    assert run.engine == "torch"


def test_a_compiler_that_fails_is_quoted(tmp_path, monkeypatch):
    monkeypatch.setenv("STEADYSCALE_CACHE", str(tmp_path))
    monkeypatch.setenv("CXX", f"{sys.executable} -c \"import sys; sys.exit('no such option')\"")
    with pytest.raises(RuntimeError, match="no such option"):
        build()
    assert find() is None
    assert not list(tmp_path.rglob("*.so"))


def test_a_damaged_library_is_reported_and_left_alone(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("STEADYSCALE_CACHE", str(tmp_path))
    monkeypatch.delenv(engine.SWITCH, raising=False)
    from steadyscale.models.native.build import cache_folder

    cache_folder().mkdir(parents=True)
    (cache_folder() / "winograd-00000000.so").write_bytes(b"not a library")
    with caplog.at_level(logging.WARNING):
        assert engine.native_network(randomised(SRVGGNetCompact(SRVGGConfig(features=8, convs=1)))) is None
    assert "cannot be loaded" in caplog.text


def test_importing_the_package_builds_and_loads_nothing(tmp_path):
    code = (
        "import os, subprocess\n"
        "def never(*args, **more): raise AssertionError('a program was started')\n"
        "subprocess.run = subprocess.Popen = never\n"
        "import steadyscale.models.native as native\n"
        "assert native.engine._loaded.cache_info().currsize == 0\n"
    )
    environment = {"STEADYSCALE_CACHE": str(tmp_path), "PATH": "", "HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    assert not list(tmp_path.iterdir())


def test_separable_networks_run_as_the_dense_ones_that_they_equal(library):
    network = randomised(SeparableSRVGG(SRVGGConfig(features=12, convs=3, scale=2)))
    assert_same(NativeNetwork(dense(network), library), network, noise(2, 3, 17, 21))
    runner = Native(network)
    assert torch.allclose(runner(noise(1, 3, 9, 30)), network(noise(1, 3, 9, 30)).clamp(0, 1), atol=1e-4)
    assert runner.engine == "native"
