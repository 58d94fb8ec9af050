"""ONNX graphs: torch's pictures at any size, integers where they are promised, and a clear word for other graphs."""

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


@pytest.mark.parametrize("made", NETWORKS, ids=lambda n: f"{type(n).__name__} {n.scale}x")
def test_gives_torchs_pictures_at_any_size(made, tmp_path):
    made.eval().requires_grad_(False)
    path = export_onnx(made, tmp_path / "graph.onnx")
    read = load_upscaler(path)
    assert (read.scale, read.halo, read.multiple) == (made.scale, made.halo, made.multiple)
    assert read.parameters_count == sum(parameter.numel() for parameter in made.parameters())
    for size in ((1, 3, 13, 22), (2, 3, 30, 9)):
        picture = torch.rand(size)
        assert (read(picture) - made(picture).clamp(0, 1)).abs().max() < 1e-5


@pytest.fixture
def integers(network_factory, small_images, tmp_path):
    """A network, its graph and that in integers."""
    made = network_factory(16)
    graph = export_onnx(made, tmp_path / "graph.onnx")
    return made, graph, quantize(graph, tmp_path / "graph_int8.onnx", small_images)


def test_all_but_the_first_and_the_last_convolution_are_integers(integers):
    made, _, path = integers
    graph = onnx.load(str(path)).graph
    weights = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    convs = [node for node in graph.node if node.op_type == "Conv"]
    makers = {output: node for node in graph.node for output in node.output}
    kinds = [node.input[1] in makers and makers[node.input[1]].op_type == "DequantizeLinear" for node in convs]
    assert kinds == [False, True, True, False]
    for conv, layer in zip(convs[1:-1], (made.body[2], made.body[4]), strict=True):
        stored, scales, _ = (weights[name] for name in makers[conv.input[1]].input)
        assert stored.dtype == np.int8
        assert scales.shape == (16,), "a scale for each channel"
        assert np.abs(stored).max() <= 64, "one bit is left free"
        back = stored.astype(np.float32) * scales[:, None, None, None]
        assert np.abs(back - layer.weight.numpy()).max() <= scales.max() / 2 + 1e-6


def test_the_engine_computes_in_integers(integers):
    """What was compiled says so, not what was asked for."""
    *_, path = integers
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


def test_integers_lose_little_and_run_elsewhere_too(integers, small_images):
    made, _, path = integers
    picture = small_images[0]
    truth, result = made(picture).clamp(0, 1), load_upscaler(path)(picture)
    assert 0 < (result - truth).abs().mean() < 0.01
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    theirs = torch.from_numpy(session.run(None, {"image": picture.numpy()})[0])
    assert (theirs - result).abs().mean() < 0.002


def test_quantising_says_nothing_on_the_root_logger(integers, small_images, tmp_path, caplog):
    quantize(integers[1], tmp_path / "again.onnx", small_images)
    assert not caplog.records


def test_a_graph_of_others_is_refused(integers, tmp_path):
    graph = onnx.load(str(integers[1]))
    del graph.metadata_props[:]
    onnx.save(graph, str(tmp_path / "other.onnx"))
    with pytest.raises(WeightsError, match=r"other\.onnx cannot be used: its metadata has no architecture, scale"):
        load_upscaler(tmp_path / "other.onnx")
    (tmp_path / "torn.onnx").write_bytes(integers[1].read_bytes()[:1000])
    with pytest.raises(WeightsError, match="broken ONNX file"):
        load_upscaler(tmp_path / "torn.onnx")


def test_a_graph_that_names_other_files_is_refused(integers, tmp_path):
    graph = onnx.load(str(integers[1]))
    onnx.save(graph, str(tmp_path / "out.onnx"), save_as_external_data=True, location="passwd", size_threshold=0)
    with pytest.raises(WeightsError, match="weights in other files"):
        load_upscaler(tmp_path / "out.onnx")


def test_without_its_packages_it_says_what_to_install(network_factory, integers, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(CompressionError, match=r"need onnx: pip install 'steadyscale\[compress\]'"):
        export_onnx(network_factory(8), tmp_path / "graph.onnx")
    with pytest.raises(WeightsError, match=r"pip install 'steadyscale\[compress\]'"):
        load_upscaler(integers[1])
