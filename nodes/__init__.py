"""The ComfyUI face of SteadyScale: a list of nodes. The only package that knows ComfyUI."""

from comfy_api.latest import ComfyExtension, io

from .flow import EstimateFlow
from .model import LoadESRGANModel
from .trajectory import SmoothTrajectory
from .upscale import UpscaleFrames
from .warp import WarpFrames

NODES: list[type[io.ComfyNode]] = [
    LoadESRGANModel,
    UpscaleFrames,
    EstimateFlow,
    SmoothTrajectory,
    WarpFrames,
]


class SteadyScale(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return NODES
