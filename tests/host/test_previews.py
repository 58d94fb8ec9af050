"""Test previews and estimates in a real ComfyUI."""

from __future__ import annotations

import asyncio
import io
import json
import struct
from pathlib import Path
from uuid import uuid4

import aiohttp
import av
import numpy as np
import prompt_builder
import pytest
from comfyhost import Host
from PIL import Image
from prompt_builder import MODEL_NAME, SMALL_MODELS, read_image, run_and_listen
from steadyscale.core.visualize.panel import ZOOM_COLOR

pytestmark = pytest.mark.host

WIDTH, HEIGHT = 128, 96  # of the clip that conftest.py writes


class Graph(prompt_builder.PromptBuilder):
    def stabilized(self, frames: list, border: str = "crop") -> str:
        settings = {"fps": 25.0, "smoothing": "kalman", "seconds": 2.0, "max_zoom": 2.0, "method": "farneback"}
        return self.add("SteadyScale_StabilizeVideo", frames=frames, border=border, **settings)

    def upscaled(self, frames: list) -> list:
        settings = {"resize_to": "factor", "factor": 2.0, "width": 1, "height": 1, "tile": 0, "precision": "fp32"}
        model = self.add_model(SMALL_MODELS[2])
        return [self.add("SteadyScale_UpscaleFrames", upscale_model=model, frames=frames, **settings), 0]

    def compared(self, before: list, after: list, **settings: object) -> str:
        usual = {"layout": "split", "frame": 0, "seconds": 0.0, "split": 0.5, "largest": 1920}
        labels = {"label_before": "", "label_after": ""}
        return self.add("SteadyScale_CompareFrames", before=before, after=after, **{**usual, **labels, **settings})


PREVIEW_EVENT = 4  # of a binary message: an image with the node that displays it


def run_and_watch(host: Host, graph: Graph) -> list[tuple[str, Image.Image]]:
    """Run a graph as a browser does; return the previews with their nodes."""

    async def watch() -> list[tuple[str, Image.Image]]:
        client, previews = uuid4().hex, []
        async with (
            aiohttp.ClientSession(host.url) as session,
            session.ws_connect(f"/ws?clientId={client}", max_msg_size=0) as socket,
        ):
            await socket.send_json({"type": "feature_flags", "data": {"supports_preview_metadata": True}})
            await session.post("/prompt", json={"prompt": graph, "client_id": client})
            async for message in socket:
                if message.type == aiohttp.WSMsgType.BINARY:
                    kind, length = struct.unpack(">II", message.data[:8])
                    if kind == PREVIEW_EVENT:
                        node = json.loads(message.data[8 : 8 + length])["display_node_id"]
                        previews.append((node, Image.open(io.BytesIO(message.data[8 + length :]))))
                elif json.loads(message.data)["type"] in ("execution_success", "execution_error"):
                    return previews
        raise AssertionError("the host closed the connection")

    return asyncio.run(watch())


def film(host: Host, item: dict, folder: Path) -> np.ndarray:
    """The same of a video that a node put out: (N, H, W, 3), in steps of 8 bits."""
    path = folder / item["filename"]
    path.write_bytes(host.view(item))
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]).astype(int)


def source(host: Host, name: str) -> np.ndarray:
    with av.open(str(host.base / "input" / name)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]).astype(int)


def test_split_image_has_the_left_of_before_and_the_right_of_after(each_host: Host, clip_name: str) -> None:
    graph = Graph()
    video = graph.add_video(clip_name)
    images = graph.add_images(video)
    flipped = [graph.add("ImageInvert", image=images), 0]
    node = graph.compared(images, flipped, frame=5)
    saved = graph.add("SaveImage", images=[node, 0], filename_prefix="compared")
    run = each_host.run(graph).raise_for_status()
    image = read_image(each_host, run.outputs[node]["images"][0])
    whole = source(each_host, clip_name)[5]
    assert image.shape == whole.shape
    assert np.abs(image[:, :63] - whole[:, :63]).mean() < 3
    assert np.abs(image[:, 65:] - (255 - whole[:, 65:])).mean() < 3
    ends = [read_image(each_host, run.outputs[node][f"steadyscale_{name}"][0]) for name in ("before", "after")]
    assert np.array_equal(ends[0][:, :63], image[:, :63])
    assert np.array_equal(ends[1][:, 65:], image[:, 65:])
    assert np.abs(ends[0] + ends[1] - 255).max() <= 1
    assert np.array_equal(read_image(each_host, run.outputs[saved]["images"][0]), image)


