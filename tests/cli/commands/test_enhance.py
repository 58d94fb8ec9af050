from __future__ import annotations

import json
from pathlib import Path

from camera_simulation import frame_difference
from steadyscale.core import open_clip
from video_file_checks import list_files


def test_enhance_does_both(tmp_path: Path, shaky_video: Path, weights: Path, run_cli):
    out = tmp_path / "both.mp4"
    options = (
        "--model",
        weights,
        "--smoothing",
        "locked",
        "--border",
        "mirror",
        "--crf",
        "5",
        "--device",
        "cpu",
        "--json",
    )
    code, stdout, _ = run_cli("enhance", shaky_video, out, *options)
    report = json.loads(stdout)
    assert (code, report["frames_in"], report["frames_out"]) == (0, 20, 20)
    assert (report["width"], report["height"]) == (320, 256)
    assert frame_difference(open_clip(out)) < frame_difference(open_clip(shaky_video)) / 3
    code, _, stderr = run_cli("enhance", shaky_video, tmp_path / "bent.mp4", *options, "--size", "320x200")
    assert code == 1
    assert "another shape" in stderr
    assert list_files(tmp_path) == ["both.mp4"]
