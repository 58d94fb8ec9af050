"""Settings of a compression."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .errors import CompressionError
from .quality_limits import QualityLimits

OUTPUT_SUFFIXES = (".safetensors", ".onnx")


@dataclass(frozen=True)
class CompressSettings:
    """What to do to a model, and how much quality it may lose.

    model: weight file of an SRVGGNetCompact or RRDBNet, or a name of the zoo. calibrate: images, folders of images and
    videos for pruning, training, calibration and evaluation; the last quarter of each folder and of each video is for
    evaluation only. output: path of the weight file; ONNX graphs and the dense equivalent of a separable network are
    written beside it.

    prune: fraction of the channels, and of an RRDBNet's blocks, to remove, in [0, 1). separable: make the inner
    convolutions depthwise-separable. half: store weights in float16. onnx: write an ONNX graph too. int8: write a
    quantized ONNX graph too. max_loss_db, min_kept: see `QualityLimits`, which has the other limits. steps: of the
    fine-tuning after pruning or separation. seed: of all random numbers. device: see `RuntimeConfig`, for the
    fine-tuning; models are measured on the CPU. quality_gate: write nothing if a limit is exceeded; otherwise the
    report alone says so.
    """

    model: str
    calibrate: tuple[str, ...]
    output: str
    prune: float = 0.0
    separable: bool = False
    half: bool = False
    onnx: bool = False
    int8: bool = False
    max_loss_db: float = QualityLimits.max_loss_db
    steps: int = 2000
    seed: int = 0
    device: str = "auto"
    min_kept: float = QualityLimits.min_kept
    quality_gate: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.prune < 1:
            raise CompressionError(f"prune must be a fraction of the channels, from 0 to below 1, not {self.prune}")
        if self.steps < 0:
            raise CompressionError(f"steps must be 0 or more, not {self.steps}")
        if not self.max_loss_db >= 0:
            raise CompressionError(f"max_loss_db must be 0 dB or more, not {self.max_loss_db}")
        if not self.min_kept <= 1:
            raise CompressionError(f"min_kept must be at most 1, which is the original itself, not {self.min_kept}")
        if not (self.needs_training or self.half or self.onnx or self.int8):
            raise CompressionError("there is nothing to do: choose one or more of prune, separable, half, onnx, int8")
        if Path(self.output).suffix not in OUTPUT_SUFFIXES:
            raise CompressionError(f"{self.output}: the output must be a {' or '.join(OUTPUT_SUFFIXES)} file")

        if Path(self.output).suffix == ".onnx" and not (self.onnx or self.int8):
            raise CompressionError(
                f"{self.output} is an ONNX graph: choose onnx or int8 too, or name a .safetensors file"
            )

    @property
    def needs_training(self) -> bool:
        """Whether the network changes, and has to be fine-tuned."""
        return self.prune > 0 or self.separable

    @property
    def limits(self) -> QualityLimits:
        """The limits that the result is judged by."""
        return QualityLimits(min_kept=self.min_kept, max_loss_db=self.max_loss_db)

    def output_path(self, tag: str, suffix: str = ".safetensors") -> Path:
        """Return the path of one of the files: stem of the output, tag, extension."""
        output = Path(self.output)
        return output.with_name(output.stem + tag + suffix)
