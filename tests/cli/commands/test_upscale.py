from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import av
import pytest
import torch
from numbered_video import read_numbers
from steadyscale.core.upscaling.resize import resize
from steadyscale.core.video.images.png_writer import write_images
from steadyscale.core.video.open import open_clip


def test_upscale_writes_every_frame_twice_as_large(tmp_path: Path, clip_file: Path, weights: Path, run_cli):
    out = tmp_path / "out.mp4"
    code, stdout, stderr = run_cli("upscale", clip_file, out, "--model", weights, "--device", "cpu", "--json")
    assert (code, stderr) == (0, "")
    report = json.loads(stdout)
    assert report.pop("seconds") > 0
    assert report.pop("peak_memory_mb") > 50 or os.name == "nt"
    assert report == {
        "command": "upscale",
        "input": str(clip_file),
        "output": str(out),
        "frames_in": 12,
        "frames_out": 12,
        "width": 128,
        "height": 96,
        "fps": 24.0,
        "device": "cpu",
        "engine": "torch",
        "repeated_frames": 0,
        "tiles_reused": 0,
        "pixels_computed": 1.0,
        "damaged_frames": 0,
        "damage": [],
    }
    assert read_numbers(open_clip(out)) == list(range(12))
    with av.open(str(out)) as container:
        assert len(container.streams.audio) == 1


def test_the_report_names_the_engine(tmp_path: Path, clip_file: Path, weights: Path, run_cli, monkeypatch):
    monkeypatch.setenv("STEADYSCALE_CACHE", str(tmp_path))
    arguments = "upscale", clip_file, tmp_path / "out.mp4", "--model", weights, "--device", "cpu", "--engine"
    code, stdout, stderr = run_cli(*arguments, "onnx", "--json")
    assert (code, stderr) == (0, "")
    assert json.loads(stdout)["engine"] == "onnx (CPU)"
    assert read_numbers(open_clip(tmp_path / "out.mp4")) == list(range(12))
    code, stdout, _ = run_cli(*arguments, "onnx")
    assert "on cpu by onnx (CPU)" in stdout


@pytest.mark.parametrize(
    ("engine", "hides", "message"),
    [("native", None, "steadyscale native build"), ("onnx", "onnxruntime", "pip install 'steadyscale[onnx]'")],
)
def test_an_engine_that_is_not_installed_is_1(
    tmp_path: Path, clip_file: Path, weights: Path, run_cli, monkeypatch, engine: str, hides: str | None, message: str
):
    if hides is not None:
        monkeypatch.setitem(sys.modules, hides, None)
    out = tmp_path / "out.mp4"
    code, _, stderr = run_cli("upscale", clip_file, out, "--model", weights, "--device", "cpu", "--engine", engine)
    assert code == 1
    assert message in stderr
    assert stderr.count("\n") == 1
    assert not out.exists()


@pytest.mark.parametrize(
    ("options", "size"),
    [(["--scale", "1.5"], (96, 72)), (["--scale", "4"], (256, 192)), (["--size", "100x50"], (100, 50))],
)
def test_scale_and_size(tmp_path: Path, clip_file: Path, weights: Path, run_cli, options: list[str], size):
    code, stdout, _ = run_cli("upscale", clip_file, tmp_path / "o.mkv", "--model", weights, "--json", *options)
    report = json.loads(stdout)
    assert (code, report["width"], report["height"], report["frames_out"]) == (0, *size, 12)
    assert read_numbers(open_clip(tmp_path / "o.mkv")) == list(range(12))


@pytest.mark.parametrize(
    ("options", "size"), [((), (96, 64)), (("--scale", "3"), (144, 96)), (("--size", "60x40"), (60, 40))]
)
def test_without_a_model_the_one_that_comes_with_the_package_serves(run_cli, tmp_path, options, size):
    """Twice the size unless another is asked for; the result is the image, sharper than after bicubic."""
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(48.0), indexing="ij")
    disc = ((torch.hypot(y - 16, x - 24) - 9).sigmoid() * 0.8 + 0.1).expand(1, 3, 32, 48)
    write_images(tmp_path / "small.png", iter([disc]))
    code, _, stderr = run_cli("upscale", tmp_path / "small.png", tmp_path / "large.png", "--quiet", *options)
    assert code == 0, stderr
    [large] = open_clip(tmp_path / "large.png").frames()
    assert large.shape == (1, 3, size[1], size[0])
    plain = resize(disc, *size)
    assert 0 < (large - plain).abs().mean() < 0.02
    assert large.diff(dim=-1).abs().amax() > plain.diff(dim=-1).abs().amax()


def test_a_bad_model_is_1(tmp_path: Path, clip_file: Path, run_cli):
    (tmp_path / "model.safetensors").write_text("no weights")
    for model in (tmp_path / "model.safetensors", "no-such-name", clip_file):
        code, _, stderr = run_cli("upscale", clip_file, tmp_path / "out.mp4", "--model", model)
        assert code == 1
        assert stderr.count("\n") == 1
        assert Path(str(model)).name in stderr
    assert not (tmp_path / "out.mp4").exists()


