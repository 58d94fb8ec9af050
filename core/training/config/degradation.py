"""Settings of the degradations that training inputs go through."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..errors import TrainingError

Range = tuple[float, float]
"""Lowest and highest value of a uniform distribution."""


@dataclass(frozen=True)
class DegradationStage:
    """One round of blur, resize, noise and compression.

    The defaults are those of Real-ESRGAN's first round. Fields that end in `_prob` are probabilities.

    blur_prob: of a blur. blur_sigma: of the Gaussian blur, in pixels. sinc_prob: of a sinc filter instead of the
    Gaussian, which leaves ringing. up_prob, down_prob: of upscaling and of downscaling, by a factor within
    `resize_range`. resize_range: smallest and largest of these factors. noise_prob: of noise. gaussian_noise_prob: that
    the noise is Gaussian, otherwise Poisson's. gaussian_sigma: of Gaussian noise, in steps of 1/255.
    poisson_scale_range: of Poisson noise (1: one photon per step of 1/255). gray_noise_prob: that all channels share
    one noise. jpeg_quality: 1 to 95.
    """

    blur_prob: float = 1.0
    blur_sigma: Range = (0.2, 3.0)
    sinc_prob: float = 0.1
    up_prob: float = 0.2
    down_prob: float = 0.7
    resize_range: Range = (0.15, 1.5)
    noise_prob: float = 1.0
    gaussian_noise_prob: float = 0.5
    gaussian_sigma: Range = (1.0, 30.0)
    poisson_scale_range: Range = (0.05, 3.0)
    gray_noise_prob: float = 0.4
    jpeg_quality: Range = (30.0, 95.0)

    def __post_init__(self) -> None:
        for name in ("blur_sigma", "resize_range", "gaussian_sigma", "poisson_scale_range", "jpeg_quality"):
            low, high = getattr(self, name)
            if not 0 <= low <= high:
                raise TrainingError(
                    f"degrade: {name} must be two values, 0 or above, in ascending order, not {low} and {high}"
                )
        probabilities = ("blur", "sinc", "noise", "gaussian_noise", "gray_noise", "up", "down")
        for name in (f"{kind}_prob" for kind in probabilities):
            if not 0 <= getattr(self, name) <= 1:
                raise TrainingError(f"degrade: {name} must be a probability between 0 and 1, not {getattr(self, name)}")


SECOND_STAGE = DegradationStage(
    blur_prob=0.8,
    blur_sigma=(0.2, 1.5),
    up_prob=0.3,
    down_prob=0.4,
    resize_range=(0.3, 1.2),
    gaussian_sigma=(1.0, 25.0),
    poisson_scale_range=(0.05, 2.5),
)
"""Defaults of the second round, those of Real-ESRGAN."""


@dataclass(frozen=True)
class DegradationConfig:
    """How training inputs are degraded.

    enabled: false means antialiased bicubic reduction and nothing else. video_prob: probability that the last
    compression is a video codec's, with a CRF within `crf_range`, instead of JPEG. crf_range: 18 is hardly visible, 38
    is strong. final_sinc_prob: probability of a last sinc filter. first, second: the two rounds.
    """

    enabled: bool = False
    video_prob: float = 0.3
    crf_range: Range = (20.0, 38.0)
    final_sinc_prob: float = 0.5
    first: DegradationStage = field(default_factory=DegradationStage)
    second: DegradationStage = SECOND_STAGE
