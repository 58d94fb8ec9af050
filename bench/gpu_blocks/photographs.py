"""Photographs of a folder, of this repository, and of installed packages."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .networks import photo
from .session import Session

ROOT = Path(__file__).resolve().parents[2]
# Frames of a camera in the thumbnails of the templates: (left, top, right, bottom) without the captions.
THUMBNAILS = {"workflows/restore.jpg": (0, 0, 300, 340), "web/docs/upscale.jpg": (410, 25, 806, 315)}
# Packages that contain photographs.
SAMPLES = {"sklearn": "datasets/images/*.jpg", "skimage": "data/[ac][sh]*.png"}
MAX_PHOTOGRAPHS = 4
SUFFIXES = (".jpg", ".jpeg", ".png")


def load_photographs(session: Session, side: int) -> dict[str, Tensor]:
    """Crops (1, 3, h, w) from the middle of photographs, by name, on the CPU.

    They have at most `side` pixels a side. A synthetic one if there are none.
    """
    images: dict[str, Tensor] = {}
    for name, image in _iter_images(session.photographs):
        images[name] = _crop(torch.from_numpy(np.array(image)).movedim(2, 0)[None].float() / 255, side)
        if len(images) == session.count(MAX_PHOTOGRAPHS):
            break
    return images or {"synthetic": photo(side, side)}


def _iter_images(folder: Path | None) -> Iterator[tuple[str, Image.Image]]:
    if folder is not None:
        for path in sorted(folder.iterdir()):
            if path.suffix.lower() in SUFFIXES:
                yield path.name, Image.open(path).convert("RGB")
        return
    for name, box in THUMBNAILS.items():
        if (ROOT / name).is_file():
            yield name, Image.open(ROOT / name).convert("RGB").crop(box)
    for package, pattern in SAMPLES.items():
        spec = importlib.util.find_spec(package)
        for location in (spec.submodule_search_locations or ()) if spec else ():
            for path in sorted(Path(location).glob(pattern)):
                yield f"{package}/{path.name}", Image.open(path).convert("RGB")


def _crop(image: Tensor, side: int) -> Tensor:
    top, left = (max(0, length - side) // 2 for length in image.shape[-2:])
    return image[..., top : top + side, left : left + side].contiguous()
