"""The library: clips in, larger and steadier clips out. No ComfyUI, no downloads, no globals.

clip = open_clip("shaky.mp4")
path = Trajectory.of(estimate_motion(clip, flow_model()))                # pass 1: measure, forget the pixels
fix = correction(path, smooth(path, seconds=3.0))                        # arithmetic
frames = (w.frames for w in warp(clip.frames(), fix, Border.CROP))       # pass 2: nothing has run yet
write_clip("steady.mp4", frames, clip.info, source="shaky.mp4")          # the sink pulls
"""

from .clip import Clip, ClipError, ClipInfo, Frames, TensorClip
from .live import live, measure
from .motion.estimate import Motion, estimate_motion
from .motion.flow import FlowMethod, FlowModel, flow_model
from .motion.readout import with_rolling_shutter
from .path.crop import adaptive_zoom, limit_zoom
from .path.path_file import load_path, save_path
from .path.smooth import Smoothing, smooth
from .path.trajectory import Correction, Trajectory, correction, inverse
from .pictures.drawn import flow_picture, path_picture
from .upscaling.finish import Colour, Finish
from .upscaling.precision import Precision
from .upscaling.reuse import Reuse, Tally
from .upscaling.stage import Alpha, ImageModel, Target, upscale
from .upscaling.tiles import Tiling
from .video.codecs import Encoding
from .video.damage import Damage, OnDamage
from .video.encode import write_video
from .video.files import open_clip, write_clip
from .video.images import ImageClip, write_images
from .video.reader import VideoClip
from .video.timing import Window
from .warping.move import Border, Warped, framed, warp

__all__ = [
    "Alpha",
    "Border",
    "Clip",
    "ClipError",
    "ClipInfo",
    "Colour",
    "Correction",
    "Damage",
    "Encoding",
    "Finish",
    "FlowMethod",
    "FlowModel",
    "Frames",
    "ImageClip",
    "ImageModel",
    "Motion",
    "OnDamage",
    "Precision",
    "Reuse",
    "Smoothing",
    "Tally",
    "Target",
    "TensorClip",
    "Tiling",
    "Trajectory",
    "VideoClip",
    "Warped",
    "Window",
    "adaptive_zoom",
    "correction",
    "estimate_motion",
    "flow_model",
    "flow_picture",
    "framed",
    "inverse",
    "limit_zoom",
    "live",
    "load_path",
    "measure",
    "open_clip",
    "path_picture",
    "save_path",
    "smooth",
    "upscale",
    "warp",
    "with_rolling_shutter",
    "write_clip",
    "write_images",
    "write_video",
]
