"""load_upscaler: every format and wrapper gives the same network; other files raise clear errors."""

import datetime
import pathlib
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save, save_file
from steadyscale.models import RRDBConfig, RRDBNet, SRVGGConfig, SRVGGNetCompact, WeightsError, load_upscaler


@pytest.fixture
def network():
    torch.manual_seed(3)
    return RRDBNet(RRDBConfig(features=6, blocks=2, growth=3, scale=2)).eval().requires_grad_(False)


def assert_equal_network(path, network, sample_image, tolerance=0.0):
    model = load_upscaler(path)
    assert (model.scale, model.architecture, model.name) == (2, "RRDBNet", path.stem)
    expected = network(sample_image).clamp(0, 1)
    assert expected.std() > 0.001
    assert (model(sample_image) - expected).abs().max() <= tolerance
    assert model.dtype is torch.float32


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"params": state},
        lambda state: {"params_ema": state, "params": {key: 0 * value for key, value in state.items()}},
        lambda state: {"state_dict": {f"module.{key}": value for key, value in state.items()}, "epoch": 3},
        lambda state: {"model": {"params": state}},
        lambda state: {f"module.{key}": value for key, value in state.items()},
        lambda state: {f"params_ema.{key}": value for key, value in state.items()},
        lambda state: {
            "meta": {"time": datetime.datetime.now(), "psnr": np.float64(31.5), "epoch": np.int64(3)},
            "state_dict": {
                **{f"generator.{key}": 0 * value for key, value in state.items()},
                **{f"generator_ema.module.{key}": value for key, value in state.items()},
                "discriminator.conv0.weight": torch.ones(4, 3, 3, 3),
                "step_counter": torch.zeros(1),
            },
        },
        lambda state: {"params": state, "scores": np.arange(4.0), "path": pathlib.PurePosixPath("a/b")},
    ],
    ids=["plain", "params", "ema first", "module in state_dict", "nested", "module", "flat ema", "mmagic", "arrays"],
)
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_pth_wrappers(tmp_path, network, sample_image, wrap, zipped):
    path = tmp_path / "net.pth"
    torch.save(wrap(network.state_dict()), path, _use_new_zipfile_serialization=zipped)
    assert_equal_network(path, network, sample_image)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".bin"])
def test_safetensors_are_detected_by_content(tmp_path, network, sample_image, suffix):
    path = tmp_path / f"net{suffix}"
    save_file(network.state_dict(), path)
    assert_equal_network(path, network, sample_image)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_other_dtypes_are_loaded_as_float32(tmp_path, network, sample_image, dtype, suffix):
    state = {key: value.to(dtype) for key, value in network.state_dict().items()}
    path = tmp_path / f"net{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    network.load_state_dict(state)  # rounds the weights as the file does
    assert_equal_network(path, network, sample_image)


def test_file_may_change_after_loading(tmp_path, network, sample_image):
    path = tmp_path / "net.pth"
    torch.save(network.state_dict(), path)
    model = load_upscaler(path)
    path.write_bytes(bytes(path.stat().st_size))
    assert torch.equal(model(sample_image), network(sample_image).clamp(0, 1))


@pytest.mark.parametrize("length", [128 + 256 * k for k in range(2, 6)])
def test_safetensors_header_that_looks_like_a_pickle(tmp_path, length):
    """The lowest byte of the header length is 128, like the first byte of a pickle."""
    state = SRVGGNetCompact(SRVGGConfig(features=4, convs=0)).state_dict()
    padded = next(
        data for n in range(1500) if int.from_bytes((data := save(state, {"note": "x" * n}))[:8], "little") == length
    )
    (tmp_path / "net.safetensors").write_bytes(padded)
    assert load_upscaler(tmp_path / "net.safetensors").scale == 4


def test_srvgg_is_detected(tmp_path, sample_image):
    network = SRVGGNetCompact(SRVGGConfig(features=4, convs=2, scale=3))
    save_file(network.state_dict(), tmp_path / "compact.safetensors")
    model = load_upscaler(str(tmp_path / "compact.safetensors"))
    assert (model.scale, model.halo, model.architecture) == (3, 4, "SRVGGNetCompact")
    assert torch.equal(model(sample_image), network(sample_image).detach().clamp(0, 1))


