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


@pytest.fixture
def running_nodes(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A graph of two nodes of ours and another one: `ids` begins with the running one, `ended` lists ended bars."""
    graph = {"7": "SteadyScale_UpscaleFrames", "8": "SteadyScale_StabilizeVideo", "9": "SaveVideo"}
    nodes = SimpleNamespace(ids=["7"], ended=[])
    prompt = SimpleNamespace(get_node=lambda i: {"class_type": graph[i]}, has_node=graph.__contains__)
    state = SimpleNamespace(dynprompt=prompt, finish_progress=nodes.ended.append)
    modules = {
        "comfy_execution": ModuleType("comfy_execution"),
        "comfy_execution.utils": SimpleNamespace(get_executing_context=lambda: SimpleNamespace(node_id=nodes.ids[0])),
        "comfy_execution.progress": SimpleNamespace(get_progress_state=lambda: state),
    }
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    return nodes


def test_video_is_previewed_on_the_node_that_planned_it(
    fake_host, clip_file: Path, running_nodes, monkeypatch: pytest.MonkeyPatch
):
    video = run_upscale(fake_host, fake_host.VideoFromFile(str(clip_file)))
    _speed_up_clock(fake_host, monkeypatch)
    running_nodes.ids[0] = "9"
    video.get_stream_source()
    assert [preview for _, _, preview in fake_host.progress] == [None] * 12, "nothing on the node that waits"
    previews = [(node, read_number(_to_tensor(preview))) for node, _, preview in fake_host.elsewhere]
    assert previews == [("7", number) for number in range(12)]
    assert running_nodes.ended == ["7"]


def test_plot_is_displayed_again_after_measuring_and_after_rendering(
    fake_host, clip_file: Path, running_nodes, monkeypatch: pytest.MonkeyPatch
):
    """Frontends keep the last preview in front of a node's output."""
    running_nodes.ids[0] = "8"
    _speed_up_clock(fake_host, monkeypatch)
    node = fake_host.import_("stabilize").StabilizeVideo
    video, _, _, plot, _ = node.execute(
        fake_host.VideoFromFile(str(clip_file)), 24.0, "gaussian", 1.0, 1.3, "mirror", "dis"
    ).result
    previews = [preview[1] for _, _, preview in fake_host.progress if preview]
    assert [image.size for image in previews] == [(64, 48)] * 12 + [(plot.shape[2], plot.shape[1])]
    assert np.array_equal(np.asarray(previews[-1]), (plot[0] * 255).byte().numpy())
    running_nodes.ids[0] = "9"
    video.get_stream_source()
    previews = [(node, preview[1]) for node, _, preview in fake_host.elsewhere]
    assert [(node, image.size) for node, image in previews[:-1]] == [("8", (64, 48))] * 12
    assert previews[-1][0] == "8"
    assert np.array_equal(np.asarray(previews[-1][1]), (plot[0] * 255).byte().numpy())
    assert running_nodes.ended == ["8"]


def test_short_run_displays_its_output_alone(
    fake_host, clip_file: Path, running_nodes, monkeypatch: pytest.MonkeyPatch
):
    """Within a second no frame is displayed, and none has to make room."""
    running_nodes.ids[0] = "8"
    monkeypatch.setattr(fake_host.import_("_comfy.adapter").time, "monotonic", lambda: 0.0)
    node = fake_host.import_("stabilize").StabilizeVideo
    node.execute(fake_host.VideoFromFile(str(clip_file)), 24.0, "gaussian", 1.0, 1.3, "mirror", "dis")
    assert [preview for _, _, preview in fake_host.progress if preview] == []


def test_several_images_are_displayed_as_one_sheet(fake_host, running_nodes):
    adapter = fake_host.import_("_comfy.adapter")
    adapter.mark_previewing("7")
    adapter.show_output(torch.arange(1.0, 4.0).div(4).reshape(3, 1, 1, 1).expand(3, 2, 4, 3))
    ((_, _, (_, sheet, side)),) = fake_host.progress
    assert np.asarray(sheet)[::2, ::4, 0].tolist() == [[63, 127], [191, 0]]
    assert (sheet.size, side) == ((8, 4), 8), "hosts upscale what is smaller"
    adapter.show_output(torch.ones(1, 2, 4, 3))
    assert len(fake_host.progress) == 1, "it is there already"


def test_video_of_an_unknown_node_is_not_previewed(fake_host, clip_file: Path, monkeypatch: pytest.MonkeyPatch):
    video = run_upscale(fake_host, fake_host.VideoFromFile(str(clip_file)))
    _speed_up_clock(fake_host, monkeypatch)
    video.get_stream_source()
    assert [preview for _, _, preview in fake_host.progress] == [None] * 12
