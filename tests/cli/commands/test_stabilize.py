from __future__ import annotations

import json
from pathlib import Path

import pytest
from camera_simulation import frame_difference
from steadyscale.core import open_clip


@pytest.mark.parametrize("border", ["crop", "mirror", "black"])
def test_stabilize_stops_a_shake(tmp_path: Path, shaky_video: Path, run_cli, border: str):
    out = tmp_path / "steady.mp4"
    code, stdout, stderr = run_cli(
        "stabilize",
        shaky_video,
        out,
        "--border",
        border,
        "--smoothing",
        "locked",
        "--crf",
        "5",
        "--json",
        "--device",
        "cpu",
    )
    assert (code, stderr) == (0, "")
    report = json.loads(stdout)
    assert (report["frames_in"], report["frames_out"], report["width"], report["height"]) == (20, 20, 160, 128)
    assert frame_difference(open_clip(out)) < frame_difference(open_clip(shaky_video)) / 3


def test_the_learned_smoother_is_chosen_by_name(tmp_path: Path, shaky_video: Path, run_cli):
    words = ("--smoothing", "learned", "--seconds", "2", "--crf", "5", "--quiet", "--device", "cpu")
    for border in ("crop", "mirror"):
        assert run_cli("stabilize", shaky_video, tmp_path / "steady.mp4", "--border", border, *words)[0] == 0
        assert frame_difference(open_clip(tmp_path / "steady.mp4")) < frame_difference(open_clip(shaky_video)) / 2


def test_an_axis_that_is_kept_keeps_its_shake(tmp_path: Path, shaky_video: Path, run_cli):
    out = tmp_path / "kept.mp4"
    words = (
        "stabilize",
        shaky_video,
        out,
        "--border",
        "mirror",
        "--smoothing",
        "locked",
        "--crf",
        "5",
        "--device",
        "cpu",
    )
    assert run_cli(*words, "--keep-x", "1")[0] == 0
    assert frame_difference(open_clip(out)) > frame_difference(open_clip(shaky_video)) * 0.8, (
        "the clip swings sideways and no other way"
    )
    assert run_cli(*words, "--keep-y", "1", "--keep-roll", "1", "--horizon", "1")[0] == 0
    assert frame_difference(open_clip(out)) < frame_difference(open_clip(shaky_video)) / 3
