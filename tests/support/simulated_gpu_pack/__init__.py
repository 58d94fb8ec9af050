"""A custom node pack that gives a real ComfyUI the simulated GPU as its device.

The host must have been started with `--cpu`. GET /simulated_gpu returns what the device did.
"""

from __future__ import annotations

import traceback
from dataclasses import asdict
from typing import Any

import comfy.model_patcher
import simulated_gpu
import torch
from aiohttp import web
from comfy import model_management
from server import PromptServer


class RunCheck:
    """Run code in the host; the output `text` is its traceback, or empty."""

    RETURN_TYPES, FUNCTION, CATEGORY, OUTPUT_NODE = (), "run", "tests", True

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"code": ("STRING", {"multiline": True})}}

    def run(self, code: str) -> dict[str, Any]:
        try:
            exec(code, {})  # noqa: S102
            trouble = ""
        except Exception:
            trouble = traceback.format_exc()
        return {"ui": {"text": [trouble]}}


NODE_CLASS_MAPPINGS: dict[str, type] = {"RunCheck": RunCheck}

_context = simulated_gpu.enabled()
_gpu = _context.__enter__()
_free_memory, _total_memory = model_management.get_free_memory, model_management.get_total_memory


def _get_torch_device() -> torch.device:
    return torch.device(simulated_gpu.DEVICE)


def _is_simulated(device: Any) -> bool:
    return device is None or torch.device(device).type == simulated_gpu.DEVICE


def _get_free_memory(dev: Any = None, torch_free_too: bool = False) -> Any:
    if not _is_simulated(dev):
        return _free_memory(dev, torch_free_too)
    allocated, _, limit = _gpu.read_memory()
    return (limit - allocated, 0) if torch_free_too else limit - allocated


def _get_total_memory(dev: Any = None, torch_total_too: bool = False) -> Any:
    if not _is_simulated(dev):
        return _total_memory(dev, torch_total_too)
    limit = _gpu.read_memory()[2]
    return (limit, limit) if torch_total_too else limit


model_management.get_torch_device = _get_torch_device
model_management.get_free_memory = _get_free_memory
model_management.get_total_memory = _get_total_memory
# The name on hosts from 0.28 on, which move upscale models to the device themselves.
comfy.model_patcher.CoreModelPatcher = comfy.model_patcher.ModelPatcher


@PromptServer.instance.routes.get("/simulated_gpu")
async def read_counters(request: web.Request) -> web.Response:
    """What the simulated GPU has done, and the bytes that are allocated."""
    convolutions = _gpu.read_launches().get("aten::convolution", 0)
    return web.json_response(
        {**asdict(_gpu.read_counters()), "convolutions": convolutions, "allocated": _gpu.read_memory()[0]}
    )
