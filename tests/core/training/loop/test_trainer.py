"""Whole runs: quality, bit-exact resuming, distributed runs, weight files, and errors."""

import json
import os
import socket
import subprocess
import sys
import time

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from spandrel import ModelLoader
from steadyscale.core.clip import ClipError
from steadyscale.core.training import TrainingError, bicubic, read_config, read_log, score, train
from steadyscale.core.training.config.toml_dataclass import to_toml
from steadyscale.core.training.loop.checkpoint import find_newest
from steadyscale.core.training.loop.networks import make_generator
from steadyscale.core.training.loop.setup import load_validation_images, pick_device
from steadyscale.models import load_upscaler


def checkpoint_of(config):
    """All tensors of the newest checkpoint in one dict."""
    path = find_newest(config.folder / "checkpoints")
    tensors = {f"{file.stem}/{k}": v for file in path.glob("*.safetensors") for k, v in load_file(file).items()}
    for number, state in enumerate(torch.load(path / "optimisers.pt", weights_only=True)):
        for index, values in state["state"].items():
            tensors |= {f"{number}/{index}/{name}": value for name, value in values.items()}
    return json.loads((path / "state.json").read_text())["step"], tensors


def assert_same(one, other):
    """Bit-identical."""
    assert one[0] == other[0]
    assert one[1].keys() == other[1].keys()
    assert all(torch.equal(value, other[1][key]) for key, value in one[1].items())


def test_a_run_gets_better_than_bicubic(make_config):
    config = make_config(
        steps=120, batch=8, network={"features": 12, "convs": 3}, data={"crop": 40}, optim={"learning_rate": 6e-3}
    )
    reports = list(train(config))
    images = load_validation_images(config)
    baseline = score(bicubic(2), images, 2)
    assert 25 < baseline.psnr < 30
    assert [r.step for r in reports] == list(range(1, 121))
    # A network that has learned nothing but plain upscaling reaches the baseline.
    assert reports[-1].scores[2].psnr > baseline.psnr + 1.0
    assert reports[-1].scores[2].ssim > baseline.ssim + 0.02
    assert reports[-1].losses["pixel"] < 0.9 * reports[0].losses["pixel"]

    [file] = reports[-1].files
    ours = load_upscaler(file)
    assert (ours.architecture, ours.scale) == ("SRVGGNetCompact", 2)
    assert score(ours, images, 2).psnr == pytest.approx(reports[-1].scores[2].psnr, abs=0.01)
    theirs = ModelLoader().load_from_file(file)
    image = torch.rand(1, 3, 9, 11)
    assert torch.allclose(theirs(image), ours(image), atol=1e-5)
    with safe_open(file, "pt") as opened:
        metadata = opened.metadata()
    assert (metadata["name"], metadata["scale"], metadata["steps"], metadata["seed"]) == ("toy", "2", "120", "0")
    assert str(config.folder.parent) not in metadata["config"], "no paths of this machine in published files"
    assert 'train = [\n    "train",\n]' in metadata["config"]


@pytest.mark.parametrize("kind", ["compact", "rrdb"])
def test_every_scale_is_written_as_a_network_of_its_own(make_config, kind):
    network = {"kind": kind, "scales": [2, 4], "features": 8, "blocks": 1}  # spandrel only reads growth 32
    reports = list(train(make_config(steps=2, network=network)))
    for scale, file in zip((2, 4), reports[-1].files, strict=True):
        assert file.name == f"toy_{scale}x.safetensors"
        ours, theirs = load_upscaler(file), ModelLoader().load_from_file(file)
        assert ours.scale == theirs.scale == scale
        image = torch.rand(1, 3, 8, 8)
        assert torch.allclose(theirs(image), ours(image), atol=1e-5)
        assert scale in reports[-1].scores
    two, four = (load_file(file) for file in reports[-1].files)
    first = "body.0.weight" if kind == "compact" else "conv_first.weight"
    assert torch.equal(two[first], four[first])