def test_comparison_video_renders_only_its_frames(host: Host, clip_name: str, tmp_path: Path) -> None:
    """Half a second of upscaled frames beside the source: 12 frames."""
    graph = Graph()
    video = graph.add_video(clip_name)
    node = graph.compared(video, graph.upscaled(video), layout="side by side", frame=8, seconds=0.5)
    graph.add("SaveVideo", video=[node, 1], filename_prefix="compared", format="mp4", codec="h264")
    run = host.run(graph).raise_for_status()
    output = run.outputs[node]
    assert output["animated"] == [True]
    frames = film(host, output["images"][0], tmp_path)
    assert frames.shape == (12, 2 * HEIGHT, 4 * WIDTH, 3)
    left = frames[:, :, : 2 * WIDTH].reshape(12, HEIGHT, 2, WIDTH, 2, 3).mean((2, 4))
    right = frames[:, :, 2 * WIDTH :].reshape(12, HEIGHT, 2, WIDTH, 2, 3).mean((2, 4))
    whole = source(host, clip_name)
    assert np.abs(left[:, :, :-2] - whole[8:20, :, :-2]).mean() < 8
    assert np.abs(right[:, :, 2:] - whole[8:20, :, 2:]).mean() < 12
    assert np.abs(left - whole[9:21]).mean() > 15, "not the frames after"
    progress = [data for kind, data in run.events if kind == "progress" and data["node"] == node]
    assert progress[-1]["max"] == 12, "only these frames are made"


def test_missing_frame_number_is_reported(host: Host, clip_name: str) -> None:
    graph = Graph()
    video = graph.add_video(clip_name)
    graph.compared(video, video, frame=24)
    run = host.run(graph)
    assert run.status == "error"
    assert "there is no frame 24: the clip has 24 frames" in run.error


def test_trajectory_plot_has_the_zoom_and_the_crop(each_host: Host, clip_name: str) -> None:
    graph = Graph()
    video = graph.add_video(clip_name)
    steady = graph.stabilized(video)
    crop = graph.add(
        "SteadyScale_PreviewTrajectory",
        path=[steady, 2],
        border="crop",
        max_zoom=1.3,
        frame=-1,
        frames=video,
        details=True,
    )
    bare = graph.add("SteadyScale_PreviewTrajectory", path=[steady, 2], border="mirror", max_zoom=1.3, frame=3)
    run = each_host.run(graph).raise_for_status()
    (plot, cut), (other, filled) = (
        [read_image(each_host, item) for item in run.outputs[node]["images"]] for node in (crop, bare)
    )
    green_pixels = [(np.abs(image - np.array(ZOOM_COLOR)).max(-1) < 25).sum() for image in (plot, other)]
    assert green_pixels[0] > 500, "the zoom of the crop"
    assert green_pixels[1] == 0
    assert cut.shape == (HEIGHT, WIDTH, 3)
    assert filled.shape[0] > HEIGHT or filled.shape[1] > WIDTH
    blue = np.abs(filled - np.array([64, 115, 255])).max(-1) < 8
    assert 20 < blue.sum() < 0.3 * blue.size


def test_a_flow_alone_is_drawn_as_measured(host: Host, clip_name: str) -> None:
    graph = Graph()
    video = graph.add_video(clip_name)
    flow = graph.add("SteadyScale_EstimateFlow", frames=video, method="farneback", fps=25.0, detail=480, pictures=0)
    node = graph.add("SteadyScale_PreviewTrajectory", path=[flow, 0], border="crop", max_zoom=1.3, frame=-1)
    run = host.run(graph).raise_for_status()
    plot, frame = (read_image(host, item) for item in run.outputs[node]["images"])
    assert ((plot[..., 0] > 220) & (plot[..., 2] < 90)).sum() > 500, "the path before, in orange"
    assert ((plot[..., 2] > 200) & (plot[..., 0] < 60)).sum() == 0, "and none after"
    assert frame.shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize("show", ["arrows", "colours"])
