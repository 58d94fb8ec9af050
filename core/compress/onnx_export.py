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
from ...models.arch.rrdb import NEGATIVE_SLOPE
from ...models.arch.separable import to_dense
from ...models.arch.upconv import SubpixelConv
from ...models.loading.onnx_model import METADATA_KEYS
from .errors import CompressionError

OPSET = 17
MAX_DIFFERENCE = 1e-4  # between the graph and torch, for results in [0, 1]; rounding alone gives about 1e-6
INPUT_NAME, OUTPUT_NAME = "image", "enlarged"


def check_dependencies() -> None:
    """Raises CompressionError unless all that graphs are made, measured and run with is installed."""
    for name in ("onnx", "onnxruntime", "openvino"):
        _import_required(name)


def export_onnx(network: nn.Module, path: Path) -> Path:
    """Write the network as an ONNX graph: image (B, C, h, w) -> enlarged (B, C, h * scale, w * scale) in [0, 1].

    h and w are multiples of the network's `multiple`, which stands in the metadata beside the scale and the like. Run
    by onnxruntime and compared with torch before anybody trusts it. Raises CompressionError.
    """
    onnx, onnxruntime = _import_required("onnx"), _import_required("onnxruntime")
    plain = _ExportWrapper(network).eval()
    # The newer exporter needs one more package and writes graphs that fewer programs read.
    older: Any = {"dynamo": False} if "dynamo" in inspect.signature(torch.onnx.export).parameters else {}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of the tracer about itself, and about sizes, which are compared below
        side = 4 * plain.multiple + 12
        torch.onnx.export(
            plain,
            (torch.rand(1, plain.in_channels, side, side),),
            str(path),
            input_names=[INPUT_NAME],
            output_names=[OUTPUT_NAME],
            dynamic_axes={
                name: {0: "batch", 2: f"{name}_height", 3: f"{name}_width"} for name in (INPUT_NAME, OUTPUT_NAME)
            },
            opset_version=OPSET,
            **older,
        )
    graph = onnx.load(str(path))
    values = [type(plain.network).__name__] + [str(getattr(plain.network, name)) for name in METADATA_KEYS[1:-1]]
    values.append(str(sum(parameter.numel() for parameter in network.parameters())))
    onnx.helper.set_model_props(graph, dict(zip(METADATA_KEYS, values, strict=True)))
    onnx.checker.check_model(graph, full_check=True)
    onnx.save(graph, str(path))
    _check_matches_torch(plain, onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]))
    return path


def quantize(path: Path, target: Path, images: Sequence[Tensor]) -> Path:
    """Write the graph at `path` with 8-bit integers in all convolutions but the first and the last.

    Weights: signed, a scale for each channel, one bit less than there is room for, because processors without VNNI add
    two products in 16 bits and saturate. What convolutions read: unsigned, over the range that `pictures`, (1, C, h, w)
    in [0, 1], have shown. What they give stays as it is until the activation has been applied, which OpenVINO does
    within the convolution (Jacob et al. 2018, arXiv:1712.05877). Raises CompressionError.
    """
    onnx = _import_required("onnx")
    _import_required("onnxruntime")
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class CalibrationReader(CalibrationDataReader):
        def __init__(self) -> None:
            self.remaining = iter(images)

        def get_next(self) -> Any:
            picture = next(self.remaining, None)
            return None if picture is None else {INPUT_NAME: picture.cpu().numpy()}

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
        CalibrationReader(),
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


def _import_required(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise CompressionError(f"ONNX graphs need {name}: pip install 'steadyscale[compress]'") from error


class _ExportWrapper(nn.Module):
    """A network as it is written: dense, with its result clamped, sizes left open, and an RRDBNet's enlarging turned
    into pixel-shuffles, for which no large picture of many channels has to be made and read again."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        try:
            self.network = to_dense(network).cpu().float()
        except ValueError as error:
            raise CompressionError(f"no graph can be made: {error}") from error
        self.multiple, self.in_channels = self.network.multiple, self.network.in_channels
        if isinstance(self.network, RRDBNet):
            convs = [self.network.get_submodule(f"conv_up{i + 1}") for i in range(self.network.config.doublings)]
            self.ups = nn.ModuleList(SubpixelConv.from_upconv(conv, 2) for conv in convs if isinstance(conv, nn.Conv2d))

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
            x = F.leaky_relu(up(x), NEGATIVE_SLOPE)
        return network.conv_last(F.leaky_relu(network.conv_hr(x), NEGATIVE_SLOPE)).clamp(0, 1)


def _check_matches_torch(model: _ExportWrapper, session: Any) -> None:
    """Raises CompressionError unless the graph gives torch's pictures, at two sizes that it was not traced with."""
    for picture in _random_inputs(model):
        with torch.no_grad():
            wanted = model.network(picture).clamp(0, 1)
        found = torch.from_numpy(session.run(None, {INPUT_NAME: picture.numpy()})[0])
        difference = float((found - wanted).abs().max()) if found.shape == wanted.shape else float("nan")
        if not difference <= MAX_DIFFERENCE:
            raise CompressionError(
                f"the ONNX graph differs from torch by {difference:.1e}; another torch may export it"
            )


def _random_inputs(model: _ExportWrapper) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(1)
    for batch, height, width in ((1, 5, 9), (2, 11, 4)):
        size = (batch, model.in_channels, height * model.multiple, width * model.multiple)
        yield torch.rand(size, generator=generator)
