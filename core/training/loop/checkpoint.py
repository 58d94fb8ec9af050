"""Write and restore checkpoints, from which a run resumes with identical results.

A checkpoint is a folder, checkpoints/step_00001000: weights as .safetensors, the optimizers' states as a .pt file that
is read with weights_only, and state.json with the SHA-256 of each file. The folder is written under a temporary name
and renamed when complete. A damaged checkpoint is skipped in favor of the one before it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file  # pyright: ignore[reportUnknownVariableType]  # os.PathLike is incomplete
from torch import Tensor, nn

from ...runtime.files.atomic_write import atomic_path
from ..errors import TrainingError, describe_free_space
from .train_state import TrainState

log = logging.getLogger(__name__)

STATE_FILE = "state.json"
OPTIMIZERS_FILE = "optimisers.pt"


def save(state: TrainState, folder: Path, keep: int) -> Path:
    """Write a checkpoint, and delete all but the newest `keep`.

    Returns its path. Raises TrainingError if it cannot be written; earlier checkpoints are kept then.
    """
    try:
        return _save(state, folder, keep)
    except (OSError, RuntimeError, SafetensorError) as error:  # the last two: torch and safetensors on a full disk
        raise TrainingError(
            f"{folder}: the checkpoint of step {state.step} cannot be written ("
            f"{_error_text(error)}; {describe_free_space(folder)}); free some space and continue with --resume"
        ) from error


def _error_text(error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) else None
    return text or " ".join(str(error).split())[:200]


def _save(state: TrainState, folder: Path, keep: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"step_{state.step:08d}"
    if target.exists():
        shutil.rmtree(target)  # damaged, or of this very state
    with atomic_path(target) as partial:
        partial.mkdir()
        for name, network in _networks(state).items():
            save_file(_unique_tensors(network), partial / f"{name}.safetensors")
        models = list(state.trained_models.values())
        torch.save([_optimizer_state(model.optimizer) for model in models], partial / OPTIMIZERS_FILE)
        values = {
            "step": state.step,
            "best": state.best_psnr if state.best_psnr > float("-inf") else None,
            "stale": state.validations_since_best,
            "skipped": state.skipped_steps,
            "scales": [[model.scaler.scale, model.scaler.steps_since_inf] for model in models],
            "files": {file.name: _sha256(file) for file in sorted(partial.iterdir())},
        }
        (partial / STATE_FILE).write_text(json.dumps(values, indent=1), encoding="utf-8")
        for file in partial.iterdir():  # before the rename, so that a power failure cannot leave empty files under it
            with file.open("rb+") as written:
                os.fsync(written.fileno())
    for old in _list_checkpoints(folder)[keep:]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def find_newest(folder: Path) -> Path | None:
    """Return the newest undamaged checkpoint, and log damaged ones.

    Deletes what a killed process left of one.
    """
    for leftover in folder.glob(".step_*.partial"):
        shutil.rmtree(leftover, ignore_errors=True)  # of a process that was killed while writing
    for path in _list_checkpoints(folder):
        if reason := _damage_reason(path):
            log.warning("%s is damaged (%s); using the checkpoint before it", path, reason)
        else:
            return path
    return None


def restore(state: TrainState, path: Path) -> None:
    """Load a checkpoint into a state that was created with the same settings.

    Raises TrainingError if the settings differ.
    """
    values = json.loads((path / STATE_FILE).read_text(encoding="utf-8"))
    models = list(state.trained_models.values())
    try:
        for name, network in _networks(state).items():
            _load_tensors(network, load_file(path / f"{name}.safetensors"))
        optimizer_states = torch.load(path / OPTIMIZERS_FILE, map_location="cpu", weights_only=True)
        for model, optimizer_state, (scale, steps_since_inf) in zip(
            models, optimizer_states, values["scales"], strict=True
        ):
            model.optimizer.load_state_dict(optimizer_state)
            model.scaler.steps_since_inf = int(steps_since_inf)
            model.scaler.scale = float(scale) if model.scaler.dynamic else 1.0
    except (OSError, KeyError, ValueError, RuntimeError, pickle.UnpicklingError) as error:
        raise TrainingError(
            f"{path} was written with other settings ({_error_text(error)}); use those, or another folder (run)"
        ) from error
    state.step, state.validations_since_best, state.skipped_steps = values["step"], values["stale"], values["skipped"]
    state.best_psnr = float("-inf") if values["best"] is None else values["best"]


def _networks(state: TrainState) -> dict[str, nn.Module]:
    """Networks by file name."""
    return {"average": state.ema, **{name: model.network for name, model in state.trained_models.items()}}


def _optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Return the state on the CPU: torch cannot write the tensors of every device."""
    values = optimizer.state_dict()
    state = {
        index: {name: value.cpu() if isinstance(value, Tensor) else value for name, value in entry.items()}
        for index, entry in values["state"].items()
    }
    return {**values, "state": state}


def _unique_tensors(network: nn.Module) -> dict[str, Tensor]:
    """Return the state dict without duplicates.

    Networks of several scales share the tensors of one body.
    """
    tensors: dict[str, Tensor] = {}
    pointers: set[int] = set()
    for key, tensor in network.state_dict().items():
        if tensor.data_ptr() not in pointers:
            pointers.add(tensor.data_ptr())
            tensors[key] = tensor.detach().cpu().contiguous()
    return tensors


def _load_tensors(network: nn.Module, tensors: dict[str, Tensor]) -> None:
    expected = _unique_tensors(network)
    if different := sorted(expected.keys() ^ tensors.keys()):
        raise ValueError(f"{len(different)} tensors differ, such as {different[0]}")
    for key, tensor in tensors.items():
        if tensor.shape != expected[key].shape:
            saved, current = ("x".join(map(str, shape)) for shape in (tensor.shape, expected[key].shape))
            raise ValueError(f"{key} has shape {saved} in the checkpoint and {current} in this run")
    network.load_state_dict(tensors, strict=False)


def _list_checkpoints(folder: Path) -> list[Path]:
    """List the checkpoints, newest first."""
    return sorted(folder.glob("step_*"), reverse=True)


def _damage_reason(path: Path) -> str | None:
    try:
        files: dict[str, Any] = json.loads((path / STATE_FILE).read_text(encoding="utf-8"))["files"]
        changed = [name for name, digest in files.items() if _sha256(path / name) != digest]
    except (OSError, ValueError, KeyError) as error:
        return f"{type(error).__name__}: {error}"
    return f"{changed[0]} has changed" if changed else None


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
