"""Test that the pack loads in a real ComfyUI, which logs a failure and continues."""

from __future__ import annotations

import re

import pytest
from comfyhost import Host

pytestmark = pytest.mark.host

NODES = {
    "SteadyScale_LoadESRGANModel",
    "SteadyScale_UpscaleFrames",
    "SteadyScale_EstimateFlow",
    "SteadyScale_SmoothTrajectory",
    "SteadyScale_WarpFrames",
    "SteadyScale_EnhanceVideo",
    "SteadyScale_StabilizeVideo",
    "SteadyScale_ApplyMotion",
    "SteadyScale_SaveTrajectory",
    "SteadyScale_LoadTrajectory",
    "SteadyScale_BenchmarkUpscaler",
    "SteadyScale_TrainESRGAN",
    "SteadyScale_SaveESRGANModel",
    "SteadyScale_CompareModels",
    "SteadyScale_CompressModel",
    "SteadyScale_PreviewTrajectory",
    "SteadyScale_PreviewFlow",
    "SteadyScale_CompareFrames",
}
FAILURES = re.compile(r"IMPORT FAILED|Cannot import|Error while calling comfy_entrypoint")


def test_the_log_has_no_failed_import(any_host: Host) -> None:
    failures = [line for line in any_host.log().splitlines() if FAILURES.search(line)]
    assert not failures, "\n".join(failures)
    assert "custom_nodes/steadyscale" in any_host.log(), "the pack was not even tried"


def test_all_nodes_are_offered(any_host: Host) -> None:
    offered = {name for name in any_host.get("/object_info") if name.startswith("SteadyScale_")}
    assert offered == NODES


def test_every_node_and_input_has_help_text(any_host: Host) -> None:
    for name in NODES:
        info = any_host.get(f"/object_info/{name}")[name]
        assert info["description"], name
        assert info["category"].lower().startswith("steadyscale"), name
        for inputs in (info["input"].get(kind, {}) for kind in ("required", "optional")):
            for key, declared in inputs.items():
                options = declared[1] if len(declared) > 1 else {}
                assert options.get("tooltip"), f"{name}.{key} has no tooltip"


def test_core_nodes_run_on_the_clip(any_host: Host, clip_name: str) -> None:
    """The host itself is in order, so that what fails elsewhere is ours."""
    prompt = {
        "1": {"class_type": "LoadVideo", "inputs": {"file": clip_name}},
        "2": {
            "class_type": "SaveVideo",
            "inputs": {"video": ["1", 0], "filename_prefix": "boot", "format": "mp4", "codec": "h264"},
        },
    }
    kinds: list[str] = []
    run = any_host.run(prompt, lambda kind, _: kinds.append(kind)).raise_for_status()
    item = next(iter(run.outputs.values()))["images"][0]
    assert any_host.view(item)[4:8] == b"ftyp"
    assert "executing" in kinds


def test_refused_graph_has_an_error_message(any_host: Host) -> None:
    run = any_host.run({"1": {"class_type": "LoadVideo", "inputs": {"file": "nowhere.mp4"}}})
    assert run.status == "rejected"
    assert run.error
