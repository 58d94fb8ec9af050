"""Trained networks as weight files that everybody reads: ours, spandrel and so ComfyUI, and whatever knows ESRGAN."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from ....models.loading.safetensors_writer import save_deterministic
from ...runtime.atomic_write import atomic_path
from ..errors import TrainingError


def export(network: nn.Module, path: Path, metadata: Mapping[str, str], dtype: torch.dtype = torch.float32) -> Path:
    """Write the network's weights as .safetensors, all at once or not at all, and return the path.

    facts: go into the file's header as they are, such as the name, the scale and the number of steps. dtype: of what is
    stored. Raises TrainingError where the file cannot be written.
    """
    state = {key: value.detach().to("cpu", dtype).contiguous() for key, value in network.state_dict().items()}
    header = {"format": "pt", "architecture": type(network).__name__, **metadata}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as partial:
            # As bytes: safetensors makes files that nobody but their owner may read, not even another user's ComfyUI.
            partial.write_bytes(save_deterministic(state, header))
    except OSError as error:
        raise TrainingError(f"{path} cannot be written ({error.strerror}); is there room for it?") from error
    return path
