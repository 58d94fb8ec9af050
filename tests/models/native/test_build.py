"""The native engine compiled here, elsewhere, wrongly or not at all."""

import ctypes
import itertools
import logging
import subprocess
import sys

import pytest
import torch
from native_checks import assert_close, needs_compiler, random_image, randomize_weights, scale_slices
from steadyscale.models import RRDBConfig, RRDBNet, SRVGGConfig, SRVGGNetCompact
from steadyscale.models.native import (
    NativeDispatcher,
    NativeNetwork,
    NoCompilerError,
    build_library,
    describe_engine,
    engine,
    find_library,
)
from steadyscale.models.native.bindings import ABI_VERSION, NativeLibrary, Op
from steadyscale.models.native.build import (
    COMPILER_FLAGS,
    SOURCE,
    TARGET_FLAGS,
    BuildError,
    cpu_signature,
    find_compiler,
)


@needs_compiler
def test_building_again_finds_what_is_there(cache):
    changed = cache.stat().st_mtime_ns
    assert build_library() == cache == find_library()
    assert cache.stat().st_mtime_ns == changed
    assert describe_engine()["library"] == str(cache)
    assert [path.name for path in cache.parent.iterdir()] == [cache.name]


@needs_compiler
def test_python_and_c_agree_on_the_structure(cache):
    loaded = ctypes.CDLL(str(cache))
    assert loaded.steadyscale_op_bytes() == ctypes.sizeof(Op)
    assert loaded.steadyscale_abi() == ABI_VERSION


# The least, as on a CPU that the source does not know; and the vectors of most PCs, where this one has them.
VECTORS = [(), *(target for target in TARGET_FLAGS if target == ("-mavx2", "-mfma") and "avx2" in cpu_signature())]


@needs_compiler
@pytest.mark.parametrize("target", VECTORS)
def test_other_vectors_give_the_same_results(tmp_path, target):
    made = tmp_path / "other.so"
    subprocess.run([*find_compiler(), *COMPILER_FLAGS, *target, "-o", str(made), str(SOURCE)], check=True)
    network = randomize_weights(RRDBNet(RRDBConfig(features=12, growth=6, blocks=1)))
    assert_close(NativeNetwork(network, NativeLibrary(made)), network, random_image(1, 3, 13, 20))

    compact, images = (
        randomize_weights(SRVGGNetCompact(SRVGGConfig(features=24, convs=4, scale=3))),
        random_image(1, 3, 70, 61),
    )
    native = NativeNetwork(compact, NativeLibrary(made))
    assert_close(native, compact, images)
    whole = native(images)
    for rows, cols in itertools.product((slice(0, 1), slice(31, 50), slice(69, 70)), (slice(0, 61), slice(17, 18))):
        assert torch.equal(native(images, wanted=(rows, cols)), whole[scale_slices((rows, cols), 3)])


def test_without_a_compiler_there_is_an_error_and_torch(tmp_path, monkeypatch):
    monkeypatch.setenv("STEADYSCALE_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(NoCompilerError, match=r"no C\+\+ compiler was found"):
        build_library()
    assert find_library() is None
    network = randomize_weights(SRVGGNetCompact(SRVGGConfig(features=8, convs=1)))
    run, images = NativeDispatcher(network), random_image(1, 3, 8, 9)
    assert torch.equal(run(images), network(images).clamp(0, 1))
    assert run.engine == "torch"


def test_a_compiler_that_fails_is_quoted(tmp_path, monkeypatch):
    monkeypatch.setenv("STEADYSCALE_CACHE", str(tmp_path))
    monkeypatch.setenv("CXX", f"{sys.executable} -c \"import sys; sys.exit('no such option')\"")
    with pytest.raises(RuntimeError, match="no such option"):
        build_library()
    assert find_library() is None
    assert not list(tmp_path.rglob("*.so"))


def test_a_compiler_that_makes_nothing_and_one_of_no_sense_are_told(tmp_path, monkeypatch):
    monkeypatch.setenv("STEADYSCALE_CACHE", str(tmp_path))
    monkeypatch.setenv("CXX", f"{sys.executable} -c pass")
    with pytest.raises(BuildError, match="made nothing"):
        build_library()
    assert find_library() is None
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CXX", '"c++')
    with pytest.raises(NoCompilerError):
        build_library()


@needs_compiler
def test_a_cache_that_cannot_be_written_to_is_told(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("STEADYSCALE_CACHE", str(tmp_path / "file"))
    with pytest.raises(BuildError, match=r"file.* cannot be written to .*set STEADYSCALE_CACHE"):
        build_library()


def test_a_damaged_library_is_reported_and_left_alone(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("STEADYSCALE_CACHE", str(tmp_path))
    monkeypatch.delenv(engine.ENGINE_ENV_VAR, raising=False)
    from steadyscale.models.native.build import library_folder

    library_folder().mkdir(parents=True)
    (library_folder() / "winograd-00000000.so").write_bytes(b"not a library")
    with caplog.at_level(logging.WARNING):
        assert engine.make_native_network(randomize_weights(SRVGGNetCompact(SRVGGConfig(features=8, convs=1)))) is None
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
