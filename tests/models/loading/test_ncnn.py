"""The ncnn reader: files written here from known networks, and official files against the ncnn runtime."""

import contextlib
import logging
import struct

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ncnn_writer import write_rrdb, write_srvgg
from steadyscale.models import RRDBConfig, RRDBNet, SRVGGConfig, SRVGGNetCompact, WeightsError, load_upscaler
from steadyscale.models.arch import rrdb
from steadyscale.models.loading.ncnn import read_ncnn
from steadyscale.models.loading.ncnn_format import parse_param


def rounded(net: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The network's state dict as in a half-precision .bin: only convolution weights are rounded."""
    return {key: value.half().float() if value.ndim == 4 else value for key, value in net.state_dict().items()}


def assert_state(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert list(found) == list(expected) or set(found) == set(expected)
    for key, value in expected.items():
        assert torch.equal(found[key].float(), value), key


@pytest.mark.parametrize("half", [True, False])
@pytest.mark.parametrize("scalar_mul", [True, False])
@pytest.mark.parametrize(("blocks", "scale"), [(1, 1), (2, 2), (1, 4), (1, 8)])
def test_reads_rrdb(tmp_path, half, scalar_mul, blocks, scale):
    torch.manual_seed(blocks)
    net = RRDBNet(RRDBConfig(features=5, blocks=blocks, growth=3, scale=scale))
    found = read_ncnn(write_rrdb(net, half, scalar_mul).save(tmp_path))
    assert_state(found, rounded(net) if half else dict(net.state_dict()))
    assert rrdb.build({key: value.float() for key, value in found.items()}).config == net.config


@pytest.mark.parametrize("half", [True, False])
def test_reads_srvgg(tmp_path, half):
    net = SRVGGNetCompact(SRVGGConfig(features=5, convs=2, scale=3))
    assert_state(read_ncnn(write_srvgg(net, half).save(tmp_path)), rounded(net) if half else dict(net.state_dict()))


def test_leaky_relu_becomes_prelu(tmp_path, sample_image):
    net = SRVGGNetCompact(SRVGGConfig(features=5, convs=2, scale=2))
    for layer in net.body[1::2]:
        torch.nn.init.constant_(layer.weight, 0.1)
    model = load_upscaler(write_srvgg(net, slope=0.1).save(tmp_path))
    assert torch.equal(model(sample_image), net(sample_image).detach().clamp(0, 1))


def test_param_and_bin_find_each_other(tmp_path, sample_image):
    net = SRVGGNetCompact(SRVGGConfig(features=4, convs=1, scale=2))
    param = write_srvgg(net).save(tmp_path)
    expected = net(sample_image).detach().clamp(0, 1)
    assert torch.equal(load_upscaler(param)(sample_image), expected)
    assert torch.equal(load_upscaler(param.with_suffix(".bin"))(sample_image), expected)


def replace(old, new):
    def damage(writer):
        assert any(old in line for line in writer.lines)
        writer.lines = [line.replace(old, new) for line in writer.lines]

    return damage


def truncate(writer):
    writer.data = writer.data[:-4]


def append_bytes(writer):
    writer.data += bytes(4)


def quantize(writer):
    writer.data = struct.pack("<I", 0x000D4B38) + writer.data[4:]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (truncate, "too short for the weights"),
        (append_bytes, "4 bytes longer than the weights"),
        (quantize, "quantised"),
        (replace("1=3 4=1", "1=3 4=1 3=2"), "not a plain 3x3 convolution"),
        (replace("1=3 4=1", "1=3 4=1 8=1"), "not a plain 3x3 convolution"),
        (replace("2.000000e-01", "1.000000e-01"), "connected differently"),
        (replace("0=1 1=2.0", "0=2 1=2.0"), "connected differently"),
        (replace("Eltwise", "Softmax"), "Softmax"),
        (replace("Interp", "Dropout"), "Dropout"),
        (replace("Input in 0 1 data", "Input in 0 1 other"), "reads data, which no layer before it outputs"),
        (lambda writer: writer.lines.append("Broken"), "line"),
        (lambda writer: writer.lines.append("ReLU r 1 1 b1 last 0=x"), "line"),
        (lambda writer: writer.lines.append("ReLU r 1 1 b1 last 0=0.2"), "connected differently"),
    ],
)
def test_other_graphs_are_rejected(tmp_path, damage, message):
    writer = write_rrdb(RRDBNet(RRDBConfig(features=4, blocks=1, growth=2, scale=2)))
    damage(writer)
    with pytest.raises(WeightsError, match=message) as caught:
        load_upscaler(writer.save(tmp_path))
    assert "net.param" in str(caught.value)
    assert "use its .pth" in str(caught.value)


