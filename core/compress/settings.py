"""What a compression is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .errors import CompressionError

OUTPUT_SUFFIXES = (".safetensors", ".onnx")


@dataclass(frozen=True)
class CompressSettings:
    """model: a weight file of an SRVGGNetCompact or RRDBNet, or a name of the zoo. calibrate: pictures, folders of them
    and videos to prune, train, calibrate and judge by; the last quarter only judges. output: the file that appears;
    graphs and the dense twin of a separable network lie beside it.

    prune: the share of channels, and of an RRDBNet's blocks, to take out, in [0, 1); 0 for none. separable: make inner
    convolutions depthwise-separable. half: store weights in 16 bits. onnx: write an ONNX graph too. int8: write an ONNX
    graph of 8-bit integers too. max_loss_db: of PSNR-Y against the model as it is; nothing is written beyond it.
    steps: of training after pruning or separating. seed: decides all that is drawn. device: auto, cpu or cuda, for the
    training; what comes out is measured on the CPU.
    """

    model: str
    calibrate: tuple[str, ...]
    output: str
    prune: float = 0.0
    separable: bool = False
    half: bool = False
    onnx: bool = False
    int8: bool = False
    max_loss_db: float = 0.3
    steps: int = 2000
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        if not 0 <= self.prune < 1:
            raise CompressionError(f"prune is a share of the channels, from 0 to below 1, not {self.prune}")
        if self.steps < 0:
            raise CompressionError(f"steps is 0 or more, not {self.steps}")
        if not self.max_loss_db >= 0:
            raise CompressionError(f"max_loss_db is 0 dB or more, not {self.max_loss_db}")
        if not (self.needs_training or self.half or self.onnx or self.int8):
            raise CompressionError("there is nothing to do: choose prune, separable, half, onnx, int8, or several")
        if Path(self.output).suffix not in OUTPUT_SUFFIXES:
            raise CompressionError(f"{self.output}: compressed models are written as {' or '.join(OUTPUT_SUFFIXES)}")

        if Path(self.output).suffix == ".onnx" and not (self.onnx or self.int8):
            raise CompressionError(f"{self.output} would be a graph: choose onnx or int8 too, or name a .safetensors")

    @property
    def needs_training(self) -> bool:
        """Whether the network becomes another, which has to be trained."""
        return self.prune > 0 or self.separable

    def output_path(self, tag: str, suffix: str = ".safetensors") -> Path:
        """The path of one of the files: the output's name, a mark, an ending."""
        output = Path(self.output)
        return output.with_name(output.stem + tag + suffix)
