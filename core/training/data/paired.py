"""Images that exist in low and in high resolution, and aligned crops of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from torch import Tensor

from ..errors import TrainingError
from .image_files import CachedImageDataset, find_files

LQ_FOLDER, GT_FOLDER = "lq", "gt"


class PairedImageDataset:
    """Pairs of images by index: low quality and ground truth.

    (3, h, w) and (3, h * scale, w * scale), uint8, RGB. folders: each has the subfolders `lq` and `gt`, with images of
    the same relative paths, whatever their extensions. Raises TrainingError if a partner is missing, if a pair does
    not fit the scale, or as CachedImageDataset does; min_side: of the low-quality images. Thread-safe.
    """

    def __init__(self, folders: Sequence[str], scale: int, *, min_side: int, cache_bytes: float = 8e9) -> None:
        files = [pair for folder in folders for pair in _find_pairs(Path(folder))]
        lq_files, gt_files = ([str(file) for file in side] for side in zip(*files, strict=True))
        # A pair takes 1 + scale^2 times the memory of its low-quality image.
        lq_bytes = cache_bytes / (1 + scale**2)
        self._lq = CachedImageDataset(lq_files, min_side=min_side, cache_bytes=lq_bytes)
        self._gt = CachedImageDataset(gt_files, min_side=min_side * scale, cache_bytes=cache_bytes - lq_bytes)
        for (lq_file, gt_file), (lq, gt) in zip(files, self, strict=True):
            height, width = (side * scale for side in lq.shape[-2:])
            if gt.shape[-2:] != (height, width):
                raise TrainingError(
                    f"{gt_file} is {gt.shape[-1]}x{gt.shape[-2]}, but {lq_file} at {scale}x is {width}x{height}; "
                    "remove the pair, or set network.scales to its scale"
                )

    def __len__(self) -> int:
        return len(self._lq)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self._lq[index], self._gt[index]

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return (self[index] for index in range(len(self)))


def _find_pairs(folder: Path) -> list[tuple[Path, Path]]:
    """List the pairs of a folder by name. Raises TrainingError."""
    sides = [folder / LQ_FOLDER, folder / GT_FOLDER]
    for side in sides:
        if not side.is_dir():
            raise TrainingError(
                f"data.paired: there is no folder {side}; a folder of pairs contains {LQ_FOLDER} and {GT_FOLDER}, "
                "with images of the same names"
            )
    lq, gt = ({file.relative_to(side).with_suffix(""): file for file in find_files([str(side)])} for side in sides)
    if unpaired := sorted(str(file) for name, file in (lq | gt).items() if (name in lq) != (name in gt)):
        raise TrainingError(
            f"{len(unpaired)} images in {folder} have no partner of the same name, such as {unpaired[0]}; "
            "add their partners or remove them"
        )
    return [(lq[name], gt[name]) for name in sorted(lq)]
