"""Read ncnn's .param and .bin as a state dict of RRDBNet or SRVGGNetCompact.

The graph is not trusted to be what its layers suggest: it is compared, node by node, with the graph of the network that
has as many layers.
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

MAX_PARAM_BYTES = 16 * 2**20  # bytes


def read_ncnn(param_path: Path) -> dict[str, Tensor]:
    """The weights of `param` and of the .bin beside it, with the keys of `RRDBNet` or `SRVGGNetCompact`.

    Convolution weights keep the float16 that the file may store; biases and slopes are float32. A fixed LeakyReLU
    becomes the PReLU of the same slope. realesr-animevideov3 for x2 and x3 is its 4x network and a resize behind it:
    what is returned is the 4x network, and the log says so. Raises WeightsError for any other graph.
    """
    binary = param_path.with_suffix(".bin")
    if not binary.is_file():
        raise WeightsError(
            f"{param_path} needs its weights beside it, but {binary.name} is missing; put both into one folder"
        )
    if param_path.stat().st_size > MAX_PARAM_BYTES:
        raise WeightsError(f"{param_path} has {param_path.stat().st_size} bytes, more than any graph needs; refused")
    try:
        layers = parse_param(param_path.read_text(encoding="utf-8", errors="replace"))
        weights = BinReader(bytearray(binary.read_bytes()))
        return _to_state_dict(_parse_model(layers, weights), param_path.name)
    except WeightsError as error:
        raise WeightsError(
            f"{param_path} is no ncnn RRDBNet or SRVGGNetCompact: {error}; use its .pth or .safetensors file"
        ) from error


# ---- graphs ----

Node: TypeAlias = tuple[Any, ...]  # an operation, its settings, and the numbers of the nodes it reads
MAX_CONCAT_INPUTS = 64  # a dense block stacks five; stacks of stacks in a made-up file would grow without end
RESIZE_NEAREST = 1  # ncnn's number for resizing by repetition


class Graph:
    """Operations without names: what is computed in the same way from the same things has the same number."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self._node_ids: dict[Node, int] = {}

    def add(self, *node: Any) -> int:
        if node not in self._node_ids:
            self._node_ids[node] = len(self.nodes)
            self.nodes.append(node)
        return self._node_ids[node]

    def add_conv(self, index: int, source: int) -> int:
        """The index-th convolution of the file."""
        return self.add("conv", index, source)

    def add_leaky_relu(self, slope: float, source: int) -> int:
        return self.add("leaky", round(slope, 6), source)

    def add_resize(self, factor: float, source: int, resize_type: int = RESIZE_NEAREST) -> int:
        return self.add("resize", resize_type, round(factor, 6), source)

    def add_concat(self, *inputs: int) -> int:
        """Channels behind one another; a stack in a stack is one stack."""
        flat: list[int] = []
        for part in inputs:
            operation, *inner = self.nodes[part]
            flat.extend(inner if operation == "stack" else [part])
        if len(flat) > MAX_CONCAT_INPUTS:
            raise WeightsError(f"it stacks {len(flat)} results")
        return self.add("stack", *flat)

    def add_weighted_sum(self, *terms: tuple[float, int]) -> int:
        """Factors times nodes, in any order; a factor may also have been applied before."""
        folded = []
        for factor, of in terms:
            operation, *inner = self.nodes[of]
            if operation == "sum" and len(inner) == 1:
                factor, of = factor * inner[0][0], inner[0][1]
            folded.append((round(factor, 6), of))
        return self.add("sum", *sorted(folded))


@dataclass(frozen=True)
class ParsedModel:
    """What a file computes (`result` is a node of `graph`), and the weights in the order in which it has them."""

    graph: Graph
    output: int
    convs: list[tuple[Tensor, Tensor]]  # weight (out, in, 3, 3), bias (out,)
    slopes: list[Tensor]


