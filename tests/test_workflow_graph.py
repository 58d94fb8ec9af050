"""Test the conversion of a canvas for hosts whose dropdowns have settings of their own."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from workflow_graph import DYNAMIC_COMBO, WorkflowError, add_missing_defaults, to_prompt


def dynamic_combo(choices: dict[str, dict[str, list]], **options: Any) -> list:
    """As a host declares it; choices: the settings of each choice, by name."""
    listed = [{"key": key, "inputs": {"required": inner}} for key, inner in choices.items()]
    return [DYNAMIC_COMBO, {"options": listed, **options}]


def encoding(crf: float) -> dict[str, list]:
    return {"encoding": dynamic_combo({"auto": {}, "re-encode": {"crf": ["FLOAT", {"default": crf}]}})}


CODECS = {"auto": {}, "h264": encoding(23.0), "av1": encoding(30.0)}
SAVE_VIDEO = {
    "input": {
        "required": {
            "video": ["VIDEO", {}],
            "filename_prefix": ["STRING", {"default": "video/ComfyUI"}],
            "format": dynamic_combo({
                "auto": {"codec": dynamic_combo(CODECS)},
                "webm": {"codec": dynamic_combo({"auto": {}, "av1": encoding(30.0)})},
            }),
        },
        "optional": {"codec": dynamic_combo(CODECS, hidden=True)},
    },
    "input_order": {"required": ["video", "filename_prefix", "format"], "optional": ["codec"]},
}  # fmt: skip
DEFINITIONS = {"SaveVideo": SAVE_VIDEO}


def canvas(*stored: Any) -> dict[str, Any]:
    """A canvas with Save Video, to which no video is connected."""
    node = {"id": 1, "type": "SaveVideo", "mode": 0, "inputs": [], "widgets_values": list(stored)}
    return {"nodes": [node], "links": []}


def inputs(*stored: Any) -> dict[str, Any]:
    return to_prompt(canvas(*stored), DEFINITIONS)["1"]["inputs"]


def test_the_settings_of_a_choice_follow_their_dropdown() -> None:
    assert inputs("out", "webm", "av1", "re-encode", 20.0, "auto") == {
        "filename_prefix": "out",
        "format": "webm",
        "format.codec": "av1",
        "format.codec.encoding": "re-encode",
        "format.codec.encoding.crf": 20.0,
        "codec": "auto",
    }


def test_a_canvas_of_an_older_host_fits() -> None:
    """It stores format and codec, and knows nothing of the hidden setting that stands for codec now."""
    assert inputs("out", "auto", "auto") == {"filename_prefix": "out", "format": "auto", "format.codec": "auto"}


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        (("out", "auto", "h264"), "stores no value for format.codec.encoding"),
        (("out", "auto", "auto", "auto", 23.0), "stores values that no input takes"),
    ],
)
def test_values_that_do_not_fit_are_reported(stored: tuple[Any, ...], message: str) -> None:
    with pytest.raises(WorkflowError, match=message):
        inputs(*stored)


def test_a_socket_of_a_nested_setting_is_known() -> None:
    graph = canvas("out", "auto", "auto")
    graph["nodes"][0]["inputs"] = [{"name": "format.codec", "link": None, "widget": {"name": "format.codec"}}]
    assert to_prompt(graph, DEFINITIONS)
    graph["nodes"][0]["inputs"][0]["name"] = "format.speed"
    with pytest.raises(WorkflowError, match=r"has no input format\.speed"):
        to_prompt(graph, DEFINITIONS)


def test_missing_settings_get_the_default_of_the_first_choice() -> None:
    graph = canvas("out")
    before = copy.deepcopy(graph)
    assert add_missing_defaults(graph, DEFINITIONS)["nodes"][0]["widgets_values"] == ["out", "auto", "auto"]
    assert graph == before
