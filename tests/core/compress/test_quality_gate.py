"""Whole compressions: what is written is as good as promised, and what is not good enough is not written."""

import sys

import pytest
import torch
from numbered_video import make_video
from safetensors import safe_open
from safetensors.torch import save_file
from spandrel import ModelLoader
from steadyscale.cli.commands.compress import DEFAULT_MAX_LOSS_DB, DEFAULT_STEPS
from steadyscale.core.compress import CompressionError, CompressSettings, compress, format_table, json_records
from steadyscale.core.compress.quality_gate import learning_rate_for
from steadyscale.models import RRDBConfig, RRDBNet, SRVGGConfig, SRVGGNetCompact, WeightsError, load_upscaler


@pytest.fixture
def settings(half_dead_weights, texture_folder, tmp_path):
    """settings(prune=0.5, ...): without training, into tmp_path/out/small.safetensors, changed as said."""

    def make(**changes):
        basic = {"model": str(half_dead_weights), "calibrate": (str(texture_folder),), "steps": 0, "device": "cpu"}
        return CompressSettings(**{**basic, "output": str(tmp_path / "out" / "small.safetensors"), **changes})

    return make


def last(stream):
    *_, report = stream
    return report


def left(folder):
    return sorted(path.name for path in folder.rglob("*")) if folder.exists() else []


def test_taking_out_what_is_dead_costs_nothing(settings, half_dead_weights, tmp_path):
    report = last(compress(settings(prune=0.5, max_loss_db=0.01)))
    assert report.stage == "done"
    assert report.files == (tmp_path / "out" / "small.safetensors",)
    assert left(tmp_path / "out") == ["small.safetensors"]
    before, after = report.metrics
    assert (before.name, after.name) == ("original", "pruned")
    assert after.psnr == pytest.approx(before.psnr, abs=0.001)
    assert before.psnr > 15
    assert after.parameters < 0.35 * before.parameters
    assert after.gmacs < 0.35 * before.gmacs
    assert after.bytes < 0.5 * before.bytes
    assert after.seconds > 0
    picture = torch.rand(1, 3, 20, 24)
    small = load_upscaler(report.files[0])
    assert (small(picture) - load_upscaler(half_dead_weights)(picture)).abs().max() < 1e-5
    theirs = ModelLoader().load_from_file(report.files[0]).eval().model
    with torch.no_grad():
        assert (theirs(picture).clamp(0, 1) - small(picture)).abs().max() < 1e-5


def test_what_loses_more_than_the_gate_allows_is_not_written(settings, weights, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "small.safetensors").write_text("an earlier result")
    reports = list(compress(settings(model=str(weights), prune=0.75, max_loss_db=0.05)))
    assert reports[-1].stage == "refused"
    assert "pruned loses" in reports[-1].rejection
    assert "0.05 dB are allowed" in reports[-1].rejection
    before, after = reports[-1].metrics
    assert before.psnr - after.psnr > 0.05
    assert reports[-1].files == ()
    assert left(tmp_path / "out") == ["small.safetensors"]
    assert (tmp_path / "out" / "small.safetensors").read_text() == "an earlier result"


def test_training_makes_up_for_some_of_it(settings, weights):
    def loss(steps):
        before, after = last(compress(settings(model=str(weights), prune=0.75, steps=steps, max_loss_db=99))).metrics
        return before.psnr - after.psnr

    assert loss(60) < loss(0) - 0.1


def test_all_files_of_a_separable_network(settings, weights, tmp_path):
    wanted = settings(model=str(weights), separable=True, half=True, onnx=True, int8=True, max_loss_db=99)
    report = last(compress(wanted))
    names = ["small.onnx", "small.safetensors", "small_dense.safetensors", "small_int8.onnx"]
    assert left(tmp_path / "out") == names
    assert sorted(file.name for file in report.files) == names
    picture = torch.rand(1, 3, 20, 24)
    small, twin, graph, integers = (
        load_upscaler(tmp_path / "out" / name)(picture)
        for name in ("small.safetensors", "small_dense.safetensors", "small.onnx", "small_int8.onnx")
    )
    assert (small - twin).abs().max() < 2e-3, "both are rounded to 16 bits"
    assert (small - graph).abs().max() < 2e-3
    assert (small - integers).abs().mean() < 0.02
    with safe_open(tmp_path / "out" / "small_dense.safetensors", "pt") as file:
        assert file.metadata()["compressed_from"] == "teacher.safetensors"
        assert all(file.get_tensor(key).dtype is torch.float16 for key in file.keys())  # noqa: SIM118
    assert ModelLoader().load_from_file(tmp_path / "out" / "small_dense.safetensors").scale == 2
    kinds = {figure.name: figure.engine for figure in report.metrics}
    assert kinds["separable, int8 graph"] == kinds["separable, onnx graph"] == "openvino"


def test_a_stream_that_is_closed_leaves_nothing(settings, tmp_path):
    seen = []
    for report in compress(settings(prune=0.5, onnx=True)):
        seen.append(report.stage)
        if report.stage == "measuring":
            break
    assert seen[:3] == ["reading", "pruning", "writing"]
    assert left(tmp_path / "out") == []


