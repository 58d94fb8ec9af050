"""Test a run in the browser: progress, the saved video, plots, the slider, errors."""

from __future__ import annotations

from pathlib import Path

import pytest
import real_comfyui
from frontend import MIN_TEXT_PIXELS, ON_NODES_2, Frontend

pytestmark = pytest.mark.browser

FOLDER = Path(__file__).parents[2] / "workflows"
PREVIEWS = Path(__file__).with_name("previews.json")
"""Load Video, Stabilize Video, and behind it Compare Frames and Preview Trajectory."""


@ON_NODES_2
def test_run_shows_progress_and_then_the_saved_video(frontend: Frontend) -> None:
    frontend.drop_workflow(FOLDER / "Upscale and stabilize a video.json")
    frontend.run_workflow()
    assert frontend.events("execution_error") == []
    saves = next(i for i, node in frontend.read_prompt().items() if node["class_type"] == "SaveVideo")
    steps = [data["value"] for data in frontend.events("progress") if str(data["node"]) == saves]
    clip = real_comfyui.video_shape(frontend.host.base / "input" / "bikes.mp4")
    assert steps[-1] == clip[2]
    assert len(set(steps)) > 3
    saved = next(data["output"]["images"][0] for data in frontend.events("executed") if str(data["node"]) == saves)
    made = frontend.host.base / "output" / saved["subfolder"] / saved["filename"]
    assert real_comfyui.video_shape(made) == (clip[0] * 2, clip[1] * 2, clip[2])
    seen = f"[...document.querySelectorAll('video')].some((v) => v.src.includes({saved['filename']!r}) && v.readyState)"
    frontend.page.wait_for_function(seen, timeout=20_000)
    assert any(saved["filename"] in address for address in frontend.playing_videos())
    frontend.page.wait_for_timeout(500)
    frontend.take_screenshot("result")


def test_plots_and_the_slider_are_displayed(frontend: Frontend) -> None:
    frontend.drop_workflow(PREVIEWS)
    frontend.run_workflow()
    assert frontend.events("execution_error") == []
    slider = frontend.page.locator(".steadyscale-compare")
    slider.wait_for()
    frontend.page.wait_for_function(
        "[...document.querySelectorAll('.steadyscale-compare img')].every((image) => image.naturalWidth > 0)"
    )
    frontend.center_on("SteadyScale_CompareFrames")  # away from what the frontend has at the sides
    frame = slider.locator("div").first
    box = frame.bounding_box()
    assert box is not None
    assert box["height"] > 100
    after = frame.locator("img").nth(1)
    for share in (0.25, 0.75):
        frame.hover(position={"x": box["width"] * share, "y": box["height"] / 2})
        left = float(after.evaluate("(image) => image.style.clipPath.match(/ ([\\d.]+)%/)[1]"))
        assert abs(left - 100 * share) < 3, "the line follows the pointer"
    assert slider.locator("span").all_inner_texts() == ["before", "after"]
    assert min(frontend.font_sizes(".steadyscale-compare span")) >= MIN_TEXT_PIXELS
    assert frontend.displayed_images("SteadyScale_CompareFrames") == [], "the slider is the only view"
    frontend.wait_for_image("SteadyScale_PreviewTrajectory")
    frontend.take_screenshot("previews")


def test_a_comparison_side_by_side_is_its_image(frontend: Frontend) -> None:
    frontend.drop_workflow(PREVIEWS)
    frontend.set_widget("SteadyScale_CompareFrames", "layout", "side by side")
    frontend.run_workflow()
    image = frontend.wait_for_image("SteadyScale_CompareFrames")
    assert (image.width, image.height) == (2 * real_comfyui.WIDTH, real_comfyui.HEIGHT)
    assert frontend.page.locator(".steadyscale-compare").count() == 0


@pytest.mark.parametrize(
    ("template", "node"),
    [("Upscale a video", "SteadyScale_UpscaleFrames"), ("Upscale and stabilize a video", "SteadyScale_EnhanceVideo")],
)
def test_running_node_displays_the_current_frame(frontend: Frontend, template: str, node: str) -> None:
    """Also a node that displays a plot before and after."""
    frontend.drop_workflow(FOLDER / f"{template}.json")
    frontend.set_widget("LoadVideo", "file", real_comfyui.LONG_CLIP_NAME)
    frontend.press_run()
    try:
        image = frontend.wait_for_frame(node)
        frontend.take_screenshot(f"live preview {template}")
    finally:
        frontend.host.fetch("/interrupt", {})
        frontend.wait_for_end()
    assert image.width * real_comfyui.HEIGHT == image.height * real_comfyui.WIDTH
    assert abs(image.mean - 128) < 20, "the blocks of the clip have values from 30 to 225"


@ON_NODES_2
def test_error_message_of_the_pack_is_displayed(frontend: Frontend) -> None:
    frontend.drop_workflow(FOLDER / "stabilize.json")
    frontend.set_widget("SteadyScale_WarpFrames", "pad", 16)
    frontend.run_workflow()
    message = frontend.events("execution_error")[0]["exception_message"].strip()
    assert message == "a padded frame cannot be cropped: choose another border, or a pad of 0"
    details = frontend.page.get_by_role("button", name="View details")
    message_box = frontend.page.get_by_text(message)
    details.or_(message_box).first.wait_for()
    if details.count():  # newer frontends name the node first, and the message in a panel beside the canvas
        details.first.click()
        message_box.first.wait_for()
    frontend.take_screenshot("error")
