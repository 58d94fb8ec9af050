"""SteadyScale: sharper and steadier video, as ComfyUI nodes and as a library."""

__version__ = "0.1.0"

WEB_DIRECTORY = "./web"  # help pages and one script for the frontend, which ComfyUI serves


async def comfy_entrypoint():
    """What ComfyUI calls to get the nodes. The import waits until here so that the library works without ComfyUI."""
    from .nodes import SteadyScaleExtension

    return SteadyScaleExtension()
