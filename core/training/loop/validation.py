"""Looking at what has been learnt: scores on pictures held out, samples to look at, and the best network so far."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from ....models.arch.separable import dense
from ..config.schema import Config, without_folders
from ..config.toml_dataclass import to_toml
from ..data.dataset import Pictures
from ..evaluate.metrics import Judge, Scores, score, small_and_large
from .export import export
from .logger import sample_picture, write_sample
from .train_state import State

BETTER = 0.001  # dB by which a network has to be better to count as better


def validate(
    config: Config, state: State, held_out: Pictures, device: torch.device, judge: Judge | None = None
) -> dict[int, Scores]:
    """The scores of the averaged network, by scale; sample pictures go into the run's folder. judge: see `score`."""
    scores: dict[int, Scores] = {}
    for scale in config.network.scales:
        network = state.averaged.at(scale)
        scores[scale] = score(network, held_out, scale, device, judge)
        for number in range(min(config.keeping.samples, len(held_out))):
            small, large = small_and_large(held_out[number], scale)
            with torch.no_grad():
                made = network(small.to(device)).float().cpu()
            name = f"step_{state.step:08d}_{scale}x_{number + 1}"
            write_sample(config.folder / "samples", name, sample_picture(small, made, large))
    return scores


def is_best(state: State, scores: Mapping[int, Scores]) -> bool:
    """Note the mean PSNR over scales in the state, and whether it is the best so far."""
    psnr = sum(s.psnr for s in scores.values()) / len(scores)
    if psnr > state.best + BETTER:
        state.best, state.stale = psnr, 0
        return True
    state.stale += 1
    return False


def write_networks(config: Config, state: State, folder: Path) -> tuple[Path, ...]:
    """Write the averaged network of each scale as a weight file, and return their paths; those of separable networks
    are followed by their dense twins, for programs that know only ordinary networks."""
    settings = to_toml(without_folders(config))
    facts = {"name": config.name, "steps": str(state.step), "seed": str(config.seed), "config": settings}
    networks = {f"{scale}x": state.averaged.at(scale) for scale in config.network.scales}
    if config.network.separable:
        networks |= {f"{name}_dense": dense(network) for name, network in networks.items()}
    return tuple(
        export(
            network,
            folder / f"{config.name}_{name}.safetensors",
            {**facts, "scale": str(network.scale), "trained_with": "steadyscale"},
        )
        for name, network in networks.items()
    )
