"""Record results that a refactoring must not change, and compare later code.

    .venv/bin/python scripts/regression.py record FOLDER     before the change
    .venv/bin/python scripts/regression.py compare FOLDER    after it, on the same machine

Frame values depend on the processor, so a record serves on the machine that wrote it only. Everything is observed from
outside, through the command line and ComfyUI's HTTP API, so that files and symbols may move and change their names.

A record holds hashes of every output frame with its timestamp, of the audio packets and of the reports of the command
line (CLI_RUNS) and of graphs in a real ComfyUI (GRAPHS), the schemas of all nodes, and all help pages. Wording (help,
tooltips, display names) may change: it is listed, and is no failure. New flags may appear. Where the native engine is
built, two runs use it too: build it again (`steadyscale native build`) if its sources changed before you compare.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import assets
import av
import base_directory
import numpy as np
import regression_inputs as inputs
import script_support
from comfyhost import Host
from PIL import Image
from regression_compare import differences

Record = dict[str, Any]

ENVIRONMENT = {"OMP_NUM_THREADS": "1", "COLUMNS": "1000", "PYTHONUNBUFFERED": "1"}
FFV1 = "out.mkv --codec ffv1"
MODEL_2X, MODEL_4X = "--model steadyscale-2x", "--model steadyscale-4x"  # the defaults when the records were made

CLI_RUNS = {
    "upscale": f"upscale {inputs.UNEVEN} {FFV1} {MODEL_2X} --scale 1.5 --strength 0.8 --colour wavelet --grain 0.2 "
    "--linear-light",
    "upscale-temporal": f"upscale {inputs.SHAKY} {FFV1} {MODEL_4X} --size 400x300 --temporal 0.6 --grain 0.1 "
    "--colour mean",
    "upscale-screen": f"upscale {inputs.SCREEN} {FFV1} {MODEL_2X} --repeat-threshold 2 --tile 64",
    "stabilize-l1": f"stabilize {inputs.SHAKY} {FFV1} --smoothing l1 --border mirror --flow dis --keep-x 0.3",
    "stabilize-fill": f"stabilize {inputs.UNEVEN} {FFV1} --border fill --smoothing whittaker --flow tracks",
    "stabilize-locked": f"stabilize {inputs.SHAKY} {FFV1} --smoothing locked --border crop-adaptive --max-zoom 1.5",
    "stabilize-rolling": f"stabilize {inputs.SHAKY} {FFV1} --rolling-shutter 0.6 --horizon 0.5 --seconds 2",
    "enhance": f"enhance {inputs.UNEVEN} {FFV1} {MODEL_2X} --scale 2 --temporal 0.5 --smoothing gaussian --no-reuse",
    "enhance-resumable": f"enhance {inputs.SHAKY} {FFV1} {MODEL_2X} --scale 2 --resumable --segment-seconds 0.5",
    "enhance-images": f"enhance {inputs.IMAGES} out_%04d.png {MODEL_2X} --border black --smoothing learned "
    "--alpha network --bits 16",
}
NATIVE_RUNS = {
    "upscale-screen-native": CLI_RUNS["upscale-screen"].replace(" --tile 64", ""),
    "enhance-native": CLI_RUNS["enhance"],
}
GRAPHS = {
    "upscale": inputs.UNEVEN,
    "stabilize": inputs.SHAKY,
    "enhance": inputs.SHAKY,
    "restore": inputs.UNEVEN,
    "outpaint": inputs.SHAKY,
    "compare": inputs.SHAKY,
}
VOLATILE = ("input", "output", "seconds", "peak_memory_mb")  # of reports


def main() -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    actions = options.add_subparsers(dest="action", required=True)
    for name, about in (("record", "write a new record"), ("compare", "compare this code with a record")):
        action = actions.add_parser(name, help=about)
        action.add_argument("folder", type=Path)
        action.add_argument("--command", default=str(Path(sys.executable).with_name("steadyscale")))
    actions.choices["compare"].add_argument("--with", dest="other", type=Path, help="a second record, nothing is run")
    arguments = options.parse_args()
    command = shlex.split(arguments.command)
    if arguments.action == "record":
        arguments.folder.mkdir(parents=True, exist_ok=True)
        record = make_record(command)
        (arguments.folder / "record.json").write_text(json.dumps(record, indent=1))
        print(f"{arguments.folder / 'record.json'}: {_counted(record)}, in {record['seconds']} s")
        return
    before = read_record(arguments.folder)
    after = read_record(arguments.other) if arguments.other else make_record(command)
    failures, wording = differences(before, after, lambda *words: call(command, *words)[2])
    for title, lines in (("wording (no failure)", wording), ("DIFFERENT", failures)):
        if lines:
            print(f"{title}:", *lines, sep="\n  ")
    print(f"{_counted(after)}: {len(failures)} differences, and {len(wording)} of wording")
    sys.exit(1 if failures else 0)


def read_record(folder: Path) -> Record:
    return json.loads((folder / "record.json").read_text())


def _counted(record: Record) -> str:
    frames = sum(len(result["frames"]) for kind in ("runs", "graphs") for result in record[kind].values())
    counts = [f"{len(record[kind])} {kind}" for kind in ("runs", "graphs", "nodes", "help")]
    return f"{', '.join(counts)}, {frames} frames"


def make_record(command: list[str]) -> Record:
    """Run everything, in a temporary folder."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="regression-") as name:
        folder = Path(name)
        inputs.write_inputs(folder)
        runs = {name: _run_cli(command, folder, name, words) for name, words in CLI_RUNS.items()}
        if has_native_engine(command):
            runs |= {name: _run_cli(command, folder, name, words, native=True) for name, words in NATIVE_RUNS.items()}
        pages = help_pages(command)
        graphs, nodes = _run_graphs(folder)
    seconds = round(time.monotonic() - start)
    return {"seconds": seconds, "runs": runs, "graphs": graphs, "nodes": nodes, "help": pages}


