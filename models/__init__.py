"""Networks, their weights, and safe loading of both."""

from .arch.realplksr import RealPLKSR, RealPLKSRConfig
from .arch.rrdb import RRDBConfig, RRDBNet
from .arch.span import SPAN, SPANConfig
from .arch.srvgg import Activation, SRVGGConfig, SRVGGNetCompact
from .arch.tspan import TSPAN, TemporalSPAN, TemporalSPANConfig, TSPANConfig
from .errors import WeightsError
from .loading.load import load_upscaler
from .smoother.path_smoother import PathSmoother, load_path_smoother
from .upscaler import Upscaler
from .zoo import zoo

__all__ = [
    "SPAN",
    "TSPAN",
    "Activation",
    "PathSmoother",
    "RRDBConfig",
    "RRDBNet",
    "RealPLKSR",
    "RealPLKSRConfig",
    "SPANConfig",
    "SRVGGConfig",
    "SRVGGNetCompact",
    "TSPANConfig",
    "TemporalSPAN",
    "TemporalSPANConfig",
    "Upscaler",
    "WeightsError",
    "load_path_smoother",
    "load_upscaler",
    "zoo",
]