def test_works_in_inference_mode(settings):
    """As ComfyUI runs its nodes."""
    with torch.inference_mode():
        report = last(compress(settings(prune=0.5, steps=2, max_loss_db=99)))
    assert report.stage == "done"


def test_flicker_is_measured_where_there_are_videos(settings, texture_folder, tmp_path):
    video = make_video(tmp_path / "clip.mp4")
    report = last(compress(settings(calibrate=(str(texture_folder), str(video)), half=True)))
    assert all(figure.warping > 0 for figure in report.metrics)
    assert "warping error" in format_table(report.metrics)
    report = last(compress(settings(half=True)))
    assert all(figure.warping is None for figure in report.metrics)
    assert "warping error" not in format_table(report.metrics)


def test_the_table_and_the_facts_say_the_same(settings):
    found = last(compress(settings(prune=0.5))).metrics
    lines = format_table(found).splitlines()
    assert len(lines) == 3
    assert f"{found[1].parameters:,}" in lines[2]
    assert f"{found[1].psnr:.2f}" in lines[2]
    first, second = json_records(found)
    assert "loss_db" not in first
    assert second["loss_db"] == pytest.approx(found[0].psnr - found[1].psnr, abs=1e-3)


def test_what_cannot_be_done_is_said_at_once(settings, texture_folder, tmp_path):
    cases = [
        ({}, "nothing to do"),
        ({"prune": 1.0}, "from 0 to below 1, not 1"),
        ({"half": True, "max_loss_db": -1}, "0 dB or more"),
        ({"half": True, "output": "small.pth"}, r"written as \.safetensors or \.onnx"),
        ({"half": True, "output": "small.onnx"}, "would be a graph: choose onnx or int8 too"),
    ]
    for changes, words in cases:
        with pytest.raises(CompressionError, match=words):
            settings(**changes)
    with pytest.raises(CompressionError, match="holds one picture"):
        last(compress(settings(half=True, calibrate=(str(texture_folder / "0.jpg"),))))
    (tmp_path / "empty").mkdir()
    with pytest.raises(CompressionError, match="no pictures or videos in"):
        last(compress(settings(half=True, calibrate=(str(tmp_path / "empty"),))))
    save_file(SRVGGNetCompact(SRVGGConfig(1, 1, features=8, convs=1)).state_dict(), tmp_path / "grey.safetensors")
    with pytest.raises(CompressionError, match="SRVGGNetCompact for 1 channels"):
        last(compress(settings(half=True, model=str(tmp_path / "grey.safetensors"))))


def test_packages_that_graphs_need_are_asked_for_before_anything_is_trained(settings, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    stream = compress(settings(prune=0.5, steps=5, int8=True))
    assert next(stream).stage == "reading"
    with pytest.raises(CompressionError, match=r"need openvino: pip install 'steadyscale\[compress\]'"):
        next(stream)
    assert last(compress(settings(prune=0.5))).stage == "done"


def test_a_place_where_nothing_can_be_written_is_told_before_the_training(settings, tmp_path):
    (tmp_path / "file").write_text("")
    steps = compress(settings(prune=0.5, steps=10**6, output=str(tmp_path / "file" / "small.safetensors")))
    with pytest.raises(CompressionError, match=r"file can be no folder for the result \(File exists\)"):
        last(steps)


def test_a_model_that_is_not_there_leaves_no_folder(settings, tmp_path):
    with pytest.raises(WeightsError, match="neither a file nor one of the known"):
        last(compress(settings(model="nosuch", half=True, output=str(tmp_path / "new" / "small.safetensors"))))
    assert not (tmp_path / "new").exists()


def test_a_disk_that_is_full_is_told_as_every_other_fault(settings, monkeypatch):
    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(CompressionError, match=r"cannot be written \(No space left on device\)"):
        last(compress(settings(half=True)))


def test_a_graph_is_not_compressed_again(settings, tmp_path):
    (graph,) = last(compress(settings(onnx=True))).files
    with pytest.raises(
        CompressionError, match=r"small\.onnx is a graph; compress the \.safetensors that it was made from"
    ):
        last(compress(settings(model=str(graph), half=True, output=str(tmp_path / "again.safetensors"))))


def test_a_model_is_never_written_over_itself(settings, half_dead_weights):
    before = half_dead_weights.read_bytes()
    with pytest.raises(CompressionError, match="is the model itself"):
        last(compress(settings(half=True, output=str(half_dead_weights))))
    assert half_dead_weights.read_bytes() == before


def test_narrow_networks_learn_at_a_higher_rate():
    rates = [
        learning_rate_for(SRVGGNetCompact(SRVGGConfig(features=width, convs=1, scale=2))) for width in (64, 32, 16, 8)
    ]
    assert rates == pytest.approx([5e-4, 1e-3, 2e-3, 3e-3])
    assert learning_rate_for(RRDBNet(RRDBConfig(features=8, blocks=1))) < rates[0]


def test_the_command_has_the_defaults_of_the_library():
    assert (CompressSettings.max_loss_db, CompressSettings.steps) == (DEFAULT_MAX_LOSS_DB, DEFAULT_STEPS)