# ---- the command line ----


def call(command: list[str], *words: str, folder: Path | None = None, native: bool = False) -> tuple[int, str, str]:
    """Exit status, stdout and stderr."""
    environment = {**os.environ, **ENVIRONMENT, "STEADYSCALE_NATIVE": str(int(native))}
    done = subprocess.run([*command, *words], cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def has_native_engine(command: list[str]) -> bool:
    _, report, _ = call(command, "native", "info", "--json", native=True)
    return bool(report) and bool(json.loads(report).get("active"))


def _run_cli(command: list[str], inputs_folder: Path, name: str, words: str, native: bool = False) -> Record:
    folder = inputs_folder / "runs" / name
    folder.mkdir(parents=True)
    action, source, *rest = words.split()
    device = ["--device", "cpu", "--json", "--quiet"]
    print(f"run {name}", flush=True)
    status, report, errors = call(
        command, action, str(inputs_folder / source), *rest, *device, folder=folder, native=native
    )
    if status:
        raise script_support.SetupError(f"steadyscale {words}: exit status {status}\n{errors}")
    facts = {key: value for key, value in json.loads(report).items() if key not in VOLATILE}
    files = sorted(path.name for path in folder.iterdir())
    return {"files": files, "report": facts, **_hashes_of([folder / file for file in files])}


def _hashes_of(files: list[Path]) -> Record:
    """The [pts, hash] of all frames and of all audio packets of media files."""
    frames, audio = [], []
    for file in files:
        if file.suffix == ".png":
            frames += list(_image_hashes(file))
            continue
        with av.open(str(file)) as container:
            for packet in container.demux():
                if packet.stream.type == "audio" and packet.size:
                    audio.append([packet.pts, _hash(bytes(packet))])
                elif packet.stream.type == "video":
                    frames += [[frame.pts, _frame_hash(frame)] for frame in packet.decode()]  # pyright: ignore
    return {"frames": frames, "audio": audio}


def _image_hashes(file: Path) -> Iterator[list[Any]]:
    with av.open(str(file)) as container:  # PIL reduces 16 bits to 8
        yield from ([0, _frame_hash(frame)] for frame in container.decode(video=0))


def _frame_hash(frame: av.VideoFrame) -> str:
    """Of the format and all planes, without the padding at the end of lines."""
    wanted = "bgr24" if frame.format.name == "bgr0" else frame.format.name  # the fourth byte is undefined
    pixels = frame.reformat(format=wanted).to_ndarray()
    return _hash(f"{frame.format.name} {frame.width}x{frame.height}".encode() + np.ascontiguousarray(pixels).tobytes())


def _hash(data: bytes) -> str:
    return sha256(data).hexdigest()[:32]


def help_pages(command: list[str], *words: str) -> dict[str, str]:
    """The --help of the program and, recursively, of all its commands, by their names."""
    status, page, errors = call(command, *words, "--help")
    if status:
        raise script_support.SetupError(f"steadyscale {' '.join(words)} --help: {errors}")
    pages = {" ".join(words): page}
    listed = page.partition("positional arguments:")[2].partition("options:")[0]
    if re.search(r"^  (COMMAND|ACTION)\n", listed, re.MULTILINE):
        for name in re.findall(r"^    (\S+)", listed, re.MULTILINE):
            pages |= help_pages(command, *words, name)
    return pages


# ---- graphs in ComfyUI ----


def _run_graphs(folder: Path) -> tuple[Record, Record]:
    """The results of GRAPHS, and the schemas of our nodes as ComfyUI reports them."""
    base = base_directory.create_base_directory(folder / "comfyui", [], [folder / inputs.SHAKY, folder / inputs.UNEVEN])
    with Host(
        assets.get_comfyui(),
        base,
        flags=base_directory.HOST_FLAGS,
        cpu=True,
        env={**ENVIRONMENT, "STEADYSCALE_NATIVE": "0"},
    ) as host:
        nodes = {
            name: node
            for name, node in host.get("/object_info").items()
            if node["python_module"] == "custom_nodes.steadyscale"
        }
        graphs = {name: _workflow(name, clip) for name, clip in GRAPHS.items()}
        graphs["other nodes"] = _graph_of_other_nodes(nodes)
        return {name: _run_graph(host, name, graph) for name, graph in graphs.items()}, nodes


def _workflow(name: str, clip: str) -> Record:
    """A graph of workflows/api that reads the clip."""
    graph = json.loads((script_support.REPO_ROOT / "workflows" / "api" / f"{name}.json").read_text(encoding="utf-8"))
    for node in graph.values():
        if node["class_type"] == "LoadVideo":
            node["inputs"]["file"] = clip
    _without_checkpoint(graph)
    saved = next(number for number, node in graph.items() if node["class_type"] == "SaveVideo")
    return graph | _saved_images("frames", graph[saved]["inputs"]["video"], is_video=True)


def _graph_of_other_nodes(definitions: Record) -> Record:
    """A graph of the nodes that no workflow has, with their defaults."""

    def node(name: str, **links: Any) -> Record:
        declared = definitions[f"SteadyScale_{name}"]["input"]
        specs = {key: spec for group in ("required", "optional") for key, spec in declared.get(group, {}).items()}
        defaults = {key: spec[1]["default"] for key, spec in specs.items() if "default" in spec[1]}
        return {"class_type": f"SteadyScale_{name}", "inputs": {**defaults, **links}}

    clip, model = ["load", 0], ["model", 0]
    graph = {
        "load": {"class_type": "LoadVideo", "inputs": {"file": inputs.SHAKY}},
        "batch": {"class_type": "GetVideoComponents", "inputs": {"video": clip}},
        "model": node("LoadESRGANModel", model_name="steadyscale-2x"),
        "flow": node("EstimateFlow", frames=clip),
        "stabilize": node("StabilizeVideo", frames=clip),
        "enhance": node("EnhanceVideo", frames=clip, upscale_model=model),
        "undo": node("ApplyMotion", frames=["stabilize", 0], correction=["stabilize", 2]),
        "upscale": node("UpscaleFrames", frames=["batch", 0], upscale_model=model),
        "arrows": node("PreviewFlow", frames=clip, frame=5),
        "plot": node("PreviewTrajectory", path=["flow", 0]),
        "save": node("SaveTrajectory", flow=["flow", 0]),
    }
    for name in ("stabilize", "enhance", "undo"):
        graph |= _saved_images(name, [name, 0], is_video=True)
    for name in ("upscale", "arrows", "plot"):
        graph |= _saved_images(name, [name, 0], is_video=False)
    return graph


def _saved_images(name: str, link: list[Any], *, is_video: bool) -> Record:
    """Nodes that save frames as PNG; H.264 would be lossy and not always the same."""
    image = {"class_type": "SaveImage", "inputs": {"images": link, "filename_prefix": name}}
    if not is_video:
        return {f"{name}.png": image}
    image["inputs"]["images"] = [f"{name}.parts", 0]
    return {f"{name}.parts": {"class_type": "GetVideoComponents", "inputs": {"video": link}}, f"{name}.png": image}


def _run_graph(host: Host, name: str, graph: Record) -> Record:
    """Hashes of all PNG frames; timestamps of frames and audio of a saved video."""
    print(f"graph {name}", flush=True)
    run = host.run(graph).raise_for_status()
    frames, times, audio = [], [], []
    for number, output in sorted(run.outputs.items()):
        if number.endswith(".png"):
            images = [Image.open(BytesIO(host.view(item))) for item in output["images"]]
            frames += [[number, _hash(f"{each.mode} {each.size}".encode() + each.tobytes())] for each in images]
        elif graph[number]["class_type"] == "SaveVideo":
            item = output["images"][0]
            video = _hashes_of([host.base / "output" / item["subfolder"] / item["filename"]])
            times += [pts for pts, _ in video["frames"]]
            audio += [pts for pts, _ in video["audio"]]
    outputs = sorted([number, sorted(output)] for number, output in run.outputs.items())
    return {"frames": frames, "times": times, "audio": audio, "outputs": outputs}


def _without_checkpoint(graph: Record) -> None:
    """Replace the result of a diffusion model by the mask."""
    loaders = [number for number, node in graph.items() if node["class_type"] == "CheckpointLoaderSimple"]
    if not loaders:
        return
    paste = next(node for node in graph.values() if node["class_type"] == "ImageCompositeMasked")
    graph["mask"] = {"class_type": "MaskToImage", "inputs": {"mask": paste["inputs"]["mask"]}}
    paste["inputs"]["source"] = ["mask", 0]
    needless = set(loaders)
    while more := {n for n, node in graph.items() if _sources(node) & needless} - needless:
        needless |= more
    for number in needless:
        del graph[number]


def _sources(node: Record) -> set[str]:
    return {value[0] for value in node["inputs"].values() if isinstance(value, list)}


if __name__ == "__main__":
    script_support.run_main(main)
