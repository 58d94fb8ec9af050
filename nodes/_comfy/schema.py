"""Node schemas for hosts of different ages."""

from __future__ import annotations

import inspect
from typing import Any

from comfy_api.latest import io

UPSCALE_CATEGORY = "SteadyScale/upscale"
STABILIZE_CATEGORY = "SteadyScale/stabilize"
PREVIEW_CATEGORY = "SteadyScale/preview"
TRAIN_CATEGORY = "SteadyScale/train"
ESSENTIAL_VIDEO_TOOLS = "Video Tools"
"""The folder of the frontend's short list of nodes in which ComfyUI has its own video nodes."""


def node_schema(
    *,
    inputs: list[io.Input],
    search_aliases: str,
    essentials_category: str | None = None,
    advanced: str = "",
    **fields: Any,
) -> io.Schema:
    """Create a schema, without the fields that the host does not know.

    search_aliases: words that people search for, separated by commas (hosts from 0.10 on). essentials_category: folder
    of the short list of nodes (hosts from 0.14.1 on). advanced: ids of inputs, separated by commas, that are hidden
    until the node shows its advanced inputs. fields: those of every host. Inputs without a display name are labeled
    with their id.
    """
    newer = {"search_aliases": search_aliases.split(", "), "essentials_category": essentials_category}
    known = inspect.signature(io.Schema).parameters
    by_id = {each.id: each for each in inputs}
    for name, each in by_id.items():
        each.display_name = each.display_name or name.replace("_", " ")
    for name in advanced.split(", ") if advanced else ():
        # Hosts before 0.9.2 have no argument for it, but hand it to their frontends, which know it.
        by_id[name].extra_dict["advanced"] = True
    return io.Schema(inputs=inputs, **fields, **{name: value for name, value in newer.items() if name in known})
