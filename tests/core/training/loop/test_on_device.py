"""Training on a GPU, simulated: losses, half precision, resuming, processes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from dataclasses import replace

import pytest
import simulated_gpu
import torch
import torch.distributed as dist
from safetensors.torch import load_file
from steadyscale.core.training import TrainingError, train
from steadyscale.core.training.config.toml_dataclass import to_toml
from steadyscale.core.training.data.dataset import batches
from steadyscale.core.training.data.image_files import CachedImageDataset
from steadyscale.core.training.loop.checkpoint import find_newest
from steadyscale.core.training.loop.distributed import init_distributed, read_local_rank
from steadyscale.core.training.loop.setup import pick_device
from steadyscale.core.training.loop.train_state import init_state
from steadyscale.core.training.loop.train_step import train_step

DEVICE = simulated_gpu.DEVICE
GAN = {"adversarial": 0.05, "variation": 0.01, "frequency": 0.1}


@pytest.fixture
def make_run(make_config, tmp_path):
    """make_run("name", device, ...) -> settings of 4 steps in tmp_path/name, the last two with a discriminator."""

    def make(name: str, device: str, dtype: str = "fp32", **changes):
        settings = {
            "run": str(tmp_path / name),
            "steps": 4,
            "network": {"scales": [2, 4]},
            "losses": GAN,
            "optim": {"gan_start_step": 1, "learning_rate": 1e-3},
            "runtime": {"device": device, "autocast_dtype": dtype},
        }
        return make_config(**{**settings, **changes})

    return make


def weights_of(config) -> dict[str, torch.Tensor]:
    path = find_newest(config.folder / "checkpoints")
    assert path is not None
    return {f"{file.stem}/{key}": t for file in path.glob("*.safetensors") for key, t in load_file(file).items()}


def assert_near(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], tolerance: float) -> None:
    assert one.keys() == other.keys()
    for key, value in one.items():
        torch.testing.assert_close(value.float(), other[key].float(), atol=tolerance, rtol=tolerance, msg=key)


def test_losses_weights_and_scores_are_those_of_the_cpu(gpu, make_run):
    reports = {device: list(train(make_run(device, device))) for device in ("cpu", DEVICE)}
    launches = gpu.read_launches()
    assert launches["aten::convolution"] > 100
    assert launches["aten::convolution_backward"] > 50
    assert [report.applied for report in reports[DEVICE]] == [True] * 4
    assert "adversarial" in reports[DEVICE][-1].losses
    for ours, theirs in zip(reports[DEVICE], reports["cpu"], strict=True):
        assert ours.losses == pytest.approx(theirs.losses, rel=1e-4, abs=1e-6)
    for scale, scores in reports["cpu"][-1].scores.items():
        assert reports[DEVICE][-1].scores[scale].psnr == pytest.approx(scores.psnr, abs=0.01)
    assert_near(weights_of(make_run(DEVICE, DEVICE)), weights_of(make_run("cpu", "cpu")), 1e-4)


@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
def test_clips_are_trained_as_on_the_cpu(gpu, make_run, dtype):
    losses = {"pixel": 1.0, "temporal": 0.5, "temporal_adversarial": 0.1, "deflicker": 0.6}
    losses |= {"ms_ssim": 0.2, "wavelet": 0.5, "artifacts": 0.5}
    changes = {"losses": losses, "data": {"clip_frames": 2, "validate": []}, "steps": 2, "optim": {"gan_start_step": 0}}
    on_cpu, on_gpu = (
        list(train(make_run(device, device, dtype, network={"scales": [2]}, **changes))) for device in ("cpu", DEVICE)
    )
    for expected, report in zip(on_cpu, on_gpu, strict=True):
        assert report.losses == pytest.approx(expected.losses, rel=1e-4 if dtype == "fp32" else 0.05, abs=1e-3)


def test_steps_wait_for_the_device_once(gpu, make_run):
    """The losses of a step are read together; the average of the weights uploads its counter."""
    config = make_run("budget", DEVICE)
    state, stream = init_state(config, torch.device(DEVICE)), _batches(config)
    train_step(state, next(stream), config)
    batch = next(stream)
    before = gpu.read_counters()
    train_step(state, batch, config)
    used = gpu.read_counters() - before
    assert used.synchronizations <= 2
    assert used.bytes_to_host < 100
    assert used.bytes_to_device <= 8


def _batches(config):
    for batch in batches(config, CachedImageDataset(list(config.data.train), min_side=8), 0):
        yield replace(batch, small=batch.small.to(DEVICE), large=batch.large.to(DEVICE))


def test_half_precision_runs_convolutions_in_float16(gpu, make_run):
    config = make_run("half", DEVICE, "fp16")
    state, stream = init_state(config, torch.device(DEVICE)), _batches(config)
    seen: set[torch.dtype] = set()
    convolution = next(m for m in state.generator.modules() if isinstance(m, torch.nn.Conv2d))
    convolution.register_forward_hook(lambda _module, _inputs, output: seen.add(output.dtype))
    for _ in range(2):
        assert train_step(state, next(stream), config).applied
    assert seen == {torch.float16}
    assert all(p.dtype is torch.float32 and p.device.type == DEVICE for p in state.generator.parameters())


def test_a_step_with_inf_is_skipped_and_halves_the_loss_scale(gpu, make_run):
    config = make_run("inf", DEVICE, "fp16")
    state, stream = init_state(config, torch.device(DEVICE)), _batches(config)
    assert train_step(state, next(stream), config).applied
    before = [p.detach().clone() for p in state.generator.parameters()]
    scale, bad = state.trained_generator.scaler.scale, next(stream)
    bad.small[0, 0, 3, 3] = float("inf")
    assert not train_step(state, bad, config).applied
    assert all(torch.equal(a, b) for a, b in zip(before, state.generator.parameters(), strict=True))
    assert state.trained_generator.scaler.scale == scale / 2
    assert train_step(state, next(stream), config).applied


@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
def test_a_resumed_run_equals_an_uninterrupted_one(gpu, make_run, dtype):
    list(train(make_run("unbroken", DEVICE, dtype)))
    stream = train(make_run("broken", DEVICE, dtype))
    for _ in range(2):
        next(stream)
    stream.close()
    assert len(list(train(make_run("broken", DEVICE, dtype), resume=True))) == 2
    assert_near(weights_of(make_run("broken", DEVICE)), weights_of(make_run("unbroken", DEVICE)), 0.0)


def test_a_checkpoint_of_the_device_is_continued_on_the_cpu(gpu, make_run):
    list(train(make_run("cpu", "cpu")))
    stream = train(make_run("moved", DEVICE))
    for _ in range(2):
        next(stream)
    stream.close()
    list(train(make_run("moved", "cpu"), resume=True))
    assert_near(weights_of(make_run("moved", "cpu")), weights_of(make_run("cpu", "cpu")), 1e-4)


def test_a_name_without_a_number_is_the_device_of_the_process():
    if not simulated_gpu.can_build():
        pytest.skip("the simulated GPU needs Linux and a C++ compiler")
    with simulated_gpu.enabled(2):
        for name in ("auto", DEVICE):
            assert [str(pick_device(name, rank)) for rank in (0, 1)] == [f"{DEVICE}:0", f"{DEVICE}:1"]
        assert str(pick_device(f"{DEVICE}:1", 0)) == f"{DEVICE}:1"
        assert str(pick_device("cpu", 1)) == "cpu"
        with pytest.raises(TrainingError, match=f"runtime.device: there is no device {DEVICE}:2: the last one is"):
            pick_device("auto", 2)


def test_the_device_of_the_process_is_current_before_it_joins_the_others(monkeypatch):
    """NCCL sends objects through the current device: with the default one, all processes would share GPU 0."""
    if not simulated_gpu.can_build():
        pytest.skip("the simulated GPU needs Linux and a C++ compiler")
    joined = []

    def join(backend):
        joined.append((backend, torch.simgpu.current_device()))

    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    for name, replacement in {
        "init_process_group": join,
        "get_rank": lambda: 1,
        "get_world_size": lambda: 2,
        "barrier": lambda: None,
        "destroy_process_group": lambda: None,
    }.items():
        monkeypatch.setattr(dist, name, replacement)
    monkeypatch.setitem(dist.Backend.default_device_backend_map, DEVICE, "own")
    with simulated_gpu.enabled(2), init_distributed(4, pick_device("auto", read_local_rank())) as distributed:
        assert joined == [("own", 1)]
        assert (distributed.rank, distributed.is_main) == (1, False)


RUN = """
import sys, simulated_gpu, torch
from steadyscale.core.training import read_config, train
torch.set_num_threads(1)
with simulated_gpu.enabled(2) as gpu:
    for report in train(read_config(sys.argv[1]), resume=True):
        pass
    print([gpu.read_memory(n)[1] > 0 for n in range(2)])
"""


@pytest.mark.slow
def test_two_processes_use_a_device_each_and_give_the_result_of_one(gpu, make_run, tmp_path):
    changes = {"losses": {"variation": 0.01}, "data": {"validate": []}}  # batch normalization is of a process
    file = tmp_path / "two.toml"
    file.write_text(to_toml(make_run("two", "auto", **changes)))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "WORLD_SIZE": "2"}
    environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", RUN, str(file)],
            env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    outputs = [process.communicate(timeout=240)[0].strip() for process in processes]
    assert outputs == ["[True, False]", "[False, True]"]
    one = make_run("one", "cpu", **changes)
    list(train(one))
    assert_near(weights_of(make_run("two", "auto", **changes)), weights_of(one), 1e-4)
