"""Whole compressions: results within the limit are written, others are not, and errors are early."""

import sys

import pytest
import torch
from numbered_video import make_video
from safetensors import safe_open
from safetensors.torch import save_file
from spandrel import ModelLoader
from steadyscale.cli.commands.compress import DEFAULT_MAX_LOSS_DB, DEFAULT_MIN_KEPT, DEFAULT_STEPS
from steadyscale.core.compress import (
    CompressionError,
    CompressSettings,
    compress,
    format_table,
    format_verdicts,
    json_records,
    json_verdicts,
    quality_gate,
)
from steadyscale.core.compress.fidelity import Fidelity
from steadyscale.core.compress.model_metrics import ModelMetrics
from steadyscale.core.compress.quality_gate import learning_rate_for
from steadyscale.models import RRDBConfig, RRDBNet, SRVGGConfig, SRVGGNetCompact, WeightsError, load_upscaler


@pytest.fixture
def make_settings(half_dead_weights, texture_folder, tmp_path):
    """make_settings(prune=0.5, ...): settings without fine-tuning, with output tmp_path/out/small.safetensors.

    gate=False: whatever the result loses.
    """

    def make(gate=True, **changes):
        basic = {"model": str(half_dead_weights), "calibrate": (str(texture_folder),), "steps": 0, "device": "cpu"}
        basic["quality_gate"] = gate
        return CompressSettings(**{**basic, "output": str(tmp_path / "out" / "small.safetensors"), **changes})

    return make


def last(stream):
    *_, report = stream
    return report


def list_names(folder):
    return sorted(path.name for path in folder.rglob("*")) if folder.exists() else []


def test_removing_dead_channels_loses_nothing(make_settings, half_dead_weights, tmp_path):
    report = last(compress(make_settings(prune=0.5, max_loss_db=0.01)))
    assert report.stage == "done"
    assert report.files == (tmp_path / "out" / "small.safetensors",)
    assert list_names(tmp_path / "out") == ["small.safetensors"]
    before, after = report.metrics
    assert (before.name, after.name) == ("original", "pruned")
    assert after.psnr == pytest.approx(before.psnr, abs=0.001)
    assert after.fidelity.kept > 0.999
    assert all(verdict.passed is not False for verdict in report.verdicts)
    assert before.psnr > 15
    assert after.parameters < 0.35 * before.parameters
    assert after.gmacs < 0.35 * before.gmacs
    assert after.bytes < 0.5 * before.bytes
    assert after.seconds > 0
    image = torch.rand(1, 3, 20, 24)
    small = load_upscaler(report.files[0])
    assert (small(image) - load_upscaler(half_dead_weights)(image)).abs().max() < 1e-5
    theirs = ModelLoader().load_from_file(report.files[0]).eval().model
    with torch.no_grad():
        assert (theirs(image).clamp(0, 1) - small(image)).abs().max() < 1e-5


def test_a_result_beyond_the_limit_is_not_written(make_settings, weights, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "small.safetensors").write_text("an earlier result")
    reports = list(compress(make_settings(model=str(weights), prune=0.75, max_loss_db=0.05)))
    assert reports[-1].stage == "refused"
    assert reports[-1].rejection.startswith("pruned: ")
    assert "PSNR loss is " in reports[-1].rejection
    assert "(at most 0.05 allowed)" in reports[-1].rejection
    assert "nothing was written" in reports[-1].rejection
    before, after = reports[-1].metrics
    assert before.psnr - after.psnr > 0.05
    assert reports[-1].files == ()
    assert list_names(tmp_path / "out") == ["small.safetensors"]
    assert (tmp_path / "out" / "small.safetensors").read_text() == "an earlier result"


def test_fine_tuning_reduces_the_loss(make_settings, weights):
    def loss(steps):
        before, after = last(compress(make_settings(gate=False, model=str(weights), prune=0.75, steps=steps))).metrics
        return before.psnr - after.psnr

    assert loss(60) < loss(0) - 0.1


