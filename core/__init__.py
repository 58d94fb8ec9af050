"""The library: clips in, upscaled and stabilized clips out.

`upscale_video`, `stabilize_video` and `enhance_video` go from file to file. Below them, a clip and a list of operations
that run in one pass when the frames are read:

    clip = open_clip("shaky.mp4")
    pipeline = Pipeline(clip).then(plan_stabilization(clip, StabilizeSettings(seconds=3.0)))
    write_clip("steady.mp4", pipeline.frames(), pipeline.info, source="shaky.mp4")

No ComfyUI, no downloads, no globals.
"""

import warnings

import lazy_loader  # pyright: ignore[reportMissingTypeStubs]  # it has none

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
"""Old name -> present name. Their use warns; they are removed in version 0.2."""

# Only the modules of names that are used get imported: some need torch, which takes seconds and half a gigabyte.
# The names are in __init__.pyi.
_get_attribute, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)  # pyright: ignore[reportUnknownVariableType]  # untyped


def __getattr__(name: str) -> object:
    new = DEPRECATED_NAMES.get(name)
    if new is None:
        return _get_attribute(name)
    warnings.warn(f"steadyscale.core.{name} is now steadyscale.core.{new}", DeprecationWarning, stacklevel=2)
    return _get_attribute(new)
