"""Settings of the degradations that training inputs go through."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..errors import TrainingError

Range = tuple[float, float]


@dataclass(frozen=True)
class DegradationStage:
    """One round of degradations; the defaults are Real-ESRGAN's first.

    blur, noise: the probability of each. sigma: of the Gaussian blur, in pixels; ring: the probability of a sinc
    filter, which leaves ripples, in its place. up, down: the probabilities of enlarging and of reducing, within
    `resize` times. gaussian: the probability of Gaussian noise, of `gaussian_sigma` in steps of 1/255; else Poisson
    noise, `poisson` times that of one photon a step. grey: the probability that noise has no colour. quality: of JPEG.
    """

    blur: float = 1.0
    sigma: Range = (0.2, 3.0)
    ring: float = 0.1
    up: float = 0.2
    down: float = 0.7
    resize: Range = (0.15, 1.5)
    noise: float = 1.0
    gaussian: float = 0.5
    gaussian_sigma: Range = (1.0, 30.0)
    poisson: Range = (0.05, 3.0)
    grey: float = 0.4
    quality: Range = (30.0, 95.0)

    def __post_init__(self) -> None:
        for name in ("sigma", "resize", "gaussian_sigma", "poisson", "quality"):
            low, high = getattr(self, name)
            if not 0 <= low <= high:
                raise TrainingError(f"degrade: {name} goes from the lesser to the greater value, not {low} to {high}")
        for name in ("blur", "ring", "noise", "gaussian", "grey", "up", "down"):
            if not 0 <= getattr(self, name) <= 1:
                raise TrainingError(f"degrade: {name} is a probability, between 0 and 1, not {getattr(self, name)}")


SECOND_STAGE = DegradationStage(
    blur=0.8,
    sigma=(0.2, 1.5),
    up=0.3,
    down=0.4,
    resize=(0.3, 1.2),
    gaussian_sigma=(1.0, 25.0),
    poisson=(0.05, 2.5),
)


@dataclass(frozen=True)
class DegradationConfig:
    """Whether and how inputs are made worse than a plain reduction.

    on: off means antialiased bicubic reduction and nothing else. video: the probability that the last compression is a
    video codec's, with a crf within `crf`, rather than JPEG's. last_ring: the probability of a last sinc filter.
    """

    on: bool = False
    video: float = 0.3
    crf: Range = (20.0, 38.0)
    last_ring: float = 0.5
    first: DegradationStage = field(default_factory=DegradationStage)
    second: DegradationStage = SECOND_STAGE
