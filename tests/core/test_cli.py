from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import av
import pytest
import torch
from broken import FRAMES, GROUP, moving, with_noise
from counting import make_video, numbered, numbers_of
from safetensors.torch import save_file
from steadyscale.core import cli
from steadyscale.core.upscaling.resize import resize
from steadyscale.core.video.files import open_clip
from steadyscale.core.video.images import write_images
from steadyscale.models import SRVGGConfig, SRVGGNetCompact, load_upscaler

# In the background of a shell Ctrl-C is ignored, and what is started there inherits that.
PROGRAM = (
    "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from steadyscale.core.cli import main; sys.exit(main())"
)


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A 2x network that does nothing but repeat pixels: its last layer is zero, and it adds to the repeated input."""
    torch.manual_seed(0)
    network = SRVGGNetCompact(SRVGGConfig(features=4, convs=1, scale=2))
    state = network.state_dict()
    last = max(int(key.split(".")[1]) for key in state)
    for key in state:
        if key.startswith(f"body.{last}."):
            state[key] = torch.zeros_like(state[key])
    path = tmp_path_factory.mktemp("weights") / "twice.safetensors"
    save_file(state, path)
    assert load_upscaler(path).scale == 2
    return path


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]):
    """Run a command in this process: (exit code, stdout, stderr)."""

    def call(*words: object) -> tuple[int, str, str]:
        code = cli.main([str(word) for word in words])
        out, err = capsys.readouterr()
        return code, out, err

    return call


def remains(folder: Path) -> list[str]:
    return sorted(f.name for f in folder.iterdir())


def test_upscale_writes_every_frame_twice_as_large(tmp_path: Path, clip_file: Path, weights: Path, run):
    out = tmp_path / "out.mp4"
    code, stdout, stderr = run("upscale", clip_file, out, "--model", weights, "--device", "cpu", "--json")
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
        "repeated_frames": 0,
        "tiles_reused": 0,
        "pixels_computed": 1.0,
        "damaged_frames": 0,
        "damage": [],
    }
    assert numbers_of(open_clip(out)) == list(range(12))
    with av.open(str(out)) as container:
        assert len(container.streams.audio) == 1


@pytest.mark.parametrize(
    ("options", "size"),
    [(["--scale", "1.5"], (96, 72)), (["--scale", "4"], (256, 192)), (["--size", "100x50"], (100, 50))],
)
def test_scale_and_size(tmp_path: Path, clip_file: Path, weights: Path, run, options: list[str], size):
    code, stdout, _ = run("upscale", clip_file, tmp_path / "o.mkv", "--model", weights, "--json", *options)
    report = json.loads(stdout)
    assert (code, report["width"], report["height"], report["frames_out"]) == (0, *size, 12)
    assert numbers_of(open_clip(tmp_path / "o.mkv")) == list(range(12))


def test_what_did_not_change_is_not_computed_again_and_the_report_says_so(tmp_path: Path, weights: Path, run):
    """A page on which two words are written, one after the other; then nothing happens."""
    frames = torch.full((5, 3, 200, 300), 0.8)
    frames[1:, :, 20:30, 20:60] = 0.2
    frames[2:, :, 150:160, 200:230] = 0.2
    write_images(tmp_path / "in", iter([frames]))
    words = ("upscale", tmp_path / "in", tmp_path / "out", "--model", weights)
    code, stdout, _ = run(*words, "--json")
    report = json.loads(stdout)
    assert (code, report["repeated_frames"]) == (0, 2)
    assert 25 < report["tiles_reused"] < 40  # of the 20 tiles of two frames
    assert 0.2 < report["pixels_computed"] < 0.4
    made = torch.cat(list(open_clip(tmp_path / "out").frames()))
    code, stdout, _ = run(*words)
    assert (code, stdout.count("\n")) == (0, 1)
    assert "% of the pixels (2 whole frames) reused" in stdout
    code, stdout, _ = run(*words, "--json", "--no-reuse")
    report = json.loads(stdout)
    assert (report["repeated_frames"], report["tiles_reused"], report["pixels_computed"]) == (0, 0, 1.0)
    plain = torch.cat(list(open_clip(tmp_path / "out").frames()))
    assert torch.equal(made, plain)
    assert torch.equal(made[2:3], frames[2:3].repeat_interleave(2, -1).repeat_interleave(2, -2).mul(255).round() / 255)


def test_the_repeat_threshold_counts_steps(tmp_path: Path, weights: Path, run):
    frames = torch.full((3, 3, 48, 64), 100 / 255)
    frames[1, :, 5, 5] = frames[2, :, 9, 9] = 102 / 255
    write_images(tmp_path / "in", iter([frames]))
    for threshold, repeats in (("1", 0), ("2", 2)):
        words = ("upscale", tmp_path / "in", tmp_path / "out", "--model", weights, "--repeat-threshold", threshold)
        assert json.loads(run(*words, "--json")[1])["repeated_frames"] == repeats


def test_more_than_256_levels_survive(tmp_path: Path, weights: Path, run):
    """16 bits in and out: the network of the tests repeats pixels, so each of 6144 levels must come out as it was."""
    levels = torch.arange(48 * 128).reshape(1, 1, 48, 128) * 10 + 99
    write_images(tmp_path / "in", iter([(levels / 65535).expand(1, 3, 48, 128)]), bits=16)
    words = ("upscale", tmp_path / "in", tmp_path / "out", "--model", weights)
    for bits, distinct in (("16", 6144), ("8", 240)):
        assert run(*words, "--bits", bits)[0] == 0
        made = (torch.cat(list(open_clip(tmp_path / "out").frames())) * 65535).round().long()
        assert len(made.unique()) == distinct
        if bits == "16":
            assert torch.equal(made[:, :1], levels.repeat_interleave(2, -1).repeat_interleave(2, -2))


def test_finishing(tmp_path: Path, weights: Path, run):
    frames = torch.rand(1, 3, 48, 64, generator=torch.Generator().manual_seed(0)).repeat(2, 1, 1, 1)
    write_images(tmp_path / "in", iter([frames]))

    def made(*options: str) -> torch.Tensor:
        words = ("upscale", tmp_path / "in", tmp_path / "out", "--model", weights, "--bits", "16")
        code, _, stderr = run(*words, *options)
        assert (code, stderr) == (0, "")
        return torch.cat(list(open_clip(tmp_path / "out").frames()))

    stored = torch.cat(list(open_clip(tmp_path / "in").frames()))
    plain, one_step = resize(stored, 128, 96), {"atol": 1 / 65535, "rtol": 0}
    torch.testing.assert_close(made("--strength", "0"), plain, **one_step)
    half = (plain + stored.repeat_interleave(2, -1).repeat_interleave(2, -2)) / 2
    torch.testing.assert_close(made("--strength", "0.5"), half, **one_step)
    torch.testing.assert_close(
        made("--strength", "0", "--linear-light"), resize(stored, 128, 96, linear_light=True), **one_step
    )
    coarse = made("--colour", "wavelet") - made()
    assert 1e-4 < float(coarse.abs().max()) < 0.1
    grainy = made("--grain", "0.4")
    assert 0.01 < float((grainy[0] - grainy[1]).std()) < 0.06


def test_pictures_in_and_out(tmp_path: Path, weights: Path, run):
    write_images(tmp_path / "in", iter([numbered(3)]))
    code, stdout, _ = run(
        "upscale",
        tmp_path / "in" / "frame_%06d.png",
        tmp_path / "out",
        "--model",
        weights,
        "--fps",
        "30000/1001",
        "--json",
    )
    report = json.loads(stdout)
    assert (code, report["frames_out"], report["width"], report["fps"]) == (0, 3, 128, 29.97003)
    assert numbers_of(open_clip(tmp_path / "out")) == [0, 1, 2]
    code, _, _ = run("upscale", tmp_path / "in" / "frame_000002.png", tmp_path / "one.png", "--model", weights)
    assert code == 0
    assert numbers_of(open_clip(tmp_path / "one.png")) == [1]


def test_without_json_a_person_reads_one_line(tmp_path: Path, clip_file: Path, weights: Path, run):
    code, stdout, _ = run("upscale", clip_file, tmp_path / "o.mp4", "--model", weights)
    assert code == 0
    assert stdout.count("\n") == 1
    assert "12 frames, 128x96 at 24 fps" in stdout
    code, stdout, stderr = run("upscale", clip_file, tmp_path / "o.mp4", "--model", weights, "--quiet")
    assert (code, stdout, stderr) == (0, "", "")


@pytest.fixture(scope="session")
def shaken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 frames of a texture that swings 3 pixels to and fro."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, 30, 40, generator=generator)
    scene = torch.nn.functional.interpolate(coarse, scale_factor=8, mode="bicubic", align_corners=False).clamp(0, 1)
    path = tmp_path_factory.mktemp("shaken") / "shaken.mp4"
    with av.open(str(path), "w") as sink:
        stream = sink.add_stream("libx264", rate=24, options={"crf": "5"})
        stream.width, stream.height = 160, 128
        for i in range(20):
            x = 60 + round(6 * math.sin(i * 2.1))
            crop = (scene[0, :, 40:168, x : x + 160] * 255).byte().permute(1, 2, 0).contiguous().numpy()
            sink.mux(stream.encode(av.VideoFrame.from_ndarray(crop, format="rgb24")))
        sink.mux(stream.encode(None))
    return path


def unrest(path: Path) -> float:
    """Mean difference of neighbouring frames, away from the borders."""
    frames = torch.cat(list(open_clip(path).frames()))
    height, width = frames.shape[-2:]
    inner = frames[..., height // 4 : -height // 4, width // 4 : -width // 4]
    return float((inner[1:] - inner[:-1]).abs().mean())


@pytest.mark.parametrize("border", ["crop", "mirror", "black"])
def test_stabilize_calms_a_shaken_clip(tmp_path: Path, shaken: Path, run, border: str):
    out = tmp_path / "calm.mp4"
    code, stdout, stderr = run(
        "stabilize", shaken, out, "--border", border, "--smoothing", "locked", "--crf", "5", "--json", "--device", "cpu"
    )
    assert (code, stderr) == (0, "")
    report = json.loads(stdout)
    assert (report["frames_in"], report["frames_out"], report["width"], report["height"]) == (20, 20, 160, 128)
    assert unrest(out) < unrest(shaken) / 3


def test_the_learned_smoother_is_had_by_name(tmp_path: Path, shaken: Path, run):
    words = ("--smoothing", "learned", "--seconds", "2", "--crf", "5", "--quiet", "--device", "cpu")
    for border in ("crop", "mirror"):
        assert run("stabilize", shaken, tmp_path / "calm.mp4", "--border", border, *words)[0] == 0
        assert unrest(tmp_path / "calm.mp4") < unrest(shaken) / 2


def test_the_smoother_can_be_trained_anew(tmp_path: Path, run):
    from steadyscale.models import load_path_smoother

    out = tmp_path / "path.safetensors"
    code, stdout, stderr = run("train-smoother", out, "--steps", "1", "--json")
    assert (code, stderr) == (0, "")
    assert json.loads(stdout)["output"] == str(out)
    assert load_path_smoother(out).offline.layers[-1].bias.item() != 0


def test_an_axis_that_is_kept_keeps_its_shake(tmp_path: Path, shaken: Path, run):
    out = tmp_path / "kept.mp4"
    words = ("stabilize", shaken, out, "--border", "mirror", "--smoothing", "locked", "--crf", "5", "--device", "cpu")
    assert run(*words, "--keep-x", "1")[0] == 0
    assert unrest(out) > unrest(shaken) * 0.8, "the clip swings sideways and no other way"
    assert run(*words, "--keep-y", "1", "--keep-roll", "1", "--horizon", "1")[0] == 0
    assert unrest(out) < unrest(shaken) / 3


def test_temporal_takes_flicker_out_and_puts_grain_on_afterwards(tmp_path: Path, weights: Path, run):
    torch.manual_seed(0)
    still = torch.nn.functional.interpolate(torch.rand(1, 3, 12, 16), scale_factor=4, mode="bicubic").clamp(0.1, 0.9)
    frames = (still + 0.04 * torch.randn(10, 3, 48, 64)).clamp(0, 1)
    write_images(tmp_path / "in", iter([frames]))
    words = ("upscale", tmp_path / "in", tmp_path / "out", "--model", weights, "--device", "cpu", "--quiet")

    def flicker(*options: str) -> float:
        assert run(*words, *options)[0] == 0
        made = torch.cat(list(open_clip(tmp_path / "out").frames()))
        assert made.shape == (10, 3, 96, 128)
        return float(made.diff(dim=0).std())

    plain = flicker()
    assert flicker("--temporal", "0.6") < 0.6 * plain
    assert flicker("--temporal", "0.6", "--grain", "1") > 1.5 * plain


def test_a_resumable_run_goes_on(tmp_path: Path, clip_file: Path, weights: Path, run, monkeypatch):
    words = ["upscale", clip_file, tmp_path / "out.mp4", "--model", weights, "--device", "cpu", "--grain", "0.5"]
    job = ["--resumable", "--segment-seconds", "0.25"]  # 6 of its 12 frames
    recipe = import_module("steadyscale.core.operations.enlarge")
    upscale, seen = recipe.upscale, []

    def interrupted(frames, *settings, **more):
        for n, frame in enumerate(upscale(frames, *settings, **more)):
            if more["first"] + n == 8 and not seen:
                seen.append(n)
                raise KeyboardInterrupt
            yield frame

    monkeypatch.setattr(recipe, "upscale", interrupted)
    code, _, stderr = run(*words, *job)
    assert code == 130
    assert "the same command goes on" in stderr
    assert remains(tmp_path) == ["out.mp4.job", "source.mp4"]
    code, stdout, stderr = run(*words, *job, "--json")
    assert code == 0
    assert "1 of 2 segments are there" in stderr
    assert json.loads(stdout)["frames_out"] == 12
    assert remains(tmp_path) == ["out.mp4", "source.mp4"]
    assert numbers_of(open_clip(tmp_path / "out.mp4")) == list(range(12))
    resumed = torch.cat(list(open_clip(tmp_path / "out.mp4").frames()))
    assert run(*words, *job)[0] == 0
    assert torch.equal(resumed, torch.cat(list(open_clip(tmp_path / "out.mp4").frames())))


@pytest.mark.parametrize("command", ["upscale", "stabilize", "enhance"])
def test_damage_stops_it_or_is_counted(tmp_path: Path, weights: Path, run, command: str):
    broken, out = with_noise(moving(tmp_path / "in.mp4", sound=True), 2 * GROUP, 0.5), tmp_path / "out.mp4"
    words = [command, broken, out, "--device", "cpu", *([] if command == "stabilize" else ["--model", weights])]
    code, stdout, stderr = run(*words)
    assert (code, stdout) == (1, "")
    assert stderr.count("\n") == 1
    assert f"{broken}: frame 24 (1.000 s) is damaged" in stderr
    assert "--on-damage keep" in stderr
    assert not out.exists()
    code, stdout, stderr = run(*words, "--on-damage", "keep", "--json")
    assert code == 0
    assert "1 damaged frame: 24 concealed (1.000 s)" in stderr
    report = json.loads(stdout)
    assert (report["frames_in"], report["frames_out"], report["damaged_frames"]) == (FRAMES, FRAMES, 1)
    assert report["damage"] == [{"first": 24, "last": 24, "seconds": 1.0, "kind": "concealed"}]
    code, stdout, _ = run(*words, "--on-damage", "keep", "--resumable")
    assert code == 0
    assert "1 damaged frame: 24 concealed (1.000 s)" in stdout


def test_bench_measures_what_it_says(weights: Path, run):
    code, stdout, _ = run("bench", weights, "--size", "48x32", "--frames", "3", "--device", "cpu", "--json")
    report = json.loads(stdout)
    assert (code, report["command"], report["frames"], report["scale"]) == (0, "bench", 3, 2)
    assert (report["width"], report["height"], report["precision"]) == (48, 32, "fp32")
    assert report["fps"] == pytest.approx(3 / report["seconds"])
    code, stdout, _ = run("bench", weights, "--size", "96x64", "--tile", "32", "--frames", "2", "--device", "cpu")
    assert code == 0
    assert "tiles of" in stdout


def test_train_leaves_a_network_that_upscale_takes(tmp_path: Path, clip_file: Path, run):
    config = tmp_path / "run.toml"
    config.write_text("")
    code, _, stderr = run("train", config)
    assert (code, stderr.count("\n")) == (1, 1)
    assert "data.train" in stderr
    changes = [f'data.train=["{clip_file}"]', f'run="{tmp_path / "run"}"', "data.crop=32", "network.features=8"]
    changes += ["network.convs=2", "network.scales=[2]", "steps=2", "batch=2"]
    words = [word for change in changes for word in ("--set", change)]
    code, stdout, _ = run("train", config, *words, "--json")
    assert code == 0
    report = json.loads(stdout)
    assert report["steps"] == 2
    out = tmp_path / "out.mp4"
    assert run("upscale", clip_file, out, "--model", report["files"][0], "--quiet")[0] == 0
    assert open_clip(out).info.width == 128
    code, _, stderr = run("train", config, *words)
    assert code == 1
    assert "--resume" in stderr


def test_enhance_does_both(tmp_path: Path, shaken: Path, weights: Path, run):
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
    code, stdout, _ = run("enhance", shaken, out, *options)
    report = json.loads(stdout)
    assert (code, report["frames_in"], report["frames_out"]) == (0, 20, 20)
    assert (report["width"], report["height"]) == (320, 256)
    assert unrest(out) < unrest(shaken) / 3
    code, _, stderr = run("enhance", shaken, tmp_path / "bent.mp4", *options, "--size", "320x200")
    assert code == 1
    assert "another shape" in stderr
    assert remains(tmp_path) == ["both.mp4"]


def test_info_of_a_video_pictures_and_weights(tmp_path: Path, clip_file: Path, weights: Path, run):
    code, stdout, _ = run("info", clip_file, "--json")
    assert code == 0
    report = json.loads(stdout)
    sound = {"codec": "aac", "rate": 48000, "channels": 2, "language": None}
    assert report["sound"][0] | {"language": None} == sound
    assert {k: report[k] for k in ("kind", "width", "height", "fps", "frames", "codec", "pixel_format")} == {
        "kind": "video",
        "width": 64,
        "height": 48,
        "fps": 24.0,
        "frames": 12,
        "codec": "h264",
        "pixel_format": "yuv420p",
    }
    write_images(tmp_path / "in", iter([numbered(3)]))
    report = json.loads(run("info", tmp_path / "in", "--json")[1])
    assert (report["kind"], report["frames"], report["width"]) == ("pictures", 3, 64)
    report = json.loads(run("info", weights, "--json")[1])
    assert (report["kind"], report["architecture"], report["scale"]) == ("weights", "SRVGGNetCompact", 2)
    code, stdout, _ = run("info", clip_file)
    assert "width: 64\nheight: 48\n" in stdout


@pytest.mark.parametrize(
    ("options", "size"), [((), (96, 64)), (("--scale", "3"), (144, 96)), (("--size", "60x40"), (60, 40))]
)
def test_without_a_model_the_one_that_comes_with_the_package_serves(run, tmp_path, options, size):
    """Twice the size unless another is asked for; the result is the picture, sharper than bicubic makes it."""
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(48.0), indexing="ij")
    disc = ((torch.hypot(y - 16, x - 24) - 9).sigmoid() * 0.8 + 0.1).expand(1, 3, 32, 48)
    write_images(tmp_path / "small.png", iter([disc]))
    code, _, stderr = run("upscale", tmp_path / "small.png", tmp_path / "large.png", "--quiet", *options)
    assert code == 0, stderr
    [large] = open_clip(tmp_path / "large.png").frames()
    assert large.shape == (1, 3, size[1], size[0])
    plain = resize(disc, *size)
    assert 0 < (large - plain).abs().mean() < 0.02
    assert large.diff(dim=-1).abs().amax() > plain.diff(dim=-1).abs().amax()


def test_models_list(run):
    code, stdout, _ = run("models", "list", "--json")
    assert code == 0
    rows = json.loads(stdout)["models"]
    assert {"name", "architecture", "scale", "about", "licence", "here"} <= set(rows[0])
    code, text, _ = run("models", "list")
    assert all(row["name"] in text for row in rows)


def test_models_get(tmp_path: Path, run, monkeypatch: pytest.MonkeyPatch):
    from steadyscale.models import zoo

    monkeypatch.setattr(zoo, "get", lambda name, folder: folder / f"{name}.safetensors")
    code, stdout, _ = run("models", "get", "some-name", "--to", tmp_path)
    assert (code, stdout) == (0, f"{tmp_path / 'some-name.safetensors'}\n")
    monkeypatch.undo()
    code, _, stderr = run("models", "get", "no-such-name")
    assert code == 1
    assert "realesrgan-x4plus" in stderr


# --- what goes wrong


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["upscale"],
        ["upscale", "a.mp4", "b.mp4", "--model", "m", "--scale", "0"],
        ["upscale", "a.mp4", "b.mp4", "--model", "m", "--scale", "2", "--size", "10x10"],
        ["upscale", "a.mp4", "b.mp4", "--model", "m", "--size", "10"],
        ["upscale", "a.mp4", "b.mp4", "--model", "m", "--fps", "0"],
        ["upscale", "a.mp4", "b.mp4", "--model", "m", "--strength", "1.5"],
        ["upscale", "a.mp4", "b.mp4", "--model", "m", "--grain", "-1"],
        ["upscale", "a.mp4", "b.mp4", "--model", "m", "--colour", "sepia"],
        ["upscale", "a.mp4", "b.mp4", "--model", "m", "--repeat-threshold", "-1"],
        ["upscale", "a.mp4", "b.mp4", "--model", "m", "--repeat-threshold", "1", "--no-reuse"],
        ["upscale", "a.mp4", "b.mp4", "--model", "m", "--temporal", "2"],
        ["upscale", "a.mp4", "b.mp4", "--model", "m", "--tile", "0"],
        ["upscale", "a.mp4", "b.mp4", "--model", "m", "--precision", "fp8"],
        ["stabilize", "a.mp4", "b.mp4", "--keep-x", "1.5"],
        ["stabilize", "a.mp4", "b.mp4", "--smoothing", "magic"],
        ["stabilize", "a.mp4", "b.mp4", "--seconds", "-1"],
        ["stabilize", "a.mp4", "b.mp4", "--max-zoom", "0.5"],
        ["stabilize", "a.mp4", "b.mp4", "--rolling-shutter", "1.5"],
        ["stabilize", "a.mp4", "b.mp4", "--rolling-shutter", "fast"],
        ["models"],
        ["frobnicate"],
    ],
)
def test_wrong_usage_is_2(run, words: list[str]):
    code, stdout, stderr = run(*words)
    assert (code, stdout) == (2, "")
    assert "usage: steadyscale" in stderr


def test_version_and_help_are_0(run):
    from steadyscale import __version__

    assert run("--version")[:2] == (0, f"steadyscale {__version__}\n")
    assert run("--help")[0] == 0
    code, stdout, _ = run("stabilize", "--help")
    assert code == 0
    for value in ("kalman", "gaussian", "locked", "mirror", "wrap", "farneback"):
        assert value in stdout, "the choices come from the enums"


def a_zero_byte_file(folder: Path) -> Path:
    (folder / "in.mp4").touch()
    return folder / "in.mp4"


def a_text(folder: Path) -> Path:
    (folder / "in.mp4").write_text("hello")
    return folder / "in.mp4"


def a_playlist(folder: Path) -> Path:
    (folder / "in.mp4").write_text("ffconcat version 1.0\nfile other.mp4\n")
    return folder / "in.mp4"


@pytest.mark.parametrize("make", [a_zero_byte_file, a_text, a_playlist, lambda folder: folder / "missing.mp4"])
@pytest.mark.parametrize("command", ["upscale", "stabilize"])
def test_a_bad_source_is_1_and_one_line(tmp_path: Path, weights: Path, run, make, command: str):
    source = make(tmp_path)
    before = remains(tmp_path)
    model = ("--model", weights) if command == "upscale" else ()
    code, stdout, stderr = run(command, source, tmp_path / "out.mp4", *model)
    assert (code, stdout) == (1, "")
    assert stderr.startswith(f"steadyscale: {source}: ")
    assert stderr.count("\n") == 1
    assert remains(tmp_path) == before


def test_a_bad_model_is_1(tmp_path: Path, clip_file: Path, run):
    (tmp_path / "model.safetensors").write_text("no weights")
    for model in (tmp_path / "model.safetensors", "no-such-name", clip_file):
        code, _, stderr = run("upscale", clip_file, tmp_path / "out.mp4", "--model", model)
        assert code == 1
        assert stderr.count("\n") == 1
        assert Path(str(model)).name in stderr
    assert not (tmp_path / "out.mp4").exists()


@pytest.mark.parametrize(
    ("out", "options", "message"),
    [
        ("source.mp4", [], "source itself"),
        ("out.xyz", [], "not as '.xyz'"),
        ("nowhere/out.mp4", [], "does not exist"),
        ("out.mp4", ["--codec", "ffv1"], "not ffv1; write .mkv"),
        ("out.mp4", ["--crf", "99"], "crf 99"),
    ],
)
def test_a_bad_target_is_told_before_the_work(tmp_path: Path, clip_file: Path, run, monkeypatch, out, options, message):
    def never(*_, **__):
        raise AssertionError("the work has begun")

    monkeypatch.setattr(import_module("steadyscale.core.motion.estimate"), "estimate_motion", never)
    code, _, stderr = run("stabilize", clip_file, tmp_path / out, *options)
    assert code == 1
    assert message in stderr
    assert remains(tmp_path) == [clip_file.name]


def test_an_earlier_result_survives_a_failure(tmp_path: Path, clip_file: Path, weights: Path, run, monkeypatch):
    (tmp_path / "out.mp4").write_bytes(b"earlier")

    def broken(frames, *_, **__):
        yield next(frames)
        raise RuntimeError("the network\nburst")

    monkeypatch.setattr(import_module("steadyscale.core.operations.enlarge"), "upscale", broken)
    code, stdout, stderr = run("upscale", clip_file, tmp_path / "out.mp4", "--model", weights)
    assert (code, stdout) == (1, "")
    assert stderr == "steadyscale: RuntimeError: the network burst (--debug shows where)\n"
    assert (tmp_path / "out.mp4").read_bytes() == b"earlier"
    code, _, stderr = run("upscale", clip_file, tmp_path / "out.mp4", "--model", weights, "--debug")
    assert "Traceback" in stderr
    assert remains(tmp_path) == ["out.mp4", clip_file.name]


def test_an_interrupt_is_130(tmp_path: Path, clip_file: Path, weights: Path, run, monkeypatch):
    def interrupted(frames, *_, **__):
        yield next(frames)
        raise KeyboardInterrupt

    monkeypatch.setattr(import_module("steadyscale.core.operations.enlarge"), "upscale", interrupted)
    code, _, stderr = run("upscale", clip_file, tmp_path / "out.mp4", "--model", weights)
    assert (code, stderr) == (130, "steadyscale: interrupted, nothing was written\n")
    assert remains(tmp_path) == [clip_file.name]


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_real_program(tmp_path: Path, weights: Path, number: int):
    source = make_video(tmp_path / "long.mp4", 250, size=(160, 120))
    words = ["upscale", str(source), str(tmp_path / "out.mkv"), "--model", str(weights), "--device", "cpu"]
    command = [sys.executable, "-c", PROGRAM, *words]
    child = subprocess.Popen([*command, "--preset", "veryslow"], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob(".out.mkv.*.partial")) and time.monotonic() < deadline:
        assert child.poll() is None, child.communicate()[1]
        time.sleep(0.02)
    child.send_signal(number)
    _, stderr = child.communicate(timeout=60)
    assert child.returncode == 130, stderr
    assert "nothing was written" in stderr
    assert "Traceback" not in stderr
    assert remains(tmp_path) == ["long.mp4"]


def test_the_program_as_installed(tmp_path: Path):
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run([*command, "info", str(tmp_path / "no.mp4")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"steadyscale: {tmp_path / 'no.mp4'}: there is no such file\n"
