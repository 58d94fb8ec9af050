"""The steps of ComfyUI's upscaling node, for computers without ComfyUI."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from steadyscale.core.runtime.device.accelerator import Accelerator
from steadyscale.models import RRDBNet
from torch import Tensor, nn

TILE, OVERLAP = 512, 32


def import_comfyui(tree: Path, device: torch.device) -> None:
    """Import ComfyUI, which reads its options at import, without our command line."""
    own_argv, sys.argv = sys.argv, ["main.py", *(["--cpu"] if device.type == "cpu" else [])]
    sys.path.insert(0, str(tree.resolve()))
    try:
        import comfy.options

        comfy.options.enable_args_parsing()
        import comfy.model_management
    finally:
        sys.argv = own_argv


@torch.inference_mode()
def upscale_like_comfyui(
    images: Tensor, network: nn.Module, forward: Callable[[Tensor], Tensor], scale: int, accelerator: Accelerator
) -> Tensor:
    """Upscale IMAGE as the node of ComfyUI 0.3.75 does, with torch's default settings.

    All frames are moved to the device, where the network runs in float32 in tiles of 512 with an overlap of 32. Each
    tile is downloaded at once and blended on the CPU. Afterwards the network is moved back.
    """
    network.to(accelerator.device)
    frames = images.movedim(-1, -3).to(accelerator.device)
    n, channels, height, width = frames.shape
    output = torch.empty(n, channels, height * scale, width * scale)
    for index in range(n):
        frame = frames[index : index + 1]
        if max(height, width) <= TILE:
            output[index : index + 1] = forward(frame).to("cpu")
            continue
        weighted, weights = (torch.zeros(1, channels, height * scale, width * scale) for _ in range(2))
        for top in _tile_starts(height):
            for left in _tile_starts(width):
                tile = forward(frame[..., top : top + TILE, left : left + TILE]).to("cpu")
                mask = _feather_mask(tile, OVERLAP * scale)
                rows = slice(top * scale, top * scale + tile.shape[-2])
                columns = slice(left * scale, left * scale + tile.shape[-1])
                weighted[..., rows, columns].add_(tile * mask)
                weights[..., rows, columns].add_(mask)
        output[index : index + 1] = weighted / weights
    network.to("cpu")
    return output.movedim(-3, -1).clamp(min=0, max=1)


def _tile_starts(length: int) -> Iterator[int]:
    if length <= TILE:
        yield 0
        return
    for start in range(0, length - OVERLAP, TILE - OVERLAP):
        yield max(0, min(length - OVERLAP, start))


def _feather_mask(tile: Tensor, width: int) -> Tensor:
    """Weights that rise linearly over `width` pixels from each edge."""
    mask = torch.ones_like(tile)
    for dim in (2, 3):
        if width >= tile.shape[dim]:
            continue
        for offset in range(width):
            weight = (offset + 1) / width
            mask.narrow(dim, offset, 1).mul_(weight)
            mask.narrow(dim, tile.shape[dim] - 1 - offset, 1).mul_(weight)
    return mask


def run_eagerly(network: nn.Module, x: Tensor) -> Tensor:
    """Run a network with the operators of spandrel's module.

    RRDB concatenates into new memory, and upsamples untiled.
    """
    if not isinstance(network, RRDBNet):
        return network(x)  # Compact networks have the same operators everywhere.
    first = network.conv_first(x)
    x = first
    for block in network.body:
        before = x
        for dense in (block.rdb1, block.rdb2, block.rdb3):
            x = _run_dense_block(dense, x)
        x = x * 0.2 + before
    x = first + network.conv_body(x)
    for index in range(1, network.config.doublings + 1):
        x = F.interpolate(x, scale_factor=2, mode="nearest")
        x = F.leaky_relu(network.get_submodule(f"conv_up{index}")(x), 0.2)
    return network.conv_last(F.leaky_relu(network.conv_hr(x), 0.2))


def _run_dense_block(block: Any, x: Tensor) -> Tensor:
    results = [x]
    for index in range(1, 5):
        conv = block.get_submodule(f"conv{index}")
        results.append(F.leaky_relu(conv(torch.cat(results, dim=1)), 0.2))
    return block.get_submodule("conv5")(torch.cat(results, dim=1)) * 0.2 + x
