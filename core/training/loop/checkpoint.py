"""Checkpoints: all that is needed to go on as if nothing had happened, written whole or not at all.

A checkpoint is a folder, checkpoints/step_00001000: weights as safetensors, the optimisers' memory as a .pt that is
read as data only, and state.json, which holds the sum of each file. Folders appear under their names when they are
complete; one that has been damaged since is passed over for the one before it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import pickle
import shutil
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ...runtime.atomic_write import atomic_path
from ..errors import TrainingError, describe_free_space
from .train_state import TrainState

log = logging.getLogger(__name__)

STATE_FILE = "state.json"
OPTIMIZERS_FILE = "optimisers.pt"


def save(state: TrainState, folder: Path, keep: int) -> Path:
    """Write a checkpoint into the folder, remove all but the newest `keep`, and return its path. Raises TrainingError
    where it cannot be written; those before it stay as they are."""
    try:
        return _save(state, folder, keep)
    except (OSError, RuntimeError, SafetensorError) as error:  # torch and safetensors have a full disk say other things
        raise TrainingError(
            f"{folder}: the checkpoint of step {state.step} cannot be written ("
            f"{_error_text(error)}; {describe_free_space(folder)}); "
            "make room and go on with --resume"
        ) from error


def _error_text(error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) else None
    return text or " ".join(str(error).split())[:200]


def _save(state: TrainState, folder: Path, keep: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"step_{state.step:08d}"
    if target.exists():
        shutil.rmtree(target)  # it has been read and found damaged, or it is this very one
    with atomic_path(target) as partial:
        partial.mkdir()
        for name, network in _networks(state).items():
            save_file(_unique_tensors(network), partial / f"{name}.safetensors")
        players = [state.trained_generator, *([state.discriminator] if state.discriminator else [])]
        torch.save([player.optimizer.state_dict() for player in players], partial / OPTIMIZERS_FILE)
        facts = {
            "step": state.step,
            "best": state.best_psnr if state.best_psnr > float("-inf") else None,
            "stale": state.validations_since_best,
            "skipped": state.skipped_steps,
            "scales": [[player.scaler.scale, player.scaler.steps_since_inf] for player in players],
            "files": {file.name: _sha256(file) for file in sorted(partial.iterdir())},
        }
        (partial / STATE_FILE).write_text(json.dumps(facts, indent=1))
        for file in partial.iterdir():  # before the name appears, so that a power cut cannot leave it on empty files
            with file.open("rb+") as written:
                os.fsync(written.fileno())
    for old in _list_checkpoints(folder)[keep:]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def find_newest(folder: Path) -> Path | None:
    """The newest checkpoint in the folder that is whole; those that are not are named in the log."""
    for leftover in folder.glob(".step_*.partial"):
        shutil.rmtree(leftover, ignore_errors=True)  # of a process that was killed while it wrote
    for path in _list_checkpoints(folder):
        if fault := _damage_reason(path):
            log.warning("%s is damaged (%s); going back to the one before it", path, fault)
        else:
            return path
    return None


def restore(state: TrainState, path: Path) -> None:
    """Put a checkpoint into a state that was made with the same settings. Raises TrainingError where it does not."""
    facts = json.loads((path / STATE_FILE).read_text())
    players = [state.trained_generator, *([state.discriminator] if state.discriminator else [])]
    try:
        for name, network in _networks(state).items():
            _load_tensors(network, load_file(path / f"{name}.safetensors"))
        memories = torch.load(path / OPTIMIZERS_FILE, map_location="cpu", weights_only=True)
        for player, memory, (value, calm) in zip(players, memories, facts["scales"], strict=True):
            player.optimizer.load_state_dict(memory)
            player.scaler.steps_since_inf = int(calm)
            player.scaler.scale = float(value) if player.scaler.dynamic else 1.0
    except (OSError, KeyError, ValueError, RuntimeError, pickle.UnpicklingError) as error:
        raise TrainingError(
            f"{path} was made with other settings ({_error_text(error)}); go on with those, or train in another folder"
        ) from error
    state.step, state.validations_since_best, state.skipped_steps = facts["step"], facts["stale"], facts["skipped"]
    state.best_psnr = float("-inf") if facts["best"] is None else facts["best"]


def _networks(state: TrainState) -> dict[str, nn.Module]:
    networks: dict[str, nn.Module] = {"generator": state.generator, "average": state.ema}
    return networks | ({"discriminator": state.discriminator.network} if state.discriminator else {})


def _unique_tensors(network: nn.Module) -> dict[str, Tensor]:
    """Its tensors, each once: heads that share a body show the body's weights under several names."""
    tensors: dict[str, Tensor] = {}
    seen: set[int] = set()
    for key, tensor in network.state_dict().items():
        if tensor.data_ptr() not in seen:
            seen.add(tensor.data_ptr())
            tensors[key] = tensor.detach().cpu().contiguous()
    return tensors


def _load_tensors(network: nn.Module, tensors: dict[str, Tensor]) -> None:
    wanted = _unique_tensors(network)
    if different := sorted(wanted.keys() ^ tensors.keys()):
        raise ValueError(f"{len(different)} tensors differ, such as {different[0]}")
    for key, tensor in tensors.items():
        if tensor.shape != wanted[key].shape:
            there, here = ("x".join(map(str, each.shape)) for each in (tensor, wanted[key]))
            raise ValueError(f"{key} has {there} numbers there and {here} in this run")
    network.load_state_dict(tensors, strict=False)


def _list_checkpoints(folder: Path) -> list[Path]:
    """Newest first."""
    return sorted(folder.glob("step_*"), reverse=True)


def _damage_reason(path: Path) -> str | None:
    try:
        facts = json.loads((path / STATE_FILE).read_text())
        wrong = [name for name, wanted in facts["files"].items() if _sha256(path / name) != wanted]
    except (OSError, ValueError, KeyError) as error:
        return f"{type(error).__name__}: {error}"
    return f"{wrong[0]} has changed" if wrong else None


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
