"""Settings of the upscaling stage, and its counters; importable without torch."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from math import isfinite

from ..runtime.deprecation import deprecated_property, renamed_fields

DEFAULT_DEFLICKER_STRENGTH = 0.6  # removes most of the flicker and little of the sharpness


@dataclass(frozen=True)
class OutputSize:
    """The size of the result.

    It is `factor` times each side, or exactly `size` = (width, height) in pixels. Without either it is the network's
    scale. A size of another aspect ratio stretches the frames.
    """

    factor: float | None = None
    size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.factor is not None and self.size is not None:
            raise ValueError(f"OutputSize takes a factor or a size, not both (got {self.factor} and {self.size})")
        if self.factor is not None and not (isfinite(self.factor) and self.factor > 0):
            raise ValueError(f"factor must be above 0, got {self.factor}")
        if self.size is not None and min(self.size) < 1:
            raise ValueError(f"size must be at least 1x1 pixels, got {self.size[0]}x{self.size[1]}")

    def resolve(self, width: int, height: int, scale: int) -> tuple[int, int]:
        """Return the size (width, height) of the result, at least 1x1.

        width, height: of the frames; scale: of the network.
        """
        if self.size is not None:
            return self.size
        factor = scale if self.factor is None else self.factor
        return max(1, round(width * factor)), max(1, round(height * factor))

    def factor_for(self, width: int, height: int) -> float | None:
        """Return the factor of the side that grows most; None for the network's scale.

        width, height: of the frames.
        """
        return self.factor if self.size is None else max(self.size[0] / width, self.size[1] / height)

    of = deprecated_property("of", "resolve")


class Precision(Enum):
    """The dtype of the network.

    AUTO: the fastest that a self-check shows to be safe; the others are not checked.
    """

    AUTO = "auto"
    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"


class Engine(Enum):
    """The engine that runs the network.

    AUTO: on a CPU the native engine where it is built and knows the network, else torch. TORCH, NATIVE: always. ONNX:
    ONNX Runtime with the best provider for the device; torch where the network cannot be exported, the result differs
    from torch, or onnxruntime fails.
    """

    AUTO = "auto"
    TORCH = "torch"
    NATIVE = "native"
    ONNX = "onnx"


@dataclass(frozen=True)
class Tiling:
    """How frames are cut into tiles.

    size: side of a tile's core in input pixels, rounded up to a multiple of 4; None: by free memory.
    halo: input pixels around the core; None: the network's receptive field.
    """

    size: int | None = None
    halo: int | None = None

    def __post_init__(self) -> None:
        if self.size is not None and self.size < 1:
            raise ValueError(f"the tile size must be at least 1 pixel, or None for automatic, got {self.size}")
        if self.halo is not None and self.halo < 0:
            raise ValueError(f"the halo cannot be negative, got {self.halo}; None takes the network's own")


class Alpha(str, Enum):
    """The upscaling method for alpha with a network for RGB or gray.

    RESIZE: plain resize. NETWORK: the network, as a gray image. The network gives sharper outlines and takes twice the
    time.
    """

    RESIZE = "resize"
    NETWORK = "network"


class ColorCorrection(Enum):
    """Color correction: which colors of the source replace those of the result.

    Networks shift colors a little.

    MEAN: the mean of each channel. WAVELET: all low frequencies, which also removes slow shifts across the frame, so
    that only detail comes from the network.
    """

    NONE = "none"
    MEAN = "mean"
    WAVELET = "wavelet"


@renamed_fields(colour="color_correction")
@dataclass(frozen=True)
class PostProcess:
    """Processing of frames after the network; the defaults change nothing.

    strength: 1 is the network alone, 0 an antialiased bicubic resize alone, between them a blend. color_correction:
    which colors of the source to keep. grain: film grain, 0 to 1 (very coarse), different in each frame and the same in
    each run. linear_light: resize in linear light, which does not darken fine bright detail, but is slower.
    """

    strength: float = 1.0
    color_correction: ColorCorrection = ColorCorrection.NONE
    grain: float = 0.0
    linear_light: bool = False

    def __post_init__(self) -> None:
        for name, value in (("strength", self.strength), ("grain", self.grain)):
            if not 0 <= value <= 1:
                raise ValueError(f"{name} must be from 0 to 1, got {value}")

    @property
    def is_identity(self) -> bool:
        """Whether frames that already have the output size stay as they are."""
        return self.strength == 1 and self.color_correction is ColorCorrection.NONE and self.grain == 0

    plain = deprecated_property("plain", "is_identity")


@renamed_fields(on="enabled")
@dataclass(frozen=True)
class Reuse:
    """Reuse of results for regions that did not change.

    enabled: False runs the network for every pixel of every frame. threshold: the largest change of any color value of
    a tile that counts as none, in steps of 1/255; 0: only identical tiles (a mean would hide a moving cursor). Changes
    are measured against the frame that the result was computed from, so that slow drift does not add up.
    """

    enabled: bool = True
    threshold: float = 0.0

    def __post_init__(self) -> None:
        if not (isfinite(self.threshold) and self.threshold >= 0):
            raise ValueError(f"threshold must be 0 or more steps of 1/255, got {self.threshold}")


@dataclass(frozen=True)
class UpscaleSettings:
    """How a clip is upscaled; the defaults are those of the CLI and of the nodes.

    size: of the upscaled frames. tiling: how frames are cut. precision: dtype of the network. reuse: of results for
    regions that did not change. postprocess: color correction, grain and the like. alpha: how transparency is upscaled.
    compile: run the network through torch.compile, which takes up to minutes for the first frame of each shape.
    engine: what runs the network.
    """

    size: OutputSize = OutputSize()
    tiling: Tiling = Tiling()
    precision: Precision = Precision.AUTO
    reuse: Reuse = Reuse()
    postprocess: PostProcess = PostProcess()
    alpha: Alpha = Alpha.RESIZE
    compile: bool = False
    engine: Engine = Engine.AUTO


@renamed_fields(repeats="repeated_frames", tiles_run="tiles_computed", pixels_run="pixels_computed")
@dataclass
class UpscaleStats:
    """Counters of an upscaling stage, complete when its stream has ended.

    repeated_frames: needed no network. tiles_computed, tiles_reused: tiles of 12 x 12 input pixels of all other frames;
    networks with a wide halo compute all. pixels, pixels_computed: input pixels of all frames, and those that the
    network computed: with the halos of changed regions, averaged over the layers, and without those of tiles that were
    cut for lack of memory. mode: "fp16", "bf16", "tf32" or "fp32", as the first frame was computed. mode_check: how
    near that is to float32, in words; empty where it was not compared. engine: what ran the network last: "torch",
    "native" or for example "onnx (CPU)"; empty before the first frame.
    """

    frames: int = 0
    repeated_frames: int = 0
    tiles_computed: int = 0
    tiles_reused: int = 0
    pixels: int = 0
    pixels_computed: int = 0
    mode: str = ""
    mode_check: str = ""
    engine: str = ""

    @property
    def computed_fraction(self) -> float:
        """Fraction of the pixels that the network computed, 0 to 1.

        It is 1 before the first frame.
        """
        return self.pixels_computed / self.pixels if self.pixels else 1.0

    def add(self, other: UpscaleStats) -> None:
        """Add the counters of another part of the same stream."""
        for name, value in vars(other).items():
            mine = getattr(self, name)
            if isinstance(value, int):
                setattr(self, name, mine + value)
            elif value not in mine:  # Devices may differ in their modes.
                setattr(self, name, f"{mine}, {value}" if mine else value)

    share_run = deprecated_property("share_run", "computed_fraction")
