"""Networks as ONNX graphs, those of 8-bit integers above all, run on the CPU by OpenVINO."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from ..arch.rrdb import pad_to_multiple

METADATA_KEYS = ("architecture", "scale", "in_channels", "out_channels", "halo", "multiple", "parameters")
"""What a graph says of itself in its metadata, so that nobody has to guess."""


class OnnxNetwork(nn.Module):
    """(B, in_channels, h, w) in [0, 1], on any device -> (B, out_channels, h * scale, w * scale), from the CPU.

    facts: the graph's own, see `FACTS`. run: compiles the graph, for as many threads as torch has, when it is first
    used. content_hash: identifies the graph, as its weights are not in `state_dict`. Safe to call from several threads,
    one after the other.
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
        # The weights are the graph's; this one says where results are wanted, as the weights of others do.
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
    """The graph as a network, and the name of its kind. Raises ValueError where it is none that was exported here."""
    try:
        import onnx
        import openvino
    except ImportError as error:
        raise ValueError("ONNX graphs need onnx and openvino: pip install 'steadyscale[compress]'") from error
    try:
        # Weights in other files would let a graph name any file on the disk.
        content = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf's own errors have no common family
        raise ValueError(f"it is a broken ONNX file ({type(error).__name__}); export it again") from error
    facts = {entry.key: entry.value for entry in content.metadata_props}
    outside = any(tensor.external_data for tensor in content.graph.initializer)
    if missing := [name for name in METADATA_KEYS if name not in facts]:
        raise ValueError(
            f"its metadata has no {', '.join(missing)}; export it with `steadyscale compress MODEL --onnx`, or give "
            "the weight file that it was made from"
        )
    if outside:
        raise ValueError("it keeps weights in other files; export it again as one file")
    numbers = [facts[name] for name in METADATA_KEYS[1:]]
    if not all(number.isdecimal() and len(number) < 16 for number in numbers):
        raise ValueError(f"its metadata holds {numbers} where whole numbers belong; export it again")

    def compile_model() -> Callable[[Tensor], Tensor]:
        core = openvino.Core()
        # Some processors would be given bfloat16 otherwise, which costs more than 8-bit integers do.
        hints = {"INFERENCE_NUM_THREADS": torch.get_num_threads(), "INFERENCE_PRECISION_HINT": "f32"}
        program = core.compile_model(core.read_model(content.SerializeToString()), "CPU", hints)
        # The result lies in memory that the next call writes over.
        return lambda x: torch.from_numpy(program(x.numpy())[0].copy())

    content_hash = hashlib.sha256(content.SerializeToString(deterministic=True)).hexdigest()
    return OnnxNetwork(facts, compile_model, content_hash), facts["architecture"]