@pytest.mark.parametrize(("kind", "steps", "rate"), [("compact", 60, 6e-3), ("rrdb", 20, 3e-3)])
def test_separable_networks_are_trained_and_written_with_dense_equivalents(make_config, kind, steps, rate):
    shape = {"kind": kind, "scales": [2, 4], "features": 16, "convs": 2, "blocks": 1, "separable": True}
    config = make_config(steps=steps, network=shape, optim={"learning_rate": rate})
    reports, images = list(train(config)), load_validation_images(config)
    with torch.no_grad():
        initial = score(make_generator(config.network, config.seed).for_scale(2), images, 2).psnr
    last = reports[-1].scores[2].psnr
    assert last > initial + 0.5
    names = ["toy_2x", "toy_4x", "toy_2x_dense", "toy_4x_dense"]
    assert [file.stem for file in reports[-1].files] == names
    two, four, dense_two, dense_four = reports[-1].files
    image = torch.rand(1, 3, 9, 11)
    for ours, plain, scale in ((two, dense_two, 2), (four, dense_four, 4)):
        separable, dense, theirs = load_upscaler(ours), load_upscaler(plain), ModelLoader().load_from_file(plain)
        assert separable.architecture == "depthwise-separable"
        assert separable.scale == dense.scale == theirs.scale == scale
        assert separable.parameters_count < 0.75 * dense.parameters_count
        assert (dense(image) - separable(image)).abs().max() < 1e-5
        assert (theirs(image) - separable(image)).abs().max() < 1e-5
    inner = "body.2.depthwise.weight" if kind == "compact" else "body.0.rdb1.conv1.depthwise.weight"
    assert torch.equal(load_file(two)[inner], load_file(four)[inner]), "both scales share one body"
    assert score(load_upscaler(dense_two), images, 2).psnr == pytest.approx(last, abs=0.01)


def gan_config(make_config, folder, **changes):
    return make_config(
        run=str(folder),
        network={"scales": [2, 4]},
        losses={"adversarial": 0.05, "variation": 0.01, "frequency": 0.1},
        optim={"gan_start_step": 2, "gan_ramp_steps": 3, "max_grad_norm": 1.0},
        degrade={"enabled": True},
        output={"checkpoint_every": 3, "validate_every": 4},
        **changes,
    )


def test_a_resumed_run_equals_an_uninterrupted_one(make_config, tmp_path):
    unbroken = gan_config(make_config, tmp_path / "unbroken")
    whole = [r.losses for r in train(unbroken)]
    broken = gan_config(make_config, tmp_path / "broken")
    stream = train(broken)
    first = [next(stream).losses for _ in range(5)]
    stream.close()  # a cancel writes a checkpoint
    assert find_newest(broken.folder / "checkpoints").name == "step_00000005"
    with pytest.raises(TrainingError, match="holds a run already; continue it"):
        next(train(broken))
    rest = list(train(broken, resume=True))
    assert first + [r.losses for r in rest] == whole
    assert_same(checkpoint_of(broken), checkpoint_of(unbroken))
    logs = [
        [{k: v for k, v in line.items() if k != "seconds"} for line in read_log(c.folder)] for c in (broken, unbroken)
    ]
    assert logs[0] == logs[1]
    assert [line["step"] for line in logs[0]] == list(range(1, 9))
    assert "psnr/4x" in logs[0][3]
    assert list(train(broken, resume=True)) == []  # nothing is left to do


def test_resuming_in_float16_restores_the_loss_scale(make_config, tmp_path):
    def run(name):
        return make_config(run=str(tmp_path / name), runtime={"autocast_dtype": "fp16"}, losses={"adversarial": 0.05})

    list(train(run("unbroken")))
    stream = train(run("broken"))
    list(zip(range(3), stream, strict=False))
    stream.close()
    list(train(run("broken"), resume=True))
    assert_same(checkpoint_of(run("broken")), checkpoint_of(run("unbroken")))


RUN = """
import sys, torch
from steadyscale.core.training import read_config, train
torch.set_num_threads(1)
for report in train(read_config(sys.argv[1]), resume=True):
    pass
"""


def start(config, tmp_path, **environment):
    file = tmp_path / f"{config.folder.name}.toml"
    file.write_text(to_toml(config))
    return subprocess.Popen([sys.executable, "-c", RUN, str(file)], env={**os.environ, **environment}, cwd=tmp_path)


@pytest.mark.slow
@pytest.mark.slow
def test_a_killed_run_leaves_a_readable_checkpoint(make_config, tmp_path):
    often = {"checkpoint_every": 1, "keep_checkpoints": 2}
    shape = {"steps": 60, "losses": {"adversarial": 0.05}, "data": {"validate": []}}
    killed = make_config(run=str(tmp_path / "killed"), output=often, **shape)
    process = start(killed, tmp_path)
    checkpoints = killed.folder / "checkpoints"
    while process.poll() is None and not list(checkpoints.glob("step_0000001*")):
        time.sleep(0.01)
    process.kill()  # every step writes a checkpoint
    process.wait()
    found = find_newest(checkpoints)
    assert found is not None
    assert len(list(checkpoints.glob("step_*"))) <= 3
    list(train(read_config(tmp_path / "killed.toml"), resume=True))
    unbroken = make_config(run=str(tmp_path / "unbroken"), **shape)
    list(train(unbroken))
    assert_same(checkpoint_of(killed), checkpoint_of(unbroken))


