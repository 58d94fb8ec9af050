"""Test that Load Video, one node at its defaults and Save Video do each of the three jobs."""

from __future__ import annotations

from typing import Any

import pytest
import real_comfyui
from comfyhost import Host
from prompt_builder import PromptBuilder

pytestmark = pytest.mark.host


def default_settings(host: Host, node: str) -> dict[str, Any]:
    """The values that a new node has on the canvas."""
    inputs = host.get(f"/object_info/{node}")[node]["input"]
    return {
        name: options["default"]
        for kind in ("required", "optional")
        for name, (_, *rest) in inputs.get(kind, {}).items()
        for options in rest
        if "default" in options
    }


@pytest.mark.parametrize(
    ("node", "factor"),
    [("SteadyScale_UpscaleFrames", 2), ("SteadyScale_StabilizeVideo", 1), ("SteadyScale_EnhanceVideo", 2)],
)
def test_one_node_without_a_model_does_the_job(host: Host, clip_name: str, node: str, factor: int) -> None:
    graph = PromptBuilder()
    ours = graph.add(node, frames=graph.add_video(clip_name), **default_settings(host, node))
    saved = graph.add("SaveVideo", video=[ours, 0], filename_prefix="three", format="auto", codec="auto")
    item = host.run(graph).raise_for_status().outputs[saved]["images"][0]
    made = real_comfyui.video_shape(host.base / "output" / item["subfolder"] / item["filename"])
    assert made == (real_comfyui.WIDTH * factor, real_comfyui.HEIGHT * factor, real_comfyui.FRAME_COUNT)
