"""Every input of every node changes what the node calls, and arrives under its own name: none is ignored or swapped."""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from dataclasses import dataclass, field, fields, is_dataclass
from enum import Enum
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import schemas
import torch
from recorded_calls import RecordedCalls
from steadyscale.core.bars import FirstBars
from steadyscale.core.clip import ClipInfo, TensorClip
from steadyscale.core.crop.border import Border
from steadyscale.core.hold import Region
from steadyscale.core.path.trajectory import Correction
from steadyscale.core.smoothing.keyframes import Keyframe
from steadyscale.core.smoothing.strength import Strength
from steadyscale.core.stabilize import StabilizeSettings
from steadyscale.core.training.presets import NetworkSize, TrainPreset
from steadyscale.core.upscaling.settings import (
    Alpha,
    ColorCorrection,
    OutputSize,
    PostProcess,
    Precision,
    Tiling,
    UpscaleSettings,
)
from steadyscale.core.visualize.side_by_side import Layout


class Module(torch.nn.Identity):
    """The module of a network."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name


class Value:
    """A network, motion or other value that nodes pass on; `name` tells it from others."""

    scale, halo, info = 2, 2, ClipInfo(64, 48, Fraction(24), 5)

    def __init__(self, name: str) -> None:
        self.name, self.model = name, Module(name)

    def __repr__(self) -> str:
        return self.name

    def resized(self, *size: int) -> Value:
        return Value(f"{self.name} {size}")


class _Called(BaseException):
    """The node has called what it is for."""


CLIP = TensorClip(torch.zeros(5, 3, 48, 64), Fraction(24))
IMAGES = {key: torch.full((5, 48, 64, 3), value) for key, value in {"frames": 0.25, "other": 0.5}.items()}


def moved_by(pixels: float) -> Correction:
    matrices = np.tile(np.eye(3), (5, 1, 1))
    matrices[2, 0, 2] = pixels
    return Correction(matrices, [slice(0, 5)], ClipInfo(64, 48, Fraction(24), 5), np.tile(np.eye(3), (5, 1, 1)))


@dataclass(frozen=True)
class Call:
    """How a node is called: what it is called with, and the functions that it calls, the last of which ends it.

    functions: by name, within the node's module or, with dots, within `nodes`, and their results. sockets: values of
    the inputs that have no default: one, and another. needed: what else an input needs to have an effect.
    """

    module: str
    functions: dict[str, Any]
    sockets: dict[str, tuple[Any, Any]]
    needed: dict[str, dict[str, Any]] = field(default_factory=dict)


MODEL = (Value("network"), Value("other network"))
FRAMES = (IMAGES["frames"], IMAGES["other"])
MASK = (None, torch.ones(1, 48, 64))
HELD_SOCKETS = {"frames": FRAMES, "mask": MASK, "region_mask": MASK}
SIZE = {"factor": {"resize_to": "factor"}, "width": {"resize_to": "size"}, "height": {"resize_to": "size"}}
CORRECTION = (Value("correction"), Value("other correction"))
MEASURED = {"measure_input_motion": ("motion", "jobs"), "correct_and_plot": (CORRECTION[0], "plot", "info")}
CALLS = {
    "LoadESRGANModel": Call("load_model", {"find_model_file": "file", "load_upscaler": None}, {}),
    "UpscaleFrames": Call(
        "upscale",
        {"upscale_operations": ["operation"], "apply_operations": None},
        {"upscale_model": MODEL, "frames": FRAMES},
        SIZE,
    ),
    "BenchmarkUpscaler": Call(
        "benchmark", {"synthetic_frames": iter(()), "benchmark": None}, {"upscale_model": MODEL}
    ),
    "StabilizeVideo": Call("stabilize", {**MEASURED, "apply_warp": None}, HELD_SOCKETS),
    "EnhanceVideo": Call(
        "enhance",
        {**MEASURED, "upscale_operations": ["operation"], "apply_operations": None},
        {"upscale_model": MODEL, "frames": FRAMES},
        SIZE,
    ),
    "EstimateFlow": Call(
        "estimate_flow",
        {"read_input_gyro": "gyro", "open_for_motion": CLIP, "MotionSource": "source", "measure_motion": None},
        HELD_SOCKETS,
    ),
    "SmoothTrajectory": Call(
        "smooth_trajectory",
        {"find_smoother_file": "models/path_smoothers/mine.safetensors", "correct_and_plot": None},
        {"flow": (Value("motion"), Value("other"))},
        {"smoother": {"smoothing": "learned"}},
    ),
    "WarpFrames": Call(
        "warp", {"apply_warp": None}, {"frames": FRAMES, "correction": CORRECTION}, {"pad": {"border": "mirror"}}
    ),
    "ApplyMotion": Call(
        "apply_motion",
        {"undo": Value("undone"), "transfer": Value("transferred"), "apply_warp": None},
        {"frames": FRAMES, "correction": CORRECTION},
    ),
    "SaveTrajectory": Call(
        "trajectory_file",
        {"numbered_path": (Path("output/path.json"), ""), "resolve_inside": "inside", "save_path": None},
        {"flow": (Value("motion"), Value("other"))},
    ),
    "LoadTrajectory": Call("trajectory_file", {"find_annotated_file": "path", "load_path": None}, {}),
    "PreviewTrajectory": Call(
        "preview",
        {"plot_trajectory": IMAGES["frames"], "find_max_zoom_frame": 3, "read_frame": "frame", "blank_frame": "blank",
         "draw_crop_overlay": None},
        {"path": (moved_by(1.0), moved_by(2.0)), "frames": (None, IMAGES["other"])},
    ),
    "PreviewFlow": Call(
        "preview",
        {"preview_frames": [torch.zeros(1, 3, 48, 64)] * 2, "flow_model": lambda *_: "flow",
         "downscale_luma": IMAGES["frames"].numpy(), "flow_to_image": _Called(), "draw_flow_arrows": _Called()},
        {"frames": FRAMES},
        {"detail": {"frames": torch.zeros(2, 16, 640, 3)}},
    ),
    "CompareFrames": Call(
        "compare_frames", {"Comparison": None}, {"before": FRAMES, "after": FRAMES}, {"split": {"layout": "split"}}
    ),
    "CompareModels": Call(
        "compare_models",
        {"_sample_frames": iter(()), "_pair_frames": iter(()), "compare_models": None},
        {"model_a": MODEL, "model_b": MODEL, "frames": FRAMES, "truth": (None, IMAGES["other"])},
    ),
    "TrainESRGAN": Call(
        "train",
        {"prepare_training_sources": "sources", "build_run_config": "config", "fit_to_time": None,
         "bicubic_score": None},
        {"frames": FRAMES},
        {"minutes": {"steps": 0}},
    ),
    "CompressModel": Call(
        "compress_model",
        {"export": Path("original.safetensors"), "prepare_training_sources": "sources",
         "_run_compression": ((Path("network.safetensors"),), "table"), "copy_model_file": None},
        {"upscale_model": MODEL, "frames": FRAMES},
    ),
    "SaveESRGANModel": Call(
        "save_model",
        {"model_folder": Path("models"), "output_folder": Path("output"), "export": Path("new"), "_verify_saved": None,
         "copy_model_file": None},
        {"upscale_model": MODEL},
    ),
}  # fmt: skip
VALUES = {
    "pictures": 2,
    "detail": 64,
    "name": "another",
    "folder": "pictures",
    "model_name": "another",
    "region": "4,5,30,20",
    "file": "another.json",
    "smoother": "mine.safetensors",
}
OPTIONS = {"model_name": "network", "file": "path.json"}  # of dropdowns that list files


def describe(value: Any) -> Any:
    """A value as text that is equal in two calls with equal inputs, and says whether a network checks for a cancel."""
    if type(value).__name__ == "_CancellableModel":
        return f"cancellable {describe(value.model)}"
    if isinstance(value, Module):
        return value.name
    if isinstance(value, (torch.Tensor, np.ndarray)):
        return f"{tuple(value.shape)} {float(value.sum())}"
    if isinstance(value, Correction):
        return f"correction {value.matrices.sum()}"
    if isinstance(value, Enum):
        return str(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: describe(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, dict):
        return {key: describe(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [describe(each) for each in value]
    if isinstance(value, TensorClip):
        return describe([value.info, next(value.frames())])
    text = re.sub(r"\.[0-9a-f-]+\.partial", "", str(value))
    return type(value).__name__ if " at 0x" in text else text


@pytest.fixture
def host(fake_host, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """The fake host, whose schemas can be read; nodes find the models and files that VALUES and OPTIONS name."""
    io = schemas._FakeIo("io")
    io.NodeOutput = sys.modules["comfy_api.latest"].io.NodeOutput
    monkeypatch.setattr(sys.modules["comfy_api.latest"], "io", io)
    monkeypatch.chdir(tmp_path)
    for name in ("models", "output", "input"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(sys.modules["folder_paths"], "get_folder_paths", lambda _: ["models"], raising=False)
    return fake_host


def node_class(host: Any, name: str) -> Any:
    return getattr(host.import_(CALLS[name].module), name)


def default_inputs(node: Any, call: Call) -> dict[str, Any]:
    """One value for each input."""
    values = {}
    for each in node.define_schema()["inputs"]:
        name = each["id"]
        values[name] = call.sockets[name][0] if name in call.sockets else OPTIONS.get(name, each.get("default"))
    return values


def other_value(socket: dict[str, Any], call: Call) -> Any:
    """A valid value that is not the default of an input."""
    name, default = socket["id"], socket.get("default")
    if name in call.sockets:
        return call.sockets[name][1]
    if name in VALUES:
        return VALUES[name]
    if "options" in socket:
        return next(option for option in socket["options"] if option != default)
    if isinstance(default, bool):
        return not default
    if name == "keyframes":
        return '[{"time": 0, "strength": 0.5}]'
    if isinstance(default, str):
        return f"{default} and more"
    return default + 1 if default + 1 <= socket["max"] else (3 * socket["min"] + socket["max"]) / 4


def record(monkeypatch: pytest.MonkeyPatch, host: Any, name: str, inputs: dict[str, Any]) -> RecordedCalls:
    """The calls of a node up to the last of its functions."""
    call = CALLS[name]
    node = node_class(host, name)
    with monkeypatch.context() as patch:
        calls = RecordedCalls(patch)
        *_, last = call.functions
        for function, result in call.functions.items():
            calls.replace(f"steadyscale.nodes.{call.module}.{function}", _Called() if function == last else result)
        with pytest.raises(_Called):
            node.execute(**inputs)
    return calls


def test_every_node_is_here(host):
    assert {node.__name__ for node in importlib.import_module("steadyscale.nodes").NODES} == {*CALLS}


@pytest.mark.parametrize("name", CALLS)
def test_every_input_changes_what_is_called(host, monkeypatch, name):
    call, node = CALLS[name], node_class(host, name)

    def calls(**inputs: Any) -> list[Any]:
        return [(each, describe(values)) for each, values in record(monkeypatch, host, name, inputs).calls]

    defaults = default_inputs(node, call)
    ignored = []
    for socket in node.define_schema()["inputs"]:
        plain = {**defaults, **call.needed.get(socket["id"], {})}
        before = calls(**plain)
        assert before == calls(**plain), "the calls must be the same twice"
        if calls(**{**plain, socket["id"]: other_value(socket, call)}) == before:
            ignored.append(socket["id"])
    assert ignored == []


@pytest.mark.parametrize("name", CALLS)
def test_an_optional_input_has_the_same_default_without_a_graph(host, name):
    """What a graph stores and what a call through the API leaves out."""
    node = node_class(host, name)
    parameters = inspect.signature(node.execute).parameters
    sockets = node.define_schema()["inputs"]
    assert {*parameters} == {each["id"] for each in sockets}
    for each in sockets:
        default = parameters[each["id"]].default
        if default is not inspect.Parameter.empty:
            assert default == each.get("default"), each["id"]


ALL_SETTINGS = {
    "UpscaleFrames": (
        {"resize_to": "size", "width": 30, "height": 20, "tile": 96, "precision": "bf16", "strength": 0.75,
         "colour": "wavelet", "grain": 0.25, "temporal": 0.5, "alpha": "network", "linear_light": True,
         "compile_network": True, "resumable": True},
        {"upscale_operations": {
            "settings": UpscaleSettings(
                OutputSize(size=(30, 20)), Tiling(96), Precision.BF16,
                postprocess=PostProcess(0.75, ColorCorrection.WAVELET, 0.25, linear_light=True),
                alpha=Alpha.NETWORK, compile=True,
            ), "deflicker": 0.5, "device": torch.device("cpu"), "model": "cancellable network"},
         "apply_operations": {"frames": IMAGES["frames"], "operations": ["operation"], "job_folders": []}},
    ),
    "StabilizeVideo": (
        {"fps": 50.0, "smoothing": "l1", "seconds": 1.5, "max_zoom": 1.75, "border": "wrap", "method": "dis",
         "rolling_shutter": "off", "resumable": True, "strength_x": 0.1, "strength_y": 0.2, "strength_roll": 0.3,
         "strength_zoom": 0.4, "strength_tilt": 0.6, "horizon": 0.7, "keyframes": '[{"time": 1, "strength": 0.5}]',
         "mesh": "auto", "lens": "off", "hold": "region", "region": "4,5,30,20,1", "hold_strength": 0.8},
        {"measure_input_motion": {
            "frames": IMAGES["frames"], "fps": 50.0, "mask": None, "resumable": True,
            "settings": StabilizeSettings(
                "l1", 1.5, "wrap", 1.75, "dis", Strength(0.1, 0.2, 0.3, 0.4, 0.6), 0.7, "off",
                keyframes=(Keyframe(1, strength=0.5),), mesh="auto", lens="off",
                hold="region", region=Region(4.0, 5.0, 30.0, 20.0, 1), hold_strength=0.8)},
         "correct_and_plot": {"motion": "motion"},
         "apply_warp": {"frames": IMAGES["frames"], "job_folders": "jobs",
                        "warp_op": {"correction": "correction", "border": Border.WRAP, "pad": 0, "device": "cpu"}}},
    ),
    "EnhanceVideo": (
        {"fps": 50.0, "resize_to": "factor", "factor": 3.5, "smoothing": "l1", "seconds": 1.5, "max_zoom": 1.75,
         "border": "wrap", "rolling_shutter": "off", "resumable": True, "keyframes": '[{"time": 1, "strength": 0.5}]',
         "lens": "gopro-wide", "field_of_view": 150.0},
        {"measure_input_motion": {
            "fps": 50.0, "mask": None, "resumable": True,
            "settings": StabilizeSettings("l1", 1.5, "wrap", 1.75, rolling_shutter="off",
                                          keyframes=(Keyframe(1, strength=0.5),), lens=150.0)},
         "upscale_operations": {"settings": UpscaleSettings(OutputSize(3.5)), "model": "cancellable network"},
         "apply_operations": {"job_folders": "jobs", "operations": [
             "operation", {"correction": "correction", "border": Border.WRAP, "pad": 0, "device": "cpu"}]}},
    ),
    "SmoothTrajectory": (
        {"smoothing": "learned", "seconds": 1.5, "max_zoom": 1.75, "reference": 3, "strength_x": 0.1, "strength_y": 0.2,
         "strength_roll": 0.3, "strength_zoom": 0.4, "strength_tilt": 0.6, "horizon": 0.7, "smoother": "mine",
         "keyframes": '[{"time": 1, "max_zoom": 1.5}]'},
        {"correct_and_plot": {"motion": "motion", "settings": StabilizeSettings(
            "learned", 1.5, "crop-adaptive", 1.75, strength=Strength(0.1, 0.2, 0.3, 0.4, 0.6), horizon=0.7, reference=3,
            smoother="models/path_smoothers/mine.safetensors", keyframes=(Keyframe(1, max_zoom=1.5),))}},
    ),
    "BenchmarkUpscaler": (
        {"width": 30, "height": 20, "frames": 7, "tile": 96, "precision": "bf16"},
        {"synthetic_frames": {"width": 30, "height": 20, "count": 8},
         "benchmark": {"settings": UpscaleSettings(tiling=Tiling(96), precision=Precision.BF16),
                       "model": "cancellable network"}},
    ),
    "CompareFrames": (
        {"layout": "side by side", "frame": 2, "seconds": 0.1, "split": 0.25, "largest": 128,
         "label_before": "old", "label_after": "new", "after": IMAGES["other"]},
        {"Comparison": {"before": TensorClip(IMAGES["frames"].movedim(3, 1), Fraction(24)),
                        "after": TensorClip(IMAGES["other"].movedim(3, 1), Fraction(24)),
                        "layout": Layout.SIDE_BY_SIDE, "split": 0.25, "labels": ("old", "new"), "side": 128}},
    ),
    "CompareModels": (
        {"model_b": Value("b"), "truth": IMAGES["other"], "count": 3},
        {"compare_models": {"models": ["cancellable network", "cancellable b"], "names": ("A", "B")},
         "_pair_frames": {"count": 3, "small": TensorClip(IMAGES["frames"].movedim(3, 1), Fraction(24)),
                          "truth": TensorClip(IMAGES["other"].movedim(3, 1), Fraction(24))}},
    ),
    "TrainESRGAN": (
        {"folder": "pictures", "name": "mine/net", "scale": "3x", "size": "medium", "minutes": 2.0, "seed": 5,
         "steps": 0, "crop": 64, "batch": 4, "learning_rate": 0.01, "inputs": "realistic", "adversarial": 0.5,
         "multi_scale": True, "perceptual": 0.25},
        {"prepare_training_sources": {"frames": IMAGES["frames"], "folder": "pictures"},
         "build_run_config": {"sources": "sources", "device": "cpu", "preset": TrainPreset(
             "net", 3, NetworkSize.MEDIUM, 2.0, 0, 5, 64, 4, 0.01, True, 0.5, True, 0.25)},
         "fit_to_time": {"config": "config", "minutes": 2.0},
         "bicubic_score": {"sources": "sources", "scale": 3}},
    ),
    "CompressModel": (
        {"folder": "pictures", "name": "mine/net", "prune": 0.25, "max_loss_db": 1.5, "steps": 7, "seed": 5,
         "half": True, "separable": True, "onnx": True, "int8": True, "quality_gate": False},
        {"prepare_training_sources": {"frames": IMAGES["frames"], "folder": "pictures"},
         "_run_compression": {"original": "original.safetensors", "sources": "sources", "device": "cpu", "settings": {
             "prune": 0.25, "max_loss_db": 1.5, "steps": 7, "seed": 5, "half": True, "separable": True, "onnx": True,
             "int8": True, "quality_gate": False}}},
    ),
    "EstimateFlow": (
        {"method": "dis", "fps": 50.0, "detail": 96, "pictures": 2, "rolling_shutter": "off",
         "hold": "region", "region": "4,5,30,20", "hold_strength": 0.8, "telemetry": "off"},
        {"open_for_motion": {"fps": 50.0}, "MotionSource": {"clip": CLIP, "first_frames": [0, 2]},
         "measure_motion": {"clip": "source", "side": 96, "mask": None, "gyro": "gyro",
                            "settings": StabilizeSettings(
                                flow="dis", rolling_shutter="off", bars=FirstBars(), hold="region",
                                region=Region(4.0, 5.0, 30.0, 20.0), hold_strength=0.8)}},
    ),
    "ApplyMotion": (
        {"apply": "undo", "border": "wrap", "stabilized_with": "mirror", "pad": 3},
        {"undo": {"correction": "correction (58, 42)", "border": Border.MIRROR, "pad": 3},
         "apply_warp": {"warp_op": {"correction": "undone", "border": Border.WRAP, "pad": -3, "device": "cpu"}}},
    ),
    "WarpFrames": (
        {"border": "wrap", "pad": 3},
        {"apply_warp": {"warp_op": {"correction": "correction", "border": Border.WRAP, "pad": 3, "device": "cpu"}}},
    ),
    "PreviewTrajectory": (
        {"border": "wrap", "max_zoom": 1.75, "frame": -1, "frames": IMAGES["other"], "details": True},
        {"plot_trajectory": {"max_zoom": 1.75, "border": Border.WRAP, "details": True},
         "read_frame": {"frame_number": 3},
         "draw_crop_overlay": {"frame": "frame", "frame_number": 3, "border": Border.WRAP}},
    ),
    "SaveESRGANModel": (
        {"name": "mine/net", "place": "output"},
        {"copy_model_file": {"source": "new", "root": "output", "name": "mine/net"}, "_verify_saved": {"file": "new"}},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ALL_SETTINGS)
def test_all_inputs_arrive_under_their_names(host, monkeypatch, name):
    inputs, expected = ALL_SETTINGS[name]
    calls = record(monkeypatch, host, name, {**default_inputs(node_class(host, name), CALLS[name]), **inputs})
    for function, wanted in expected.items():
        found = calls.one(function)
        assert {key: describe(found[key]) for key in wanted} == describe(wanted), function
