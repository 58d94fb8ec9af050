"""Networks as ONNX graphs of any picture size, in 32-bit numbers or in 8-bit integers."""

from __future__ import annotations

import importlib
import inspect
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...models import RRDBNet
from ...models.arch.rrdb import SLOPE
from ...models.arch.separable import dense
from ...models.arch.upconv import ShuffledUpconv
from ...models.loading.onnx_model import FACTS
from .errors import CompressionError

OPSET = 17
MOST_DIFFERENCE = 1e-4  # between the graph and torch, for results in [0, 1]; rounding alone gives about 1e-6
INPUT, OUTPUT = "image", "enlarged"


def ready() -> None:
    """Raises CompressionError unless all that graphs are made, measured and run with is installed."""
    for name in ("onnx", "onnxruntime", "openvino"):
        _needed(name)


def export_onnx(network: nn.Module, path: Path) -> Path:
    """Write the network as an ONNX graph: image (B, C, h, w) -> enlarged (B, C, h * scale, w * scale) in [0, 1].

    h and w are multiples of the network's `multiple`, which stands in the metadata beside the scale and the like. Run
    by onnxruntime and compared with torch before anybody trusts it. Raises CompressionError.
    """
    onnx, onnxruntime = _needed("onnx"), _needed("onnxruntime")
    plain = _Graph(network).eval()
    # The newer exporter needs one more package and writes graphs that fewer programs read.
    older: Any = {"dynamo": False} if "dynamo" in inspect.signature(torch.onnx.export).parameters else {}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of the tracer about itself, and about sizes, which are compared below
        side = 4 * plain.multiple + 12
        torch.onnx.export(
            plain,
            (torch.rand(1, plain.in_channels, side, side),),
            str(path),
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_axes={name: {0: "batch", 2: f"{name}_height", 3: f"{name}_width"} for name in (INPUT, OUTPUT)},
            opset_version=OPSET,
            **older,
        )
    graph = onnx.load(str(path))
    values = [type(plain.network).__name__] + [str(getattr(plain.network, name)) for name in FACTS[1:-1]]
    values.append(str(sum(parameter.numel() for parameter in network.parameters())))
    onnx.helper.set_model_props(graph, dict(zip(FACTS, values, strict=True)))
    onnx.checker.check_model(graph, full_check=True)
    onnx.save(graph, str(path))
    _compare(plain, onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]))
    return path


def quantise(path: Path, target: Path, pictures: Sequence[Tensor]) -> Path:
    """Write the graph at `path` with 8-bit integers in all convolutions but the first and the last.

    Weights: signed, a scale for each channel, one bit less than there is room for, because processors without VNNI add
    two products in 16 bits and saturate. What convolutions read: unsigned, over the range that `pictures`, (1, C, h, w)
    in [0, 1], have shown. What they give stays as it is until the activation has been applied, which OpenVINO does
    within the convolution (Jacob et al. 2018, arXiv:1712.05877). Raises CompressionError.
    """
    onnx = _needed("onnx")
    _needed("onnxruntime")
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Shown(CalibrationDataReader):
        def __init__(self) -> None:
            self.left = iter(pictures)

        def get_next(self) -> Any:
            picture = next(self.left, None)
            return None if picture is None else {INPUT: picture.cpu().numpy()}

    plain = onnx.load(str(path))
    own = {entry.key: entry.value for entry in plain.metadata_props}
    convs = [node.name for node in plain.graph.node if node.op_type == "Conv"]
    if len(convs) < 3:
        raise CompressionError(f"a network of {len(convs)} convolutions has none between the first and the last")
    # The quantiser would otherwise ask, on the root logger, for a preparation that has nothing to do here.
    onnx.helper.set_model_props(plain, {**own, "onnx.quant.pre_process": "onnxruntime.quant"})
    quantize_static(
        plain,
        str(target),
        Shown(),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=["Conv"],
        nodes_to_exclude=[convs[0], convs[-1]],
        per_channel=True,
        reduce_range=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        extra_options={"OpTypesToExcludeOutputQuantization": ["Conv"]},
    )
    graph = onnx.load(str(target))
    onnx.helper.set_model_props(graph, own)
    onnx.save(graph, str(target))
    return target


def _needed(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise CompressionError(f"ONNX graphs need {name}: pip install 'steadyscale[compress]'") from error


class _Graph(nn.Module):
    """A network as it is written: dense, with its result clamped, sizes left open, and an RRDBNet's enlarging turned
    into pixel-shuffles, for which no large picture of many channels has to be made and read again."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        try:
            self.network = dense(network).cpu().float()
        except ValueError as error:
            raise CompressionError(f"no graph can be made: {error}") from error
        self.multiple, self.in_channels = self.network.multiple, self.network.in_channels
        if isinstance(self.network, RRDBNet):
            convs = [self.network.get_submodule(f"conv_up{i + 1}") for i in range(self.network.config.doublings)]
            self.ups = nn.ModuleList(ShuffledUpconv.of(conv, 2) for conv in convs if isinstance(conv, nn.Conv2d))

    def forward(self, image: Tensor) -> Tensor:
        network = self.network
        if not isinstance(network, RRDBNet):
            return network(image).clamp(0, 1)
        x = network.conv_first(F.pixel_unshuffle(image, k) if (k := network.config.unshuffle) > 1 else image)
        trunk = x
        for block in network.body:
            trunk = block(trunk)
        x = x + network.conv_body(trunk)
        for up in self.ups:
            x = F.leaky_relu(up(x), SLOPE)
        return network.conv_last(F.leaky_relu(network.conv_hr(x), SLOPE)).clamp(0, 1)


def _compare(plain: _Graph, session: Any) -> None:
    """Raises CompressionError unless the graph gives torch's pictures, at two sizes that it was not traced with."""
    for picture in _noise(plain):
        with torch.no_grad():
            wanted = plain.network(picture).clamp(0, 1)
        found = torch.from_numpy(session.run(None, {INPUT: picture.numpy()})[0])
        difference = float((found - wanted).abs().max()) if found.shape == wanted.shape else float("nan")
        if not difference <= MOST_DIFFERENCE:
            raise CompressionError(
                f"the ONNX graph differs from torch by {difference:.1e}; another torch may export it"
            )


def _noise(plain: _Graph) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(1)
    for batch, height, width in ((1, 5, 9), (2, 11, 4)):
        size = (batch, plain.in_channels, height * plain.multiple, width * plain.multiple)
        yield torch.rand(size, generator=generator)
