"""Files written by 0.1.0 before its parts were renamed are read as what they were (README.md says how they came)."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from steadyscale.core import Correction, Motion, Trajectory, load_path, save_path
from steadyscale.core.jobs.state.job_files import check_job_folder, remove_earlier_segments, remove_partial_files
from steadyscale.core.jobs.state.layout import JobFolder
from steadyscale.core.training import read_config
from steadyscale.core.training.config.renamed_keys import ADDED_KEYS
from steadyscale.core.training.config.toml_dataclass import read_toml
from steadyscale.core.training.loop import checkpoint
from steadyscale.core.training.loop.train_state import init_state
from steadyscale.models import load_upscaler

FILES = Path(__file__).with_name("files")
SHOTS = [slice(0, 3), slice(3, 5)]


# ---- camera paths ----


def _pose(i: int) -> np.ndarray:
    """Shift by (1.5, -0.25) i, turn by 0.01 i, zoom by exp(0.002 i)."""
    zoom, angle = np.exp(0.002 * i), 0.01 * i
    cos, sin = zoom * np.cos(angle), zoom * np.sin(angle)
    return np.array([[cos, -sin, 1.5 * i], [sin, cos, -0.25 * i], [0, 0, 1]])


def _rows() -> np.ndarray:
    rows = np.broadcast_to(np.eye(3), (5, 5, 3, 3)).copy()
    rows[:, :, 0, 2] = np.arange(25).reshape(5, 5) / 8
    return rows


def _check_clip(path: Motion | Trajectory | Correction) -> None:
    assert (path.info.width, path.info.height, path.info.fps, path.info.length) == (160, 120, Fraction(30000, 1001), 5)
    assert path.shots == SHOTS


def test_a_motion() -> None:
    motion = load_path(FILES / "motion.json")
    assert isinstance(motion, Motion)
    _check_clip(motion)
    wanted = [np.eye(3), _pose(1), _pose(2), np.eye(3), _pose(3)]
    assert np.allclose(motion.steps, wanted, rtol=0, atol=1e-12)
    assert motion.confidence.tolist() == [0, 0.75, 1, 0, 0.5]
    assert motion.readout == 0.25


def test_a_trajectory() -> None:
    trajectory = load_path(FILES / "trajectory.json")
    assert isinstance(trajectory, Trajectory)
    _check_clip(trajectory)
    assert np.allclose(trajectory.poses, [_pose(i) for i in range(5)], rtol=0, atol=1e-12)
    assert trajectory.rows is not None
    assert np.array_equal(trajectory.rows, _rows())


def test_a_correction() -> None:
    correction = load_path(FILES / "correction.json")
    assert isinstance(correction, Correction)
    _check_clip(correction)
    assert np.allclose(correction.matrices, [np.linalg.inv(_pose(i)) for i in range(5)], rtol=0, atol=1e-6)
    assert correction.poses is not None
    assert np.allclose(correction.poses, [_pose(i) for i in range(5)], rtol=0, atol=1e-12)
    assert correction.rows is not None
    assert np.array_equal(correction.rows, _rows())
    assert correction.distorts_rows


@pytest.mark.parametrize("name", ["motion", "trajectory", "correction"])
def test_saving_a_path_again_writes_the_same_keys_and_values(name: str, tmp_path: Path) -> None:
    save_path(load_path(FILES / f"{name}.json"), tmp_path / "again.json")
    assert json.loads((tmp_path / "again.json").read_text()) == json.loads((FILES / f"{name}.json").read_text())


# ---- a resumable job ----


@pytest.fixture
def job(tmp_path: Path) -> Path:
    return shutil.copytree(FILES / "job", tmp_path / "job")


def test_the_files_of_a_job_are_known(job: Path) -> None:
    """The folder of an `enhance --resumable` that was interrupted after its second segment of four.

    Its pieces are those of other software, so they are removed, and a run in this folder begins anew.
    """
    check_job_folder(job)
    remove_partial_files(job)
    assert {path.name for path in job.iterdir()} == {path.name for path in (FILES / "job").iterdir()}
    assert remove_earlier_segments(job) == 2
    JobFolder(job).remove()
    assert not job.exists()


# ---- training ----


def _leaves(value: Any) -> list[str]:
    """All single values of nested settings, without their names."""
    if is_dataclass(value):
        return [leaf for field in fields(value) for leaf in _leaves(getattr(value, field.name))]
    if isinstance(value, Mapping):
        return [leaf for each in value.values() for leaf in _leaves(each)]
    if isinstance(value, list | tuple):
        return [leaf for each in value for leaf in _leaves(each)]
    return [repr(value.value if isinstance(value, Enum) else value)]


def test_every_key_of_run_toml_is_read() -> None:
    """The file names every key that there was, with a value that is not its default."""
    path = FILES / "run.toml"
    config = read_config(path)
    later = [repr(value) for value in ADDED_KEYS.values()]
    assert sorted(_leaves(config)) == sorted([*_leaves(read_toml(path)), *later])
    assert (config.name, config.steps, config.batch, config.accumulate) == ("everything", 720, 24, 3)
    assert (config.network.kind.value, config.network.init_from) == ("rrdb", "start.safetensors")
    assert (config.discriminator.kind.value, config.losses.shift_consistency) == ("vgg", 17.5)
    assert (config.losses.pixel_kind.value, config.losses.layer_weights) == ("charbonnier", {"relu3_3": 0.85})
    assert (config.optim.gan_start_step, config.optim.gan_ramp_steps, config.optim.warmup_steps) == (44, 55, 33)
    assert (config.runtime.autocast_dtype.value, config.runtime.num_workers) == ("bf16", 7)
    assert (config.output.checkpoint_every, config.output.keep_checkpoints, config.output.samples) == (111, 4, 3)
    assert (config.degrade.first.sinc_prob, config.degrade.second.sinc_prob, config.degrade.final_sinc_prob) == (
        0.12,
        0.52,
        0.35,
    )


def test_a_changed_key_of_run_toml_is_that_key() -> None:
    config = read_config(FILES / "run.toml", ["keeping.patience=9", "network.begin_with='other'", "losses.steady=1.5"])
    assert (config.output.patience, config.network.init_from, config.losses.shift_consistency) == (9, "other", 1.5)


def test_a_checkpoint_is_restored() -> None:
    """Of 4 steps of a compact network for 2x and 4x against a discriminator, with the settings in config.toml."""
    config = read_config(FILES / "run" / "config.toml")
    path = checkpoint.find_newest(FILES / "run" / "checkpoints")
    assert path is not None  # the sums in state.json are those of the files
    assert path.name == "step_00000004"
    state = init_state(config, torch.device("cpu"))
    checkpoint.restore(state, path)
    assert (state.step, state.validations_since_best, state.skipped_steps) == (4, 1, 0)
    assert state.best_psnr == pytest.approx(31.68096240230555, abs=1e-12)
    assert state.discriminator is not None
    for name, network in (
        ("generator", state.generator),
        ("average", state.ema),
        ("discriminator", state.discriminator.network),
    ):
        found, wanted = network.state_dict(), load_file(path / f"{name}.safetensors")
        assert wanted
        assert all(torch.equal(found[key], value) for key, value in wanted.items()), name
    for each in (state.trained_generator, state.discriminator):
        memory = each.optimizer.state_dict()["state"]
        assert len(memory) == len(list(each.network.parameters()))
        assert {float(entry["step"]) for entry in memory.values()} <= {2.0, 4.0}  # two heads take turns


# ---- weights ----


def test_a_weight_file_gives_the_same_frames() -> None:
    model = load_upscaler(FILES / "toy_2x.safetensors")
    assert model.scale == 2
    frame = model(torch.linspace(0, 1, 48).view(1, 3, 4, 4))
    assert frame.shape == (1, 3, 8, 8)
    assert float(frame.sum()) == pytest.approx(88.786865, abs=1e-3)
    assert frame[0, :, 3, 5].tolist() == pytest.approx([0.1561436, 0.4992740, 0.8409728], abs=1e-5)


def test_a_weight_file_keeps_its_facts() -> None:
    with safe_open(FILES / "toy_2x.safetensors", "pt") as file:
        facts = file.metadata()
    assert {key: facts[key] for key in ("architecture", "trained_with", "name", "scale", "steps", "seed")} == {
        "architecture": "SRVGGNetCompact",
        "trained_with": "steadyscale",
        "name": "toy",
        "scale": "2",
        "steps": "4",
        "seed": "11",
    }
