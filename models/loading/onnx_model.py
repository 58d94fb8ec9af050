"""ONNX models that this package exported, mostly int8, run on the CPU by OpenVINO."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..arch.rrdb import pad_to_multiple

# Metadata that an exported graph contains.
METADATA_KEYS = ("architecture", "scale", "in_channels", "out_channels", "halo", "multiple", "parameters")


class OnnxNetwork(nn.Module):
    """An ONNX graph as a module that runs on the CPU; inputs may be on any device.

    (B, in_channels, h, w) in [0, 1] -> (B, out_channels, h * scale, w * scale), on the device of the input.
    metadata: of the graph, see METADATA_KEYS. compile_model: compiles the graph at the first call, for as many threads
    as torch has. content_hash: identifies the graph, as its weights are not in `state_dict`. Thread-safe; calls are
    serialized.
    """

    fingerprint_name = "onnx"  # in job.json; must not change

    def __init__(
        self, metadata: dict[str, str], compile_model: Callable[[], Callable[[Tensor], Tensor]], content_hash: str
    ) -> None:
        super().__init__()
        self.content_hash = content_hash
        self.scale, self.in_channels = int(metadata["scale"]), int(metadata["in_channels"])
        self.out_channels, self.halo = int(metadata["out_channels"]), int(metadata["halo"])
        self.multiple, self.parameters_count = int(metadata["multiple"]), int(metadata["parameters"])
        self.supports_half = False
        # The weights are in the graph. Upscaler reads a module's device and dtype from its parameters, hence this one.
        self.place = nn.Parameter(torch.zeros(0), requires_grad=False)
        self._compile = compile_model
        self._run: Callable[[Tensor], Tensor] | None = None
        self._lock = threading.Lock()

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        padded = pad_to_multiple(x.detach().to("cpu", torch.float32), self.multiple).contiguous()
        with self._lock:
            self._run = self._run or self._compile()
            result = self._run(padded)
        return result[..., : height * self.scale, : width * self.scale].to(x)


def load_onnx(path: Path) -> tuple[OnnxNetwork, str]:
    """Load a graph as a network; returns the network and its architecture.

    Raises ValueError for files that this package did not export.
    """
    try:
        import onnx
        import openvino
    except ImportError as error:
        raise ValueError("ONNX models need onnx and openvino: pip install 'steadyscale[compress]'") from error
    try:
        # External data would let a graph reference any file on the disk.
        model = onnx.load(  # pyright: ignore[reportUnknownMemberType]  # onnx annotates os.PathLike incompletely
            str(path), load_external_data=False
        )
    except Exception as error:  # protobuf's errors have no common base class
        raise ValueError(f"it is a broken ONNX file ({type(error).__name__}); export it again") from error
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    if missing := [name for name in METADATA_KEYS if name not in metadata]:
        raise ValueError(
            f"its metadata has no {', '.join(missing)}; export it with `steadyscale compress MODEL --onnx`, or give "
            "the weight file that it was exported from"
        )
    if any(tensor.external_data for tensor in model.graph.initializer):
        raise ValueError("it stores weights in other files; export it again as one file")
    numbers = [metadata[name] for name in METADATA_KEYS[1:]]
    if not all(number.isdecimal() and len(number) < 16 for number in numbers):
        raise ValueError(f"its metadata holds {numbers} instead of integers; export it again")

    def compile_model() -> Callable[[Tensor], Tensor]:
        core: Any = openvino.Core()  # its methods are annotated incompletely
        # Without the precision hint some processors would run in bfloat16, which loses more accuracy than int8.
        hints = {"INFERENCE_NUM_THREADS": torch.get_num_threads(), "INFERENCE_PRECISION_HINT": "f32"}
        compiled = core.compile_model(core.read_model(model.SerializeToString()), "CPU", hints)
        # Copied, because the next call overwrites the memory of the result.
        return lambda x: torch.tensor(compiled(x.numpy())[0])

    content_hash = hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest()
    return OnnxNetwork(metadata, compile_model, content_hash), metadata["architecture"]
