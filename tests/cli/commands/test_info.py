from __future__ import annotations

import json
from pathlib import Path

from numbered_video import numbered_frames
from steadyscale.core.video.images.png_writer import write_images


def test_info_of_a_video_pictures_and_weights(tmp_path: Path, clip_file: Path, weights: Path, run_cli):
    code, stdout, _ = run_cli("info", clip_file, "--json")
    assert code == 0
    report = json.loads(stdout)
    audio = {"codec": "aac", "rate": 48000, "channels": 2, "language": None}
    assert report["sound"][0] | {"language": None} == audio
    assert {k: report[k] for k in ("kind", "width", "height", "fps", "frames", "codec", "pixel_format")} == {
        "kind": "video",
        "width": 64,
        "height": 48,
        "fps": 24.0,
        "frames": 12,
        "codec": "h264",
        "pixel_format": "yuv420p",
    }
    write_images(tmp_path / "in", iter([numbered_frames(3)]))
    report = json.loads(run_cli("info", tmp_path / "in", "--json")[1])
    assert (report["kind"], report["frames"], report["width"]) == ("pictures", 3, 64)
    report = json.loads(run_cli("info", weights, "--json")[1])
    assert (report["kind"], report["architecture"], report["scale"]) == ("weights", "SRVGGNetCompact", 2)
    code, stdout, _ = run_cli("info", clip_file)
    assert "width: 64\nheight: 48\n" in stdout
