"""Write the network that training of steadyscale-restore starts from.

    python scripts/restore_start.py runs/restore-pairs runs/restore-start.safetensors

It is realesr-animevideov3 (BSD-3-Clause, Xintao Wang) without the convolution whose removal changes the result least,
and with half of the channels, chosen and refitted on inputs of the training pairs. From random weights, 2,500 steps
gave a blurred result with a visible grid of the pixel shuffle.
"""

from __future__ import annotations

import argparse
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from steadyscale.core.compress.prune import prune
from steadyscale.core.training.loop.export import export
from steadyscale.models import SRVGGNetCompact, load_upscaler
from steadyscale.models.zoo import zoo
from torch import Tensor, nn

log = logging.getLogger("restore_start")

SOURCE = "realesr-animevideov3"
PRUNED_FRACTION = 0.5
IMAGES = range(0, 160, 10)  # of the training pairs; the first four decide on the convolution


def drop_conv(network: SRVGGNetCompact, index: int) -> SRVGGNetCompact:
    """Return the network without an inner convolution and the activation before it."""
    shallow = SRVGGNetCompact(replace(network.config, convs=network.config.convs - 1))
    layers = list(network.body)
    shallow.body = nn.ModuleList(layers[: 1 + 2 * index] + layers[3 + 2 * index :])
    return shallow


def least_effective_conv(network: SRVGGNetCompact, images: list[Tensor]) -> int:
    """Return the inner convolution whose removal changes the result least."""
    expected = [network(image) for image in images]
    errors = []
    for index in range(network.config.convs):
        shallow = drop_conv(network, index)
        squares = [(shallow(x) - y).square().mean() for x, y in zip(images, expected, strict=True)]
        errors.append(float(torch.stack(squares).mean()))
        log.info("without convolution %d: %.1f levels", index, 255 * errors[-1] ** 0.5)
    return int(np.argmin(errors))


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", type=Path, help="folder written by teacher_pairs.py")
    parser.add_argument("target", type=Path)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    network = load_upscaler(zoo.find_weights(SOURCE)).model
    assert isinstance(network, SRVGGNetCompact)
    files = sorted((options.pairs / "lq").iterdir())
    images = [torch.from_numpy(np.array(Image.open(files[n]))).permute(2, 0, 1)[None].float() / 255 for n in IMAGES]
    shallow = drop_conv(network, least_effective_conv(network, images[:4]))
    pruned = prune(shallow, PRUNED_FRACTION, images)
    export(pruned, options.target, {"scale": str(network.scale)})


if __name__ == "__main__":
    main()