def test_all_files_of_a_separable_network_are_written(make_settings, weights, tmp_path):
    all_files = make_settings(gate=False, model=str(weights), separable=True, half=True, onnx=True, int8=True)
    report = last(compress(all_files))
    names = ["small.onnx", "small.safetensors", "small_dense.safetensors", "small_int8.onnx"]
    assert list_names(tmp_path / "out") == names
    assert sorted(file.name for file in report.files) == names
    image = torch.rand(1, 3, 20, 24)
    small, dense, graph, int8 = (
        load_upscaler(tmp_path / "out" / name)(image)
        for name in ("small.safetensors", "small_dense.safetensors", "small.onnx", "small_int8.onnx")
    )
    assert (small - dense).abs().max() < 2e-3, "both are rounded to 16 bits"
    assert (small - graph).abs().max() < 2e-3
    assert (small - int8).abs().mean() < 0.02
    with safe_open(tmp_path / "out" / "small_dense.safetensors", "pt") as file:
        assert file.metadata()["compressed_from"] == "teacher.safetensors"
        assert all(file.get_tensor(key).dtype is torch.float16 for key in file.keys())  # noqa: SIM118
    assert ModelLoader().load_from_file(tmp_path / "out" / "small_dense.safetensors").scale == 2
    engines = {model.name: model.engine for model in report.metrics}
    assert engines["separable, int8 graph"] == engines["separable, onnx graph"] == "openvino"


def test_closing_the_generator_leaves_no_files(make_settings, tmp_path):
    stages = []
    for report in compress(make_settings(prune=0.5, onnx=True)):
        stages.append(report.stage)
        if report.stage == "measuring":
            break
    assert stages[:3] == ["reading", "pruning", "writing"]
    assert list_names(tmp_path / "out") == []


def test_compression_works_within_inference_mode(make_settings):
    """As ComfyUI runs its nodes."""
    with torch.inference_mode():
        report = last(compress(make_settings(gate=False, prune=0.5, steps=2)))
    assert report.stage == "done"


def test_the_warping_error_is_measured_on_videos(make_settings, texture_folder, tmp_path):
    video = make_video(tmp_path / "clip.mp4")
    report = last(compress(make_settings(calibrate=(str(texture_folder), str(video)), half=True)))
    assert all(model.warping > 0 for model in report.metrics)
    assert "warping error" in format_table(report.metrics)
    report = last(compress(make_settings(half=True)))
    assert all(model.warping is None for model in report.metrics)
    assert "warping error" not in format_table(report.metrics)


def test_table_and_json_have_the_same_values(make_settings):
    report = last(compress(make_settings(prune=0.5)))
    metrics = report.metrics
    lines = format_table(metrics).splitlines()
    assert len(lines) == 3
    assert f"{metrics[1].parameters:,}" in lines[2]
    assert f"{metrics[1].psnr:.2f}" in lines[2]
    first, second = json_records(metrics)
    assert "loss_db" not in first
    assert second["loss_db"] == pytest.approx(metrics[0].psnr - metrics[1].psnr, abs=1e-3)
    assert second["fidelity"]["kept"] == pytest.approx(metrics[1].fidelity.kept, abs=1e-6)
    head, *rows = format_verdicts(report.verdicts).splitlines()
    assert head.split() == ["quality", "against", "the", "original", "pruned", "limit"]
    assert [row.split()[:3] for row in rows if row.startswith("kept")] == [["kept", "1.000", "ok"]]
    assert [found["quantity"] for found in json_verdicts(report.verdicts)] == [
        title.split("  ")[0].split(" [")[0] for title in rows
    ]
    assert json_verdicts(report.verdicts)[0] | {"value": 1} == {
        "model": "pruned", "quantity": "kept", "value": 1, "unit": "", "minimum": 0.5, "maximum": None, "passed": True,
        "note": "",
    }  # fmt: skip


def test_invalid_settings_and_data_are_refused_at_once(make_settings, texture_folder, tmp_path):
    cases = [
        ({}, "nothing to do"),
        ({"prune": 1.0}, "from 0 to below 1, not 1"),
        ({"half": True, "max_loss_db": -1}, "0 dB or more"),
        ({"half": True, "min_kept": 1.5}, "at most 1, which is the original itself, not 1.5"),
        ({"half": True, "output": "small.pth"}, r"must be a \.safetensors or \.onnx file"),
        ({"half": True, "output": "small.onnx"}, "is an ONNX graph: choose onnx or int8 too"),
    ]
    for changes, words in cases:
        with pytest.raises(CompressionError, match=words):
            make_settings(**changes)
    with pytest.raises(CompressionError, match="holds one image"):
        last(compress(make_settings(half=True, calibrate=(str(texture_folder / "0.jpg"),))))
    (tmp_path / "empty").mkdir()
    with pytest.raises(CompressionError, match="no images or videos in"):
        last(compress(make_settings(half=True, calibrate=(str(tmp_path / "empty"),))))
    save_file(SRVGGNetCompact(SRVGGConfig(1, 1, features=8, convs=1)).state_dict(), tmp_path / "gray.safetensors")
    with pytest.raises(CompressionError, match="SRVGGNetCompact with 1 channels"):
        last(compress(make_settings(half=True, model=str(tmp_path / "gray.safetensors"))))


