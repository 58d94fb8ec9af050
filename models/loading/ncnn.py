"""Read ncnn's .param and .bin as a state dict of RRDBNet or SRVGGNetCompact.

The types of the layers do not prove how they are connected, so the graph of the file is compared, node by node, with
the graph of the network that has the same number of layers.
"""

from __future__ import annotations

import itertools
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor

from ..arch.rrdb import NEGATIVE_SLOPE, RESIDUAL_SCALE, convolution_names
from ..errors import WeightsError
from .ncnn_format import BinReader, Layer, parse_param

log = logging.getLogger(__name__)

MAX_PARAM_BYTES = 16 * 2**20


def read_ncnn(param_path: Path) -> dict[str, Tensor]:
    """Read a .param and the .bin beside it as the state dict of our networks.

    The keys are those of `RRDBNet` or `SRVGGNetCompact`. Convolution weights keep the float16 that the file may store;
    biases and slopes are float32. A LeakyReLU becomes a PReLU with its slope. realesr-animevideov3 for x2 and x3 is the
    4x network followed by a resize: the 4x network is returned, with a warning in the log. Raises WeightsError for any
    other graph.
    """
    binary = param_path.with_suffix(".bin")
    if not binary.is_file():
        raise WeightsError(
            f"{param_path} needs its weights beside it, but {binary.name} is missing; put both into one folder"
        )
    if param_path.stat().st_size > MAX_PARAM_BYTES:
        raise WeightsError(
            f"{param_path} has {param_path.stat().st_size} bytes, more than any graph needs; download it again"
        )
    try:
        layers = parse_param(param_path.read_text(encoding="utf-8", errors="replace"))
        weights = BinReader(bytearray(binary.read_bytes()))
        return _to_state_dict(_parse_model(layers, weights), param_path.name)
    except WeightsError as error:
        raise WeightsError(
            f"{param_path} is not an ncnn RRDBNet or SRVGGNetCompact: {error}; use its .pth or .safetensors file"
        ) from error


# ---- graphs ----

Node: TypeAlias = tuple[Any, ...]  # an operation, its settings, and the ids of the nodes that it reads
MAX_CONCAT_INPUTS = 64  # a dense block has five; nested concatenations in a hostile file would grow exponentially
RESIZE_NEAREST = 1  # ncnn's resize type for nearest neighbor


class Graph:
    """A graph of operations in canonical form.

    Equal operations on equal inputs have the same node id.
    """

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self._node_ids: dict[Node, int] = {}

    def add(self, *node: Any) -> int:
        """Return the id of this node; add it unless there is an equal one."""
        if node not in self._node_ids:
            self._node_ids[node] = len(self.nodes)
            self.nodes.append(node)
        return self._node_ids[node]

    def add_conv(self, index: int, source: int) -> int:
        """Add the index-th convolution of the file."""
        return self.add("conv", index, source)

    def add_leaky_relu(self, slope: float, source: int) -> int:
        return self.add("leaky", round(slope, 6), source)

    def add_resize(self, factor: float, source: int, resize_type: int = RESIZE_NEAREST) -> int:
        return self.add("resize", resize_type, round(factor, 6), source)

    def add_concat(self, *inputs: int) -> int:
        """Add a concatenation of channels; nested ones are flattened."""
        flat: list[int] = []
        for node_id in inputs:
            operation, *operands = self.nodes[node_id]
            flat.extend(operands if operation == "concat" else [node_id])
        if len(flat) > MAX_CONCAT_INPUTS:
            raise WeightsError(f"it concatenates {len(flat)} results")
        return self.add("concat", *flat)

    def add_weighted_sum(self, *terms: tuple[float, int]) -> int:
        """Add a sum of factors times nodes, in any order.

        A term that is a scaled node itself is merged.
        """
        merged: list[tuple[float, int]] = []
        for factor, node_id in terms:
            operation, *operands = self.nodes[node_id]
            if operation == "sum" and len(operands) == 1:
                factor, node_id = factor * operands[0][0], operands[0][1]
            merged.append((round(factor, 6), node_id))
        return self.add("sum", *sorted(merged))


@dataclass(frozen=True)
class ParsedModel:
    """The graph of a file (`output` is a node id), and its weights in file order."""

    graph: Graph
    output: int
    convs: list[tuple[Tensor, Tensor]]  # weight (out, in, 3, 3), bias (out,)
    slopes: list[Tensor]