def test_the_flow_of_a_chosen_frame(each_host: Host, clip_name: str, show: str) -> None:
    """Moving frames give arrows or hues, and equal frames give none."""
    graph = Graph()
    video = graph.add_video(clip_name)
    images = graph.add_images(video)
    one = [graph.add("ImageFromBatch", image=images, batch_index=12, length=1), 0]
    still = [graph.add("RepeatImageBatch", image=one, amount=2), 0]
    settings = {"method": "farneback", "show": show, "detail": 480}
    moving = graph.add("SteadyScale_PreviewFlow", frames=video, frame=12, **settings)
    standing = graph.add("SteadyScale_PreviewFlow", frames=still, frame=0, **settings)
    last = graph.add("SteadyScale_PreviewFlow", frames=video, frame=22, **settings)
    run = each_host.run(graph).raise_for_status()
    seen, nothing, _ = (read_image(each_host, run.outputs[node]["images"][0]) for node in (moving, standing, last))
    upper = slice(0, 60), slice(0, 90)  # beside the wheel and above the caption

    def colour(part: np.ndarray) -> float:
        return float((part.max(-1) - part.min(-1) > 60).mean())

    assert colour(seen[upper]) > (0.5 if show == "colours" else 0.03)
    assert colour(nothing[upper]) == 0


def test_flow_of_the_last_frame_is_refused(host: Host, clip_name: str) -> None:
    graph = Graph()
    graph.add(
        "SteadyScale_PreviewFlow",
        frames=graph.add_video(clip_name),
        frame=23,
        method="farneback",
        show="arrows",
        detail=480,
    )
    run = host.run(graph)
    assert run.status == "error"
    assert "frame 23 is the last one" in run.error


def test_estimate_is_displayed_on_the_node_that_runs(each_host: Host, clip_name: str) -> None:
    """A VIDEO runs in the node that needs its pixels, an IMAGE in our own."""
    graph = Graph()
    video = graph.add_video(clip_name)
    save = graph.add("SaveVideo", video=graph.upscaled(video), filename_prefix="estimate", format="mp4", codec="h264")
    few = [graph.add("ImageFromBatch", image=graph.add_images(video), batch_index=0, length=4), 0]
    own, steady = graph.upscaled(few), graph.stabilized(few)
    graph.add("PreviewImage", images=own)
    graph.add("PreviewImage", images=[steady, 0])
    texts, _ = run_and_listen(each_host, graph)
    for node, count in ((save, 24), (own[0], 4)):
        assert texts[node][0].startswith(f"{count} frames, 128x96 to 256x192, about "), node
        assert texts[node][0].endswith(" of memory"), node
    assert texts[steady][0].startswith("4 frames, 128x96, about ")


def test_node_with_a_plot_displays_frames_while_it_renders_and_then_the_plot(host: Host, clip_name: str) -> None:
    """With a network that takes seconds for the clip, which Save Video renders."""
    graph = Graph()
    settings = {"fps": 25.0, "resize_to": "model scale", "factor": 2.0, "width": 1, "height": 1}
    path = {"smoothing": "kalman", "seconds": 2.0, "max_zoom": 2.0, "border": "mirror"}
    model, video = graph.add_model(MODEL_NAME), graph.add_video(clip_name)
    node = graph.add("SteadyScale_EnhanceVideo", upscale_model=model, frames=video, **settings, **path)
    graph.add("SaveVideo", video=[node, 0], filename_prefix="previewed", format="mp4", codec="h264")
    previews = run_and_watch(host, graph)
    assert {displaying for displaying, _ in previews} == {node}
    *before, plot = [image for _, image in previews]
    frame_size, plot_size = (512, 384), (960, 540)
    assert before[-1].size == frame_size, "of an upscaled frame, reduced to 512 pixels"
    assert {image.size for image in before} <= {frame_size, plot_size}, "a plot if measuring was slow as well"
    assert plot.size == plot_size
    assert np.asarray(plot).mean() < 80, "the dark plot"
