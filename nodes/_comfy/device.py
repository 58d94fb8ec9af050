"""ComfyUI's device, and its memory management."""

from __future__ import annotations

from typing import Any

import comfy.model_patcher
import torch
from comfy import model_management


def compute_device() -> torch.device:
    """The device that ComfyUI runs networks on."""
    return model_management.get_torch_device()


def free_device_memory(model: Any, num_bytes: float, device: torch.device) -> None:
    """Ask ComfyUI to unload other models until `num_bytes` are free on the device.

    model: the network that needs the memory, or None. On hosts from 0.28 on, upscale models carry a patcher with which
    ComfyUI moves their weights.
    """
    patcher = getattr(model, "patcher", None)
    if patcher is None:
        model_management.free_memory(num_bytes, device)
    else:
        model_management.load_models_gpu([patcher], memory_required=num_bytes)


def free_cpu_memory() -> int:
    """Free main memory in bytes."""
    return model_management.get_free_memory(torch.device("cpu"))


def attach_patcher(model: Any) -> Any:
    """Set `.patcher`, with which hosts from 0.28 on manage an upscale model's memory.

    model: has the network as `.model`. Returns the model.
    """
    patcher = getattr(comfy.model_patcher, "CoreModelPatcher", None)
    if patcher is not None:
        model.patcher = patcher(
            model.model,
            load_device=model_management.get_torch_device(),
            offload_device=model_management.unet_offload_device(),
        )
    return model