def _parse_model(layers: list[Layer], weights: BinReader) -> ParsedModel:
    graph, result = Graph(), 0
    convs: list[tuple[Tensor, Tensor]] = []
    slopes: list[Tensor] = []
    blobs: dict[str, int] = {}
    for layer in layers:
        if absent := [name for name in layer.inputs if name not in blobs]:
            raise WeightsError(f"layer {layer.name} reads {absent[0]}, which no layer before it makes")
        inputs = [blobs[name] for name in layer.inputs]
        if layer.kind == "Convolution" and inputs:
            result = _add_activation(graph, layer, graph.add_conv(len(convs), inputs[0]))
            convs.append(_read_conv(layer, weights))
        elif layer.kind == "PReLU" and inputs:
            result = graph.add("prelu", len(slopes), inputs[0])
            slopes.append(weights.read_raw(layer.get_int(0, 0)))
        else:
            result = _add_weightless_layer(graph, layer, inputs)
        blobs.update(dict.fromkeys(layer.outputs, result))
    if not graph.nodes:
        raise WeightsError("it has no layers")
    weights.expect_end()
    return ParsedModel(graph, result, convs, slopes)


def _read_conv(layer: Layer, weights: BinReader) -> tuple[Tensor, Tensor]:
    out, size = layer.get_int(0, 0), layer.get_int(6, 0)
    kernel, stride, dilation, pad = (layer.get_int(key, default) for key, default in ((1, 0), (3, 1), (2, 1), (4, 0)))
    plain = (kernel, stride, dilation, pad, layer.get_int(5, 0)) == (3, 1, 1, 1, 1)
    if (
        not plain
        or not layer.settings.keys() <= {0, 1, 2, 3, 4, 5, 6, 9, 10}
        or out < 1
        or size < 1
        or size % (9 * out)
    ):
        raise WeightsError(f"layer {layer.name} is not a plain 3x3 convolution")
    return weights.read_tagged(size).reshape(out, -1, 3, 3), weights.read_raw(out)


def _add_activation(graph: Graph, layer: Layer, node: int) -> int:
    """The activation that ncnn folds into a convolution: 0 none, 1 ReLU, 2 LeakyReLU with its slope."""
    kind = layer.get_int(9, 0)
    if kind == 0:
        return node
    if kind in (1, 2):
        return graph.add_leaky_relu((layer.get_floats(10) or [0.0])[0] if kind == 2 else 0.0, node)
    raise WeightsError(f"layer {layer.name} has an unknown activation ({kind})")


def _add_weightless_layer(graph: Graph, layer: Layer, inputs: list[int]) -> int:
    """A layer without weights; the comments name ncnn's settings."""
    match layer.kind, len(inputs):
        case "Input", 0:
            return graph.add("input")
        case "Split", 1:
            return inputs[0]
        case "ReLU", 1:  # 0: slope
            return graph.add_leaky_relu(layer.get_float(0, 0.0), inputs[0])
        case "Concat", count if count > 0 and layer.get_int(0, 0) == 0:  # 0: axis, where 0 is the channels
            return graph.add_concat(*inputs)
        case "PixelShuffle", 1 if layer.get_int(1, 0) == 0:  # 0: factor, 1: order of channels
            return graph.add("shuffle", layer.get_int(0, 1), inputs[0])
        case "Interp", 1 if layer.get_float(1, 1.0) == layer.get_float(2, 1.0):  # 0: kind, 1 and 2: factors
            return graph.add_resize(layer.get_float(1, 1.0), inputs[0], layer.get_int(0, 0))
        case "Eltwise", count if count > 1 and layer.get_int(0, 0) == 1:  # 0: operation, where 1 is the sum; 1: factors
            factors = layer.get_floats(1) or [1.0] * count
            if len(factors) == count:
                return graph.add_weighted_sum(*zip(factors, inputs, strict=True))
        case "BinaryOp", 2 if layer.get_int(0, 0) == 0:  # 0: operation, where 0 is + and 2 is x
            return graph.add_weighted_sum((1.0, inputs[0]), (1.0, inputs[1]))
        case "BinaryOp", 1 if layer.get_int(0, 0) == 2 and layer.get_int(1, 0) == 1:  # 1: with a number, 2: the number
            return graph.add_weighted_sum((layer.get_float(2, 0.0), inputs[0]))
    raise WeightsError(f"layer {layer.name} ({layer.kind} of {len(inputs)}) is no part of these networks")