def state_with(**changes):
    return {**RRDBNet(RRDBConfig(features=4, blocks=1, growth=2)).state_dict(), **changes}


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"lora_unet_down.lora_up.weight": torch.ones(2, 2)}, "looks like a LoRA"),
        ({"unet.attn.lora_A.weight": torch.ones(2, 2)}, "looks like a LoRA"),
        ({"model.diffusion_model.input_blocks.0.0.weight": torch.ones(2, 2)}, "looks like a diffusion checkpoint"),
        ({"encoder.down_blocks.0.weight": torch.ones(2)}, "looks like a VAE"),
        ({"a": torch.ones(2), "b": torch.ones(2)}, "no known network.*first keys are a, b"),
        (state_with(conv_hr_extra=torch.ones(1)), "conv_hr_extra is not part of it"),
        (state_with(**{"conv_hr.bias": torch.tensor([1, float("nan"), 1, 1])}), "conv_hr.bias contains inf or NaN"),
        (state_with(**{"conv_hr.bias": torch.tensor([1, 2, 3, 4])}), "conv_hr.bias holds torch.int64"),
        (
            SRVGGNetCompact(SRVGGConfig(3, 3, 4, 1, 4)).state_dict() | {"body.0.weight": torch.ones(4, 0, 3, 3)},
            r"body.0.weight is empty \(\(4, 0, 3, 3\)\)",
        ),
        (
            SRVGGNetCompact(SRVGGConfig(3, 3, 4, 1, 4)).state_dict() | {"body.1.weight": torch.ones(9)},
            "body.1.weight is",
        ),
        (
            SRVGGNetCompact(SRVGGConfig(3, 3, 4, 1, 4)).state_dict() | {"epoch": torch.ones(1)},
            "spandrel cannot build it",
        ),
    ],
)
def test_unsuitable_weights_raise_a_one_line_error(tmp_path, state, message):
    path = tmp_path / "thing.safetensors"
    save_file(state, path)
    with pytest.raises(WeightsError, match=message) as caught:
        load_upscaler(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_folder_and_missing_file_are_rejected(tmp_path):
    for path in (tmp_path, tmp_path / "absent.pth"):
        with pytest.raises(WeightsError, match="does not exist or is not a file"):
            load_upscaler(path)


def test_claimed_sizes_are_not_allocated(tmp_path):
    """features**2 * 9 floats would be 40 GB; the network is on the meta device until the tensors fit."""
    path = tmp_path / "wide.safetensors"
    save_file(state_with(**{"conv_first.weight": torch.zeros(33_000, 3, 3, 3, dtype=torch.float16)}), path)
    with pytest.raises(WeightsError, match="nearly RRDBNet"):
        load_upscaler(path)


def test_other_models_are_refused_without_importing_spandrel(tmp_path, monkeypatch):
    files = {
        "lora": {"a.lora_up.weight": torch.ones(4, 4)},
        "vae": {"encoder.down.0.weight": torch.ones(4, 4, 3, 3)},
        "text": {"layers.0.mlp.weight": torch.ones(4, 4)},
    }
    for name, state in files.items():
        save_file(state, tmp_path / f"{name}.safetensors")
    imported = []

    class Recorder:
        @staticmethod
        def find_spec(name, path=None, target=None):
            imported.append(name)

    monkeypatch.delitem(sys.modules, "spandrel", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Recorder, *sys.meta_path])
    for name in files:
        with pytest.raises(WeightsError, match=r"cannot be used"):
            load_upscaler(tmp_path / f"{name}.safetensors")
    assert "spandrel" not in imported


@pytest.mark.parametrize(("inputs", "outputs"), [(1, 3), (3, 1)])
def test_networks_that_change_the_number_of_channels_are_refused(tmp_path, inputs, outputs):
    state = RRDBNet(RRDBConfig(inputs, outputs, features=6, blocks=1, growth=3, scale=2)).state_dict()
    save_file(state, tmp_path / "net.safetensors")
    with pytest.raises(WeightsError, match=f"turns {inputs} channels into {outputs}; an upscaler keeps"):
        load_upscaler(tmp_path / "net.safetensors")
