"""Networks, their weights, and how to read them safely. Imports torch and safetensors, nothing else of this package."""

from . import zoo
from .errors import WeightsError
from .load import load_upscaler
from .path_smoother import PathSmoother, load_path_smoother
from .rrdb import RRDBConfig, RRDBNet
from .srvgg import Activation, SRVGGConfig, SRVGGNetCompact
from .upscaler import Upscaler

__all__ = [
    "Activation",
    "PathSmoother",
    "RRDBConfig",
    "RRDBNet",
    "SRVGGConfig",
    "SRVGGNetCompact",
    "Upscaler",
    "WeightsError",
    "load_path_smoother",
    "load_upscaler",
    "zoo",
]
