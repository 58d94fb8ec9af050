"""Export networks as ONNX graphs, in float32 or quantized to 8 bits."""

from __future__ import annotations

import importlib
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
from ..runtime.typed_torch import from_numpy
from ..upscaling.model.onnx_graph import INPUT_NAME, OUTPUT_NAME, export_graph
from .errors import CompressionError

MAX_DIFFERENCE = 1e-4  # between the outputs of graph and torch, in [0, 1]; rounding alone gives about 1e-6


def check_dependencies() -> None:
    """Raise CompressionError unless the packages for ONNX are installed."""
    for name in ("onnx", "onnxruntime", "openvino"):
        _import_required(name)


def export_onnx(network: nn.Module, path: Path) -> Path:
    """Write the network as an ONNX graph with dynamic image sizes.

    image (B, C, h, w) in [0, 1] -> upscaled (B, C, h * scale, w * scale) in [0, 1]. h and w must be multiples of the
    network's `multiple`, which is in the metadata together with the scale. The graph is verified against torch with
    onnxruntime. Raises CompressionError.
    """
    onnx, onnxruntime = _import_required("onnx"), _import_required("onnxruntime")
    model = _ExportWrapper(network).eval()
    side = 4 * model.multiple + 12
    example = torch.rand(1, model.in_channels, side, side)
    axes = {name: {0: "batch", 2: f"{name}_height", 3: f"{name}_width"} for name in (INPUT_NAME, OUTPUT_NAME)}
    with torch.no_grad():  # sizes that are traced as constants are found by the check below
        export_graph(model, example, path, dynamic_axes=axes)
    graph = onnx.load(str(path))
    values = [type(model.network).__name__] + [str(getattr(model.network, name)) for name in METADATA_KEYS[1:-1]]
    values.append(str(sum(parameter.numel() for parameter in network.parameters())))
    onnx.helper.set_model_props(graph, dict(zip(METADATA_KEYS, values, strict=True)))
    onnx.checker.check_model(graph, full_check=True)
    onnx.save(graph, str(path))
    _check_matches_torch(model, onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]))
    return path


def quantize(path: Path, target: Path, images: Sequence[Tensor]) -> Path:
    """Quantize the convolutions of a graph to 8 bits, except first and last.

    Weights are signed with one scale per output channel and use 7 bits, because CPUs without VNNI add two products in
    saturating 16-bit arithmetic. Inputs of the convolutions are unsigned; their range is calibrated on `images`,
    (1, C, h, w) in [0, 1]. Outputs are not quantized before the activation, which OpenVINO fuses into the convolution
    (Jacob et al. 2018, arXiv:1712.05877). Raises CompressionError.
    """
    onnx = _import_required("onnx")
    _import_required("onnxruntime")
    from onnxruntime.quantization import (  # pyright: ignore[reportMissingTypeStubs]  # it has none
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_static,  # pyright: ignore[reportUnknownVariableType]
    )

    class CalibrationReader(CalibrationDataReader):
        def __init__(self) -> None:
            self.remaining = iter(images)

        def get_next(self) -> Any:
            image = next(self.remaining, None)
            return None if image is None else {INPUT_NAME: image.cpu().numpy()}

    source = onnx.load(str(path))
    metadata = {entry.key: entry.value for entry in source.metadata_props}
    convs = [node.name for node in source.graph.node if node.op_type == "Conv"]
    if len(convs) < 3:
        raise CompressionError(
            f"the network has {len(convs)} convolutions; int8 needs 3 or more, as first and last stay float"
        )
    # This key stops a warning on the root logger that asks for preprocessing, which these graphs do not need.
    onnx.helper.set_model_props(source, {**metadata, "onnx.quant.pre_process": "onnxruntime.quant"})
    quantize_static(
        source,
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
    onnx.helper.set_model_props(graph, metadata)
    onnx.save(graph, str(target))
    return target


def _import_required(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise CompressionError(f"ONNX graphs need {name}: pip install 'steadyscale[compress]'") from error


class _ExportWrapper(nn.Module):
    """The module that is traced: dense, without padding, output clamped.

    The upscaling layers of an RRDBNet become pixel shuffles, which need no high-resolution image of many channels.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        try:
            self.network = to_dense(network).cpu().float()
        except ValueError as error:
            raise CompressionError(f"the network cannot be exported to ONNX: {error}") from error
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
    """Raise CompressionError unless the outputs equal those of torch.

    Compared at two sizes other than the traced one.
    """
    for image in _random_inputs(model):
        with torch.no_grad():
            expected = model.network(image).clamp(0, 1)
        output = from_numpy(session.run(None, {INPUT_NAME: image.numpy()})[0])
        difference = float((output - expected).abs().max()) if output.shape == expected.shape else float("nan")
        if not difference <= MAX_DIFFERENCE:  # also for NaN
            raise CompressionError(
                f"the output of the ONNX graph differs from torch by {difference:.1e}; try another version of torch"
            )


def _random_inputs(model: _ExportWrapper) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(1)
    for batch, height, width in ((1, 5, 9), (2, 11, 4)):
        size = (batch, model.in_channels, height * model.multiple, width * model.multiple)
        yield torch.rand(size, generator=generator)
