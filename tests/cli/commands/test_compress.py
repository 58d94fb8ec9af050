"""`steadyscale compress`: reports, use of the results, and errors."""

import json

import pytest
import torch
from numbered_video import make_video, numbered_frames, read_numbers
from safetensors.torch import save_file
from steadyscale.core import open_clip, write_images
from steadyscale.core.compress import quality_gate
from steadyscale.models import SRVGGConfig, SRVGGNetCompact


@pytest.fixture
def folder(tmp_path):
    """A 2x network of 16 channels that has the output of nearest-neighbor upscaling, and images."""
    torch.manual_seed(0)
    network = SRVGGNetCompact(SRVGGConfig(features=16, convs=2, scale=2))
    state = {key: value * (0 if key.startswith("body.6.") else 1) for key, value in network.state_dict().items()}
    save_file(state, tmp_path / "twice.safetensors")
    write_images(tmp_path / "images", iter(numbered_frames(6).split(1)))
    return tmp_path


def test_compression_is_reported_and_the_results_work(folder, run_cli):
    small = folder / "small.safetensors"
    words = ["compress", folder / "twice.safetensors", "--calibrate", folder / "images", "--output", small]
    code, out, err = run_cli(*words, "--prune", "0.5", "--steps", "0", "--int8", "--json", "--device", "cpu")
    assert (code, err) == (0, "")
    report = json.loads(out)
    assert report["command"] == "compress"
    assert report["refused"] is None
    assert {verdict["model"] for verdict in report["verdicts"]} == {"pruned", "pruned, int8 graph"}
    assert not [verdict for verdict in report["verdicts"] if verdict["passed"] is False]
    assert report["files"] == [str(small), str(folder / "small_int8.onnx")]
    original, pruned, int8 = report["models"]
    assert pruned["parameters"] < 0.5 * original["parameters"]
    assert pruned["loss_db"] == pytest.approx(0, abs=1e-3)
    assert (int8["name"], int8["engine"]) == ("pruned, int8 graph", "openvino")

    source = make_video(folder / "source.mp4")
    code, _, err = run_cli(
        "upscale", source, folder / "large.mp4", "--model", folder / "small_int8.onnx", "--device", "cpu"
    )
    assert (code, err) == (0, "")
    large = open_clip(folder / "large.mp4")
    assert (large.info.width, large.info.height) == (128, 96)
    assert read_numbers(large) == list(range(12))

    code, out, _ = run_cli("info", folder / "small_int8.onnx", "--json")
    info = json.loads(out)
    assert (code, info["scale"], info["parameters"]) == (0, 2, pruned["parameters"])


def test_a_loss_beyond_the_limit_is_exit_code_1_and_one_line(folder, run_cli, monkeypatch):
    """The network is damaged after pruning, so that the loss is certain."""
    prune = quality_gate.prune

    def prune_and_damage(*args):
        network = prune(*args)
        network.body[-1].bias.data.fill_(0.2)
        return network

    monkeypatch.setattr(quality_gate, "prune", prune_and_damage)
    small = folder / "small.safetensors"
    words = ["compress", folder / "twice.safetensors", "--calibrate", folder / "images", "--output", small]
    code, out, err = run_cli(*words, "--prune", "0.5", "--steps", "0", "--device", "cpu")
    assert code == 1
    assert len(err.splitlines()) == 1
    assert err.startswith("steadyscale: pruned: kept is ")
    assert "levels (at most 0.5 allowed)" in err
    assert "nothing was written" in err
    assert out.splitlines()[1].startswith("original")
    assert any(line.startswith("color drift [levels]") and "FAILS" in line for line in out.splitlines())
    assert sorted(path.name for path in folder.iterdir()) == ["images", "twice.safetensors"]
    code, out, err = run_cli(*words, "--prune", "0.5", "--steps", "0", "--device", "cpu", "--no-gate")
    assert (code, err) == (0, "")
    assert "FAILS" in out
    assert small.exists()


def test_invalid_arguments_are_one_line(folder, run_cli):
    words = [
        "compress",
        folder / "twice.safetensors",
        "--calibrate",
        folder / "images",
        "--output",
        folder / "x.onnx",
    ]
    code, _, err = run_cli(*words)
    assert (code, err.count("\n")) == (1, 1)
    assert "there is nothing to do" in err
