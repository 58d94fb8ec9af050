from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from steadyscale.core.clip import ClipError
from steadyscale.core.motion.held.masks import MASK_SIDE, read_masks


def write_mask(path: Path, left: int, width: int = 64) -> None:
    """White from the column `left` on."""
    pixels = np.zeros((32, width), np.uint8)
    pixels[:, left:] = 255
    Image.fromarray(pixels).save(path)


def test_one_image_is_one_mask(tmp_path: Path):
    write_mask(tmp_path / "mask.png", 40)
    mask = read_masks(tmp_path / "mask.png")
    assert mask.shape == (1, 32, 64)
    assert mask[0, 5].tolist() == [False] * 40 + [True] * 24


def test_a_folder_has_a_mask_for_each_frame(tmp_path: Path):
    for number, left in enumerate((10, 50, 64)):
        write_mask(tmp_path / f"{number:03}.png", left)
    assert read_masks(tmp_path).sum(dim=(1, 2)).tolist() == [54 * 32, 14 * 32, 0]


def test_large_masks_are_reduced(tmp_path: Path):
    write_mask(tmp_path / "mask.png", 400, width=800)
    mask = read_masks(tmp_path / "mask.png")
    assert mask.shape[2] == MASK_SIDE
    assert float(mask.float().mean()) == pytest.approx(0.5, abs=0.01)


def test_a_missing_file_is_an_error(tmp_path: Path):
    with pytest.raises(ClipError, match="nothing"):
        read_masks(tmp_path / "nothing.png")
