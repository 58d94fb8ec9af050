"""SteadyScale: sharper and steadier video, as ComfyUI nodes and as a library.

    import steadyscale

    steadyscale.enhance_video("shaky.mp4", "large.mp4", model="steadyscale-2x")

`upscale_video`, `stabilize_video` and `enhance_video` do what the command line does; `steadyscale.core` has the parts
that they are built of. Importing this package is cheap: the library is imported when one of its names is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .core.api import enhance_video, join_job, measure_job, plan_job, run_shard, stabilize_video, upscale_video

__version__ = "0.1.0"
__all__ = ["enhance_video", "join_job", "measure_job", "plan_job", "run_shard", "stabilize_video", "upscale_video"]

WEB_DIRECTORY = "./web"  # help pages and one script for the frontend, which ComfyUI serves


async def comfy_entrypoint():
    """Return the extension with the nodes. ComfyUI calls it; the library works without ComfyUI."""
    from .nodes import SteadyScaleExtension

    return SteadyScaleExtension()


def __getattr__(name: str) -> Any:
    if name in __all__:
        # Relative, because inside ComfyUI this package has another name.
        return getattr(import_module(".core.api", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
