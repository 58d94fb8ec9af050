"""`make demo`: run workflows/api/enhance.json in a real ComfyUI.

Writes a video and a contact sheet. Runs in the .venv of bootstrap.py.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import time
from pathlib import Path

import assets
import av
import base_directory
import contact_sheet
import script_support
import shaken_sample
from av.error import FFmpegError
from bootstrap import DEFAULT_NETWORK, PYTHON
from comfyhost import Host, HostError
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

WORKFLOW_FILE = script_support.REPO_ROOT / "workflows" / "api" / "enhance.json"
CPU_CLIP_SECONDS = 2.0  # of the clip without a GPU: the full clip would take a quarter of an hour


def main() -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("--clip", help="the video to enhance (default: the sample clip)")
    options.add_argument("--length", help="seconds of it, or `all` (default: all with a GPU, else 2)")
    arguments = options.parse_args()
    source = Path(arguments.clip).expanduser().resolve() if arguments.clip else get_shaken_clip()
    if not source.is_file():
        raise script_support.SetupError(f"there is no file {source}")

    base = base_directory.create_base_directory(
        script_support.DEMO_FOLDER, [assets.get_weights(DEFAULT_NETWORK, PYTHON)]
    )
    host = Host(assets.get_comfyui(), base, flags=base_directory.HOST_FLAGS)
    clip = shorten_clip(source, base / "input", parse_length(arguments.length, host.cpu))
    graph = json.loads(WORKFLOW_FILE.read_text())
    for node in graph.values():
        if node["class_type"] == "LoadVideo":
            node["inputs"]["file"] = clip.name
    try:
        with script_support.report_step(f"ComfyUI starts ({'CPU' if host.cpu else 'GPU'})"):
            host.start()
        print(f"  {WORKFLOW_FILE.relative_to(script_support.REPO_ROOT)} on {clip.name}:", flush=True)
        run = host.run(graph, ProgressDisplay(graph), timeout=24 * 3600)
        if run.status != "success":
            raise script_support.SetupError(f"ComfyUI reports: {run.status}\n  {run.error}\n  Its log: {host.log_path}")
        with script_support.report_step("Contact sheet"):
            video = fetch_video(host, run.outputs, script_support.DEMO_FOLDER / "result" / f"{clip.stem}-enhanced.mp4")
            sheet = video.with_suffix(".png")
            contact_sheet.draw_contact_sheet(clip, video, fetch_plot(host, graph, run.outputs), sheet)
    except HostError as error:
        raise script_support.SetupError(str(error)) from error
    finally:
        host.stop()
    print(f"\n{video}\n{sheet}")


def get_shaken_clip() -> Path:
    """The demo's clip, generated once per version of shaken_sample.py."""
    video = assets.get_sample_clip()
    version = hashlib.sha256(Path(shaken_sample.__file__).read_bytes()).hexdigest()[:8]
    target = script_support.cache_folder() / "clip" / version / "bikes-handheld.mp4"
    return script_support.create_once(target, lambda part: shaken_sample.write_shaken_clip(video, part))


def parse_length(length: str | None, cpu: bool) -> float | None:
    """The value of --length in seconds; None is the full clip."""
    if not length:
        return CPU_CLIP_SECONDS if cpu else None
    if length == "all":
        return None
    try:
        seconds = float(length)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise script_support.SetupError(f"LENGTH is {length!r}; use a number of seconds, or all")
    return seconds


