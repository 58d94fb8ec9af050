"""The networks that come with the package: trained by its own trainer, here without a download.

`weights/README.md` says what they learnt from, with which recipe, and how good they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "weights"
SMALL_FACTOR = 2.0  # up to which the 2x network serves; what goes beyond is made by the 4x one and reduced


@dataclass(frozen=True)
class Shipped:
    """One network of ours."""

    name: str
    scale: int
    about: str
    architecture: str = "SRVGGNetCompact"
    licence: str = "MIT"

    @property
    def path(self) -> Path:
        return FOLDER / f"{self.name}.safetensors"


SHIPPED = (
    Shipped("steadyscale-2x", 2, "ours, very fast, true to the picture (21 k parameters)"),
    Shipped("steadyscale-4x", 4, "ours, very fast, true to the picture (26 k parameters)"),
)


def shipped(name: str) -> Shipped | None:
    """The network of that name, or None."""
    return next((network for network in SHIPPED if network.name == name), None)


def shipped_for(factor: float | None) -> Shipped:
    """The one to enlarge with by a factor when nobody names a network; without a factor, the 2x one."""
    small, large = SHIPPED
    return small if factor is None or factor <= SMALL_FACTOR else large
