"""The optional CPU engine in C++ for RRDBNet, SRVGGNetCompact, SPAN and RealPLKSR.

It is compiled on request and checked against torch.
"""

from .build import build_library, find_library
from .compiler import BuildError, NoCompilerError
from .engine import NativeDispatcher, describe_engine, make_native_network
from .native_model import NativeNetwork, Roi, crop_to_roi

__all__ = [
    "BuildError",
    "NativeDispatcher",
    "NativeNetwork",
    "NoCompilerError",
    "Roi",
    "build_library",
    "crop_to_roi",
    "describe_engine",
    "find_library",
    "make_native_network",
]
