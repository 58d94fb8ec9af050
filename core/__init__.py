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
    from .motion.estimate import Motion as Motion
    from .motion.estimate import estimate_motion as estimate_motion
    from .motion.flow import FlowMethod as FlowMethod
    from .motion.flow import FlowModel as FlowModel
    from .motion.flow import flow_model as flow_model
    from .motion.readout import with_rolling_shutter as with_rolling_shutter
    from .path.crop import adaptive_zoom as adaptive_zoom
    from .path.crop import limit_zoom as limit_zoom
    from .path.path_file import load_path as load_path
    from .path.path_file import save_path as save_path
    from .path.smooth import Smoothing as Smoothing
    from .path.smooth import smooth as smooth
    from .path.trajectory import Correction as Correction
    from .path.trajectory import Trajectory as Trajectory
    from .path.trajectory import correction as correction
    from .path.trajectory import inverse as inverse
    from .pictures.drawn import flow_picture as flow_picture
    from .pictures.drawn import path_picture as path_picture
    from .upscaling.settings import Alpha as Alpha
    from .upscaling.settings import Colour as Colour
    from .upscaling.settings import Finish as Finish
    from .upscaling.settings import Precision as Precision
    from .upscaling.settings import Reuse as Reuse
    from .upscaling.settings import Tally as Tally
    from .upscaling.settings import Target as Target
    from .upscaling.settings import Tiling as Tiling
    from .upscaling.stage import ImageModel as ImageModel
    from .upscaling.stage import upscale as upscale
    from .video.codecs import Encoding as Encoding
    from .video.damage import Damage as Damage
    from .video.damage import OnDamage as OnDamage
    from .video.encode import write_video as write_video
    from .video.files import open_clip as open_clip
    from .video.files import write_clip as write_clip
    from .video.images import ImageClip as ImageClip
    from .video.png import write_images as write_images
    from .video.reader import VideoClip as VideoClip
    from .video.timing import Window as Window
    from .warping.border import Border as Border
    from .warping.border import framed as framed
    from .warping.live import live as live
    from .warping.live import measure as measure
    from .warping.move import warp as warp
    from .warping.resample import Warped as Warped

_HOMES = {
    "Alpha": "upscaling.settings",
    "Border": "warping.border",
    "Clip": "clip",
    "ClipError": "clip",
    "ClipInfo": "clip",
    "Colour": "upscaling.settings",
    "Correction": "path.trajectory",
    "Damage": "video.damage",
    "Encoding": "video.codecs",
    "Finish": "upscaling.settings",
    "FlowMethod": "motion.flow",
    "FlowModel": "motion.flow",
    "Frames": "clip",
    "ImageClip": "video.images",
    "ImageModel": "upscaling.stage",
    "Motion": "motion.estimate",
    "OnDamage": "video.damage",
    "Precision": "upscaling.settings",
    "Reuse": "upscaling.settings",
    "Smoothing": "path.smooth",
    "Tally": "upscaling.settings",
    "Target": "upscaling.settings",
    "TensorClip": "clip",
    "Tiling": "upscaling.settings",
    "Trajectory": "path.trajectory",
    "VideoClip": "video.reader",
    "Warped": "warping.resample",
    "Window": "video.timing",
    "adaptive_zoom": "path.crop",
    "correction": "path.trajectory",
    "estimate_motion": "motion.estimate",
    "flow_model": "motion.flow",
    "flow_picture": "pictures.drawn",
    "framed": "warping.border",
    "inverse": "path.trajectory",
    "limit_zoom": "path.crop",
    "live": "warping.live",
    "load_path": "path.path_file",
    "measure": "warping.live",
    "open_clip": "video.files",
    "path_picture": "pictures.drawn",
    "save_path": "path.path_file",
    "smooth": "path.smooth",
    "upscale": "upscaling.stage",
    "warp": "warping.move",
    "with_rolling_shutter": "motion.readout",
    "write_clip": "video.files",
    "write_images": "video.png",
    "write_video": "video.encode",
}
"""Where each public name is. Their modules are loaded when they are asked for: only some of them need torch."""

__all__ = list(_HOMES)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    return value