# ---- the two networks ----


def _to_state_dict(model: ParsedModel, file_name: str) -> dict[str, Tensor]:
    graph, result = model.graph, model.output
    operation, *inner = graph.nodes[result]
    if operation == "resize" and inner[1] < 1:
        log.warning("%s shrinks its result to %g; loaded is the network without that last step", file_name, inner[1])
        result = inner[2]
    shuffles = [node[1] for node in graph.nodes if node[0] == "shuffle"]
    if shuffles:
        return _srvgg_state_dict(model, result, scale=shuffles[0])
    return _rrdb_state_dict(model, result)


def _rrdb_state_dict(model: ParsedModel, output: int) -> dict[str, Tensor]:
    graph, count = model.graph, len(model.convs)
    doublings = sum(node[0] == "resize" for node in graph.nodes)
    blocks = (count - 4 - doublings) // 15
    names = [row[0] for row in convolution_names(blocks, doublings)]
    if blocks < 1 or len(names) != count or model.slopes:
        raise WeightsError(f"{count} convolutions and {doublings} doublings make no RRDBNet")
    if _build_rrdb_graph(graph, blocks, doublings) != output:
        raise WeightsError(f"it has the layers of an RRDBNet of {blocks} blocks, but they are connected differently")
    state = {}
    for name, (weight, bias) in zip(names, model.convs, strict=True):
        state[f"{name}.weight"], state[f"{name}.bias"] = weight, bias
    return state


def _build_rrdb_graph(graph: Graph, blocks: int, doublings: int) -> int:
    """The node that `RRDBNet` computes, with convolutions numbered in the order in which they run."""
    index = itertools.count()
    first = x = graph.add_conv(next(index), graph.add("input"))
    for _ in range(blocks):
        block_input = x
        for _ in range(3):
            seen = [x]
            for _ in range(4):
                seen.append(
                    graph.add_leaky_relu(
                        NEGATIVE_SLOPE, graph.add_conv(next(index), graph.add_concat(*seen) if seen[1:] else x)
                    )
                )
            x = graph.add_weighted_sum((RESIDUAL_SCALE, graph.add_conv(next(index), graph.add_concat(*seen))), (1.0, x))
        x = graph.add_weighted_sum((RESIDUAL_SCALE, x), (1.0, block_input))
    x = graph.add_weighted_sum((1.0, first), (1.0, graph.add_conv(next(index), x)))
    for _ in range(doublings):
        x = graph.add_leaky_relu(NEGATIVE_SLOPE, graph.add_conv(next(index), graph.add_resize(2.0, x)))
    x = graph.add_leaky_relu(NEGATIVE_SLOPE, graph.add_conv(next(index), x))
    return graph.add_conv(next(index), x)


def _srvgg_state_dict(model: ParsedModel, output: int, scale: int) -> dict[str, Tensor]:
    graph, convs = model.graph, model.convs
    fixed = next((node[1] for node in graph.nodes if node[0] == "leaky"), None)
    x = source = graph.add("input")
    for index in range(len(convs)):
        x = graph.add_conv(index, x)
        if index < len(convs) - 1:
            x = graph.add("prelu", index, x) if fixed is None else graph.add_leaky_relu(fixed, x)
    if (
        graph.add_weighted_sum((1.0, graph.add("shuffle", scale, x)), (1.0, graph.add_resize(float(scale), source)))
        != output
    ):
        raise WeightsError(
            f"it has the layers of an SRVGGNetCompact of {len(convs)} convolutions, but connected differently"
        )
    slopes = model.slopes if fixed is None else [torch.full((len(bias),), float(fixed)) for _, bias in convs[:-1]]
    state = {}
    for index, (weight, bias) in enumerate(convs):
        state[f"body.{2 * index}.weight"], state[f"body.{2 * index}.bias"] = weight, bias
    for index, slope in enumerate(slopes):
        state[f"body.{2 * index + 1}.weight"] = slope
    return state
