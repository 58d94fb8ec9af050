"""Add the compiled CPU engine to a wheel when STEADYSCALE_WHEEL_ENGINE is 1.

Without it the wheel is pure Python, and the engine is compiled on request (`steadyscale native build`). With it zig,
from PyPI, compiles one library per instruction set for the wheel's platform; models/native/build.py chooses one.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

ENABLED = os.environ.get("STEADYSCALE_WHEEL_ENGINE") == "1"
AVX2 = ("-mavx2", "-mfma")
X86_64 = {"avx2": AVX2, "avx512": (*AVX2, "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl")}
NEON = {"neon": ()}
# Start and end of the wheel's platform tag -> zig's target, suffix of a library, instruction sets. glibc 2.17 is that
# of manylinux2014; macOS 11 is the first on ARM.
TARGETS = {
    ("linux", "x86_64"): ("x86_64-linux-gnu.2.17", ".so", X86_64),
    ("linux", "aarch64"): ("aarch64-linux-gnu.2.17", ".so", NEON),
    ("macosx", "x86_64"): ("x86_64-macos.11.0", ".dylib", X86_64),
    ("macosx", "arm64"): ("aarch64-macos.11.0", ".dylib", NEON),
    ("win", "amd64"): ("x86_64-windows-gnu", ".dll", X86_64),
}


class EngineDistribution(Distribution):
    """Has files that are for one platform, with the engine."""

    def has_ext_modules(self) -> bool:
        return ENABLED


class EngineWheel(bdist_wheel):
    """A wheel for one platform and any Python: ctypes loads the libraries."""

    def get_tag(self) -> tuple[str, str, str]:
        tag = super().get_tag()
        return ("py3", "none", tag[2]) if ENABLED else tag


class BuildWithEngine(build_py):
    """Compile the engine into the folder that becomes the wheel."""

    def find_package_modules(self, package: str, package_dir: str) -> list[tuple[str, str, str]]:
        modules = super().find_package_modules(package, package_dir)
        return [module for module in modules if module[:2] != ("steadyscale", "setup")]  # this file

    def run(self) -> None:
        super().run()
        if ENABLED and not self.editable_mode:
            platform = self.get_finalized_command("bdist_wheel").get_tag()[2]
            build_libraries(platform, Path(self.build_lib, "steadyscale", "models", "native", "lib"))


def build_libraries(platform: str, folder: Path) -> None:
    """Compile the libraries for a wheel's platform tag into a folder."""
    key = next((key for key in TARGETS if platform.startswith(key[0]) and platform.endswith(key[1])), None)
    if key is None:
        raise SystemExit(f"there is no engine for wheels of {platform}: unset STEADYSCALE_WHEEL_ENGINE")
    compiler = load_compiler_module()
    target, suffix, instruction_sets = TARGETS[key]
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        for name, flags in instruction_sets.items():
            output = Path(scratch) / f"winograd-{name}{suffix}"
            zig = [sys.executable, *compiler.ZIG_COMMAND[1:], "-target", target, "-s"]
            if (error := compiler.run_compiler(zig, flags, output)) is not None:
                raise SystemExit(f"{output.name} for {target} cannot be compiled: {error}")
            (folder / output.name).write_bytes(output.read_bytes())


def load_compiler_module():
    """Load models/native/compiler.py without the package, whose dependencies are not there during a build."""
    path = Path(__file__).resolve().parent / "models" / "native" / "compiler.py"
    spec = importlib.util.spec_from_file_location("steadyscale_compiler", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    setup(
        distclass=EngineDistribution,
        cmdclass={"bdist_wheel": EngineWheel, "build_py": BuildWithEngine},
        setup_requires=["ziglang==0.17.1"] if ENABLED else [],
    )
