"""The CPU engine for RRDBNet and SRVGGNetCompact, in C++: compiled on request, checked against torch, optional."""

from .build import BuildError, NoCompilerError, build, find
from .engine import Native, describe, native_network
from .native_model import NativeNetwork, Wanted, part_of

__all__ = [
    "BuildError",
    "Native",
    "NativeNetwork",
    "NoCompilerError",
    "Wanted",
    "build",
    "describe",
    "find",
    "native_network",
    "part_of",
]
