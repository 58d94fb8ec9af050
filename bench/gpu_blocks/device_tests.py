"""Results on the device against those on the CPU, and the repository's tests."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from steadyscale.core import Alpha, OutputSize, PostProcess, Precision, Tiling, UpscaleSettings, UpscaleStats, upscale
from steadyscale.models import RRDBConfig, RRDBNet, SRVGGConfig, SRVGGNetCompact, Upscaler
from torch import Tensor

from .networks import photos
from .session import NotAvailable, Row, Session, first_line

ROOT = Path(__file__).resolve().parents[2]
TESTS = "tests/core/upscaling/test_on_device.py"
DEVICE_VARIABLE = "STEADYSCALE_TEST_DEVICE"  # read by tests/conftest.py
# Of float32 with another order of additions, of float16, and where the precision is chosen.
TOLERANCES = {Precision.FP32: 1e-4, Precision.FP16: 6e-3, Precision.AUTO: 6e-3}
THREADS = 3


def run(session: Session) -> None:
    for precision in _precisions(session):
        for kind in ("compact", "rrdb"):
            for is_loaded, is_used in ((False, False), (True, False), (False, True), (True, True)):
                _check(
                    session,
                    f"{kind}, {precision.value}, {'loaded' if is_loaded else 'not loaded'} and "
                    f"{'run' if is_used else 'not run'} in inference mode",
                    lambda kind=kind, precision=precision, is_loaded=is_loaded, is_used=is_used: _run_in_modes(
                        session, kind, precision, is_loaded, is_used
                    ),
                )
    _check(session, f"{THREADS} threads", lambda: _run_in_threads(session))
    for name, settings in {
        "tiles": UpscaleSettings(precision=Precision.FP32, tiling=Tiling(size=16)),
        "post-processing": UpscaleSettings(
            precision=Precision.FP32, size=OutputSize(size=(90, 72)), postprocess=PostProcess(strength=0.5, grain=0.2)
        ),
        "alpha": UpscaleSettings(precision=Precision.FP32, alpha=Alpha.NETWORK),
    }.items():
        _check(session, name, lambda name=name, settings=settings: _run_settings(session, name, settings))
    if not session.is_quick and not session.accelerator.is_cpu:  # The CPU is the reference.
        session.measure_row(lambda: run_pytest(str(session.device)), check="pytest")


def summarize(rows: list[Row]) -> str:
    checks = [row for row in rows if "check" in row]
    failed = [row["check"] for row in checks if row["status"] == "failed"]
    passed = sum(row["status"] == "ok" for row in checks)
    parts = [f"{passed} of {len(checks)} checks passed", *(f"FAILED: {name}" for name in failed)]
    parts += [row["summary"] for row in checks if "summary" in row]
    return "; ".join(parts) if checks else ""


def run_pytest(device: str, arguments: Sequence[str] = ()) -> Row:
    """Run the repository's tests of devices on one.

    Those that need the simulated GPU are skipped.
    """
    if importlib.util.find_spec("pytest") is None or not (ROOT / TESTS).is_file():
        raise NotAvailable("pytest or the tests are not here")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "steadyscale").symlink_to(ROOT, target_is_directory=True)
        command = [
            sys.executable,
            "-m",
            "pytest",
            TESTS,
            "-q",
            "-o",
            "filterwarnings=default",
            "-p",
            "no:cacheprovider",
        ]
        paths = [folder, os.environ.get("PYTHONPATH", "")]
        environment = {**os.environ, DEVICE_VARIABLE: device, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
        result = subprocess.run(
            [*command, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
    lines = result.stdout.strip().splitlines()
    failures = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    summary = next((line for line in reversed(lines) if re.search(r"\d+ (passed|failed|skipped|error)", line)), "")
    row: Row = {"status": "ok" if result.returncode == 0 else "failed", "summary": summary.strip("= ")}
    if result.returncode:
        row["error"] = "; ".join(failures[:10]) or (result.stdout + result.stderr)[-500:]
    return row


def _check(session: Session, name: str, compute: Callable[[], tuple[list[Tensor], list[Tensor], float]]) -> None:
    """Write a row: results within a tolerance of the expected ones."""

    def measure() -> Row:
        results, expected, tolerance = compute()
        if [result.shape for result in results] != [truth.shape for truth in expected]:
            return {"status": "failed", "error": "the results have other shapes"}
        worst = max(float((result - truth).abs().max()) for result, truth in zip(results, expected, strict=True))
        is_alike = worst <= tolerance  # False for NaN
        error = {} if is_alike else {"error": f"differs by {worst:.2g}, more than {tolerance:.2g}"}
        return {"status": "ok" if is_alike else "failed", "worst": worst, "tolerance": tolerance, **error}

    session.measure_row(measure, check=name)


def _precisions(session: Session) -> tuple[Precision, ...]:
    has_half = torch.float16 in session.accelerator.candidate_dtypes
    return (Precision.FP32, *((Precision.FP16,) if has_half else ()), Precision.AUTO)


def _small_frames(session: Session) -> list[Tensor]:
    return photos(24, 20, 2) if session.is_quick else photos(72, 60, 4)


def _small_network(kind: str) -> Upscaler:
    torch.manual_seed(1)
    if kind == "rrdb":
        return Upscaler(RRDBNet(RRDBConfig(features=8, blocks=1, growth=4, scale=2)), "small", "rrdb")
    return Upscaler(SRVGGNetCompact(SRVGGConfig(features=8, convs=2, scale=2)), "small", "srvgg")


def _upscale(frames: list[Tensor], model: Upscaler, settings: UpscaleSettings, device: object = "cpu") -> list[Tensor]:
    return list(upscale(iter(frames), model, settings, device=str(device), stats=UpscaleStats()))


def _run_in_modes(session: Session, kind: str, precision: Precision, is_loaded: bool, is_used: bool):
    """ComfyUI loads and runs in inference mode, whose tensors do not count versions."""
    frames = _small_frames(session)
    with torch.inference_mode(is_loaded):
        model = _small_network(kind)
    expected = _upscale(frames, _small_network(kind), UpscaleSettings(precision=Precision.FP32))
    with torch.inference_mode(is_used):
        results = _upscale(frames, model, UpscaleSettings(precision=precision), session.device)
    return results, expected, TOLERANCES[precision]


def _run_in_threads(session: Session):
    model, frames, settings = _small_network("rrdb"), _small_frames(session), UpscaleSettings(precision=Precision.FP32)
    results: dict[int, list[Tensor]] = {}
    errors: list[str] = []

    def work(index: int) -> None:
        try:
            results[index] = _upscale(frames, model, settings, session.device)
        except Exception as error:
            errors.append(first_line(error))

    threads = [threading.Thread(target=work, args=(index,), daemon=True) for index in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise RuntimeError(errors[0])
    expected = _upscale(frames, model, settings)
    return [frame for index in range(THREADS) for frame in results[index]], expected * THREADS, 1e-4


def _run_settings(session: Session, name: str, settings: UpscaleSettings):
    frames = _small_frames(session)
    if name == "alpha":
        frames = [torch.cat([frame, frame[:, :1]], dim=1) for frame in frames]
    model = _small_network("compact")
    return _upscale(frames, model, settings, session.device), _upscale(frames, model, settings), 1e-3
