"""Test the five basic nodes in a real ComfyUI, on a clip and on invalid input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import prompt_builder
import pytest
import torch
from comfyhost import Host
from PIL import Image
from prompt_builder import MODEL_NAME, SMALL_MODELS, measure_shake, read_image, read_images
from steadyscale.core.upscaling.resize import resize

pytestmark = pytest.mark.host

FRAMES, WIDTH, HEIGHT = 24, 128, 96  # of the clip that conftest.py writes


class Graph(prompt_builder.PromptBuilder):
    def upscaled(self, model: list, frames: list, **settings: object) -> list:
        defaults = {
            "resize_to": "model scale",
            "factor": 2.0,
            "width": 100,
            "height": 50,
            "tile": 0,
            "precision": "auto",
        }
        return [
            self.add("SteadyScale_UpscaleFrames", upscale_model=model, frames=frames, **{**defaults, **settings}),
            0,
        ]

    def cropped(self, frames: list) -> list:
        """A quarter of each frame: half as wide and half as high."""
        return [self.add("ImageCrop", image=frames, width=WIDTH // 2, height=HEIGHT // 2, x=32, y=24), 0]

    def correction(self, frames: list, **settings: object) -> str:
        flow = self.add("SteadyScale_EstimateFlow", frames=frames, method="farneback", fps=25.0, detail=480, pictures=4)
        defaults = {"smoothing": "kalman", "seconds": 2.0, "max_zoom": 2.0, "reference": -1}
        return self.add("SteadyScale_SmoothTrajectory", flow=[flow, 0], **{**defaults, **settings})

    def warped(self, frames: list, correction: str, border: str = "crop", pad: int = 0) -> str:
        return self.add("SteadyScale_WarpFrames", frames=frames, correction=[correction, 0], border=border, pad=pad)

    def saved(self, images: list) -> str:
        return self.add("SaveImage", images=images, filename_prefix="test")


def test_full_chain_upscales_and_stabilizes(each_host: Host, clip_name: str) -> None:
    graph = Graph()
    frames = graph.add_clip(clip_name, 12)
    correction = graph.correction(frames)
    large = graph.upscaled(graph.add_model(SMALL_MODELS[2]), frames, resize_to="factor", factor=1.5)
    steady = graph.warped(large, correction)
    saved, source = graph.saved([steady, 0]), graph.saved(frames)
    run = each_host.run(graph).raise_for_status()
    before, after = read_images(each_host, run.outputs[source]), read_images(each_host, run.outputs[saved])
    assert after.shape == (12, round(HEIGHT * 1.5), round(WIDTH * 1.5), 3)

    assert measure_shake(after) / 1.5 < measure_shake(before) / 4, "in pixels of the source"
    assert after.std() > before.std() * 0.7, "the contrast is kept"
    progress = [data for kind, data in run.events if kind == "progress"]
    assert any(data["value"] == data["max"] for data in progress)
    assert len({data["node"] for data in progress}) >= 3, "flow, upscale and warp each show progress"
    items = run.outputs[correction]["images"]
    plot = read_image(each_host, items[0])
    assert plot.std() > 10, "the node displays the plot"


def test_models_are_interchangeable_with_the_hosts_nodes(any_host: Host, clip_name: str) -> None:
    graph = Graph()
    frames = graph.cropped(graph.add_clip(clip_name, 2))
    theirs = [graph.add("UpscaleModelLoader", model_name=MODEL_NAME), 0]
    ours = graph.add_model()
    results = [
        graph.saved([graph.add("ImageUpscaleWithModel", upscale_model=theirs, image=frames), 0]),
        graph.saved([graph.add("ImageUpscaleWithModel", upscale_model=ours, image=frames), 0]),
        graph.saved(graph.upscaled(theirs, frames)),
        graph.saved(graph.upscaled(ours, frames)),
    ]
    run = any_host.run(graph).raise_for_status()
    reference, *others = (read_images(any_host, run.outputs[key]) for key in results)
    assert reference.shape == (2, HEIGHT * 2, WIDTH * 2, 3)
    for other in others:
        assert np.abs(other - reference).max() <= 1


def test_sizes_are_exact_and_tiles_have_no_seams(host: Host, clip_name: str) -> None:
    graph = Graph()
    frames, model = graph.cropped(graph.add_clip(clip_name, 1)), graph.add_model()
    exact = graph.saved(graph.upscaled(model, frames, resize_to="size", width=333, height=251))
    whole = graph.saved(graph.upscaled(model, frames))
    tiled = graph.saved(graph.upscaled(model, frames, tile=32))
    run = host.run(graph).raise_for_status()
    assert read_images(host, run.outputs[exact]).shape == (1, 251, 333, 3)
    difference = read_images(host, run.outputs[whole]) - read_images(host, run.outputs[tiled])
    # Convolution libraries sum in an order that depends on the size; SaveImage cuts decimals off, so a hair can show.
    assert np.abs(difference).max() <= 1
    assert (difference != 0).mean() < 0.001


def test_postprocessing_is_applied(host: Host, clip_name: str) -> None:
    graph = Graph()
    frames, model = graph.cropped(graph.add_clip(clip_name, 2)), graph.add_model()
    wanted = {
        "source": frames,
        "network": graph.upscaled(model, frames),
        "resize": graph.upscaled(model, frames, strength=0.0),
        "grain": graph.upscaled(model, frames, strength=0.0, grain=0.5),
        "colour": graph.upscaled(model, frames, colour="mean"),
    }
    saved = {name: graph.saved(node) for name, node in wanted.items()}
    run = host.run(graph).raise_for_status()
    made = {name: read_images(host, run.outputs[node]) for name, node in saved.items()}
    large = torch.from_numpy(made["source"]).permute(0, 3, 1, 2) / 255
    plain = resize(large, WIDTH * 2, HEIGHT * 2).permute(0, 2, 3, 1).numpy() * 255
    assert np.abs(made["resize"] - plain).max() <= 1
    assert np.abs(made["network"] - plain).max() > 20
    noise = made["grain"] - made["resize"]
    assert 2 < noise.std() < 13
    assert (noise[0] - noise[1]).std() > 2, "each frame has its own"
    drift = made["colour"].mean((1, 2)) - made["resize"].mean((1, 2))
    assert np.abs(drift).max() < 0.2
    assert np.abs(made["colour"] - made["resize"]).max() > 20, "and the detail is the network's"


def test_alpha_is_upscaled(host: Host) -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 4), dtype=np.uint8)
    image[:20, :, 3], image[20:, :, 3] = 255, 0
    Image.fromarray(image).save(host.base / "input" / "alpha.png")
    graph = Graph()
    loaded = graph.add("LoadImage", image="alpha.png")
    joined = [graph.add("JoinImageWithAlpha", image=[loaded, 0], alpha=[loaded, 1]), 0]
    saved = graph.saved(graph.upscaled(graph.add_model(), joined))
    large = read_images(host, host.run(graph).raise_for_status().outputs[saved])
    assert large.shape == (1, 160, 240, 4)
    assert large[0, :70, :, 3].min() > 250
    assert large[0, 90:, :, 3].max() < 5


def test_mask_marks_filled_pixels(host: Host, clip_name: str) -> None:
    graph = Graph()
    frames = graph.add_clip(clip_name, 3)
    warped = graph.warped(frames, graph.correction(frames), border="mirror", pad=8)
    image = graph.saved([warped, 0])
    mask = graph.saved([graph.add("MaskToImage", mask=[warped, 1]), 0])
    run = host.run(graph).raise_for_status()
    white = read_images(host, run.outputs[mask])[..., 0]
    assert white.shape == (3, HEIGHT + 16, WIDTH + 16)
    assert (white[:, 0] == 255).all(), "the padding is filled"
    assert (white[:, HEIGHT // 2, WIDTH // 2] == 0).all(), "the middle is not"
    brightness = read_images(host, run.outputs[image]).sum(axis=3)
    assert brightness.min() > 3 * 20, "and nothing is black: the clip's values are all above 30"


def test_single_frame_is_unchanged(host: Host, clip_name: str) -> None:
    graph = Graph()
    frames = graph.add_clip(clip_name, 1)
    saved, source = graph.saved([graph.warped(frames, graph.correction(frames)), 0]), graph.saved(frames)
    run = host.run(graph).raise_for_status()
    difference = read_images(host, run.outputs[saved]) - read_images(host, run.outputs[source])
    assert np.abs(difference).max() <= 1


@pytest.mark.parametrize("kind", ["upscale", "flow"])
def test_interrupt_stops_the_run_and_the_next_prompt_runs(host: Host, clip_name: str, kind: str) -> None:
    graph, times = Graph(), 40  # a minute of work and more, of which next to nothing is done
    frames = [graph.add("RepeatImageBatch", image=graph.add_clip(clip_name, FRAMES), amount=times), 0]
    if kind == "upscale":
        model = graph.add_model(SMALL_MODELS[4])
        graph.saved(graph.upscaled(model, frames, tile=32, resize_to="size", width=16, height=12))
    else:
        graph.saved([graph.correction(frames), 1])
    after: list[int] = []

    def cancel(event: str, data: dict) -> None:
        if event == "progress":
            after.append(data["value"])
            if len(after) == 2:
                host.interrupt()

    run = host.run(graph, cancel)
    assert run.status == "interrupted", f"{run.error}\n{host.log_tail()}"
    # On a machine that is short of processor time the host itself needs seconds to see what it was sent.
    assert len(after) < times * FRAMES / 2, "the rest is not done"
    again = Graph()
    again.saved(again.add_clip(clip_name, 1))
    host.run(again).raise_for_status()


def refused(host: Host, graph: Graph) -> str:
    run = host.run(graph)
    assert run.status in ("error", "rejected")
    return run.error


def test_an_unknown_model_is_refused_before_anything_runs(host: Host, clip_name: str) -> None:
    graph = Graph()
    model = [graph.add("SteadyScale_LoadESRGANModel", model_name="nowhere.pth"), 0]
    graph.saved(graph.upscaled(model, graph.add_clip(clip_name, 1)))
    assert "nowhere.pth" in refused(host, graph)


def test_path_outside_the_model_folder_is_refused(host: Host, clip_name: str) -> None:
    graph = Graph()
    model = [graph.add("SteadyScale_LoadESRGANModel", model_name="../../input/clip.mp4"), 0]
    graph.saved(graph.upscaled(model, graph.add_clip(clip_name, 1)))
    run = host.run(graph)
    assert run.status == "rejected"
    assert "models/upscale_models" in run.error


@pytest.fixture
def no_model(host: Host) -> Path:
    """A file in the model folder that is not a model; deleted after the test."""
    path = host.base / "models" / "upscale_models" / "page.pth"
    path.write_text("<!DOCTYPE html><html><body>404: Not Found</body></html>")
    yield path
    path.unlink()


def test_file_that_is_not_a_model_is_named(host: Host, clip_name: str, no_model: Path) -> None:
    graph = Graph()
    model = [graph.add("SteadyScale_LoadESRGANModel", model_name=no_model.name), 0]
    graph.saved(graph.upscaled(model, graph.add_clip(clip_name, 1)))
    error = refused(host, graph)
    assert no_model.name in error
    assert "HTML" in error or "web page" in error


def test_a_correction_of_another_clip_is_refused(host: Host, clip_name: str) -> None:
    graph = Graph()
    correction = graph.correction(graph.add_clip(clip_name, 5))
    graph.saved([graph.warped(graph.add_clip(clip_name, 6), correction), 0])
    assert "more than the 5 frames" in refused(host, graph)