@pytest.mark.slow
@pytest.mark.slow
def test_two_processes_give_the_result_of_one(make_config, tmp_path):
    def run(name):
        shape = {"steps": 4, "network": {"scales": [2, 4]}, "losses": {"variation": 0.01}, "data": {"validate": []}}
        return make_config(run=str(tmp_path / name), **shape)

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    both = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    processes = [start(run("two"), tmp_path, **both, RANK=str(r), LOCAL_RANK=str(r)) for r in range(2)]
    list(train(run("one")))
    assert [process.wait(120) for process in processes] == [0, 0]
    (step, two), (_, one) = checkpoint_of(run("two")), checkpoint_of(run("one"))
    assert step == 4
    assert two.keys() == one.keys()
    assert all(torch.allclose(two[key], one[key], atol=1e-5) for key in one)


def test_training_stops_without_improvement(make_config):
    config = make_config(
        steps=50, optim={"learning_rate": 1e-9, "min_learning_rate": 1e-9}, output={"validate_every": 2, "patience": 3}
    )
    reports = list(train(config))
    assert reports[-1].step == 8  # the first validation stays the best for three more
    assert reports[-1].files
    assert (config.folder / "best/toy_2x.safetensors").exists()


def test_a_run_with_only_nan_is_aborted(make_config):
    config = make_config(steps=500, optim={"learning_rate": 1e30}, data={"validate": []})
    with pytest.raises(TrainingError, match=r"100 steps in a row .* lower optim\.learning_rate"):
        list(train(config))


def test_sample_images_are_written(make_config):
    from PIL import Image

    config = make_config(steps=2)
    list(train(config))
    with Image.open(config.folder / "samples/step_00000002_2x_1.png") as image:
        assert image.size == (3 * 160, 160)


def test_training_starts_from_a_weight_file(make_config, tmp_path):
    [file] = list(train(make_config(steps=3, run=str(tmp_path / "first"))))[-1].files
    config = make_config(
        run=str(tmp_path / "second"),
        steps=1,
        optim={"learning_rate": 1e-9, "min_learning_rate": 1e-9},
        network={"init_from": str(file)},
    )
    [again] = list(train(config))[-1].files
    before, after = load_file(file), load_file(again)
    assert all(torch.allclose(before[key], after[key], atol=1e-6) for key in before)
    description = r"SRVGGNetCompact, scale 2, in_channels 3, features 8, convs 2, activation prelu; set network\.kind"
    with pytest.raises(TrainingError, match=rf"init_from: .* is {description}"):
        next(train(make_config(run=str(tmp_path / "third"), network={"init_from": str(file), "convs": 5})))
    with pytest.raises(TrainingError, match=r"is SRVGGNetCompact, .* set network\.kind, separable"):
        next(train(make_config(run=str(tmp_path / "third"), network={"init_from": str(file), "separable": True})))


def test_training_works_within_inference_mode(make_config):
    with torch.inference_mode():
        assert list(train(make_config(steps=2)))[-1].files
        assert torch.is_inference_mode_enabled()


def test_a_full_disk_is_reported(make_config, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("steadyscale.core.training.loop.logger.RunLogger.log_values", full)
    with pytest.raises(TrainingError, match=r"run: No space left on device \(.* MB are free\); .*--resume"):
        next(train(make_config()))


def test_a_run_that_cannot_start_is_refused_with_a_reason(make_config, tmp_path):
    with pytest.raises(TrainingError, match=r"data\.train is empty"):
        next(train(make_config(data={"train": []})))
    (tmp_path / "file").write_text("")
    with pytest.raises(
        TrainingError, match=r"file cannot be created as the folder of the run \(File exists\); name another"
    ):
        next(train(make_config(run=str(tmp_path / "file"))))
    with pytest.raises(TrainingError, match=r"no cuda device|is not a device"):
        pick_device("cuda" if not torch.cuda.is_available() else "nonsense")


def test_a_second_run_in_the_same_folder_is_refused(make_config):
    """Also with resume, while the first one works; and without it, once there is a checkpoint."""
    config = make_config(steps=4, data={"validate": []})
    first = train(config)
    next(first)
    before = sorted(path.name for path in config.folder.rglob("*"))
    for resume in (False, True):
        with pytest.raises(ClipError, match=rf"{config.folder}: process {os.getpid()} is at work"):
            next(train(config, resume=resume))
    assert sorted(path.name for path in config.folder.rglob("*")) == before
    first.close()
    with pytest.raises(TrainingError, match=r"holds a run already; continue it \(--resume\)"):
        next(train(config))
    assert next(train(config, resume=True)).step == 2
