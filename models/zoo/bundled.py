"""The upscaling networks that are bundled with the package.

They were trained with the package's own trainer; `weights/README.md` is their model card.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

WEIGHTS_FOLDER = Path(__file__).parents[1] / "weights"
MAX_FACTOR_2X = 2.0  # largest factor for the 2x network; above it the 4x result is downscaled


@dataclass(frozen=True)
class BundledModel:
    """A network in the package's weights folder."""

    name: str
    scale: int
    description: str
    architecture: str = "SRVGGNetCompact"
    license_id: str = "MIT"

    @property
    def path(self) -> Path:
        """The weight file, which always exists."""
        return WEIGHTS_FOLDER / f"{self.name}.safetensors"


BUNDLED_MODELS = (
    BundledModel("steadyscale-2x", 2, "ours, very fast, true to the source (21 k parameters)"),
    BundledModel("steadyscale-4x", 4, "ours, very fast, true to the source (26 k parameters)"),
)


def find_bundled(name: str) -> BundledModel | None:
    """The network of that name, or None."""
    return next((model for model in BUNDLED_MODELS if model.name == name), None)


def select_bundled(factor: float | None) -> BundledModel:
    """The default network for an upscaling factor; without a factor, the 2x one."""
    model_2x, model_4x = BUNDLED_MODELS
    return model_2x if factor is None or factor <= MAX_FACTOR_2X else model_4x
