"""Test VIDEO from Load Video through our nodes to Save Video in a real ComfyUI."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import av
import prompt_builder
import pytest
from comfyhost import Host, RunResult
from numbered_video import make_video, read_numbers
from prompt_builder import MODEL_NAME, SMALL_MODELS
from steadyscale.core.video.decode.video_clip import VideoClip

pytestmark = pytest.mark.host

FRAMES, WIDTH, HEIGHT = 24, 64, 48


class Graph(prompt_builder.PromptBuilder):
    def upscaled(self, frames: list, model: str = SMALL_MODELS[4], **settings: object) -> list:
        defaults = {"resize_to": "model scale", "factor": 2.0, "width": 1, "height": 1, "tile": 0, "precision": "auto"}
        node = self.add(
            "SteadyScale_UpscaleFrames", upscale_model=self.add_model(model), frames=frames, **{**defaults, **settings}
        )
        return [node, 0]

    def warped(self, frames: list, measured: list, border: str = "mirror", pad: int = 0) -> list:
        flow = self.add(
            "SteadyScale_EstimateFlow", frames=measured, method="farneback", fps=1.0, detail=480, pictures=2
        )
        settings = {"smoothing": "kalman", "seconds": 2.0, "max_zoom": 2.0, "reference": -1}
        correction = [self.add("SteadyScale_SmoothTrajectory", flow=[flow, 0], **settings), 0]
        return [self.add("SteadyScale_WarpFrames", frames=frames, correction=correction, border=border, pad=pad), 0]

    def saved(self, video: list, prefix: str = "video") -> str:
        return self.add("SaveVideo", video=video, filename_prefix=prefix, format="mp4", codec="h264")


def source(host: Host, name: str, count: int = FRAMES, **settings: object) -> Path:
    """Numbered frames with audio in the host's input folder."""
    path = host.base / "input" / name
    return path if path.exists() else make_video(path, count, size=(WIDTH, HEIGHT), audio_start=0.1, **settings)


def result(host: Host, run: RunResult, node: str) -> Path:
    item = run.outputs[node]["images"][0]
    return host.base / "output" / item["subfolder"] / item["filename"]


def audio_packets(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(container.streams.audio[0]) if packet.size]


def progress(run: RunResult, node: str) -> list[int]:
    return [data["value"] for kind, data in run.events if kind == "progress" and data["node"] == node]


def left_behind(host: Host) -> list[str]:
    """Unfinished files, in the folder of results and in the temporary one."""
    return [p.name for folder in ("output", "temp") for p in (host.base / folder).rglob("*") if "partial" in p.name]


def test_video_is_upscaled_with_all_frames_and_audio(any_host: Host) -> None:
    clip = source(any_host, "numbered.mp4")
    graph = Graph()
    upscaled = graph.upscaled(graph.add_video(clip.name))
    saved = graph.saved(upscaled)
    run = any_host.run(graph).raise_for_status()
    made = result(any_host, run, saved)
    assert (VideoClip(made).info.width, VideoClip(made).info.height) == (4 * WIDTH, 4 * HEIGHT)
    assert read_numbers(VideoClip(made)) == list(range(FRAMES))
    assert audio_packets(made) == audio_packets(clip)
    with av.open(str(made)) as container:
        assert "SteadyScale_UpscaleFrames" in container.metadata["prompt"]
    assert progress(run, saved)[-1] == FRAMES, "the work is done where the pixels are needed"
    # Where the run takes longer than a second, the planner shows the frame in work, but it has not worked before.
    begun = next(i for i, (kind, data) in enumerate(run.events) if kind == "executing" and data["node"] == saved)
    assert [data for kind, data in run.events[:begun] if kind == "progress"] == [], "planning is no work"
    assert left_behind(any_host) == []


def test_files_share_one_render_and_frames_are_not_taken_from_them(any_host: Host) -> None:
    clip = source(any_host, "numbered.mp4")
    graph = Graph()
    video = graph.add_video(clip.name)
    steady = graph.warped(video, video, pad=2)
    large = graph.upscaled(steady, resize_to="factor", factor=2.0)
    small = graph.upscaled(large, resize_to="factor", factor=0.5)
    first, second = graph.saved(small, "one"), graph.saved(small, "two")
    frames = graph.add("GetVideoComponents", video=small)
    count = graph.add("SaveImage", images=[frames, 0], filename_prefix="frames")
    run = any_host.run(graph).raise_for_status()
    made = [VideoClip(result(any_host, run, node)) for node in (first, second)]
    for clip_made in made:
        assert (clip_made.info.width, clip_made.info.height) == (WIDTH + 4, HEIGHT + 4)
        assert sum(1 for _ in clip_made.frames()) == FRAMES
        assert audio_packets(clip_made.path) == audio_packets(clip)
    assert len(run.outputs[count]["images"]) == FRAMES
    assert len([node for node in (first, second) if progress(run, node)]) == 1
    made_and_read = progress(run, frames)
    assert any(later < sooner for sooner, later in pairwise(made_and_read)), "a lossless master is made, and then read"


