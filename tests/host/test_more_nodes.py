"""Test the other nodes in a real ComfyUI: text, all-in-one nodes, motion, files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import prompt_builder
import pytest
import real_comfyui
from comfyhost import Host
from prompt_builder import MODEL_NAME, measure_shake, read_images, run_and_listen

pytestmark = pytest.mark.host

WIDTH, HEIGHT = 128, 96  # of the clip that conftest.py writes


class Graph(prompt_builder.PromptBuilder):
    def flow(self, frames: list) -> list:
        node = self.add("SteadyScale_EstimateFlow", frames=frames, method="farneback", fps=25.0, detail=480, pictures=0)
        return [node, 0]

    def smoothed(self, flow: list, seconds: float = 2.0, max_zoom: float = 2.0) -> str:
        return self.add(
            "SteadyScale_SmoothTrajectory",
            flow=flow,
            smoothing="kalman",
            seconds=seconds,
            max_zoom=max_zoom,
            reference=-1,
        )

    def warped(self, frames: list, correction: list, border: str, pad: int = 0) -> str:
        return self.add("SteadyScale_WarpFrames", frames=frames, correction=correction, border=border, pad=pad)

    def applied(self, frames: list, correction: list, apply: str, border: str, was: str = "crop", pad: int = 0) -> str:
        return self.add(
            "SteadyScale_ApplyMotion",
            frames=frames,
            correction=correction,
            apply=apply,
            border=border,
            stabilized_with=was,
            pad=pad,
        )

    def stabilized(self, frames: list, border: str = "crop", smoothing: str = "kalman") -> str:
        return self.add(
            "SteadyScale_StabilizeVideo",
            frames=frames,
            fps=25.0,
            smoothing=smoothing,
            seconds=2.0,
            max_zoom=2.0,
            border=border,
            method="farneback",
        )

    def saved(self, images: list) -> str:
        return self.add("SaveImage", images=images, filename_prefix="more")

    def saved_mask(self, mask: list) -> str:
        return self.saved([self.add("MaskToImage", mask=mask), 0])


# -- text on nodes


def test_loader_displays_information_about_the_network(any_host: Host) -> None:
    other = Graph()
    other.saved([other.add("EmptyImage", width=8, height=8, batch_size=1, color=0), 0])
    any_host.run(other).raise_for_status()  # what the prompt before has loaded would not be loaded again
    graph = Graph()
    loader = graph.add("SteadyScale_LoadESRGANModel", model_name=MODEL_NAME)
    preview = graph.add("PreviewAny", source=[loader, 1])
    written, outputs = run_and_listen(any_host, graph)
    on_node = written[loader][-1]
    assert outputs[loader]["text"] == [on_node] == outputs[preview]["text"]
    lines = on_node.splitlines()
    assert lines[0] == "realesr-animevideov3"
    assert "SRVGGNetCompact, 4x, RGB" in on_node
    assert "0.62 million parameters" in on_node
    assert "receptive field: 18 pixels" in on_node
    assert "runs on torch on the CPU" in on_node, "conftest.py has switched the native engine off"


def test_benchmark_reports_frames_tiles_and_speed(any_host: Host) -> None:
    graph = Graph()
    loader = graph.add("SteadyScale_LoadESRGANModel", model_name=MODEL_NAME)
    node = graph.add(
        "SteadyScale_BenchmarkUpscaler",
        upscale_model=[loader, 0],
        width=72,
        height=40,
        frames=3,
        tile=36,
        precision="auto",
    )
    preview = graph.add("PreviewAny", source=[node, 0])
    run = any_host.run(graph).raise_for_status()
    report, found = run.outputs[node]["text"][0], run.outputs[node]["benchmark"][0]
    assert run.outputs[preview]["text"] == [report]
    assert (found["frames"], found["width"], found["height"], found["scale"]) == (3, 72, 40, 4)
    assert found["calls"] == 4, "72 x 40 in cores of 36 x 20"
    assert found["precision"] == "fp32"
    assert found["engine"] == "torch"
    assert found["fps"] == pytest.approx(3 / found["seconds"])
    assert found["seconds"] > 0
    assert "realesr-animevideov3: 72x40 to 288x160" in report
    assert f"{found['fps']:.3g} frames per second" in report
    row = json.loads(report.splitlines()[-1])
    assert row.items() <= found.items()
    assert (row["network"], row["dtype"], row["size"]) == ("realesr-animevideov3", "fp32", "72x40")
    bars = [data["value"] for kind, data in run.events if kind == "progress" and data["node"] == node]
    assert bars[-1] == 4, "one to warm up, three to time"


def test_benchmark_accepts_host_models_and_is_cancellable(host: Host) -> None:
    graph = Graph()
    model = graph.add("UpscaleModelLoader", model_name=MODEL_NAME)
    settings = {"width": 64, "height": 64, "tile": 0, "precision": "auto"}
    graph.add("SteadyScale_BenchmarkUpscaler", upscale_model=[model, 0], frames=1000, **settings)
    after: list[int] = []

    def cancel(event: str, data: dict) -> None:
        if event == "progress":
            after.append(data["value"])
            if len(after) == 2:
                host.interrupt()

    run = host.run(graph, cancel)
    assert run.status == "interrupted", f"{run.error}\n{host.log_tail()}"
    assert len(after) < 500


# -- all in one


def test_stabilize_is_the_three_nodes_in_one(host: Host, clip_name: str) -> None:
    graph = Graph()
    frames = graph.add_clip(clip_name, 12)
    correction = graph.smoothed(graph.flow(frames))
    apart = graph.warped(frames, [correction, 0], "crop")
    whole = graph.stabilized(frames)
    again = graph.warped(frames, [whole, 2], "crop")
    source = graph.saved(frames)
    saved = [graph.saved([node, 0]) for node in (apart, whole, again)]
    plots = [graph.saved(plot) for plot in ([correction, 1], [whole, 3])]
    masks = graph.saved_mask([whole, 1])
    run = host.run(graph).raise_for_status()
    first, *others = (read_images(host, run.outputs[node]) for node in saved)
    assert all(np.array_equal(other, first) for other in others)
    before, after = (read_images(host, run.outputs[node]) for node in plots)
    assert np.array_equal(before, after)
    assert not read_images(host, run.outputs[masks]).any(), "a crop invents nothing"
    assert measure_shake(first) < measure_shake(read_images(host, run.outputs[source])) / 4
    assert run.outputs[whole]["images"], "the plot is on the node"


def test_max_zoom_does_not_limit_borders_that_fill(host: Host, clip_name: str) -> None:
    graph = Graph()
    frames = graph.add_clip(clip_name, 12)
    whole = graph.stabilized(frames, "mirror")
    graph[whole]["inputs"]["max_zoom"] = 1.0
    crop = graph.stabilized(frames, "crop")
    graph[crop]["inputs"]["max_zoom"] = 1.0
    nodes = [graph.saved([whole, 0]), graph.saved([crop, 0]), graph.saved(frames)]
    mask = graph.saved_mask([whole, 1])
    run = host.run(graph).raise_for_status()
    steady, left, source = (read_images(host, run.outputs[node]) for node in nodes)
    assert measure_shake(steady) < measure_shake(source) / 4
    assert np.abs(left - source).max() <= 1, "no zoom is allowed, so nothing can be corrected"
    assert 0.001 < (read_images(host, run.outputs[mask]) > 0).mean() < 0.5


# -- motion


def test_undo_restores_the_shake(each_host: Host, clip_name: str) -> None:
    graph = Graph()
    frames = graph.add_clip(clip_name, 10)
    # The clip moves by whole pixels: a locked view looks it up at pixels, and little is softened.
    whole = graph.stabilized(frames, smoothing="locked")
    back = graph.applied([whole, 0], [whole, 2], "undo", "mirror")
    roomy = graph.warped(frames, [whole, 2], "edge", pad=32)
    all_of_it = graph.applied([roomy, 0], [whole, 2], "undo", "black", was="edge", pad=32)
    wanted, steady, got, full = (graph.saved(w) for w in (frames, [whole, 0], [back, 0], [all_of_it, 0]))
    mask, none = graph.saved_mask([back, 1]), graph.saved_mask([all_of_it, 1])
    run = each_host.run(graph).raise_for_status()
    source, moved, cropped, complete = (read_images(each_host, run.outputs[n]) for n in (wanted, steady, got, full))
    assert source.shape == cropped.shape == complete.shape == (10, HEIGHT, WIDTH, 3)
    assert np.abs(moved - source).mean() > 10
    assert not read_images(each_host, run.outputs[none]).any(), "with room nothing was lost"
    # Blocks of random colour have the hardest edges there are, and two look-ups soften them.
    one_pixel = np.abs(np.roll(source, 1, axis=2) - source).mean()
    assert np.abs(complete - source)[:, 2:-2, 2:-2].mean() < one_pixel / 3
    genuine = read_images(each_host, run.outputs[mask])[..., 0] == 0
    assert 0.6 < genuine.mean() < 0.999
    assert np.abs(cropped - source)[genuine].mean() < one_pixel / 3
    assert np.abs(cropped - source)[~genuine].mean() > one_pixel


def test_undo_works_on_video(host: Host, clip_name: str) -> None:
    graph = Graph()
    video = [graph.add("LoadVideo", file=clip_name), 0]
    whole = graph.stabilized(video)
    back = graph.applied([whole, 0], [whole, 2], "undo", "mirror")
    parts = {name: graph.add("GetVideoComponents", video=v) for name, v in (("in", video), ("out", [back, 0]))}
    saved = {name: graph.saved([node, 0]) for name, node in parts.items()}
    steady = graph.saved([graph.add("GetVideoComponents", video=[whole, 0]), 0])
    wanted = graph.saved([graph.stabilized([parts["in"], 0]), 0])
    mask = graph.saved_mask([back, 1])
    run = host.run(graph).raise_for_status()
    nodes = (saved["in"], saved["out"], steady, wanted)
    # Brightness, because chroma is subsampled in video, which changes these random blocks a lot.
    source, again, stabilised, reference = (read_images(host, run.outputs[n]) @ [0.299, 0.587, 0.114] for n in nodes)
    assert source.shape == again.shape == (24, HEIGHT, WIDTH)
    one_pixel = np.abs(np.roll(source, 1, axis=2) - source).mean()
    assert np.abs(stabilised - reference).mean() < one_pixel / 2, "as IMAGE, but for the encoding"
    assert np.abs(stabilised - source).mean() > one_pixel
    genuine = read_images(host, run.outputs[mask])[0, ..., 0] == 0
    assert genuine.mean() > 0.3
    assert np.abs(again - source)[:, genuine].mean() < one_pixel / 2


def test_motion_is_applied_to_a_still_image(host: Host, clip_name: str) -> None:
    """The first frame, moved as the camera moved, shows what the camera then saw."""
    graph = Graph()
    frames = graph.add_clip(clip_name, 8)
    correction = graph.smoothed(graph.flow(frames))
    one = graph.add_clip(clip_name, 1)
    still = [graph.add("RepeatImageBatch", image=one, amount=8), 0]
    longer = [graph.add("RepeatImageBatch", image=one, amount=15), 0]
    move = graph.applied(still, [correction, 0], "move", "mirror")
    there_and_back = graph.applied(longer, [correction, 0], "move", "mirror")
    shaken = graph.applied(still, [correction, 0], "shake", "crop")
    names = graph.saved(frames), graph.saved([move, 0]), graph.saved([there_and_back, 0]), graph.saved([shaken, 0])
    mask = graph.saved_mask([move, 1])
    run = host.run(graph).raise_for_status()
    source, moved, ping, hand = (read_images(host, run.outputs[name]) for name in names)
    genuine = read_images(host, run.outputs[mask])[..., 0] == 0
    assert np.abs(moved - source)[genuine].mean() < np.abs(source[:1] - source).mean() / 5
    assert len(ping) == 15
    assert np.array_equal(ping[:8], moved)
    assert np.array_equal(ping[8:], moved[-2::-1])
    assert 0.6 < measure_shake(hand) / measure_shake(source) < 1.6


def test_pad_larger_than_the_frame_is_refused(host: Host, clip_name: str) -> None:
    graph = Graph()
    frames = graph.add_clip(clip_name, 2)
    correction = graph.smoothed(graph.flow(frames))
    graph.saved([graph.applied(frames, [correction, 0], "undo", "mirror", pad=48), 0])
    run = host.run(graph)
    assert run.status == "error"
    assert "a pad of 48 leaves nothing" in run.error


# -- files


def saved_trajectory(host: Host, clip_name: str, prefix: str) -> tuple[dict, dict, np.ndarray, np.ndarray]:
    """Measure and save motion; return the file, outputs, stabilized frames and plot."""
    graph = Graph()
    frames = graph.add_clip(clip_name, 10)
    flow = graph.flow(frames)
    save = graph.add("SteadyScale_SaveTrajectory", flow=flow, filename_prefix=prefix)
    correction = graph.smoothed(flow)
    steady, plot = graph.saved([graph.warped(frames, [correction, 0], "mirror"), 0]), graph.saved([correction, 1])
    run = host.run(graph).raise_for_status()
    images = read_images(host, run.outputs[steady]), read_images(host, run.outputs[plot])
    return run.outputs[save]["files"][0], run.outputs[save], *images


def test_saved_trajectory_gives_the_same_correction(any_host: Host, clip_name: str) -> None:
    file, saying, steady, plot = saved_trajectory(any_host, clip_name, "trajectories/clip")
    assert (file["subfolder"], file["type"]) == ("trajectories", "output")
    assert "10 frames of 128x96 at 25 fps, 1 shot" in saying["text"][0]
    document = json.loads(any_host.view(file))
    assert (document["format"], document["kind"], len(document["steps"])) == ("steadyscale-path", "motion", 10)
    name = f"trajectories/{file['filename']} [output]"
    combo = any_host.get("/object_info/SteadyScale_LoadTrajectory")
    offered = combo["SteadyScale_LoadTrajectory"]["input"]["required"]["file"][1]["options"]
    assert name in offered
    graph = Graph()
    load = graph.add("SteadyScale_LoadTrajectory", file=name)
    correction = graph.smoothed([load, 0])
    again = graph.saved([graph.warped(graph.add_clip(clip_name, 10), [correction, 0], "mirror"), 0])
    drawn = graph.saved([correction, 1])
    run = any_host.run(graph).raise_for_status()
    assert np.array_equal(read_images(any_host, run.outputs[again]), steady)
    assert np.array_equal(read_images(any_host, run.outputs[drawn]), plot)
    assert run.outputs[load]["text"] == ["10 frames of 128x96 at 25 fps, 1 shot"]


def test_saving_never_overwrites_and_changed_files_are_reloaded(host: Host, clip_name: str) -> None:
    first = saved_trajectory(host, clip_name, "trajectories/twice")[0]["filename"]
    graph = Graph()
    flow = graph.flow(graph.add_clip(clip_name, 5))
    save = graph.add("SteadyScale_SaveTrajectory", flow=flow, filename_prefix="trajectories/twice")
    second = host.run(graph).raise_for_status().outputs[save]["files"][0]["filename"]
    assert (first, second) == ("twice_00001_.json", "twice_00002_.json")

    def length() -> str:
        loading = Graph()
        load = loading.add("SteadyScale_LoadTrajectory", file=f"trajectories/{first} [output]")
        loading.saved([loading.smoothed([load, 0]), 1])
        return host.run(loading).raise_for_status().outputs[load]["text"][0]

    assert length().startswith("10 frames")
    folder = host.base / "output" / "trajectories"
    (folder / second).replace(folder / first)
    assert length().startswith("5 frames")


@pytest.fixture
def secret(host: Host, tmp_path: Path) -> Path:
    """A file outside ComfyUI's folders, and a link to it inside."""
    path = tmp_path / "secret.json"
    path.write_text('{"format": "secret"}')
    link = host.base / "input" / "link.json"
    link.symlink_to(path)
    yield path
    link.unlink()


