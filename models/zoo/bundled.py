"""The networks that come with the package: trained by its own trainer, here without a download.

`weights/README.md` says what they learnt from, with which recipe, and how good they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

WEIGHTS_FOLDER = Path(__file__).parents[1] / "weights"
MAX_FACTOR_2X = 2.0  # up to which the 2x network serves; what goes beyond is made by the 4x one and reduced


@dataclass(frozen=True)
class BundledModel:
    """One network of ours."""

    name: str
    scale: int
    description: str
    architecture: str = "SRVGGNetCompact"
    license_id: str = "MIT"

    @property
    def path(self) -> Path:
        return WEIGHTS_FOLDER / f"{self.name}.safetensors"


BUNDLED_MODELS = (
    BundledModel("steadyscale-2x", 2, "ours, very fast, true to the picture (21 k parameters)"),
    BundledModel("steadyscale-4x", 4, "ours, very fast, true to the picture (26 k parameters)"),
)


def find_bundled(name: str) -> BundledModel | None:
    """The network of that name, or None."""
    return next((network for network in BUNDLED_MODELS if network.name == name), None)


def select_bundled(factor: float | None) -> BundledModel:
    """The one to enlarge with by a factor when nobody names a network; without a factor, the 2x one."""
    small, large = BUNDLED_MODELS
    return small if factor is None or factor <= MAX_FACTOR_2X else large