def _parse_model(layers: list[Layer], weights: BinReader) -> ParsedModel:
    graph, output = Graph(), 0
    convs: list[tuple[Tensor, Tensor]] = []
    slopes: list[Tensor] = []
    blobs: dict[str, int] = {}
    for layer in layers:
        if absent := [name for name in layer.inputs if name not in blobs]:
            raise WeightsError(f"layer {layer.name} reads {absent[0]}, which no layer before it outputs")
        inputs = [blobs[name] for name in layer.inputs]
        if layer.kind == "Convolution" and inputs:
            output = _add_activation(graph, layer, graph.add_conv(len(convs), inputs[0]))
            convs.append(_read_conv(layer, weights))
        elif layer.kind == "PReLU" and inputs:
            output = graph.add("prelu", len(slopes), inputs[0])
            slopes.append(weights.read_raw(layer.get_int(0, 0)))
        else:
            output = _add_weightless_layer(graph, layer, inputs)
        blobs.update(dict.fromkeys(layer.outputs, output))
    if not graph.nodes:
        raise WeightsError("it has no layers")
    weights.expect_end()
    return ParsedModel(graph, output, convs, slopes)


def _read_conv(layer: Layer, weights: BinReader) -> tuple[Tensor, Tensor]:
    out_channels, size = layer.get_int(0, 0), layer.get_int(6, 0)
    kernel, stride, dilation, pad = (layer.get_int(key, default) for key, default in ((1, 0), (3, 1), (2, 1), (4, 0)))
    has_bias = layer.get_int(5, 0)
    supported = (kernel, stride, dilation, pad, has_bias) == (3, 1, 1, 1, 1)
    known_settings = layer.settings.keys() <= {0, 1, 2, 3, 4, 5, 6, 9, 10}
    if not supported or not known_settings or out_channels < 1 or size < 1 or size % (9 * out_channels):
        raise WeightsError(f"layer {layer.name} is not a plain 3x3 convolution")
    return weights.read_tagged(size).reshape(out_channels, -1, 3, 3), weights.read_raw(out_channels)


def _add_activation(graph: Graph, layer: Layer, node: int) -> int:
    """Add the activation that ncnn fuses into a convolution.

    0: none, 1: ReLU, 2: LeakyReLU with its slope.
    """
    kind = layer.get_int(9, 0)
    if kind == 0:
        return node
    if kind in (1, 2):
        return graph.add_leaky_relu((layer.get_floats(10) or [0.0])[0] if kind == 2 else 0.0, node)
    raise WeightsError(f"layer {layer.name} has an unknown activation ({kind})")


def _add_weightless_layer(graph: Graph, layer: Layer, inputs: list[int]) -> int:
    """Add a layer without weights; the comments name ncnn's settings."""
    match layer.kind, len(inputs):
        case "Input", 0:
            return graph.add("input")
        case "Split", 1:
            return inputs[0]
        case "ReLU", 1:  # 0: slope
            return graph.add_leaky_relu(layer.get_float(0, 0.0), inputs[0])
        case "Concat", count if count > 0 and layer.get_int(0, 0) == 0:  # 0: axis, 0 = channels
            return graph.add_concat(*inputs)
        case "PixelShuffle", 1 if layer.get_int(1, 0) == 0:  # 0: factor, 1: order of channels
            return graph.add("shuffle", layer.get_int(0, 1), inputs[0])
        case "Interp", 1 if layer.get_float(1, 1.0) == layer.get_float(2, 1.0):  # 0: type, 1 and 2: factors
            return graph.add_resize(layer.get_float(1, 1.0), inputs[0], layer.get_int(0, 0))
        case "Eltwise", count if count > 1 and layer.get_int(0, 0) == 1:  # 0: operation, 1 = sum; 1: factors
            factors = layer.get_floats(1) or [1.0] * count
            if len(factors) == count:
                return graph.add_weighted_sum(*zip(factors, inputs, strict=True))
        case "BinaryOp", 2 if layer.get_int(0, 0) == 0:  # 0: operation, 0 = +, 2 = *
            return graph.add_weighted_sum((1.0, inputs[0]), (1.0, inputs[1]))
        case "BinaryOp", 1 if layer.get_int(0, 0) == 2 and layer.get_int(1, 0) == 1:  # 1: with a scalar, 2: the scalar
            return graph.add_weighted_sum((layer.get_float(2, 0.0), inputs[0]))
        case _:
            pass
    raise WeightsError(f"layer {layer.name} ({layer.kind} with {len(inputs)} inputs) does not belong to these networks")