def shorten_clip(source: Path, folder: Path, seconds: float | None) -> Path:
    """Put the clip into the host's input folder, linked or stream-copied and cut.

    Packets are copied in decoding order up to the first frame that is too late, so that every copied frame has its
    references.
    """
    try:
        with av.open(str(source)) as container:
            video = container.streams.video[0]
            total = float(container.duration or 0) / av.time_base
            if seconds is None or total <= seconds:
                script_support.link_or_copy(source, folder / source.name)
                return folder / source.name
            target = folder / f"{source.stem}-{seconds:g}s{source.suffix}"
            part = target.with_name(f"part-{target.name}")
            with av.open(str(part), "w") as output:
                streams = [s for s in container.streams if s.type in ("video", "audio")]
                copies = {s.index: output.add_stream_from_template(s) for s in streams}
                for packet in container.demux(streams):
                    if packet.dts is None or packet.pts is None:
                        continue
                    late = float((packet.pts - (packet.stream.start_time or 0)) * packet.time_base) >= seconds
                    if late and packet.stream is video:
                        break
                    if not late:
                        packet.stream = copies[packet.stream.index]
                        output.mux(packet)
            part.replace(target)
    except (FFmpegError, IndexError) as error:
        raise script_support.SetupError(f"{source} is not a video that can be read: {error}") from error
    print(f"  The first {seconds:g} s of {source.name} ({total:g} s): LENGTH=all takes all of it")
    return target


class ProgressDisplay:
    """Display the host's events: one line per node, with a progress bar while it runs."""

    def __init__(self, graph: dict) -> None:
        self.titles = {key: node.get("_meta", {}).get("title", node["class_type"]) for key, node in graph.items()}
        self.console = Console()
        self.node_id: str | None = None
        self.started_at = 0.0
        self.progress: Progress | None = None

    def __call__(self, kind: str, data: dict) -> None:
        if kind == "executing" and data.get("node") != self.node_id:
            self.finish_node()
            if data.get("node") is not None:
                self.start_node(data["node"])
        elif kind == "progress" and self.progress is not None:
            self.progress.update(self.progress.task_ids[0], completed=data["value"], total=data["max"])
        elif kind in ("execution_success", "execution_error", "execution_interrupted"):
            self.finish_node()

    def start_node(self, node_id: str) -> None:
        self.node_id, self.started_at = node_id, time.monotonic()
        layout = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
        bar = Progress(TextColumn("    {task.description}"), *layout, console=self.console, transient=True)
        bar.add_task(self.titles.get(node_id, node_id), total=None)
        if self.console.is_terminal:
            bar.start()
        self.progress = bar

    def finish_node(self) -> None:
        if self.progress is None or self.node_id is None:
            return
        if self.console.is_terminal:
            self.progress.stop()
        task = self.progress.tasks[0]
        count = f" ({task.completed:.0f} of {task.total:.0f})" if task.total else ""
        print(f"    {task.description}{count} … {time.monotonic() - self.started_at:.1f} s", flush=True)
        self.progress = self.node_id = None


def fetch_video(host: Host, outputs: dict[str, dict], target: Path) -> Path:
    """Download the saved video."""
    for output in outputs.values():
        for item in output.get("images", []) + output.get("videos", []):
            if item["filename"].endswith((".mp4", ".mkv", ".webm", ".mov")) and item["type"] == "output":
                target.parent.mkdir(exist_ok=True)
                with script_support.atomic_path(target) as part:
                    part.write_bytes(host.view(item))
                return target
    raise script_support.SetupError(f"the graph ran, but ComfyUI reports no saved video. Its log: {host.log_path}")


def fetch_plot(host: Host, graph: dict, outputs: dict[str, dict]) -> Image.Image | None:
    """The plot of the camera path, from a preview node after Smooth Trajectory."""
    sources = {key for key, node in graph.items() if node["class_type"] == "SteadyScale_SmoothTrajectory"}
    for key, output in outputs.items():
        feeds = {value[0] for value in graph[key]["inputs"].values() if isinstance(value, list)} | {key}
        images = [item for item in output.get("images", []) if item["filename"].endswith((".png", ".jpg", ".webp"))]
        if feeds & sources and images:
            return Image.open(io.BytesIO(host.view(images[0]))).convert("RGB")
    return None


if __name__ == "__main__":
    script_support.run_main(main)
