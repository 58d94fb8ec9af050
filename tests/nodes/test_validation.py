"""What nodes refuse before a graph runs, and when they run again: names, folders, files."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import torch
from steadyscale.core.clip import ClipError
from steadyscale.models.zoo.bundled import BUNDLED_MODELS

BAD_NAMES = [
    "",
    "   ",
    "a//b",
    "/absolute",
    "../up",
    "mine/../up",
    ".hidden",
    "mine/.hidden",
    "a\0b",
    "a:b",
    'a"b',
    "a\nb",
]


@pytest.fixture
def host(fake_host, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """The fake host with folders for input, output and models, as ComfyUI resolves names in them."""
    folders = {name: tmp_path / name for name in ("input", "output", "models", "elsewhere")}
    for folder in folders.values():
        folder.mkdir()

    def annotated(name: str):
        for kind in ("input", "output"):
            if name.endswith(f"[{kind}]"):
                return name[: -len(kind) - 2], str(folders[kind])
        return (name[:-6], str(folders["elsewhere"])) if name.endswith("[temp]") else (name, None)

    paths = sys.modules["folder_paths"]
    files = {
        "get_folder_paths": lambda _: [str(folders["models"])],
        "get_filename_list": lambda _: sorted(file.name for file in folders["models"].glob("*.safetensors")),
        "get_full_path": lambda _, name: (
            str(folders["models"] / name) if (folders["models"] / name).is_file() else None
        ),
        "annotated_filepath": annotated,
    }
    for name, function in files.items():
        monkeypatch.setattr(paths, name, function, raising=False)
    fake_host.folders = folders
    return fake_host


@pytest.mark.parametrize("name", ["my_model", "mine/my_model", " my_model ", "my_model.safetensors", "größe", "a b"])
def test_model_names_that_are_valid(host, name):
    assert host.import_("save_model").SaveESRGANModel.validate_inputs(name) is True
    assert host.import_("train").TrainESRGAN.validate_inputs(name) is True
    assert host.import_("compress_model").CompressModel.validate_inputs(name) is True


@pytest.mark.parametrize("name", BAD_NAMES)
def test_model_names_that_are_refused_with_the_name(host, name):
    for module, node in (
        ("save_model", "SaveESRGANModel"),
        ("train", "TrainESRGAN"),
        ("compress_model", "CompressModel"),
    ):
        answer = getattr(host.import_(module), node).validate_inputs(name)
        assert isinstance(answer, str), node
        assert answer.startswith(f"{name!r} is not a valid model name: ")


def test_a_parsed_name_has_no_suffix_and_forward_slashes(host):
    parse = host.import_("_comfy.paths").parse_model_name
    assert parse(" mine\\my_model.safetensors ") == "mine/my_model"


@pytest.mark.parametrize("folder", ["", "  ", "pictures", " pictures ", "pictures/inner"])
def test_training_folders_that_are_valid(host, folder):
    (host.folders["input"] / "pictures" / "inner").mkdir(parents=True)
    assert host.import_("train").TrainESRGAN.validate_inputs("net", folder) is True


@pytest.mark.parametrize("folder", ["missing", "..", "../output", "file.png", "a\0b", "link"])
def test_training_folders_that_are_refused(host, folder):
    (host.folders["input"] / "file.png").write_bytes(b"")
    (host.folders["input"] / "link").symlink_to(host.folders["output"])
    answer = host.import_("train").TrainESRGAN.validate_inputs("net", folder)
    assert answer == (f"{folder!r} is not a folder inside ComfyUI's input folder; put your images into one there")


def test_an_absolute_training_folder_is_refused_outside_the_input_folder(host):
    node = host.import_("compress_model").CompressModel
    assert isinstance(node.validate_inputs("net", str(host.folders["output"])), str)


def test_training_needs_frames_or_a_folder(host):
    with pytest.raises(ClipError, match="there is nothing to train on"):
        host.import_("_training_data").prepare_training_sources(None, " ")


def test_training_runs_again_when_a_file_of_its_folder_changes(host):
    fingerprint = host.import_("train").TrainESRGAN.fingerprint_inputs
    folder = host.folders["input"] / "pictures" / "inner"
    folder.mkdir(parents=True)
    (folder / "a.png").write_bytes(b"one")
    os.utime(folder / "a.png", (1, 1))
    first = fingerprint(folder="pictures", name="net", steps=3)
    assert first == [(str(folder / "a.png"), 3, 1.0)]
    assert fingerprint(folder="pictures", name="other", steps=4) == first, "the host compares other inputs"
    os.utime(folder / "a.png", (2, 2))
    assert fingerprint(folder="pictures") != first, "another date"
    (folder / "a.png").write_bytes(b"longer")
    os.utime(folder / "a.png", (1, 1))
    assert fingerprint(folder="pictures") != first, "another size"
    assert fingerprint() == fingerprint(folder="") == []


def test_models_of_the_folder_and_bundled_ones_can_be_loaded_and_no_others(host):
    node = host.import_("load_model").LoadESRGANModel
    for name in ("net.safetensors", "graph.onnx"):
        (host.folders["models"] / name).write_bytes(b"weights")
        assert node.validate_inputs(name) is True
    assert node.validate_inputs(BUNDLED_MODELS[0].name) is True
    for name in ("../net.safetensors", "missing.safetensors", ""):
        assert node.validate_inputs(name) == (
            f"{name!r} is not in ComfyUI's models/upscale_models: put the file there and refresh, or choose another"
        )


def test_a_model_is_loaded_again_when_its_file_changes(host):
    node = host.import_("load_model").LoadESRGANModel
    file = host.folders["models"] / "net.safetensors"
    file.write_bytes(b"weights")
    os.utime(file, (1, 1))
    assert node.fingerprint_inputs("net.safetensors") == (str(file), 1.0, 7)
    os.utime(file, (2, 2))
    assert node.fingerprint_inputs("net.safetensors") == (str(file), 2.0, 7)
    file.unlink()
    assert node.fingerprint_inputs("net.safetensors") == ("net.safetensors", 0.0, 0)
    with pytest.raises(ClipError, match=r"'net\.safetensors' was deleted from models/upscale_models"):
        node.execute("net.safetensors")
    assert node.fingerprint_inputs(BUNDLED_MODELS[0].name)[0] == str(BUNDLED_MODELS[0].path)


def test_smoothers_of_their_folder_can_be_used_and_no_others(host, monkeypatch):
    module = host.import_("smooth_trajectory")
    node, used = module.SmoothTrajectory, []
    monkeypatch.setattr(module, "correct_and_plot", lambda _, settings: used.append(settings) or (None, None, ""))
    file = host.folders["models"] / "mine.safetensors"
    file.write_bytes(b"weights")
    os.utime(file, (1, 1))
    for name in ("bundled", "mine.safetensors"):
        assert node.validate_inputs(name) is True
        node.execute(None, "learned", 2.0, 1.2, -1, smoother=name)
    node.execute(None, "kalman", 2.0, 1.2, -1)
    assert [s.smoother for s in used] == [None, str(file), None]
    with pytest.raises(ClipError, match=r"smoother is .*mine\.safetensors, and smoothing is kalman"):
        node.execute(None, "kalman", 2.0, 1.2, -1, smoother="mine.safetensors")
    assert node.validate_inputs() is True
    assert node.fingerprint_inputs("mine.safetensors", flow=None) == (str(file), 1.0, 7)
    assert node.fingerprint_inputs() == ("bundled", 0.0, 0)
    for name in ("../mine.safetensors", "missing.safetensors", ""):
        assert node.validate_inputs(name) == (
            f"{name!r} is not in ComfyUI's models/path_smoothers: put the file there and refresh, or choose another"
        )
    file.unlink()
    with pytest.raises(ClipError, match=r"'mine\.safetensors' was deleted from models/path_smoothers"):
        node.execute(None, "learned", 2.0, 1.2, -1, smoother="mine.safetensors")


def test_trajectories_of_the_input_and_output_folders_can_be_loaded_and_no_others(host):
    node = host.import_("trajectory_file").LoadTrajectory
    valid = {"path.json": "input", "trajectories/path.json [output]": "output"}
    for name, folder in valid.items():
        file = host.folders[folder] / name.removesuffix(" [output]")
        file.parent.mkdir(exist_ok=True)
        file.write_text("{}")
        os.utime(file, (1, 1))
        assert node.validate_inputs(name) is True
        assert node.fingerprint_inputs(name) == (str(file), 1.0, 2)
        os.utime(file, (2, 2))
        assert node.fingerprint_inputs(name)[1] == 2.0
    (host.folders["elsewhere"] / "path.json").write_text("{}")
    (host.folders["input"] / "path.txt").write_text("{}")
    (host.folders["input"] / "folder.json").mkdir()
    (host.folders["input"] / "link.json").symlink_to(host.folders["elsewhere"] / "path.json")
    wrong = ["../elsewhere/path.json", "path.json [temp]", "path.txt", "missing.json", "link.json", "a\0.json"]
    for name in [*wrong, "folder.json", str(host.folders["elsewhere"] / "path.json")]:
        answer = node.validate_inputs(name)
        assert isinstance(answer, str), name
        assert answer.startswith(f"{name!r} is not a trajectory in ComfyUI's input or output folder")
        assert node.fingerprint_inputs(name) == (name, 0.0, 0)
    with pytest.raises(ClipError, match="is not in ComfyUI's input or output folder"):
        node.execute("../elsewhere/path.json")


def test_a_network_without_weights_is_neither_saved_nor_compressed(host):
    from steadyscale.models.loading.onnx_model import OnnxNetwork

    class Graph(OnnxNetwork):
        def __init__(self) -> None:
            torch.nn.Module.__init__(self)

    graph = type("Model", (), {"model": Graph(), "scale": 2})()
    plain = type("Model", (), {"scale": 2})()
    save, compress = host.import_("save_model").SaveESRGANModel, host.import_("compress_model").CompressModel
    for model, message in ((graph, "an ONNX graph is a file already"), (plain, "weights cannot be reached")):
        with pytest.raises(ClipError, match=message):
            save.execute(model, "net", "output")
        with pytest.raises(ClipError, match="weights cannot be reached"):
            compress.execute(model, "net", 0.5, 0.3, 1, 0)
    assert [*host.folders["output"].iterdir()] == [*host.folders["models"].iterdir()] == []


def test_a_saved_file_that_gives_another_result_is_deleted(host, monkeypatch):
    from steadyscale.models import SRVGGConfig, SRVGGNetCompact

    module = host.import_("save_model")
    network = SRVGGNetCompact(SRVGGConfig(features=4, convs=1, scale=2)).eval()
    model = type("Model", (), {"model": network, "scale": 2})()
    monkeypatch.setattr(module, "load_upscaler", lambda _: lambda x: x)
    other = torch.zeros(1, 3, 48, 48)
    monkeypatch.setattr(module, "upscale", lambda frames, net: iter([other + (0 if net is model else 0.03)]))
    with pytest.raises(ClipError, match="gives another result than the model"):
        module.SaveESRGANModel.execute(model, "net", "output")
    assert [*host.folders["output"].iterdir()] == []
    monkeypatch.setattr(module, "upscale", lambda frames, net: iter([other + (0 if net is model else 0.01)]))
    assert module.SaveESRGANModel.execute(model, "net", "output").result == ("net.safetensors",)


def test_a_model_file_is_never_replaced(host):
    copy = host.import_("_comfy.paths").copy_model_file
    root, source = host.folders["models"], host.folders["output"] / "new.safetensors"
    source.write_bytes(b"one")
    assert copy(source, root, "mine/net") == root / "mine" / "net.safetensors"
    assert copy(source, root, "mine/net") == root / "mine" / "net.safetensors", "equal files are one"
    source.write_bytes(b"two")
    assert copy(source, root, "mine/net") == root / "mine" / "net_2.safetensors"
    assert (root / "mine" / "net.safetensors").read_bytes() == b"one"
    with pytest.raises(ClipError, match="is outside"):
        copy(source, root, "../net")
    (root / "outside").symlink_to(host.folders["elsewhere"])
    with pytest.raises(ClipError, match="is outside"):
        copy(source, root, "outside/net")
    assert [*host.folders["elsewhere"].iterdir()] == []


def test_a_pad_that_leaves_nothing_of_the_frames_is_refused(host):
    node = host.import_("apply_motion").ApplyMotion
    with pytest.raises(ClipError, match="a pad of 24 leaves nothing of frames of 64x48"):
        node.execute(torch.zeros(2, 48, 64, 3), object(), "undo", "mirror", "mirror", 24)


def test_the_last_frame_has_no_flow_to_preview(host):
    node = host.import_("preview").PreviewFlow
    with pytest.raises(ClipError, match="frame 2 is the last one"):
        node.execute(torch.zeros(3, 48, 64, 3), 2, "farneback", "arrows", 64)


def test_frames_and_truth_must_be_as_many_and_in_their_places(host):
    compare = host.import_("compare_models")
    small, large = torch.zeros(3, 8, 8, 3), torch.zeros(3, 16, 16, 3)
    clips = host.import_("_video.inputs").clip_from_input
    with pytest.raises(ClipError, match="there are 3 frames and 2 of truth"):
        next(compare._pair_frames(clips(small), clips(large[:2]), 3))
    with pytest.raises(ClipError, match="the truth is 8 pixels wide and the frames are 16: exchange the two"):
        next(compare._pair_frames(clips(large), clips(small), 3))
    frames = torch.arange(10.0).view(10, 1, 1, 1).expand(-1, 4, 4, 3) / 10
    sampled = [round(float(frame.mean() * 10)) for frame in compare._sample_frames(clips(frames), 3)]
    assert sampled == [1, 5, 8]


def test_an_empty_batch_is_refused(host):
    with pytest.raises(ClipError, match="the batch of frames is empty"):
        host.import_("_comfy.adapter").to_clip(torch.zeros(0, 4, 4, 3))


def test_a_batch_that_does_not_fit_in_memory_is_refused(host):
    adapter = host.import_("_comfy.adapter")
    info = adapter.to_clip(torch.zeros(2, 48, 64, 3)).info
    host.management.get_free_memory.return_value = 2 * 48 * 64 * 4 * 4
    adapter.ImageBatch(info, 3, mask_planes=1)
    with pytest.raises(ClipError, match="2 frames of 64x48 need"):
        adapter.ImageBatch(info, 4, mask_planes=1)
    batch = adapter.ImageBatch(info, 3)
    batch.add(torch.zeros(1, 3, 48, 64))
    with pytest.raises(ClipError, match="only 1 of 2 frames were computed"):
        batch.to_tensor()


MODULES = {
    "compress_model": "CompressModel",
    "load_model": "LoadESRGANModel",
    "save_model": "SaveESRGANModel",
    "train": "TrainESRGAN",
    "trajectory_file": "LoadTrajectory",
}


@pytest.mark.parametrize("module", MODULES)
def test_inputs_that_are_missing_in_an_api_call_are_refused(host, module):
    """The host calls this, and asks for the fingerprint, before it reports a missing input."""
    node = getattr(host.import_(module), MODULES[module])
    answer = node.validate_inputs()
    assert isinstance(answer, str)
    assert answer.startswith("'' is not ")
    if "fingerprint_inputs" in vars(node):
        node.fingerprint_inputs()
