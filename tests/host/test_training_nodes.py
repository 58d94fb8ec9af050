"""Test the training, compressing, comparing and saving nodes in a real ComfyUI."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import prompt_builder
import pytest
import torch
from comfyhost import Host
from prompt_builder import MODEL_NAME, SMALL_MODELS, read_image
from safetensors import safe_open
from steadyscale.core.video.images.png_writer import write_images
from steadyscale.models import load_upscaler

pytestmark = pytest.mark.host

FEW = 6  # frames: compressing measures each with all of its networks


class Graph(prompt_builder.PromptBuilder):
    def trained(self, name: str, frames: list | None = None, **settings: Any) -> str:
        wanted = {"scale": "2x", "size": "small", "minutes": 1.0, "seed": 0, "steps": 20, "batch": 2, "crop": 32}
        wanted |= {"frames": frames} if frames else {}
        return self.add("SteadyScale_TrainESRGAN", name=name, **(wanted | settings))


def models(host: Host) -> Path:
    return host.base / "models" / "upscale_models"


def text(outputs: dict) -> str:
    return outputs["text"][0]


def test_network_is_trained_and_used_in_one_graph(host: Host, clip_name: str) -> None:
    graph = Graph()
    frames = graph.add_images(clip_name)
    trained = graph.trained("own", frames)
    large = graph.add(
        "SteadyScale_UpscaleFrames", upscale_model=[trained, 0], frames=frames, resize_to="model scale",
        factor=2.0,
        width=1, height=1, tile=0, precision="auto",
    )  # fmt: skip
    saved = graph.add("SaveImage", images=[large, 0], filename_prefix="own")
    run = host.run(graph).raise_for_status()
    results = [read_image(host, item) for item in run.outputs[saved]["images"]]
    assert {result.shape for result in results} == {(192, 256, 3)}
    assert np.mean([result.std() for result in results]) > 20, "the results are not blank"
    plot = read_image(host, run.outputs[trained]["images"][0])
    assert plot.std() > 20
    report = text(run.outputs[trained])
    assert report.startswith("own_2x.safetensors in models/upscale_models\n")
    assert "20 steps" in report
    measured, plain = map(float, re.findall(r"([\d.]+) dB", report))
    assert plain - 6 < measured < plain + 6, "a network in its first steps, on a scale with bicubic"
    file = models(host) / "own_2x.safetensors"
    assert load_upscaler(file).scale == 2
    with safe_open(file, "pt") as opened:
        assert opened.metadata()["steps"] == "20"
    steps = [data["value"] for kind, data in run.events if kind == "progress" and data["node"] == trained]
    assert 20 in steps
    assert host.run({**graph, "9": graph[saved]}).raise_for_status().status == "success"


def test_cancelled_training_is_resumed(host: Host, clip_name: str) -> None:
    graph = Graph()
    node = graph.trained("slow", graph.add_video(clip_name), steps=100_000)

    def cancel(event: str, data: dict) -> None:
        if event == "progress" and data["node"] == node and data["max"] == 100_000 and data["value"] == 5:
            host.interrupt()

    assert host.run(graph, cancel).status == "interrupted"
    (folder,) = (host.base / "output" / "steadyscale_training").glob("slow-*")
    (kept,) = (folder / "checkpoints").iterdir()
    step = int(kept.name.removeprefix("step_"))
    assert step >= 5
    assert f"output/steadyscale_training/{folder.name}/checkpoints/{kept.name}" in host.log()
    assert not (models(host) / "slow_2x.safetensors").exists()
    graph[node]["inputs"]["steps"] = step + 3
    seen: list[int] = []

    def watch(event: str, data: dict) -> None:
        if event == "progress" and data["node"] == node and data["max"] == step + 3:
            seen.append(data["value"])

    host.run(graph, watch).raise_for_status()
    assert seen == [step + 1, step + 2, step + 3]
    assert (models(host) / "slow_2x.safetensors").exists()


@pytest.mark.slow
def test_training_on_a_folder_takes_the_given_minutes(host: Host) -> None:
    generator = torch.Generator().manual_seed(0)
    rough = torch.rand(4, 3, 16, 16, generator=generator).repeat_interleave(5, -1).repeat_interleave(5, -2)
    write_images(host.base / "input" / "pictures" / "few", iter([rough]))
    graph = Graph()
    node = graph.trained("timed", folder="pictures", steps=0, minutes=0.1)
    run = host.run(graph).raise_for_status()
    steps = int(re.search(r"(\d+) steps on 3 files", text(run.outputs[node]))[1])
    assert steps >= 20
    assert "an image that it was not trained on" in text(run.outputs[node])
    other = Graph()
    again = other.trained("timed", folder="pictures", steps=steps, minutes=0.1, seed=1)
    host.run(other).raise_for_status()
    assert (models(host) / "timed_2x_2.safetensors").exists(), "another network does not write over the first"
    assert again == node


def test_a_trained_network_is_compressed_and_used_in_one_graph(host: Host, clip_name: str) -> None:
    graph = Graph()
    frames = graph.add_clip(clip_name, FEW)
    trained = graph.trained("whole", frames)
    node = graph.add(
        "SteadyScale_CompressModel", upscale_model=[trained, 0], frames=frames, name="tight", prune=0.5,
        max_loss_db=20.0, steps=5, seed=0, quality_gate=False,
    )  # fmt: skip
    large = graph.add(
        "SteadyScale_UpscaleFrames", upscale_model=[node, 0], frames=frames, resize_to="model scale",
        factor=2.0,
        width=1, height=1, tile=0, precision="auto",
    )  # fmt: skip
    saved = graph.add("SaveImage", images=[large, 0], filename_prefix="tight")
    run = host.run(graph).raise_for_status()
    assert read_image(host, run.outputs[saved]["images"][0]).shape == (192, 256, 3)
    report = text(run.outputs[node])
    assert report.startswith("tight.safetensors in models/upscale_models\n")
    assert "original" in report
    small, whole = (load_upscaler(models(host) / name) for name in ("tight.safetensors", "whole_2x.safetensors"))
    assert small.parameters_count < 0.4 * whole.parameters_count
    assert read_image(host, run.outputs[node]["images"][0]).std() > 20


@pytest.mark.parametrize("any_host", ["old_host"], indirect=True)
def test_a_compression_that_loses_too_much_is_refused(any_host: Host, clip_name: str) -> None:
    graph = Graph()
    frames = graph.add_clip(clip_name, FEW)
    graph.add(
        "SteadyScale_CompressModel", upscale_model=graph.add_model(SMALL_MODELS[2]), frames=frames, name="never",
        prune=0.5, max_loss_db=0.3, steps=0, seed=0, quality_gate=True,
    )  # fmt: skip
    refused = any_host.run(graph)
    assert refused.status == "error"
    assert "nothing was written" in refused.error
    assert not (models(any_host) / "never.safetensors").exists()


def add_upscaled(graph: Graph, model: list, frames: list, prefix: str) -> str:
    large = graph.add(
        "SteadyScale_UpscaleFrames", upscale_model=model, frames=frames, resize_to="model scale",
        factor=2.0,
        width=1, height=1, tile=0, precision="auto",
    )  # fmt: skip
    return graph.add("SaveImage", images=[large, 0], filename_prefix=prefix)


def test_every_compressed_format_is_loaded_by_a_graph(host: Host, clip_name: str) -> None:
    """Both hosts have the loaders of the same packages, so one of them is enough."""
    graph = Graph()
    frames = graph.add_clip(clip_name, FEW)
    compress = {"frames": frames, "quality_gate": False, "steps": 2, "seed": 0, "int8": True, "max_loss_db": 0.3}
    trained = graph.trained("ways", frames)
    small = graph.add(
        "SteadyScale_CompressModel", upscale_model=[trained, 0], name="split", prune=0.5, separable=True, onnx=True,
        **compress,
    )  # fmt: skip
    whole = graph.add("SteadyScale_CompressModel", upscale_model=[trained, 0], name="bytes", prune=0.0, **compress)
    saved = [add_upscaled(graph, [node, 0], frames, "ways") for node in (small, whole)]
    run = host.run(graph).raise_for_status()
    names = ["split.safetensors", "split_dense.safetensors", "split_int8.onnx", "split.onnx"]
    assert text(run.outputs[small]).startswith(f"{', '.join(names)} in models/upscale_models\n")
    assert text(run.outputs[whole]).startswith("bytes_int8.onnx in models/upscale_models\n")
    assert "int8 graph" in text(run.outputs[whole])
    separable, twin = (load_upscaler(models(host) / name) for name in names[:2])
    noise = torch.rand(1, 3, 20, 20, generator=torch.Generator().manual_seed(0))
    assert separable.architecture == "depthwise-separable"
    assert (separable(noise) - twin(noise)).abs().max() < 1e-5
    from_split, from_bytes = (read_image(host, run.outputs[key]["images"][0]).astype(float) for key in saved)

    # Its files are offered by the loaders, the twin by the host's own too, and give the same images again.
    loaders = {"UpscaleModelLoader": names[1], "SteadyScale_LoadESRGANModel": "bytes_int8.onnx"}
    again = Graph()
    frames = again.add_clip(clip_name, FEW)
    theirs, ours = (again.add(kind, model_name=name) for kind, name in loaders.items())
    keys = [add_upscaled(again, [node, 0], frames, "again") for node in (theirs, ours)]
    run = host.run(again).raise_for_status()
    images = [read_image(host, run.outputs[key]["images"][0]) for key in keys]
    for found, expected in zip(images, (from_split, from_bytes), strict=True):
        assert np.abs(found - expected).max() <= 1
        assert found.std() > 20
    assert "runs on OpenVINO on the CPU" in text(run.outputs[ours])

    for kind, settings in (
        ("SteadyScale_SaveESRGANModel", {"name": "again", "place": "output"}),
        ("SteadyScale_CompressModel", {"name": "again", "prune": 0.5, **compress, "frames": frames}),
    ):
        refused = Graph(again)
        refused.add(kind, upscale_model=[ours, 0], **settings)
        run = host.run(refused)
        assert run.status == "error"
        assert re.search("no weights to save|weights cannot be reached", run.error)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"name": "../out"}, "is not a valid model name"),
        ({"name": "x", "folder": "../.."}, "is not a folder inside ComfyUI's input folder"),
        ({"name": "x", "folder": "nowhere"}, "is not a folder inside ComfyUI's input folder"),
        ({"name": "x"}, "there is nothing to train on"),
    ],
)
def test_invalid_training_inputs_are_refused(host: Host, settings: dict, words: str) -> None:
    graph = Graph()
    graph.trained(**settings)
    run = host.run(graph)
    assert run.status in ("error", "rejected")
    assert words in run.error


def test_saving_a_model_never_overwrites(any_host: Host) -> None:
    graph = Graph()
    save, theirs = "SteadyScale_SaveESRGANModel", graph.add("UpscaleModelLoader", model_name=MODEL_NAME)
    ours = graph.add(save, upscale_model=graph.add_model(), name="kept/mine", place="upscale_models")
    graph.add(save, upscale_model=[theirs, 0], name="kept/theirs.safetensors", place="output")
    run = any_host.run(graph).raise_for_status()
    assert text(run.outputs[ours]).startswith("models/upscale_models/kept/mine.safetensors, ")
    first = models(any_host) / "kept" / "mine.safetensors"
    noise = torch.rand(1, 3, 20, 20, generator=torch.Generator().manual_seed(0))
    expected = load_upscaler(models(any_host) / MODEL_NAME)(noise)
    assert torch.equal(load_upscaler(first)(noise), expected)
    other = any_host.base / "output" / "kept" / "theirs.safetensors"
    assert torch.allclose(load_upscaler(other)(noise), expected, atol=1e-5)
    with safe_open(first, "pt") as opened:
        facts = opened.metadata()
    assert (facts["name"], facts["scale"], facts["architecture"]) == ("kept/mine", "4", "SRVGGNetCompact")

    first.write_bytes(b"another file")
    again = Graph()
    other_model = [again.add("UpscaleModelLoader", model_name=MODEL_NAME), 0]
    second = again.add(save, upscale_model=other_model, name="kept/mine", place="upscale_models")
    report = text(any_host.run(again).raise_for_status().outputs[second])
    assert report.startswith("models/upscale_models/kept/mine_2.safetensors")
    assert first.read_bytes() == b"another file"
    assert sorted(file.name for file in first.parent.iterdir()) == ["mine.safetensors", "mine_2.safetensors"]


@pytest.mark.parametrize("name", ["../up", "/tmp/up", "a/../../up", ".hidden", " ", "a\nb"])
def test_invalid_model_names_are_refused(host: Host, name: str) -> None:
    graph = Graph()
    graph.add("SteadyScale_SaveESRGANModel", upscale_model=graph.add_model(), name=name, place="output")
    run = host.run(graph)
    assert run.status == "rejected"
    assert "is not a valid model name" in run.error


def test_two_models_are_compared(each_host: Host, clip_name: str) -> None:
    graph = Graph()
    frames = graph.add_images(clip_name)
    blank = graph.trained("blank", frames, steps=1)
    node = graph.add(
        "SteadyScale_CompareModels",
        model_a=graph.add_model(),
        model_b=[blank, 0],
        frames=graph.add_video(clip_name),
        count=3,
    )
    figures = [graph.add("PreviewAny", source=[node, output]) for output in (2, 3, 4, 5)]
    run = each_host.run(graph).raise_for_status()
    report = text(run.outputs[node])
    assert "on 3 frames that were shrunk first" in report
    a, b, plain = (float(found) for found in re.findall(r"PSNR ([\d.]+) dB", report))
    assert min(a, b, plain) > 8
    psnr_a, psnr_b, ssim_a, ssim_b = (float(run.outputs[key]["text"][0]) for key in figures)
    assert (psnr_a, psnr_b) == (pytest.approx(a, abs=0.006), pytest.approx(b, abs=0.006))
    assert 0 < ssim_a < 1
    assert 0 < ssim_b < 1
    image = read_image(each_host, run.outputs[node]["images"][0])
    assert image.shape[1] > 4 * 90
    assert image.std() > 20


def test_models_are_compared_with_given_truth(host: Host, clip_name: str) -> None:
    graph = Graph()
    frames, model = graph.add_images(clip_name), graph.add_model(SMALL_MODELS[4])
    large = graph.add(
        "SteadyScale_UpscaleFrames", upscale_model=model, frames=frames, resize_to="model scale",
        factor=2.0,
        width=1, height=1, tile=0, precision="auto",
    )  # fmt: skip
    blank = graph.trained("blank", frames, steps=1)
    node = graph.add(
        "SteadyScale_CompareModels",
        model_a=model,
        model_b=[blank, 0],
        frames=frames,
        truth=[large, 0],
        count=2,
    )
    report = text(host.run(graph).raise_for_status().outputs[node])
    assert "2 frames, against the truth" in report
    assert float(re.search(r"A: PSNR ([\d.]+)", report)[1]) > 50, "what it makes is the truth here"
    graph[node]["inputs"]["truth"], graph[node]["inputs"]["frames"] = frames, [large, 0]
    assert "exchange the two" in host.run(graph).error
