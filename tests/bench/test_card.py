"""Test bench/card.py on the simulated GPU: all blocks, errors and time limits."""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from steadyscale.core.upscaling.model.precision import ComputeMode
from steadyscale.models import RRDBConfig, RRDBNet

BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture
def card(monkeypatch):
    """The modules of the script, by name; they can be imported only here."""
    monkeypatch.syspath_prepend(str(BENCH))
    before = set(sys.modules)

    def load(name=None):
        if name is not None:
            return importlib.import_module(name)
        # By its path: in pytest the name of a folder that holds this checkout is a package.
        spec = importlib.util.spec_from_file_location("bench_card", BENCH / "card.py")
        script = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(script)
        return script

    yield load
    for name in set(sys.modules) - before:
        if str(BENCH) in str(getattr(sys.modules[name], "__file__", None)):
            del sys.modules[name]


@pytest.fixture
def run_card(card, gpu, tmp_path, capsys):
    """Run the script: (exit code, rows, table)."""

    def run(*arguments):
        code = card().main(["--device", "simgpu", "--quick", "--output", str(tmp_path / "rows.jsonl"), *arguments])
        lines = (tmp_path / "rows.jsonl").read_text(encoding="utf-8").splitlines()
        return code, [json.loads(line, parse_constant=pytest.fail) for line in lines], capsys.readouterr().err

    return run


