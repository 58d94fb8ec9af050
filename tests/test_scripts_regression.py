"""scripts/regression.py: what counts as a difference between two records."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from regression_compare import differences

PAGE = """usage: steadyscale upscale [-h] [--fps FPS] [--codec {h264,ffv1}] IN OUT

positional arguments:
  IN                    a video file
  OUT                   a video file

options:
  -h, --help            show this help message and exit
  --fps FPS             frames per second (default 24)
  --codec {h264,ffv1}
                        (default: by suffix)
"""
RUN = {"files": ["out.mkv"], "report": {"frames_out": 2}, "frames": [[0, "a"], [40, "b"]], "audio": [[0, "c"]]}
NODE = {
    "input": {"required": {"frames": ["IMAGE", {"tooltip": "Which."}], "pad": ["INT", {"default": 0, "min": 0}]}},
    "output": ["IMAGE"],
    "output_tooltips": ["The frames."],
    "display_name": "Warp",
}
RECORD = {"runs": {"up": RUN}, "graphs": {"g": copy.deepcopy(RUN)}, "nodes": {"Warp": NODE}, "help": {"upscale": PAGE}}


def compared(change: Callable[[Any], object], errors: str = "unrecognized arguments") -> tuple[list[str], list[str]]:
    """Differences after a change of a record; errors: stderr for missing flags."""
    after = copy.deepcopy(RECORD)
    change(after)
    return differences(RECORD, after, lambda *words: errors)


def _page(old: str, new: str) -> Callable[[Any], object]:
    return lambda record: record["help"].update(upscale=PAGE.replace(old, new))


def _first_input_last(record: Any) -> None:
    inputs = record["nodes"]["Warp"]["input"]["required"]
    inputs["frames"] = inputs.pop("frames")


FAILURES: dict[str, Callable[[Any], object]] = {
    "frame": lambda r: r["runs"]["up"]["frames"][1].__setitem__(1, "x"),
    "timestamp": lambda r: r["graphs"]["g"]["frames"][1].__setitem__(0, 41),
    "lost frame": lambda r: r["runs"]["up"]["frames"].pop(),
    "audio": lambda r: r["runs"]["up"]["audio"].clear(),
    "report": lambda r: r["runs"]["up"]["report"].update(frames_out=3),
    "run": lambda r: r["runs"].clear(),
    "node": lambda r: r["nodes"].clear(),
    "input order": _first_input_last,
    "new input": lambda r: r["nodes"]["Warp"]["input"]["required"].update(side=["INT", {}]),
    "default": lambda r: r["nodes"]["Warp"]["input"]["required"]["pad"][1].update(default=1),
    "type": lambda r: r["nodes"]["Warp"]["output"].__setitem__(0, "MASK"),
    "command": lambda r: r["help"].clear(),
    "flag": _page("--fps", "--rate"),
    "flag's default": _page("(default 24)", "(default 25)"),
    "flag's choices": _page("{h264,ffv1}", "{h264,hevc}"),
}
WORDING: dict[str, Callable[[Any], object]] = {
    "tooltip": lambda r: r["nodes"]["Warp"]["input"]["required"]["pad"][1].update(tooltip="New."),
    "output tooltip": lambda r: r["nodes"]["Warp"].update(output_tooltips=["Frames."]),
    "name": lambda r: r["nodes"]["Warp"].update(display_name="Warp Frames"),
    "help": _page("a video file", "a file"),
    "new flag": _page("  --fps", "  --size SIZE           in pixels\n  --fps"),
}


def test_a_record_equals_itself() -> None:
    assert compared(lambda _: None) == ([], [])


@pytest.mark.parametrize("change", FAILURES.values(), ids=FAILURES.keys())
def test_a_change_of_results_or_interfaces_fails(change: Callable[[Any], object]) -> None:
    assert len(compared(change)[0]) == 1


@pytest.mark.parametrize("change", WORDING.values(), ids=WORDING.keys())
def test_a_change_of_wording_is_listed(change: Callable[[Any], object]) -> None:
    failures, wording = compared(change)
    assert (failures, len(wording)) == ([], 1)


def test_a_flag_that_is_hidden_but_accepted_is_no_failure() -> None:
    failures, wording = compared(_page("--fps", "--rate"), errors="argument --rate/--fps: expected one argument")
    assert (failures, len(wording)) == ([], 1)
