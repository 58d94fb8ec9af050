"""Usage, help, exit codes, interrupts and signals of `steadyscale`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import pytest
from cli_process import cli_command
from steadyscale.cli import main
from steadyscale.cli.registry import COMMANDS, load_command
from video_file_checks import list_files


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["upscale"],
        ["upscale", "a.mp4", "b.mp4", "--model", "m", "--scale", "0"],
        ["upscale", "a.mp4", "b.mp4", "--model", "m", "--scale", "2", "--size", "10x10"],
        ["upscale", "a.mp4", "b.mp4", "--model", "m", "--size", "10"],
        ["upscale", "a.mp4", "b.mp4", "--model", "m", "--fps", "0"],
        ["upscale", "a.mp4", "b.mp4", "--model", "m", "--fps", "nan"],
        ["upscale", "a.mp4", "b.mp4", "--model", "m", "--fps", "1e999999999"],
        ["upscale", "a.mp4", "b.mp4", "--model", "m", "--strength", "1.5"],
        ["upscale", "a.mp4", "b.mp4", "--model", "m", "--grain", "-1"],
        ["upscale", "a.mp4", "b.mp4", "--model", "m", "--colour", "sepia"],
        ["upscale", "a.mp4", "b.mp4", "--model", "m", "--repeat-threshold", "-1"],
        ["upscale", "a.mp4", "b.mp4", "--model", "m", "--repeat-threshold", "1", "--no-reuse"],
        ["upscale", "a.mp4", "b.mp4", "--model", "m", "--temporal", "2"],
        ["upscale", "a.mp4", "b.mp4", "--model", "m", "--tile", "0"],
        ["upscale", "a.mp4", "b.mp4", "--model", "m", "--precision", "fp8"],
        ["stabilize", "a.mp4", "b.mp4", "--keep-x", "1.5"],
        ["stabilize", "a.mp4", "b.mp4", "--smoothing", "magic"],
        ["stabilize", "a.mp4", "b.mp4", "--seconds", "-1"],
        ["stabilize", "a.mp4", "b.mp4", "--max-zoom", "0.5"],
        ["stabilize", "a.mp4", "b.mp4", "--rolling-shutter", "1.5"],
        ["stabilize", "a.mp4", "b.mp4", "--rolling-shutter", "fast"],
        ["models"],
        ["frobnicate"],
    ],
)
def test_wrong_usage_is_2(run_cli, words: list[str]):
    code, stdout, stderr = run_cli(*words)
    assert (code, stdout) == (2, "")
    assert "usage: steadyscale" in stderr


def test_version_and_help_are_0(run_cli):
    from steadyscale import __version__

    assert run_cli("--version")[:2] == (0, f"steadyscale {__version__}\n")
    assert run_cli("--help")[0] == 0
    code, stdout, _ = run_cli("stabilize", "--help")
    assert code == 0
    for value in ("kalman", "gaussian", "locked", "mirror", "wrap", "farneback"):
        assert value in stdout, "the choices come from the enums"


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        ("upscale in.mp4 out.mp4", False),
        ("upscale in.mp4 out.mp4 --resumable", True),
        ("upscale in.mp4 other.mp4 --resumable", False),  # the job folder was empty, and is removed
        ("stabilize in.mp4 out.mp4 --job folder", True),
        ("stabilize in.mp4 out.mp4 --job other", False),
        ("enhance in.mp4 out.mp4 --segment-seconds 5", False),
        ("train run.toml", True),
        ("run graph.json --server http://127.0.0.1:8188", True),
        ("models get realesrgan-x4plus", False),
    ],
)
def test_an_interrupt_reports_whether_finished_work_is_kept(
    run_cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str, kept: bool
):
    monkeypatch.chdir(tmp_path)
    for folder in ("folder", "out.mp4.job"):
        Path(folder).mkdir()

    def interrupted(_) -> None:
        raise KeyboardInterrupt

    for command in COMMANDS:
        monkeypatch.setattr(load_command(command), "run", interrupted)
    outcome = "what is finished is kept" if kept else "nothing was written"
    assert run_cli(*words.split()) == (130, "", f"steadyscale: interrupted, {outcome}\n")


def test_an_interrupt_is_130(tmp_path: Path, clip_file: Path, weights: Path, run_cli, monkeypatch):
    def interrupted(frames, *_, **__):
        yield next(frames)
        raise KeyboardInterrupt

    monkeypatch.setattr(import_module("steadyscale.core.pipeline.upscale_op"), "upscale", interrupted)
    code, _, stderr = run_cli("upscale", clip_file, tmp_path / "out.mp4", "--model", weights)
    assert (code, stderr) == (130, "steadyscale: interrupted, nothing was written\n")
    assert list_files(tmp_path) == [clip_file.name]


# A stage that passes the first frame and never the second: the program is at work until the signal comes. Its file
# says when it is: encoders hold back the first frames, so that the output may not exist yet.
ENDLESS_STAGE = """
import time
from pathlib import Path
from steadyscale.core.pipeline import {module} as module
stage = module.{name}
def endless(*args, **kwargs):
    yield next(stage(*args, **kwargs))
    Path({at_work!r}).touch()
    while True:
        time.sleep(0.1)