def test_missing_packages_are_reported_before_the_training(make_settings, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    stream = compress(make_settings(prune=0.5, steps=5, int8=True))
    assert next(stream).stage == "reading"
    with pytest.raises(CompressionError, match=r"need openvino: pip install 'steadyscale\[compress\]'"):
        next(stream)
    assert last(compress(make_settings(prune=0.5))).stage == "done"


def test_an_output_that_cannot_be_written_is_reported_before_the_training(make_settings, tmp_path):
    (tmp_path / "file").write_text("")
    steps = compress(make_settings(prune=0.5, steps=10**6, output=str(tmp_path / "file" / "small.safetensors")))
    with pytest.raises(CompressionError, match=r"file cannot be created as the folder of the result \(File exists\)"):
        last(steps)


def test_a_missing_model_creates_no_folder(make_settings, tmp_path):
    with pytest.raises(WeightsError, match="neither a file nor one of the known"):
        last(compress(make_settings(model="nosuch", half=True, output=str(tmp_path / "new" / "small.safetensors"))))
    assert not (tmp_path / "new").exists()


def test_a_full_disk_raises_a_compression_error(make_settings, monkeypatch):
    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(CompressionError, match=r"cannot be written \(No space left on device\)"):
        last(compress(make_settings(half=True)))


def test_an_onnx_graph_is_not_compressed(make_settings, tmp_path):
    (graph,) = last(compress(make_settings(onnx=True))).files
    with pytest.raises(
        CompressionError,
        match=r"small\.onnx is an ONNX graph; compress the \.safetensors file that it was exported from",
    ):
        last(compress(make_settings(model=str(graph), half=True, output=str(tmp_path / "again.safetensors"))))


def test_a_model_is_not_overwritten(make_settings, half_dead_weights):
    before = half_dead_weights.read_bytes()
    with pytest.raises(CompressionError, match="is the model itself"):
        last(compress(make_settings(half=True, output=str(half_dead_weights))))
    assert half_dead_weights.read_bytes() == before


def test_narrow_networks_have_a_higher_learning_rate():
    rates = [
        learning_rate_for(SRVGGNetCompact(SRVGGConfig(features=width, convs=1, scale=2))) for width in (64, 32, 16, 8)
    ]
    assert rates == pytest.approx([5e-4, 1e-3, 2e-3, 3e-3])
    assert learning_rate_for(RRDBNet(RRDBConfig(features=8, blocks=1))) < rates[0]


def test_the_command_has_the_defaults_of_the_settings():
    assert (CompressSettings.max_loss_db, CompressSettings.steps) == (DEFAULT_MAX_LOSS_DB, DEFAULT_STEPS)
    assert CompressSettings.min_kept == DEFAULT_MIN_KEPT


@pytest.mark.parametrize("drift", [float("nan"), 2.0])
def test_a_bad_graph_beside_a_good_network_keeps_both_from_being_written(make_settings, tmp_path, monkeypatch, drift):
    def measure(candidates, *_):
        for candidate in candidates:
            found = Fidelity(1, 100, None, 1, 0, 0, drift if "int8" in candidate.name else 0, 1)
            yield ModelMetrics(candidate.name, "file", 1, 1.0, 1, 1.0, "torch", 30.0, 0.9, fidelity=found)

    monkeypatch.setattr(quality_gate, "measure_models", measure)
    report = last(compress(make_settings(half=True, int8=True)))
    assert report.stage == "refused"
    assert report.rejection.startswith("int8 graph: color drift is ")
    assert report.files == ()
    assert list_names(tmp_path / "out") == []
