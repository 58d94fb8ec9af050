"""What can be asked of the enlarging stage, and what it counts: data, which is read without torch."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from math import isfinite

from ..runtime.deprecation import deprecated_property, renamed_fields

DEFAULT_DEFLICKER_STRENGTH = 0.6  # a strength that takes most of the flicker and little of the sharpness


@dataclass(frozen=True)
class OutputSize:
    """How large frames become: `factor` times each side, or exactly `size` = (width, height), in pixels.

    Neither means the network's own scale. A size of another shape than the frames' stretches them.
    """

    factor: float | None = None
    size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.factor is not None and self.size is not None:
            raise ValueError(f"give a factor or a size, not both (got {self.factor} and {self.size})")
        if self.factor is not None and not (isfinite(self.factor) and self.factor > 0):
            raise ValueError(f"a factor must be above 0, got {self.factor}")
        if self.size is not None and min(self.size) < 1:
            raise ValueError(f"a size needs at least 1x1 pixels, got {self.size[0]}x{self.size[1]}")

    def resolve(self, width: int, height: int, scale: int) -> tuple[int, int]:
        """(width, height) of the result for a frame of width x height and a network of this scale; never below 1x1."""
        if self.size is not None:
            return self.size
        factor = scale if self.factor is None else self.factor
        return max(1, round(width * factor)), max(1, round(height * factor))

    of = deprecated_property("of", "resolve")


class Precision(Enum):
    """AUTO: the fastest that a self-check shows safe for this network. The others are taken at their word."""

    AUTO = "auto"
    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"


@dataclass(frozen=True)
class Tiling:
    """How frames are cut.

    size: side of a tile's core in input pixels (rounded up to a multiple of 4), None = by memory.
    halo: input pixels around the core, None = what the network says it needs.
    """

    size: int | None = None
    halo: int | None = None

    def __post_init__(self) -> None:
        if self.size is not None and self.size < 1:
            raise ValueError(f"a tile needs a size of at least 1 pixel, or None for automatic, got {self.size}")
        if self.halo is not None and self.halo < 0:
            raise ValueError(f"a halo cannot be negative, got {self.halo}; None takes the network's own")


class Alpha(str, Enum):
    """How a network for RGB or grey enlarges alpha: it is resized, or shown to the network as a grey picture.

    The network draws sharper outlines, and costs twice the time.
    """

    RESIZE = "resize"
    NETWORK = "network"


class ColorCorrection(Enum):
    """What of the source's colours an enlarged frame takes back; networks shift them a little.

    MEAN: the mean of each channel. WAVELET: all that is coarse, so that slow shifts across the frame go as well, and
    the network gives only the detail.
    """

    NONE = "none"
    MEAN = "mean"
    WAVELET = "wavelet"


@renamed_fields(colour="color_correction")
@dataclass(frozen=True)
class PostProcess:
    """The defaults change nothing.

    strength: 1 = the network alone, 0 = a plain antialiased resize alone, between them a blend. colour: what to keep of
    the source's. grain: 0 to 1, noise that differs from frame to frame and not from run to run; 1 is very coarse.
    linear_light: resize light rather than stored values, which keeps fine bright detail from darkening; it is slower.
    """

    strength: float = 1.0
    color_correction: ColorCorrection = ColorCorrection.NONE
    grain: float = 0.0
    linear_light: bool = False

    def __post_init__(self) -> None:
        for name, value in (("strength", self.strength), ("grain", self.grain)):
            if not 0 <= value <= 1:
                raise ValueError(f"{name} goes from 0 to 1, got {value}")

    @property
    def is_identity(self) -> bool:
        """Whether frames that have their size already stay as they are."""
        return self.strength == 1 and self.color_correction is ColorCorrection.NONE and self.grain == 0

    plain = deprecated_property("plain", "is_identity")


@renamed_fields(on="enabled")
@dataclass(frozen=True)
class Reuse:
    """Which results serve again.

    on: False runs the network for every pixel of every frame. threshold: the largest change of any colour value of a
    tile that counts as none, in steps of 1/255; 0 = only what is identical. A mean would hide a moving cursor. The
    change is counted from the frame that the result was made of, so that slow drift does not pile up.
    """

    enabled: bool = True
    threshold: float = 0.0

    def __post_init__(self) -> None:
        if not (isfinite(self.threshold) and self.threshold >= 0):
            raise ValueError(f"a threshold is a change in steps of 1/255, 0 or more, got {self.threshold}")


@dataclass(frozen=True)
class UpscaleSettings:
    """How a clip is upscaled; the defaults are those of the CLI and of the nodes.

    size: of the upscaled frames. tiling: how frames are cut. precision: dtype of the network. reuse: of results for
    regions that did not change. postprocess: color correction, grain and the like. alpha: how transparency is upscaled.
    compile: run the network through torch.compile, which takes up to minutes for the first frame of each shape.
    """

    size: OutputSize = OutputSize()
    tiling: Tiling = Tiling()
    precision: Precision = Precision.AUTO
    reuse: Reuse = Reuse()
    postprocess: PostProcess = PostProcess()
    alpha: Alpha = Alpha.RESIZE
    compile: bool = False


@renamed_fields(repeats="repeated_frames", tiles_run="tiles_computed", pixels_run="pixels_computed")
@dataclass
class UpscaleStats:
    """What an enlarging stage has done so far: hand one in and read it when the stream has ended.

    repeats: frames that needed no network. tiles_run, tiles_reused: tiles of 12 x 12 input pixels of all other frames,
    networks with a wide halo always run all. pixels, pixels_run: input pixels of all frames, and of those that the
    network computed (with the halos of changed tiles, of which layers that make no more than they must compute half;
    without those of tiles that memory asked for).
    """

    frames: int = 0
    repeated_frames: int = 0
    tiles_computed: int = 0
    tiles_reused: int = 0
    pixels: int = 0
    pixels_computed: int = 0

    @property
    def computed_fraction(self) -> float:
        """Share of the pixels that the network computed, 0 to 1; 1 before the first frame."""
        return self.pixels_computed / self.pixels if self.pixels else 1.0

    share_run = deprecated_property("share_run", "computed_fraction")
