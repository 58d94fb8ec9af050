from __future__ import annotations

import json
from pathlib import Path

from numbered_video import numbered_frames
from steadyscale.core.video.images.png_writer import write_images

ALIAS_FILE = "steadyscale-calm-2x.safetensors"  # of steadyscale-2x


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


def test_info_of_a_network_by_its_name(tmp_path: Path, run_cli, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, stdout, stderr = run_cli("info", "steadyscale-2x", "--json")
    assert code == 0, stderr
    report = json.loads(stdout)
    assert (report["kind"], report["scale"], Path(report["file"]).name) == ("weights", 2, ALIAS_FILE)
    monkeypatch.setenv("STEADYSCALE_CACHE", str(tmp_path / "cache"))
    assert "download it with `steadyscale models get realesrgan-x4plus`" in run_cli("info", "realesrgan-x4plus")[2]
    write_images(tmp_path / "steadyscale-2x", iter([numbered_frames(3)]))
    assert json.loads(run_cli("info", "steadyscale-2x", "--json")[1])["kind"] == "pictures", "files come first"
    assert "no such file" in run_cli("info", "nope")[2]
