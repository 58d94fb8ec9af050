"""The library: clips in, larger and steadier clips out. No ComfyUI, no downloads, no globals.

clip = open_clip("shaky.mp4")
path = Trajectory.of(estimate_motion(clip, flow_model()))                # pass 1: measure, forget the pixels
fix = correction(path, smooth(path, seconds=3.0))                        # arithmetic
frames = (w.frames for w in warp(clip.frames(), fix, Border.CROP))       # pass 2: nothing has run yet
write_clip("steady.mp4", frames, clip.info, source="shaky.mp4")          # the sink pulls
"""

import warnings

import lazy_loader

DEPRECATED_NAMES = {
    "Colour": "ColorCorrection",
    "Damage": "CorruptionReport",
    "Finish": "PostProcess",
    "Tally": "UpscaleStats",
    "Target": "OutputSize",
    "Window": "TimeRange",
    "flow_picture": "flow_to_image",
    "framed": "with_border_zoom",
    "live": "stabilize_live",
    "measure": "stream_motion",
    "path_picture": "plot_trajectory",
}
"""Old name -> present name. Each warns once; they go in version 0.2."""

# Only the modules of names that are used get imported: some need torch, which takes seconds and half a gigabyte.
_get_attribute, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)  # the names are in __init__.pyi


def __getattr__(name: str) -> object:
    new = DEPRECATED_NAMES.get(name)
    if new is None:
        return _get_attribute(name)
    warnings.warn(f"steadyscale.core.{name} is now steadyscale.core.{new}", DeprecationWarning, stacklevel=2)
    return _get_attribute(new)
