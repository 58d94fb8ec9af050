"""Save Trajectory and Load Trajectory: the motion of a clip as a JSON file."""

from __future__ import annotations

import os

from comfy_api.latest import io

from ..core.clip import ClipError
from ..core.path.motion import Motion
from ..core.path.serialize import load_path, save_path
from ._comfy.adapter import FlowType
from ._comfy.node_text import show_text
from ._comfy.paths import find_annotated_file, input_folder, numbered_path, output_folder, resolve_inside
from ._comfy.schema import STABILIZE_CATEGORY, node_schema

TRAJECTORY_FOLDER = "trajectories"  # within ComfyUI's input and output folders
TRAJECTORY_SUFFIX = ".json"


class SaveTrajectory(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="SteadyScale_SaveTrajectory",
            display_name="Save Trajectory",
            category=STABILIZE_CATEGORY,
            search_aliases="save camera path, export motion, save motion, camera motion json",
            description="Keeps the measured motion of a clip as a JSON file in ComfyUI's output folder. Load "
            "Trajectory gives it back, number for number, so that a clip need not be measured again.",
            is_output_node=True,
            inputs=[
                FlowType.Input("flow", tooltip="From Estimate Flow."),
                io.String.Input(
                    "filename_prefix",
                    default=f"{TRAJECTORY_FOLDER}/path",
                    tooltip=f"Folder and beginning of the file's name, within ComfyUI/output; a number follows. Load "
                    f"Trajectory lists what is in {TRAJECTORY_FOLDER}.",
                ),
            ],
            outputs=[],
        )

    @classmethod
    def execute(cls, flow: Motion, filename_prefix: str) -> io.NodeOutput:
        root, info = output_folder(), flow.info
        path, subfolder = numbered_path(filename_prefix, root, TRAJECTORY_SUFFIX, info.width, info.height)
        if resolve_inside(str(root), str(path)) is None:
            raise ClipError(f"{filename_prefix!r} is outside ComfyUI's output folder: use a name within it")
        save_path(flow, path)
        text = f"{os.path.join(subfolder, path.name)}\n{_describe_motion(flow)}"
        show_text(text)
        file = {"filename": path.name, "subfolder": subfolder, "type": "output"}
        return io.NodeOutput(ui={"text": [text], "files": [file]})


class LoadTrajectory(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="SteadyScale_LoadTrajectory",
            display_name="Load Trajectory",
            category=STABILIZE_CATEGORY,
            search_aliases="load camera path, import motion, load motion, camera motion json",
            description="Reads the motion of a clip that Save Trajectory kept, in place of Estimate Flow.",
            inputs=[
                io.Combo.Input(
                    "file",
                    options=_list_trajectories(),
                    tooltip=f"A file of Save Trajectory: in ComfyUI's output/{TRAJECTORY_FOLDER}, "
                    f"input or input/{TRAJECTORY_FOLDER}.",
                )
            ],
            outputs=[FlowType.Output(display_name="flow", tooltip="For Smooth Trajectory.")],
        )

    @classmethod
    def validate_inputs(cls, file: str = "") -> bool | str:
        # A name from an API call may be any path; graphs may only read ComfyUI's own folders.
        if (path := find_annotated_file(file, TRAJECTORY_SUFFIX)) is not None and os.path.isfile(path):
            return True
        return (
            f"{file!r} is not a trajectory in ComfyUI's input or output folder: save one with Save Trajectory and "
            "refresh, or choose another"
        )

    @classmethod
    def fingerprint_inputs(cls, file: str = "") -> tuple[str, float, int]:
        path = find_annotated_file(file, TRAJECTORY_SUFFIX)
        if path is None or not os.path.isfile(path):
            return file, 0.0, 0
        status = os.stat(path)
        return path, status.st_mtime, status.st_size

    @classmethod
    def execute(cls, file: str) -> io.NodeOutput:
        path = find_annotated_file(file, TRAJECTORY_SUFFIX)
        if path is None:
            raise ClipError(f"{file!r} is not in ComfyUI's input or output folder")
        motion = load_path(path)
        if not isinstance(motion, Motion):
            raise ClipError(
                f"{file} contains a {type(motion).__name__.lower()}, and this node loads measured motion: "
                "choose a file of Save Trajectory"
            )
        text = _describe_motion(motion)
        show_text(text)
        return io.NodeOutput(motion, ui={"text": [text]})


def _describe_motion(motion: Motion) -> str:
    info, shots = motion.info, len(motion.shots)
    size, rate = f"{info.width}x{info.height}", f"{float(info.fps):g} fps"
    return f"{len(motion.steps)} frames of {size} at {rate}, {shots} {'shot' if shots == 1 else 'shots'}"


def _list_trajectories() -> list[str]:
    """Trajectory files by ComfyUI's names; ` [output]` marks the output folder."""
    folders = (("input", "", ""), ("input", TRAJECTORY_FOLDER, ""), ("output", TRAJECTORY_FOLDER, " [output]"))
    names = []
    for kind, folder, mark in folders:
        root = input_folder() if kind == "input" else output_folder()
        files = (file for file in (root / folder).glob(f"*{TRAJECTORY_SUFFIX}") if file.is_file())
        names += [f"{file.relative_to(root).as_posix()}{mark}" for file in sorted(files)]
    return names
