"""Building the native engine: rebuilds, other vector widths, compilers that fail, and no compiler."""

import ctypes
import itertools
import logging
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from native_checks import (
    assert_close,
    needs_compiler,
    random_image,
    randomize_span,
    randomize_weights,
    scale_slices,
)
from steadyscale.models import (
    SPAN,
    RealPLKSR,
    RealPLKSRConfig,
    RRDBConfig,
    RRDBNet,
    SPANConfig,
    SRVGGConfig,
    SRVGGNetCompact,
)
from steadyscale.models.native import (
    NativeDispatcher,
    NativeNetwork,
    NoCompilerError,
    build,
    build_library,
    describe_engine,
    engine,
    find_library,
)
from steadyscale.models.native.bindings import ABI_VERSION, NativeLibrary, Op
from steadyscale.models.native.build import TARGET_FLAGS, cpu_signature
from steadyscale.models.native.compiler import COMPILER_FLAGS, LIBRARY_SUFFIX, SOURCE, BuildError, find_compiler


@needs_compiler
def test_second_build_returns_the_existing_library(engine_path):
    modified = engine_path.stat().st_mtime_ns
    assert build_library() == engine_path == find_library()
    assert engine_path.stat().st_mtime_ns == modified
    assert describe_engine()["library"] == str(engine_path)
    assert [path.name for path in engine_path.parent.iterdir()] == [engine_path.name]


@needs_compiler
def test_python_and_c_declare_the_same_op_structure(engine_path):
    loaded = ctypes.CDLL(str(engine_path))
    assert loaded.steadyscale_op_bytes() == ctypes.sizeof(Op)
    assert loaded.steadyscale_abi() == ABI_VERSION


# The baseline, as on a CPU that the source has no intrinsics for; and AVX2, where -march=native means AVX-512.
TARGETS = [(), *(target for target in TARGET_FLAGS if target == ("-mavx2", "-mfma") and "avx512f" in cpu_signature())]


@needs_compiler
@pytest.mark.parametrize("target", TARGETS)
def test_other_vector_widths_give_the_same_results(tmp_path, target):
    output = tmp_path / "other.so"
    # The code for other widths is under test, not the optimizer, and -O3 compiles twice as long.
    subprocess.run([*find_compiler(), *COMPILER_FLAGS, "-O1", *target, "-o", str(output), str(SOURCE)], check=True)
    network = randomize_weights(RRDBNet(RRDBConfig(features=12, growth=6, blocks=1)))
    assert_close(NativeNetwork(network, NativeLibrary(output)), network, random_image(1, 3, 13, 20))

    plksr = randomize_weights(RealPLKSR(RealPLKSRConfig(features=20, blocks=1, scale=2, kernel=7, kernel_channels=5)))
    assert_close(NativeNetwork(plksr, NativeLibrary(output)), plksr, random_image(1, 3, 13, 40))
    span = randomize_span(SPAN(SPANConfig(features=10, scale=2)))
    assert_close(NativeNetwork(span, NativeLibrary(output)), span, random_image(1, 3, 13, 20))

    srvgg = randomize_weights(SRVGGNetCompact(SRVGGConfig(features=24, convs=4, scale=3)))
    images = random_image(1, 3, 70, 61)
    native = NativeNetwork(srvgg, NativeLibrary(output))
    assert_close(native, srvgg, images)
    full = native(images)
    for rows, cols in itertools.product((slice(0, 1), slice(31, 50), slice(69, 70)), (slice(0, 61), slice(17, 18))):
        assert torch.equal(native(images, roi=(rows, cols)), full[scale_slices((rows, cols), 3)])


def hide_compilers(monkeypatch, folder):
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setitem(sys.modules, "ziglang", None)


