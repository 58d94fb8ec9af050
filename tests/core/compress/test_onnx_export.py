"""ONNX graphs: outputs of torch at any size, 8-bit convolutions, and errors for other graphs."""

import sys
from collections import Counter

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
import torch
from steadyscale.core.compress import CompressionError
from steadyscale.core.compress.onnx_export import export_onnx, quantize
from steadyscale.models import RRDBConfig, RRDBNet, SRVGGConfig, SRVGGNetCompact, WeightsError, load_upscaler
from steadyscale.models.arch.separable import to_separable

NETWORKS = [
    SRVGGNetCompact(SRVGGConfig(features=8, convs=2, scale=3)),
    to_separable(SRVGGNetCompact(SRVGGConfig(features=8, convs=2, scale=2))),
    RRDBNet(RRDBConfig(features=8, blocks=1, scale=4)),
    RRDBNet(RRDBConfig(features=8, blocks=1, scale=2, unshuffle=2)),
]


@pytest.mark.parametrize("network", NETWORKS, ids=lambda n: f"{type(n).__name__} {n.scale}x")
def test_the_graph_equals_torch_at_any_size(network, tmp_path):
    network.eval().requires_grad_(False)
    path = export_onnx(network, tmp_path / "graph.onnx")
    loaded = load_upscaler(path)
    assert (loaded.scale, loaded.halo, loaded.multiple) == (network.scale, network.halo, network.multiple)
    assert loaded.parameters_count == sum(parameter.numel() for parameter in network.parameters())
    for size in ((1, 3, 13, 22), (2, 3, 30, 9)):
        image = torch.rand(size)
        assert (loaded(image) - network(image).clamp(0, 1)).abs().max() < 1e-5


@pytest.fixture
def int8_graph(network_factory, small_images, tmp_path):
    """A network, its graph and the quantized graph."""
    network = network_factory(16)
    graph = export_onnx(network, tmp_path / "graph.onnx")
    return network, graph, quantize(graph, tmp_path / "graph_int8.onnx", small_images)


def test_all_but_the_first_and_the_last_convolution_are_quantized(int8_graph):
    network, _, path = int8_graph
    graph = onnx.load(str(path)).graph
    weights = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    convs = [node for node in graph.node if node.op_type == "Conv"]
    producers = {output: node for node in graph.node for output in node.output}
    is_quantized = [
        node.input[1] in producers and producers[node.input[1]].op_type == "DequantizeLinear" for node in convs
    ]
    assert is_quantized == [False, True, True, False]
    for conv, layer in zip(convs[1:-1], (network.body[2], network.body[4]), strict=True):
        stored, scales, _ = (weights[name] for name in producers[conv.input[1]].input)
        assert stored.dtype == np.int8
        assert scales.shape == (16,), "a scale for each channel"
        assert np.abs(stored).max() <= 64, "7 bits are used"
        restored = stored.astype(np.float32) * scales[:, None, None, None]
        assert np.abs(restored - layer.weight.numpy()).max() <= scales.max() / 2 + 1e-6


def test_openvino_computes_in_int8(int8_graph):
    """According to the compiled model."""
    *_, path = int8_graph
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(str(path)), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    compiled(np.zeros((1, 3, 32, 32), np.float32))
    kinds = Counter(
        node.get_rt_info()["runtimePrecision"].astype(str)
        for node in compiled.get_runtime_model().get_ordered_ops()
        if "Convolution" in node.get_rt_info()["layerType"].astype(str)
    )
    assert kinds["u8"] + kinds["i8"] == 2
    assert kinds["f32"] == 2


def test_the_quantized_graph_is_accurate_in_openvino_and_onnxruntime(int8_graph, small_images):
    network, _, path = int8_graph
    image = small_images[0]
    truth, result = network(image).clamp(0, 1), load_upscaler(path)(image)
    assert 0 < (result - truth).abs().mean() < 0.01
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    theirs = torch.from_numpy(session.run(None, {"image": image.numpy()})[0])
    assert (theirs - result).abs().mean() < 0.002


def test_quantization_does_not_log_on_the_root_logger(int8_graph, small_images, tmp_path, caplog):
    quantize(int8_graph[1], tmp_path / "again.onnx", small_images)
    assert not caplog.records


def test_graphs_of_other_programs_are_refused(int8_graph, tmp_path):
    graph = onnx.load(str(int8_graph[1]))
    del graph.metadata_props[:]
    onnx.save(graph, str(tmp_path / "other.onnx"))
    with pytest.raises(WeightsError, match=r"other\.onnx cannot be used: its metadata has no architecture, scale"):
        load_upscaler(tmp_path / "other.onnx")
    (tmp_path / "torn.onnx").write_bytes(int8_graph[1].read_bytes()[:1000])
    with pytest.raises(WeightsError, match="broken ONNX file"):
        load_upscaler(tmp_path / "torn.onnx")


def test_a_graph_that_names_other_files_is_refused(int8_graph, tmp_path):
    graph = onnx.load(str(int8_graph[1]))
    onnx.save(graph, str(tmp_path / "out.onnx"), save_as_external_data=True, location="passwd", size_threshold=0)
    with pytest.raises(WeightsError, match="weights in other files"):
        load_upscaler(tmp_path / "out.onnx")


def test_missing_packages_are_named(network_factory, int8_graph, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(CompressionError, match=r"need onnx: pip install 'steadyscale\[compress\]'"):
        export_onnx(network_factory(8), tmp_path / "graph.onnx")
    with pytest.raises(WeightsError, match=r"pip install 'steadyscale\[compress\]'"):
        load_upscaler(int8_graph[1])