# ---- the two networks ----


def _to_state_dict(model: ParsedModel, file_name: str) -> dict[str, Tensor]:
    graph, output = model.graph, model.output
    operation, *operands = graph.nodes[output]
    if operation == "resize" and operands[1] < 1:
        log.warning("%s resizes its result by %g; the network is loaded without that last step", file_name, operands[1])
        output = operands[2]
    shuffles = [node[1] for node in graph.nodes if node[0] == "shuffle"]
    if shuffles:
        return _srvgg_state_dict(model, output, scale=shuffles[0])
    return _rrdb_state_dict(model, output)


def _rrdb_state_dict(model: ParsedModel, output: int) -> dict[str, Tensor]:
    graph, count = model.graph, len(model.convs)
    doublings = sum(node[0] == "resize" for node in graph.nodes)
    blocks = (count - 4 - doublings) // 15
    names = [row[0] for row in convolution_names(blocks, doublings)]
    if blocks < 1 or len(names) != count or model.slopes:
        raise WeightsError(f"{count} convolutions and {doublings} upsamplings do not make an RRDBNet")
    if _build_rrdb_graph(graph, blocks, doublings) != output:
        raise WeightsError(f"it has the layers of an RRDBNet of {blocks} blocks, but they are connected differently")
    state: dict[str, Tensor] = {}
    for name, (weight, bias) in zip(names, model.convs, strict=True):
        state[f"{name}.weight"], state[f"{name}.bias"] = weight, bias
    return state


def _build_rrdb_graph(graph: Graph, blocks: int, doublings: int) -> int:
    """Add the graph of an RRDBNet and return its output.

    Convolutions are numbered in the order in which they run.
    """
    index = itertools.count()
    first = x = graph.add_conv(next(index), graph.add("input"))
    for _ in range(blocks):
        block_input = x
        for _ in range(3):
            features = [x]
            for _ in range(4):
                conv = graph.add_conv(next(index), graph.add_concat(*features) if features[1:] else x)
                features.append(graph.add_leaky_relu(NEGATIVE_SLOPE, conv))
            residual = graph.add_conv(next(index), graph.add_concat(*features))
            x = graph.add_weighted_sum((RESIDUAL_SCALE, residual), (1.0, x))
        x = graph.add_weighted_sum((RESIDUAL_SCALE, x), (1.0, block_input))
    x = graph.add_weighted_sum((1.0, first), (1.0, graph.add_conv(next(index), x)))
    for _ in range(doublings):
        x = graph.add_leaky_relu(NEGATIVE_SLOPE, graph.add_conv(next(index), graph.add_resize(2.0, x)))
    x = graph.add_leaky_relu(NEGATIVE_SLOPE, graph.add_conv(next(index), x))
    return graph.add_conv(next(index), x)


def _srvgg_state_dict(model: ParsedModel, output: int, scale: int) -> dict[str, Tensor]:
    graph, convs = model.graph, model.convs
    leaky_slope = next((node[1] for node in graph.nodes if node[0] == "leaky"), None)
    x = source = graph.add("input")
    for index in range(len(convs)):
        x = graph.add_conv(index, x)
        if index < len(convs) - 1:
            x = graph.add("prelu", index, x) if leaky_slope is None else graph.add_leaky_relu(leaky_slope, x)
    upsampled = graph.add_resize(float(scale), source)
    if graph.add_weighted_sum((1.0, graph.add("shuffle", scale, x)), (1.0, upsampled)) != output:
        raise WeightsError(
            f"it has the layers of an SRVGGNetCompact of {len(convs)} convolutions, but connected differently"
        )
    slopes = model.slopes
    if leaky_slope is not None:
        slopes = [torch.full((len(bias),), float(leaky_slope)) for _, bias in convs[:-1]]
    state: dict[str, Tensor] = {}
    for index, (weight, bias) in enumerate(convs):
        state[f"body.{2 * index}.weight"], state[f"body.{2 * index}.bias"] = weight, bias
    for index, slope in enumerate(slopes):
        state[f"body.{2 * index + 1}.weight"] = slope
    return state