def test_without_a_system_compiler_ziglang_is_used(tmp_path, monkeypatch):
    hide_compilers(monkeypatch, tmp_path)
    monkeypatch.delitem(sys.modules, "ziglang")
    (tmp_path / "ziglang").mkdir()
    (tmp_path / "ziglang" / "__init__.py").touch()
    # In place of zig: writes its arguments to the library.
    (tmp_path / "ziglang" / "__main__.py").write_text(
        "import os, sys\n"
        "if '-o' in sys.argv:\n"
        "    output = sys.argv[sys.argv.index('-o') + 1]\n"
        "    open(output, 'w').write(' '.join([*sys.argv[1:], os.environ['ZIG_GLOBAL_CACHE_DIR']]))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("STEADYSCALE_CACHE", str(tmp_path / "cache"))
    library = build_library()
    words = library.read_text().split()
    assert words[:2] == ["c++", "-nostdlib++"]
    assert {*COMPILER_FLAGS, "-march=native", str(SOURCE)} <= {*words}
    assert Path(words[-1]).is_relative_to(tmp_path / "cache")
    assert [*library.parent.iterdir()] == [library], "what zig cached is gone"


@pytest.mark.parametrize(
    ("machine", "capability", "libraries", "chosen"),
    [
        ("x86_64", "AVX512", ("avx2", "avx512"), "avx512"),
        ("x86_64", "AVX2", ("avx2", "avx512"), "avx2"),
        ("AMD64", "AVX512", ("avx2",), "avx2"),
        ("x86_64", "DEFAULT", ("avx2", "avx512"), None),
        ("arm64", "DEFAULT", ("neon",), "neon"),
        ("aarch64", "SVE256", ("neon",), "neon"),
        ("x86_64", "AVX2", (), None),
    ],
)
def test_library_of_a_wheel_is_chosen_by_the_instruction_set(
    tmp_path, monkeypatch, machine, capability, libraries, chosen
):
    monkeypatch.setenv("STEADYSCALE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(build, "WHEEL_FOLDER", tmp_path)
    monkeypatch.setattr(build.platform, "machine", lambda: machine)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    for name in libraries:
        (tmp_path / f"winograd-{name}{LIBRARY_SUFFIX}").touch()
    expected = None if chosen is None else tmp_path / f"winograd-{chosen}{LIBRARY_SUFFIX}"
    assert find_library() == expected
    if expected is None:
        return
    expected.write_bytes(b"as the wheel brings it")
    monkeypatch.setattr(build, "find_compiler", lambda: pytest.fail("nothing is compiled"))
    copied = build_library()
    assert copied == find_library() == build.library_folder() / expected.name, "clones of the same source find it"
    assert copied.read_bytes() == expected.read_bytes()
    assert [*copied.parent.iterdir()] == [copied]


def test_without_a_compiler_build_fails_and_torch_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("STEADYSCALE_CACHE", str(tmp_path))
    hide_compilers(monkeypatch, tmp_path)
    with pytest.raises(NoCompilerError, match=r"no C\+\+ compiler was found"):
        build_library()
    assert find_library() is None
    network = randomize_weights(SRVGGNetCompact(SRVGGConfig(features=8, convs=1)))
    run, images = NativeDispatcher(network), random_image(1, 3, 8, 9)
    assert torch.equal(run(images), network(images).clamp(0, 1))
    assert run.engine == "torch"


def test_build_error_quotes_the_compiler(tmp_path, monkeypatch):
    monkeypatch.setenv("STEADYSCALE_CACHE", str(tmp_path))
    monkeypatch.setenv("CXX", f"{sys.executable} -c \"import sys; sys.exit('no such option')\"")
    with pytest.raises(RuntimeError, match="no such option"):
        build_library()
    assert find_library() is None
    assert not list(tmp_path.rglob("*.so"))


def test_compiler_without_output_and_invalid_cxx_are_reported(tmp_path, monkeypatch):
    monkeypatch.setenv("STEADYSCALE_CACHE", str(tmp_path))
    monkeypatch.setenv("CXX", f"{sys.executable} -c pass")
    with pytest.raises(BuildError, match="wrote no library"):
        build_library()
    assert find_library() is None
    hide_compilers(monkeypatch, tmp_path)
    monkeypatch.setenv("CXX", '"c++')
    with pytest.raises(NoCompilerError):
        build_library()


@needs_compiler
def test_unwritable_cache_folder_is_reported(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("STEADYSCALE_CACHE", str(tmp_path / "file"))
    with pytest.raises(BuildError, match=r"file.* cannot be written to .*set STEADYSCALE_CACHE"):
        build_library()


def test_corrupt_library_is_logged_and_not_used(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("STEADYSCALE_CACHE", str(tmp_path))
    monkeypatch.delenv(engine.ENGINE_ENV_VAR, raising=False)
    from steadyscale.models.native.build import library_folder

    library_folder().mkdir(parents=True)
    (library_folder() / "winograd-00000000.so").write_bytes(b"not a library")
    with caplog.at_level(logging.WARNING):
        assert engine.make_native_network(randomize_weights(SRVGGNetCompact(SRVGGConfig(features=8, convs=1)))) is None
    assert "cannot be loaded" in caplog.text