def test_second_prompt_reuses_the_rendered_video(host: Host) -> None:
    clip = source(host, "numbered.mp4")
    graph = Graph()
    large = graph.upscaled(graph.add_video(clip.name), grain=0.2)
    graph.saved(large, "before")
    host.run(graph).raise_for_status()
    again = graph.saved(large, "after")
    run = host.run(graph).raise_for_status()
    assert progress(run, again) == []
    assert sum(1 for _ in VideoClip(result(host, run, again)).frames()) == FRAMES


def test_memory_does_not_grow_with_the_clip_length(host: Host) -> None:
    peaks = []
    for index, count in enumerate((24, 24, 168)):  # the first run is for what the host loads once
        clip = source(host, f"long{index}.mp4", count, starts=[1000 * i for i in range(count)])
        graph = Graph()
        graph.saved(graph.upscaled(graph.add_video(clip.name), resize_to="size", width=640, height=480))
        host.reset_peak()
        run = host.run(graph).raise_for_status()
        peaks.append(host.rss(peak=True))
    node = next(key for key, made in run.outputs.items() if made.get("images"))
    assert sum(1 for _ in VideoClip(result(host, run, node)).frames()) == 168
    held = 144 * 640 * 480 * 3 * 4 / 2**20
    assert peaks[2] - peaks[1] < held / 5, f"{peaks} MiB; the frames alone would be {held:.0f} MiB more"


def test_a_cancel_leaves_no_file_and_the_next_prompt_runs(host: Host) -> None:
    clip = source(host, "cancelled.mp4", 240, starts=[1000 * i for i in range(240)])
    before = set((host.base / "output").rglob("*"))
    for attempt in range(3):  # a host that is short of processor time can take the cancel when the work is done
        graph = Graph()
        large = graph.upscaled(graph.add_video(clip.name), MODEL_NAME, tile=32, grain=(attempt + 1) / 50)
        saved = graph.saved(large, "cancelled")
        seen: list[int] = []

        def cancel(event: str, data: dict, seen: list[int] = seen) -> None:
            if event == "progress":
                seen.append(data["value"])
                if len(seen) == 2:
                    host.interrupt()

        run = host.run(graph, cancel)
        if run.status == "interrupted":
            break
    assert run.status == "interrupted", f"{run.error}\n{host.log_tail()}"
    assert progress(run, saved)[-1] < 120
    assert not [path for path in set((host.base / "output").rglob("*")) - before if path.is_file()]
    assert left_behind(host) == []
    again = Graph()
    again.saved(again.upscaled(again.add_video(source(host, "numbered.mp4").name)))
    host.run(again).raise_for_status()


def test_frames_that_do_not_fit_are_refused_with_our_node_name(host: Host) -> None:
    clip = source(host, "numbered.mp4")
    graph = Graph()
    large = graph.upscaled(graph.add_video(clip.name), resize_to="size", width=32768, height=32768)
    frames = graph.add("GetVideoComponents", video=large)
    graph.add("SaveImage", images=[frames, 0], filename_prefix="never")
    run = host.run(graph)
    assert run.status == "error"
    assert "SteadyScale_UpscaleFrames" in run.error
    assert "frames of 32768x32768 need about 64.4 GB of memory" in run.error
    assert "choose a size of at most" in run.error


def test_video_from_images_keeps_its_audio(any_host: Host) -> None:
    clip = source(any_host, "numbered.mp4")
    graph = Graph()
    parts = graph.add("GetVideoComponents", video=graph.add_video(clip.name))
    video = graph.add("CreateVideo", images=[parts, 0], audio=[parts, 1], fps=[parts, 2])
    saved = graph.saved(graph.upscaled([video, 0], resize_to="factor", factor=0.5))
    run = any_host.run(graph).raise_for_status()
    made = result(any_host, run, saved)
    assert (VideoClip(made).info.width, VideoClip(made).info.fps) == (WIDTH // 2, 24)
    assert sum(1 for _ in VideoClip(made).frames()) == FRAMES
    assert audio_packets(made)


def test_file_that_is_not_a_video_is_refused_on_our_node(host: Host) -> None:
    (host.base / "input" / "page.mp4").write_text("ffconcat version 1.0\nfile numbered.mp4\n")
    graph = Graph()
    graph.saved(graph.upscaled(graph.add_video("page.mp4")))
    run = host.run(graph)
    assert run.status == "error"
    assert "SteadyScale_UpscaleFrames" in run.error
    assert "not a video" in run.error


def test_link_of_the_wrong_type_is_refused_before_any_work(any_host: Host) -> None:
    clip = source(any_host, "numbered.mp4")
    graph = Graph()
    video = graph.upscaled(graph.add_video(clip.name), resize_to="factor", factor=0.3)
    graph.add("SaveImage", images=video, filename_prefix="never")
    run = any_host.run(graph)
    assert run.status == "error"
    assert "takes IMAGE, but these frames came as VIDEO" in run.error
    assert "Get Video Components" in run.error
    graph = Graph()
    parts = graph.add("GetVideoComponents", video=graph.add_video(clip.name))
    saved = graph.saved(graph.upscaled([parts, 0], resize_to="factor", factor=0.3))
    run = any_host.run(graph)
    assert run.status == "error"
    assert f"(node {saved}) takes VIDEO, but these frames came as IMAGE" in run.error
    assert progress(run, "3") == []