def test_paths_outside_the_hosts_folders_are_refused(host: Host, clip_name: str, secret: Path) -> None:
    (host.base / "models" / "inside.json").write_text("{}")
    names = [
        str(secret),
        "../models/inside.json",
        "../models/inside.json [output]",
        "link.json",
        "clip.mp4",
        "missing.json",
        "trajectories/x.json [temp]",
        "a\0.json",
    ]
    for name in names:
        graph = Graph()
        graph.saved([graph.smoothed([graph.add("SteadyScale_LoadTrajectory", file=name), 0]), 1])
        run = host.run(graph)
        assert run.status == "rejected", name
        assert "is not a trajectory in ComfyUI's input or output folder" in run.error, name
    graph = Graph()
    flow = graph.flow(graph.add_clip(clip_name, 2))
    graph.add("SteadyScale_SaveTrajectory", flow=flow, filename_prefix="../escaped")
    run = host.run(graph)
    assert run.status == "error"
    assert "output folder" in run.error
    assert not list(host.base.glob("escaped*"))


def test_file_that_is_not_a_trajectory_is_refused(host: Host) -> None:
    (host.base / "input" / "workflow.json").write_text('{"nodes": []}')
    graph = Graph()
    graph.saved([graph.smoothed([graph.add("SteadyScale_LoadTrajectory", file="workflow.json"), 0]), 1])
    run = host.run(graph)
    assert run.status == "error"
    assert "choose a file that SteadyScale saved" in run.error


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"hold": "region", "region": "40,30,48,40", "mesh": "auto"}, "holds the region"),
        ({"field_of_view": 120.0, "keyframes": '[{"time": 0.4, "strength": 0.5}]'}, "1 keyframe, field of view 120"),
    ],
)
def test_expert_settings_of_the_stabilizer_work(host: Host, clip_name: str, settings, said: str) -> None:
    graph = Graph()
    steady = graph.add(
        "SteadyScale_StabilizeVideo",
        frames=graph.add_video(clip_name), fps=24.0, smoothing="kalman", seconds=1.0, max_zoom=1.3, border="crop",
        method="farneback", rolling_shutter="auto", **settings,
    )  # fmt: skip
    saved = graph.add("SaveVideo", video=[steady, 0], filename_prefix="expert", format="auto", codec="auto")
    text = graph.add("PreviewAny", source=[steady, 4])
    outputs = host.run(graph).raise_for_status().outputs
    assert said in outputs[text]["text"][0]
    item = outputs[saved]["images"][0]
    made = real_comfyui.video_shape(host.base / "output" / item["subfolder"] / item["filename"])
    assert made == (real_comfyui.WIDTH, real_comfyui.HEIGHT, real_comfyui.FRAME_COUNT)