module.{name} = endless
"""


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
@pytest.mark.parametrize(
    ("name", "command"),
    [("SIGINT", "upscale"), ("SIGTERM", "stabilize"), ("SIGHUP", "stabilize"), ("SIGQUIT", "stabilize")],
)
def test_a_signal_to_the_real_program(
    tmp_path: Path, tmp_path_factory, clip_file: Path, weights: Path, name: str, command: str
):
    """Not all signals exist on Windows; stabilizing starts faster, as it needs no torch."""
    module, stage, *options = {
        "upscale": ("upscale_op", "upscale", "--model", weights),
        "stabilize": ("warp_op", "warp_yuv", "--flow", "tracks", "--border", "mirror"),
    }[command]
    words = [command, clip_file, tmp_path / "out.mkv", "--device", "cpu", *options]
    at_work = tmp_path_factory.mktemp("signal") / "at-work"
    setup = ENDLESS_STAGE.format(module=module, name=stage, at_work=str(at_work))
    number = getattr(signal, name)
    inherited = signal.getsignal(number)
    if inherited is signal.SIG_IGN:  # as in a shell's background job, which ignores SIGINT and SIGQUIT
        signal.signal(number, signal.SIG_DFL)
    try:
        child = subprocess.Popen(
            cli_command(*words, setup=setup),
            stderr=subprocess.PIPE,
            text=True,
        )
    finally:
        signal.signal(number, inherited)
    deadline = time.monotonic() + 120
    while not at_work.exists():
        assert child.poll() is None, child.communicate()[1]
        assert time.monotonic() < deadline, "the second frame was never asked for"
        time.sleep(0.02)
    child.send_signal(number)
    _, stderr = child.communicate(timeout=60)
    assert child.returncode == 130, stderr
    assert "nothing was written" in stderr
    assert "Traceback" not in stderr
    assert list_files(tmp_path) == [clip_file.name]


def test_the_program_as_installed(tmp_path: Path):
    done = subprocess.run(cli_command("info", tmp_path / "no.mp4"), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"steadyscale: {tmp_path / 'no.mp4'}: there is no such file\n"


def test_the_program_exits_after_all_output_and_before_teardown():
    code = (
        "import atexit, os, sys, threading, time\n"
        "from steadyscale.cli import main as cli\n"
        "class Library:\n"
        "    def __del__(self): os.write(1, b'taken down')\n"
        "def main():\n"
        "    main.library = Library()\n"
        "    atexit.register(print, 'exit')\n"
        "    threading.Thread(target=lambda: (time.sleep(0.3), print('thread'))).start()\n"
        "    print('x' * 100_000)\n"
        "    return 3\n"
        "cli.main = main\n"
        "sys.exit(cli.run_and_exit())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (3, "")
    assert done.stdout.split() == ["x" * 100_000, "thread", "exit"]


def test_an_interrupt_before_the_command_is_known_is_130_too(monkeypatch, capsys):
    def interrupted(words):
        raise KeyboardInterrupt

    monkeypatch.setattr(main, "_command_name", interrupted)
    assert main.main(["info", "a.mp4"]) == 130
    assert capsys.readouterr().err == "steadyscale: interrupted, nothing was written\n"


@pytest.mark.skipif(os.name != "posix", reason="needs a POSIX shell")
def test_the_program_runs_where_its_output_is_closed(tmp_path: Path):
    words = ["sh", "-c", '"$@" >&-', "sh", *cli_command("info", tmp_path / "no.mp4")]
    done = subprocess.run(words, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == f"steadyscale: {tmp_path / 'no.mp4'}: there is no such file\n"
