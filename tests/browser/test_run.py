"""Run is pressed in the browser: progress is seen on the way, and the saved video plays in the page."""

from __future__ import annotations

from pathlib import Path

import hosts
import pytest
from frontend import Frontend

pytestmark = pytest.mark.browser

FOLDER = Path(__file__).parents[2] / "workflows"


def test_run_shows_progress_and_then_the_saved_video(frontend: Frontend) -> None:
    frontend.drop(FOLDER / "enhance.json")
    frontend.queue()
    assert frontend.events("execution_error") == []
    saves = next(i for i, node in frontend.prompt().items() if node["class_type"] == "SaveVideo")
    steps = [told["value"] for told in frontend.events("progress") if str(told["node"]) == saves]
    clip = hosts.shape(frontend.host.base / "input" / "bikes.mp4")
    assert steps[-1] == clip[2]
    assert len(set(steps)) > 3
    saved = next(told["output"]["images"][0] for told in frontend.events("executed") if str(told["node"]) == saves)
    made = frontend.host.base / "output" / saved["subfolder"] / saved["filename"]
    assert hosts.shape(made) == (clip[0] * 2, clip[1] * 2, clip[2])
    seen = f"[...document.querySelectorAll('video')].some((v) => v.src.includes({saved['filename']!r}) && v.readyState)"
    frontend.page.wait_for_function(seen, timeout=20_000)
    assert any(saved["filename"] in address for address in frontend.videos())
    frontend.page.wait_for_timeout(500)
    frontend.shot("result")


def test_an_error_of_the_pack_is_told_in_a_dialog(frontend: Frontend) -> None:
    """A size that no stabilised clip can have is refused when the graph runs, in words, where the user looks."""
    frontend.drop(FOLDER / "upscale.json")
    frontend.run_js(
        """() => {
          const node = app.graph.nodes.find((node) => node.type === "SteadyScale_UpscaleFrames");
          node.widgets.find((widget) => widget.name === "factor").value = 0.1;
          node.widgets.find((widget) => widget.name === "resize_to").value = "size";
          node.widgets.find((widget) => widget.name === "width").value = 32768;
          node.widgets.find((widget) => widget.name === "height").value = 1;
        }"""
    )
    frontend.queue()
    frontend.page.wait_for_timeout(800)
    frontend.shot("error")
    told = frontend.events("execution_error")
    print(told)
    assert told