@pytest.mark.slow
def test_all_blocks_write_their_rows(card, run_card):
    code, rows, table = run_card()
    header, verdict, blocks = rows[0], rows[-1], card("gpu_blocks").BLOCKS
    assert code == 0
    assert [row for row in rows if row["status"] in ("failed", "cut")] == []
    assert {row["device"] for row in rows} == {"simulated GPU"}
    assert header["block"] == "header"
    assert header["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert verdict["block"] == "verdict"
    assert list(verdict["blocks"]) == list(blocks)
    for name in blocks:
        assert sum(row["block"] == name and row["status"] == "ok" for row in rows) > 1, f"{name} measured nothing"
        assert verdict["blocks"][name]["summary"], f"{name} has no verdict"
        assert f"\n{name} " in table

    speeds = [row for row in rows if row["block"] == "speed" and "fps" in row]
    assert len({(row["network"], row["size"]) for row in speeds}) == 10
    assert {row["dtype"] for row in speeds} == {"fp16", "fp32", "bf16"}
    assert {(row["layout"], row["cudnn_benchmark"], row["batch"]) for row in speeds} >= {
        ("NHWC", False, 1),
        ("NCHW", False, 1),
        ("NHWC", True, 1),
        ("NHWC", False, 4),
    }
    peaks = {row["dtype"]: row["best_tflops"] for row in rows if row.get("what") == "matmul"}
    for row in speeds:
        assert row["of_peak"] == pytest.approx(row["tflops"] / peaks[row["dtype"]], rel=1e-3)

    engines = {row["engine"]: row for row in rows if row["block"] == "engines" and "engine" in row}
    assert {name for name, row in engines.items() if row["status"] == "ok"} >= {
        "eager",
        "planar",
        "graph",
        "batch of 8",
    }
    assert engines["fused"]["status"] == "not available", "the simulated GPU runs no kernels in Triton"
    for name in ("planar", "graph", "batch of 8"):
        assert engines[name]["worst_of_255"] < 1
        assert engines[name]["times_eager"] > 0

    drifts = [row for row in rows if row["block"] == "drift" and "share" in row]
    on_device = {row["dtype"]: row for row in drifts if row["reference"] == "fp32 on the device"}
    assert on_device["fp32"]["worst_of_255"] == 0
    assert 0 < on_device["fp16"]["worst_of_255"] < on_device["bf16"]["worst_of_255"]
    assert any(row["weights"] == "trained" for row in drifts)
    memory = next(row for row in rows if "equal" in row)
    assert memory["equal"]
    assert memory["errors"] > 0


def test_a_block_that_fails_does_not_stop_the_others(card, run_card, monkeypatch):
    def fail(session):
        session.write(what="before")
        raise RuntimeError("an illegal memory access\nwith details")

    monkeypatch.setattr(card("gpu_blocks.ceilings"), "run", fail)
    code, rows, table = run_card("--block", "ceilings", "--block", "filters")
    verdicts = rows[-1]["blocks"]
    assert code == 1
    assert (verdicts["ceilings"]["status"], verdicts["filters"]["status"]) == ("failed", "ok")
    assert verdicts["ceilings"]["errors"] == ["RuntimeError: an illegal memory access"]
    assert "error: RuntimeError: an illegal memory access" in table
    assert any(row.get("what") == "before" for row in rows)


def test_a_row_that_fails_does_not_stop_its_block(card, run_card, monkeypatch):
    filters = card("gpu_blocks.filters")

    def fail(*args, **kwargs):
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(filters, "deflicker", fail)
    code, rows, _ = run_card("--block", "filters")
    statuses = {row["filter"]: row["status"] for row in rows if "filter" in row}
    assert statuses == {"warp": "ok", "fill": "ok", "deflicker": "out of memory"}
    assert code == 0


def test_a_block_beyond_its_budget_is_cut(card, run_card, monkeypatch):
    def run_forever(session):
        session.write(what="before")
        while True:
            try:
                time.sleep(0.01)
            except Exception:  # Libraries fall back on errors; the time limit must pass.
                continue

    monkeypatch.setattr(card("gpu_blocks.ceilings"), "run", run_forever)
    total = sum(card("gpu_blocks").BLOCKS.values())
    start = time.perf_counter()
    # Its part of this budget is a second.
    code, rows, table = run_card("--block", "ceilings", "--block", "filters", "--budget", str(total / 30))
    assert time.perf_counter() - start < 30
    end = next(row for row in rows if row["block"] == "ceilings" and row.get("event") == "end")
    assert code == 0
    assert end["status"] == "cut"
    assert end["error"] == "stopped after its budget of 1 s"
    assert "ceilings      cut" in table
    assert any(row.get("what") == "before" for row in rows)
    assert any(row["block"] == "filters" for row in rows), "the next block has started"


def test_the_time_limit_is_over_with_its_block(card):
    module = card("gpu_blocks.time_limit")
    with module.time_limit(0.05):
        pass
    time.sleep(0.1)

    def run_forever():
        with module.time_limit(0.05):
            while True:
                time.sleep(0.01)

    with pytest.raises(module.TimeIsUp):
        run_forever()


def test_the_budgets_add_up_to_less_than_eight_minutes(card):
    assert sum(card("gpu_blocks").BLOCKS.values()) == card().MAX_SECONDS < 8 * 60


def test_operations_are_those_of_the_published_networks(card):
    networks = card("gpu_blocks.networks")
    # Multiplications and additions per pixel of the input, in millions.
    for name, millions in {"rrdb23": 35.85, "rrdb6": 11.41, "compact4x": 1.238}.items():
        assert networks.count_flops(name, is_quick=False) == pytest.approx(millions * 1e6, rel=2e-3)


def test_random_networks_use_the_range_of_images(card):
    networks = card("gpu_blocks.networks")
    result = networks.make_network("rrdb6", is_quick=False)(networks.photo(24, 16))
    assert result.shape == (1, 3, 64, 96)
    assert 0.2 < float(result.mean()) < 0.8
    assert float(result.std()) > 1e-3


def test_the_eager_copy_computes_what_spandrel_computes(card):
    from spandrel import ModelLoader

    peer = card("gpu_blocks.peer")
    torch.manual_seed(0)
    network = RRDBNet(RRDBConfig(blocks=2)).eval().requires_grad_(False)
    image = torch.rand(1, 3, 20, 24)
    expected = ModelLoader().load_from_state_dict(network.state_dict()).eval().model(image)
    assert float(expected.detach().std()) > 1e-3
    assert torch.equal(peer.run_eagerly(network, image), expected)


@pytest.mark.parametrize(("height", "width"), [(40, 72), (600, 530), (1000, 40)])
def test_tiles_of_the_peer_cover_the_frame(card, height, width):
    peer = card("gpu_blocks.peer")
    cpu = SimpleNamespace(device=torch.device("cpu"))
    images, calls = torch.rand(1, height, width, 3), []

    def repeat_pixels(tile):
        calls.append(tile.shape[-2:])
        return tile.repeat_interleave(2, -2).repeat_interleave(2, -1)

    result = peer.upscale_like_comfyui(images, torch.nn.Identity(), repeat_pixels, 2, cpu)
    expected = repeat_pixels(images.movedim(-1, 1)).movedim(1, -1)
    torch.testing.assert_close(result, expected, atol=1e-5, rtol=0)
    assert max(max(size) for size in calls[:-1]) <= 512


def test_a_fallback_to_torch_is_reported_as_not_available(card, gpu, tmp_path, monkeypatch):
    def fail(*args):
        raise RuntimeError("there is no compiler here")

    monkeypatch.setattr(torch, "compile", lambda forward, **options: fail)
    engines, session_module = card("gpu_blocks.engines"), card("gpu_blocks.session")
    networks = card("gpu_blocks.networks")
    with (tmp_path / "rows").open("w") as file:
        session = session_module.Session("simgpu", file, is_quick=True)
        variant = networks.Variant(ComputeMode.FP32)
        module = networks.place_network(networks.make_network("compact4x", is_quick=True), variant, session)
        images = networks.place_images(networks.photo(16, 12), variant, session)
        with pytest.raises(session_module.NotAvailable, match="runs without it"):
            engines._time_engine(session, lambda: engines._compile(session, module, images, variant), images, 1.0)


@pytest.mark.slow
def test_the_tests_of_the_repository_run_on_a_device(card):
    """On the CPU here: what counts events of the simulated GPU is skipped."""
    device_tests = card("gpu_blocks.device_tests")
    selection = "streams_run_in_several_threads or running_out_of_memory_at_any"
    row = device_tests.run_pytest("cpu", ["-k", selection])
    assert row["status"] == "ok", row
    assert "1 passed, 1 skipped" in row["summary"]
    row = device_tests.run_pytest("cpu", ["--no-such-option"])
    assert row["status"] == "failed"
    assert "no-such-option" in row["error"]
