"""Fit the last convolution of a compact network by least squares.

    python scripts/refit_last_layer.py models/weights/restore.toml IN.safetensors OUT.safetensors \\
        --pairs runs/restore-pairs-refit=1:0.5 --pairs runs/restore-pairs-shapes=0.3:1

The result of an SRVGGNetCompact is linear in the weights of its last convolution, so that these have an exact optimum,
found in about a CPU minute. Crops of the pairs are drawn, colored and degraded as the recipe says. Of each folder of
pairs: the weight of its mean squared error, and how far its targets are from the network's present results to those of
the pairs, 0 to 1. With 0 the present results are kept.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import safe_open
from steadyscale.core.training import TrainConfig, read_config
from steadyscale.core.training.data.dataset import batches, load_images
from steadyscale.core.training.loop.export import export
from steadyscale.models import SRVGGNetCompact, load_upscaler
from torch import Tensor, nn

log = logging.getLogger("refit_last_layer")

CROP = 352  # pixels; teacher_pairs.py writes 384, of which the margin is cut off
BATCH = 4
RIDGE = 1e-6  # times the mean square of the features; keeps unused features from large weights


@dataclass(frozen=True)
class Pairs:
    """A folder of pairs.

    weight: of its error. step: from the present results to its targets, 0 to 1.
    """

    folder: Path
    weight: float
    step: float

    @classmethod
    def parse(cls, text: str) -> Pairs:
        """FOLDER=WEIGHT:STEP."""
        folder, _, numbers = text.rpartition("=")
        weight, step = map(float, numbers.split(":"))
        return cls(Path(folder), weight, step)


@dataclass
class NormalEquations:
    """Means over positions: features by features, and features by errors, in float64."""

    features: Tensor
    errors: Tensor

    def solve(self) -> Tensor:
        """Return the change of the weights, (features + 1, outputs), bias last."""
        ridge = RIDGE * self.features.diagonal().mean() * torch.eye(len(self.features), dtype=torch.float64)
        return torch.linalg.solve(self.features + ridge, self.errors)


@torch.no_grad()
def accumulate(network: SRVGGNetCompact, pairs: Iterable[tuple[Tensor, Tensor]]) -> NormalEquations:
    """Accumulate over inputs (B, 3, h, w) and targets (B, 3, h * scale, w * scale)."""
    last = _last_layer(network)
    size = last.weight[0].numel() + 1
    features = torch.zeros(size, size, dtype=torch.float64)
    errors, count = torch.zeros(size, len(last.weight), dtype=torch.float64), 0
    for small, large in pairs:
        hidden = small
        for layer in network.body[:-1]:
            hidden = layer(hidden)
        patches = F.unfold(hidden, last.kernel_size, padding=last.padding).transpose(1, 2).flatten(0, 1)
        patches = torch.cat([patches, torch.ones(len(patches), 1)], 1).double()
        error = F.pixel_unshuffle(large - network(small), network.scale).flatten(2).transpose(1, 2).flatten(0, 1)
        features += patches.T @ patches
        errors += patches.T @ error.double()
        count += len(patches)
    return NormalEquations(features / count, errors / count)


@torch.no_grad()
def apply_change(network: SRVGGNetCompact, change: Tensor) -> None:
    """Add a solution to the last convolution, in place."""
    last = _last_layer(network)
    assert last.bias is not None
    last.weight += change[:-1].T.reshape(last.weight.shape).float()
    last.bias += change[-1].float()


def _last_layer(network: SRVGGNetCompact) -> nn.Conv2d:
    last = network.body[-1]
    assert isinstance(last, nn.Conv2d)
    return last


def draw_pairs(recipe: TrainConfig, folder: Path, steps: int) -> Iterable[tuple[Tensor, Tensor]]:
    """Draw batches from a folder of pairs as the recipe says, in larger crops."""
    data = replace(recipe.data, train=(str(folder),), crop=CROP, crop_candidates=1)
    config = replace(recipe, data=data, batch=BATCH, steps=steps)
    return ((batch.small, batch.large) for batch in batches(config, load_images(config), 0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path, help="TOML file with data.paired")
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--pairs", type=Pairs.parse, action="append", required=True, metavar="FOLDER=WEIGHT:STEP")
    parser.add_argument("--steps", type=int, default=60, help=f"batches of {BATCH} crops per folder (default 60)")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)
    recipe, network = read_config(options.recipe), load_upscaler(options.source).model
    if not isinstance(network, SRVGGNetCompact):
        parser.error(f"{options.source} is {type(network).__name__}; only SRVGGNetCompact can be refitted")
    sums = []
    for pairs in options.pairs:
        log.info("%s", pairs.folder)
        one = accumulate(network, draw_pairs(recipe, pairs.folder, options.steps))
        sums.append(NormalEquations(pairs.weight * one.features, pairs.weight * pairs.step * one.errors))
    total = NormalEquations(sum(s.features for s in sums), sum(s.errors for s in sums))
    apply_change(network, total.solve())
    with safe_open(options.source, "pt") as file:
        metadata = dict(file.metadata() or {})
    export(network, options.target, {k: v for k, v in metadata.items() if k not in ("format", "architecture")})


if __name__ == "__main__":
    main()
