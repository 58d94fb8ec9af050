"""Test which node displays the preview of the current frame."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from node_calls import run_upscale
from numbered_video import numbered_frames, read_number


def _speed_up_clock(fake_host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two seconds pass between any two looks at the clock."""
    clock = iter(range(0, 1000, 2))
    monkeypatch.setattr(fake_host.import_("_comfy.adapter").time, "monotonic", lambda: next(clock))


def _to_tensor(preview: Any) -> torch.Tensor:
    return torch.from_numpy(np.array(preview[1])).float().permute(2, 0, 1) / 255


def test_long_image_run_previews_the_current_frame(fake_host, monkeypatch: pytest.MonkeyPatch):
    frames = numbered_frames(4, 1200, 64)
    _speed_up_clock(fake_host, monkeypatch)
    run_upscale(fake_host, frames.movedim(1, -1))
    kind, image, side = fake_host.progress[2][2]
    assert (kind, side) == ("JPEG", 512)
    assert image.size == (512, 27)
    assert read_number(torch.from_numpy(np.array(image)).float().permute(2, 0, 1) / 255) == 2


@pytest.mark.parametrize("kind", ["SteadyScale_UpscaleFrames", "SteadyScale_EnhanceVideo"])
def test_video_is_previewed_only_on_nodes_without_output(
    fake_host, clip_file: Path, monkeypatch: pytest.MonkeyPatch, kind: str
):
    """Frontends keep a preview in front of a node's output, such as a plot."""
    graph = {"7": {"class_type": kind}, "9": {"class_type": "SaveVideo"}}
    running, ended = ["7"], []
    prompt = SimpleNamespace(get_node=graph.__getitem__, has_node=graph.__contains__)
    state = SimpleNamespace(dynprompt=prompt, finish_progress=ended.append)
    modules = {
        "comfy_execution": ModuleType("comfy_execution"),
        "comfy_execution.utils": SimpleNamespace(get_executing_context=lambda: SimpleNamespace(node_id=running[0])),
        "comfy_execution.progress": SimpleNamespace(get_progress_state=lambda: state),
    }
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    video = run_upscale(fake_host, fake_host.VideoFromFile(str(clip_file)))
    _speed_up_clock(fake_host, monkeypatch)
    running[0] = "9"
    video.get_stream_source()
    assert [preview for _, _, preview in fake_host.progress] == [None] * 12, "nothing on the node that waits"
    previews = [(node, read_number(_to_tensor(preview))) for node, _, preview in fake_host.elsewhere]
    is_without_output = kind == "SteadyScale_UpscaleFrames"
    assert previews == ([("7", number) for number in range(12)] if is_without_output else [])
    assert ended == (["7"] if is_without_output else [])


def test_video_of_an_unknown_node_is_not_previewed(fake_host, clip_file: Path, monkeypatch: pytest.MonkeyPatch):
    video = run_upscale(fake_host, fake_host.VideoFromFile(str(clip_file)))
    _speed_up_clock(fake_host, monkeypatch)
    video.get_stream_source()
    assert [preview for _, _, preview in fake_host.progress] == [None] * 12