def test_wrong_skip_connection_is_rejected(tmp_path):
    """Layers, order and sizes are those of RRDBNet; only one connection differs."""
    net = RRDBNet(RRDBConfig(features=4, blocks=2, growth=2, scale=2))
    with pytest.raises(WeightsError, match="connected differently"):
        read_ncnn(write_rrdb(net, skip_of_block="first").save(tmp_path))


def test_incomplete_param_and_missing_bin_are_rejected(tmp_path):
    param = write_srvgg(SRVGGNetCompact(SRVGGConfig(features=4, convs=1))).save(tmp_path)
    text = param.read_text()
    param.write_text("\n".join(text.splitlines()[:-2]))
    with pytest.raises(WeightsError, match="announces 9 layers and has 7"):
        read_ncnn(param)
    param.write_text(text)
    param.with_suffix(".bin").unlink()
    with pytest.raises(WeightsError, match=r"net\.bin is missing"):
        load_upscaler(param)


@pytest.mark.parametrize(
    "text", ["", "7767517", "7767517\nx y", "7767517\n99999999 1", "7767517\n1 1\nConcat c -1 1 a"]
)
def test_broken_first_lines(text):
    with pytest.raises(WeightsError):
        parse_param(text)


def test_stacks_of_stacks_do_not_grow_without_end(tmp_path):
    lines = ["Input in 0 1 b0"] + [f"Concat c{i} 2 1 b{i} b{i} b{i + 1}" for i in range(500)]
    (tmp_path / "net.param").write_text("\n".join(["7767517", f"{len(lines)} {len(lines)}", *lines]))
    (tmp_path / "net.bin").write_bytes(b"")
    with pytest.raises(WeightsError, match="it concatenates 128 results"):
        read_ncnn(tmp_path / "net.param")


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    at=st.integers(0, 3000),
    text=st.sampled_from(["", "0", "-", " ", "9", "1e999", "=", "nan", "x", "\n"]),
    net=st.booleans(),
)
def test_changed_character_raises_no_other_error(tmp_path, at, text, net):
    if net:
        writer = write_rrdb(RRDBNet(RRDBConfig(features=4, blocks=1, growth=2, scale=1)))
    else:
        writer = write_srvgg(SRVGGNetCompact(SRVGGConfig(features=4, convs=1, scale=2)))
    param = writer.save(tmp_path)
    content = param.read_text()
    at %= len(content)
    param.write_text(content[:at] + text + content[at + 1 :])
    with contextlib.suppress(WeightsError):
        load_upscaler(param)


def run_ncnn(param, sample_image) -> torch.Tensor:
    """The result of the ncnn runtime in float32: (1, 3, h, w) -> (1, 3, H, W)."""
    ncnn = pytest.importorskip("ncnn")
    net = ncnn.Net()
    net.opt.use_vulkan_compute = False
    net.opt.num_threads = 1
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    assert net.load_param(str(param)) == 0
    assert net.load_model(str(param.with_suffix(".bin"))) == 0
    extractor = net.create_extractor()
    extractor.input("data", ncnn.Mat(np.ascontiguousarray(sample_image[0].numpy())))
    code, result = extractor.extract("output")
    assert code == 0
    return torch.from_numpy(np.array(result))[None]


@pytest.mark.parametrize("stem", ["realesr-animevideov3-x4", "realesrgan-x4plus-anime", "realesrgan-x4plus"])
def test_official_networks_agree_with_ncnn(official_ncnn, sample_image, stem):
    param = official_ncnn(stem)
    result = load_upscaler(param)(sample_image)
    expected = run_ncnn(param, sample_image).clamp(0, 1)
    assert result.shape == expected.shape == (1, 3, 96, 80)
    assert expected.std() > 0.05
    assert (result - expected).abs().max() < 1e-4


def test_x2_is_loaded_as_the_4x_network_with_a_warning(official_ncnn, sample_image, caplog):
    with caplog.at_level(logging.WARNING):
        model = load_upscaler(official_ncnn("realesr-animevideov3-x2"))
    assert model.scale == 4
    assert "resizes its result by 0.5" in caplog.text
    assert torch.equal(model(sample_image), load_upscaler(official_ncnn("realesr-animevideov3-x4"))(sample_image))


def test_graph_without_layers_is_rejected(tmp_path):
    (tmp_path / "net.param").write_text("7767517\n0 0\n")
    (tmp_path / "net.bin").touch()
    with pytest.raises(WeightsError, match="has no layers"):
        load_upscaler(tmp_path / "net.param")
