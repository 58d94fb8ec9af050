"""Put a stage of your own between upscaling and writing.

python process_frames.py IN OUT
"""

import sys
from collections.abc import Iterator

from steadyscale.core import Frames, open_clip, upscale, write_clip
from steadyscale.models import load_upscaler, zoo


def add_vignette(frames: Iterator[Frames]) -> Iterator[Frames]:
    """Darken the corners by 30 %. Frames are (B, C, H, W), RGB in [0, 1]."""
    import torch

    for batch in frames:
        height, width = batch.shape[-2:]
        y = torch.linspace(-1, 1, height)[:, None]
        x = torch.linspace(-1, 1, width)[None]
        yield batch * (1 - 0.15 * (x**2 + y**2))


def main(source: str, target: str) -> None:
    clip, model = open_clip(source), load_upscaler(zoo.find_weights("steadyscale-2x"))
    frames = add_vignette(upscale(clip.frames(), model))
    count = write_clip(target, frames, clip.info.scaled(model.scale), source=source)
    print(f"{target}: {count} frames")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