def test_what_did_not_change_is_not_computed_again_and_the_report_says_so(tmp_path: Path, weights: Path, run_cli):
    """A page on which two words are written, one after the other; then nothing happens."""
    frames = torch.full((5, 3, 200, 300), 0.8)
    frames[1:, :, 20:30, 20:60] = 0.2
    frames[2:, :, 150:160, 200:230] = 0.2
    write_images(tmp_path / "in", iter([frames]))
    words = ("upscale", tmp_path / "in", tmp_path / "out", "--model", weights)
    code, stdout, _ = run_cli(*words, "--json")
    report = json.loads(stdout)
    assert (code, report["repeated_frames"]) == (0, 2)
    assert 820 < report["tiles_reused"] < 842  # of the 425 tiles of two frames
    assert 0.2 < report["pixels_computed"] < 0.4
    result = torch.cat(list(open_clip(tmp_path / "out").frames()))
    code, stdout, _ = run_cli(*words)
    assert (code, stdout.count("\n")) == (0, 1)
    assert "% of the pixels (2 whole frames) reused" in stdout
    code, stdout, _ = run_cli(*words, "--json", "--no-reuse")
    report = json.loads(stdout)
    assert (report["repeated_frames"], report["tiles_reused"], report["pixels_computed"]) == (0, 0, 1.0)
    plain = torch.cat(list(open_clip(tmp_path / "out").frames()))
    assert torch.equal(result, plain)
    assert torch.equal(
        result[2:3], frames[2:3].repeat_interleave(2, -1).repeat_interleave(2, -2).mul(255).round() / 255
    )


def test_the_repeat_threshold_counts_steps(tmp_path: Path, weights: Path, run_cli):
    frames = torch.full((3, 3, 48, 64), 100 / 255)
    frames[1, :, 5, 5] = frames[2, :, 9, 9] = 102 / 255
    write_images(tmp_path / "in", iter([frames]))
    for threshold, repeats in (("1", 0), ("2", 2)):
        words = ("upscale", tmp_path / "in", tmp_path / "out", "--model", weights, "--repeat-threshold", threshold)
        assert json.loads(run_cli(*words, "--json")[1])["repeated_frames"] == repeats


def test_post_processing(tmp_path: Path, weights: Path, run_cli):
    frames = torch.rand(1, 3, 48, 64, generator=torch.Generator().manual_seed(0)).repeat(2, 1, 1, 1)
    write_images(tmp_path / "in", iter([frames]))

    def upscaled(*options: str) -> torch.Tensor:
        words = ("upscale", tmp_path / "in", tmp_path / "out", "--model", weights, "--bits", "16")
        code, _, stderr = run_cli(*words, *options)
        assert (code, stderr) == (0, "")
        return torch.cat(list(open_clip(tmp_path / "out").frames()))

    stored = torch.cat(list(open_clip(tmp_path / "in").frames()))
    plain, one_step = resize(stored, 128, 96), {"atol": 1 / 65535, "rtol": 0}
    torch.testing.assert_close(upscaled("--strength", "0"), plain, **one_step)
    half = (plain + stored.repeat_interleave(2, -1).repeat_interleave(2, -2)) / 2
    torch.testing.assert_close(upscaled("--strength", "0.5"), half, **one_step)
    torch.testing.assert_close(
        upscaled("--strength", "0", "--linear-light"), resize(stored, 128, 96, linear_light=True), **one_step
    )
    coarse = upscaled("--color", "wavelet") - upscaled()
    assert 1e-4 < float(coarse.abs().max()) < 0.1
    grainy = upscaled("--grain", "0.4")
    assert 0.01 < float((grainy[0] - grainy[1]).std()) < 0.06


def test_deflickering_comes_before_grain(tmp_path: Path, weights: Path, run_cli):
    torch.manual_seed(0)
    still = torch.nn.functional.interpolate(torch.rand(1, 3, 12, 16), scale_factor=4, mode="bicubic").clamp(0.1, 0.9)
    frames = (still + 0.04 * torch.randn(10, 3, 48, 64)).clamp(0, 1)
    write_images(tmp_path / "in", iter([frames]))
    words = ("upscale", tmp_path / "in", tmp_path / "out", "--model", weights, "--device", "cpu", "--quiet")

    def flicker(*options: str) -> float:
        assert run_cli(*words, *options)[0] == 0
        result = torch.cat(list(open_clip(tmp_path / "out").frames()))
        assert result.shape == (10, 3, 96, 128)
        return float(result.diff(dim=0).std())

    plain = flicker()
    assert flicker("--temporal", "0.6") < 0.6 * plain
    assert flicker("--temporal", "0.6", "--grain", "1") > 1.5 * plain
