"""Scores on held-out images, sample images, and the best network so far."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ....models.arch.separable import to_dense
from ..config.schema import TrainConfig, strip_folders
from ..config.toml_dataclass import to_toml
from ..data.image_files import CachedImageDataset
from ..data.paired import PairedImageDataset
from ..evaluate.metrics import PerceptualMetric, Scores, make_lr_pair, score_pairs
from .export import export
from .logger import make_sample, write_sample
from .train_state import TrainState

MIN_PSNR_GAIN_DB = 0.001  # improvement in dB that counts as a new best


def validate(
    config: TrainConfig,
    state: TrainState,
    held_out: CachedImageDataset | PairedImageDataset,
    device: torch.device,
    metric: PerceptualMetric | None = None,
) -> dict[int, Scores]:
    """Score the averaged network, by scale, and write sample images.

    held_out: images, or pairs of the only scale. metric: see `score`.
    """
    scores: dict[int, Scores] = {}
    for scale in config.network.scales:
        network = state.ema_generator.for_scale(scale)
        pairs = (_eval_pair(held_out, index, scale) for index in range(len(held_out)))
        scores[scale] = score_pairs(network, pairs, scale, device, metric)
        for index in range(min(config.output.samples, len(held_out))):
            small, large = _eval_pair(held_out, index, scale)
            with torch.no_grad():
                pred = network(small.to(device)).float().cpu()
            name = f"step_{state.step:08d}_{scale}x_{index + 1}"
            write_sample(config.folder / "samples", name, make_sample(small, pred, large))
    return scores


def _eval_pair(held_out: CachedImageDataset | PairedImageDataset, index: int, scale: int) -> tuple[Tensor, Tensor]:
    """Return an input and its target in steps of 1/255.

    (1, 3, h, w) and (1, 3, h * scale, w * scale).
    """
    if isinstance(held_out, PairedImageDataset):
        small, large = held_out[index]
        return small[None].float() / 255, large[None].float() / 255
    return make_lr_pair(held_out[index], scale)


def update_best(state: TrainState, scores: Mapping[int, Scores]) -> bool:
    """Return whether the mean PSNR over scales is the best so far.

    Updates the state.
    """
    psnr = sum(s.psnr for s in scores.values()) / len(scores)
    if psnr > state.best_psnr + MIN_PSNR_GAIN_DB:
        state.best_psnr, state.validations_since_best = psnr, 0
        return True
    state.validations_since_best += 1
    return False


def write_networks(config: TrainConfig, state: TrainState, folder: Path) -> tuple[Path, ...]:
    """Write the averaged network of each scale as a weight file, and return the paths.

    Separable networks are followed by their dense equivalents, for programs that only know ordinary networks.
    """
    settings = to_toml(strip_folders(config))
    metadata = {"name": config.name, "steps": str(state.step), "seed": str(config.seed), "config": settings}
    networks = {f"{scale}x": state.ema_generator.for_scale(scale) for scale in config.network.scales}
    if config.network.separable:
        networks |= {f"{name}_dense": to_dense(network) for name, network in networks.items()}
    return tuple(
        export(
            network,
            folder / f"{config.name}_{name}.safetensors",
            {**metadata, "scale": str(network.scale), "trained_with": "steadyscale"},
        )
        for name, network in networks.items()
    )
