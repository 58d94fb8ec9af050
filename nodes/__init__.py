"""The ComfyUI face of SteadyScale: a list of nodes. The only package that knows ComfyUI."""

from comfy_api.latest import ComfyExtension, io

from .benchmark import BenchmarkUpscaler
from .compare import CompareFrames
from .compress import CompressModel
from .contest import CompareModels
from .enhance import EnhanceVideo
from .flow import EstimateFlow
from .keep import SaveESRGANModel
from .model import LoadESRGANModel
from .motion import ApplyMotion
from .path_file import LoadTrajectory, SaveTrajectory
from .preview import PreviewFlow, PreviewTrajectory
from .stabilize import StabilizeVideo
from .train import TrainESRGAN
from .trajectory import SmoothTrajectory
from .upscale import UpscaleFrames
from .warp import WarpFrames

NODES: list[type[io.ComfyNode]] = [
    LoadESRGANModel,
    UpscaleFrames,
    BenchmarkUpscaler,
    StabilizeVideo,
    EnhanceVideo,
    EstimateFlow,
    SmoothTrajectory,
    WarpFrames,
    ApplyMotion,
    SaveTrajectory,
    LoadTrajectory,
    PreviewTrajectory,
    PreviewFlow,
    CompareFrames,
    TrainESRGAN,
    CompressModel,
    CompareModels,
    SaveESRGANModel,
]


class SteadyScale(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return NODES
