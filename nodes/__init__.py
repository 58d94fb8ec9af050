"""The ComfyUI nodes of SteadyScale; the only package that imports ComfyUI."""

from comfy_api.latest import ComfyExtension, io

from .apply_motion import ApplyMotion
from .benchmark import BenchmarkUpscaler
from .compare_frames import CompareFrames
from .compare_models import CompareModels
from .compress_model import CompressModel
from .enhance import EnhanceVideo
from .estimate_flow import EstimateFlow
from .load_model import LoadESRGANModel
from .preview import PreviewFlow, PreviewTrajectory
from .save_model import SaveESRGANModel
from .smooth_trajectory import SmoothTrajectory
from .stabilize import StabilizeVideo
from .train import TrainESRGAN
from .trajectory_file import LoadTrajectory, SaveTrajectory
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


class SteadyScaleExtension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return NODES
