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
    """A network in the package's weights folder.

    deflicker: strength of the deflicker filter, 0 to 1, that video gets if none is chosen. bench/deflicker.py measures
    what it does.
    """

    name: str
    scale: int
    description: str
    architecture: str = "SRVGGNetCompact"
    license_id: str = "MIT"
    deflicker: float = 0.0

    @property
    def path(self) -> Path:
        """The weight file, which always exists."""
        return WEIGHTS_FOLDER / f"{self.name}.safetensors"


RESTORE_DEFLICKER = 0.3  # less flicker in all clips measured; at 0.6 still areas of one flickered more
DEFAULT_2X = BundledModel(
    "steadyscale-restore-2x", 2, "ours, for compressed or noisy video (144 k parameters)", deflicker=RESTORE_DEFLICKER
)
DEFAULT_4X = BundledModel(
    "steadyscale-restore-4x", 4, "ours, for compressed or noisy video (154 k parameters)", deflicker=RESTORE_DEFLICKER
)

BUNDLED_MODELS = (
    DEFAULT_2X,
    DEFAULT_4X,
    BundledModel("steadyscale-faithful-2x", 2, "ours, for clean video: nearest to the source (30 k parameters)"),
    BundledModel("steadyscale-faithful-4x", 4, "ours, for clean video: nearest to the source (35 k parameters)"),
    BundledModel("steadyscale-calm-2x", 2, "ours, for clean video: the fastest, flickers least (21 k parameters)"),
    BundledModel("steadyscale-calm-4x", 4, "ours, for clean video: the fastest, flickers least (26 k parameters)"),
)

ALIASES = {"steadyscale-2x": "steadyscale-calm-2x", "steadyscale-4x": "steadyscale-calm-4x"}
"""Names of earlier versions, in stored graphs and scripts -> present names."""


def find_bundled(name: str) -> BundledModel | None:
    """The network of that name or alias, or None."""
    name = ALIASES.get(name, name)
    return next((model for model in BUNDLED_MODELS if model.name == name), None)


def select_bundled(factor: float | None) -> BundledModel:
    """The default network for an upscaling factor; without a factor, the 2x one."""
    return DEFAULT_2X if factor is None or factor <= MAX_FACTOR_2X else DEFAULT_4X
