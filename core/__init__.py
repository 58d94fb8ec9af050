"""The library: clips in, larger and steadier clips out. No ComfyUI, no downloads, no globals.

clip = open_clip("shaky.mp4")
path = Trajectory.of(estimate_motion(clip, flow_model()))                # pass 1: measure, forget the pixels
fix = correction(path, smooth(path, seconds=3.0))                        # arithmetic
frames = (w.frames for w in warp(clip.frames(), fix, Border.CROP))       # pass 2: nothing has run yet
write_clip("steady.mp4", frames, clip.info, source="shaky.mp4")          # the sink pulls
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .clip import Clip as Clip
    from .clip import ClipError as ClipError
    from .clip import ClipInfo as ClipInfo
    from .clip import Frames as Frames
    from .clip import TensorClip as TensorClip
    from .motion.estimate import estimate_motion as estimate_motion
    from .motion.flow import FlowMethod as FlowMethod
    from .motion.flow import FlowModel as FlowModel
    from .motion.flow import flow_model as flow_model
    from .motion.readout_time import with_rolling_shutter as with_rolling_shutter
    from .path.border import Border as Border
    from .path.border import framed as framed
    from .path.motion import Motion as Motion
    from .path.serialize import load_path as load_path
    from .path.serialize import save_path as save_path
    from .path.smooth import Smoothing as Smoothing
    from .path.smooth import smooth as smooth
    from .path.trajectory import Correction as Correction
    from .path.trajectory import Trajectory as Trajectory
    from .path.trajectory import correction as correction
    from .path.trajectory import inverse as inverse
    from .path.zoom import adaptive_zoom as adaptive_zoom
    from .path.zoom import limit_zoom as limit_zoom
    from .upscaling.settings import Alpha as Alpha
    from .upscaling.settings import Colour as Colour
    from .upscaling.settings import Finish as Finish
    from .upscaling.settings import Precision as Precision
    from .upscaling.settings import Reuse as Reuse
    from .upscaling.settings import Tally as Tally
    from .upscaling.settings import Target as Target
    from .upscaling.settings import Tiling as Tiling
    from .upscaling.upscale import ImageModel as ImageModel
    from .upscaling.upscale import upscale as upscale
    from .video.decode.corruption import Damage as Damage
    from .video.decode.corruption import OnDamage as OnDamage
    from .video.decode.timestamps import Window as Window
    from .video.decode.video_clip import VideoClip as VideoClip
    from .video.encode.codecs import Encoding as Encoding
    from .video.encode.writer import write_video as write_video
    from .video.images.image_clip import ImageClip as ImageClip
    from .video.images.png_writer import write_images as write_images
    from .video.open import open_clip as open_clip
    from .video.open import write_clip as write_clip
    from .visualize.plots import flow_picture as flow_picture
    from .visualize.plots import path_picture as path_picture
    from .warping.live import live as live
    from .warping.live import measure as measure
    from .warping.remap import Warped as Warped
    from .warping.warp import warp as warp

_HOMES = {
    "Alpha": "upscaling.settings",
    "Border": "path.border",
    "Clip": "clip",
    "ClipError": "clip",
    "ClipInfo": "clip",
    "Colour": "upscaling.settings",
    "Correction": "path.trajectory",
    "Damage": "video.decode.corruption",
    "Encoding": "video.encode.codecs",
    "Finish": "upscaling.settings",
    "FlowMethod": "motion.flow",
    "FlowModel": "motion.flow",
    "Frames": "clip",
    "ImageClip": "video.images.image_clip",
    "ImageModel": "upscaling.upscale",
    "Motion": "path.motion",
    "OnDamage": "video.decode.corruption",
    "Precision": "upscaling.settings",
    "Reuse": "upscaling.settings",
    "Smoothing": "path.smooth",
    "Tally": "upscaling.settings",
    "Target": "upscaling.settings",
    "TensorClip": "clip",
    "Tiling": "upscaling.settings",
    "Trajectory": "path.trajectory",
    "VideoClip": "video.decode.video_clip",
    "Warped": "warping.remap",
    "Window": "video.decode.timestamps",
    "adaptive_zoom": "path.zoom",
    "correction": "path.trajectory",
    "estimate_motion": "motion.estimate",
    "flow_model": "motion.flow",
    "flow_picture": "visualize.plots",
    "framed": "path.border",
    "inverse": "path.trajectory",
    "limit_zoom": "path.zoom",
    "live": "warping.live",
    "load_path": "path.serialize",
    "measure": "warping.live",
    "open_clip": "video.open",
    "path_picture": "visualize.plots",
    "save_path": "path.serialize",
    "smooth": "path.smooth",
    "upscale": "upscaling.upscale",
    "warp": "warping.warp",
    "with_rolling_shutter": "motion.readout_time",
    "write_clip": "video.open",
    "write_images": "video.images.png_writer",
    "write_video": "video.encode.writer",
}
"""Where each public name is. Their modules are loaded when they are asked for: only some of them need torch."""

__all__ = list(_HOMES)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    return value
