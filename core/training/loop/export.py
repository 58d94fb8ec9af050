"""Write networks as .safetensors files.

ComfyUI (through spandrel) and other ESRGAN programs read them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from ....models.loading.safetensors_writer import save_deterministic
from ...runtime.files.atomic_write import atomic_path
from ..errors import TrainingError


def export(network: nn.Module, path: Path, metadata: Mapping[str, str], dtype: torch.dtype = torch.float32) -> Path:
    """Write the weights as .safetensors, atomically, and return the path.

    metadata: added to the header of the file, such as name, scale and number of steps. dtype: of the stored weights.
    Raises TrainingError if the file cannot be written.
    """
    state = {key: value.detach().to("cpu", dtype).contiguous() for key, value in network.state_dict().items()}
    header = {"format": "pt", "architecture": type(network).__name__, **metadata}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as partial:
            # safetensors' own writer makes files that only their owner can read, not a ComfyUI of another user.
            partial.write_bytes(save_deterministic(state, header))
    except OSError as error:
        raise TrainingError(
            f"{path} cannot be written ({error.strerror}); check the free space and the permissions of its folder"
        ) from error
    return path
