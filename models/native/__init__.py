"""The CPU engine for RRDBNet and SRVGGNetCompact, in C++: compiled on request, checked against torch, optional."""

from .build import BuildError, NoCompilerError, build, find
from .engine import Native, NativeNetwork, describe, native_network

__all__ = [
    "BuildError",
    "Native",
    "NativeNetwork",
    "NoCompilerError",
    "build",
    "describe",
    "find",
    "native_network",
]
