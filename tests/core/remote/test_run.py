from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_process import cli_command
from fake_comfyui import FakeComfyUI, FakeServer, wait_until
from steadyscale.cli import main
from steadyscale.core.remote import client as remote
from steadyscale.core.remote.run import run_workflow, unused_path
from steadyscale.core.remote.workflow import RunError
from video_file_checks import list_files

GRAPH = {
    "1": {"class_type": "LoadVideo", "inputs": {"file": "there.mp4"}, "_meta": {"title": "Load Video"}},
    "2": {"class_type": "SaveVideo", "inputs": {"video": ["1", 0], "prefix": "out"}},
}
MADE = {"2": {"images": [{"filename": "out_1.mp4", "subfolder": "SteadyScale", "type": "output"}], "animated": [True]}}
FILES = {"output/SteadyScale/out_1.mp4": b"moving images" * 1000}


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "POLL_SECONDS", 0.2)
    monkeypatch.setattr(remote, "MAX_OUTAGE_SECONDS", 1.0)


@pytest.fixture
def fake() -> FakeComfyUI:
    return FakeComfyUI(outputs=dict(MADE), files=dict(FILES))


@pytest.fixture
def url(fake: FakeComfyUI) -> Iterator[str]:
    with FakeServer(fake) as served:
        yield served.url


@pytest.fixture
def workflow(tmp_path: Path) -> Path:
    path = tmp_path / "graph.json"
    path.write_text(json.dumps(GRAPH))
    return path


def test_the_command_uploads_runs_and_downloads(fake: FakeComfyUI, url: str, workflow: Path, tmp_path: Path, capsys):
    clip = tmp_path / "my clip ä.mp4"
    clip.write_bytes(b"footage" * 100_000)
    out = tmp_path / "results"
    fake.outputs["1"] = {"text": ["3 frames\x1b[2J", 5]}
    words = ("run", workflow, "--server", url + "/", "--set", f"Load Video.file={clip}", "--set", "2.prefix=7")
    code = main.main([*map(str, words), "--output", str(out), "--json"])
    stdout, stderr = capsys.readouterr()
    assert (code, stderr) == (0, "")
    assert fake.uploads == {clip.name: clip.read_bytes()}
    assert fake.prompts[0]["1"]["inputs"]["file"] == f"1 {clip.name}", "the name that the server gave it"
    assert fake.prompts[0]["2"]["inputs"]["prefix"] == "7"
    assert list_files(out) == ["out_1.mp4"]
    assert (out / "out_1.mp4").read_bytes() == FILES["output/SteadyScale/out_1.mp4"]
    report = json.loads(stdout)
    assert report.pop("seconds") > 0
    assert len(report.pop("run")) == 36
    assert report == {
        "command": "run",
        "workflow": str(workflow),
        "uploaded": {"1.file": f"1 {clip.name}"},
        "files": [{"node": "2", "file": str(out / "out_1.mp4")}],
        "texts": {"1": ["3 frames [2J"]},
    }


def test_progress_is_that_of_the_nodes(fake: FakeComfyUI, url: str, tmp_path: Path):
    fake.events = [
        ("executing", {"node": "1"}),
        ("progress", {"node": "2", "value": 3, "max": 8}),
        ("progress", {"node": "2", "value": 5, "max": 8, "prompt_id": "another run"}),
    ]
    heard: list[tuple] = []
    run_workflow(GRAPH, url, folder=tmp_path, on_progress=lambda *news: heard.append(news))
    assert heard == [("Load Video", 0, None), ("SaveVideo", 3, 8), ("downloading", 0, 1)]


def test_a_websocket_that_hangs_up_is_opened_again(fake: FakeComfyUI, url: str, tmp_path: Path):
    fake.events, fake.closes_socket, fake.release_event = [("executing", {"node": "1"})], True, threading.Event()
    threading.Thread(
        target=lambda: (wait_until(lambda: fake.socket_count > 1), fake.release_event.set()), daemon=True
    ).start()
    done = run_workflow(GRAPH, url, folder=tmp_path)
    assert fake.socket_count > 1
    assert [path.name for _, path in done.files] == ["out_1.mp4"]


def test_without_a_websocket_the_history_is_asked(fake: FakeComfyUI, url: str, tmp_path: Path):
    fake.rejects_socket = True
    assert len(run_workflow(GRAPH, url, folder=tmp_path).files) == 1


def test_a_graph_that_waits_behind_others_says_so(fake: FakeComfyUI, url: str, tmp_path: Path):
    fake.is_other_running, fake.release_event = True, threading.Event()
    heard: list[str] = []

    def hear(label: str, done: int, total: int | None) -> None:
        heard.append(label)
        fake.release_event.set()

    run_workflow(GRAPH, url, folder=tmp_path, on_progress=hear)
    assert heard[0] == "in the queue behind 1"


def test_previews_are_fetched_where_they_are_asked_for(fake: FakeComfyUI, url: str, tmp_path: Path):
    fake.outputs = {"1": {"images": [{"filename": "p.png", "subfolder": "", "type": "temp"}]}}
    fake.files = {"temp//p.png": b"an image"}
    without = run_workflow(GRAPH, url, folder=tmp_path)
    assert (without.files, without.skipped_previews, list_files(tmp_path)) == ((), 1, [])
    assert run_workflow(GRAPH, url, folder=tmp_path, previews=True).files == (("1", tmp_path / "p.png"),)
    assert (tmp_path / "p.png").read_bytes() == b"an image"


def test_a_cut_off_download_is_repeated(fake: FakeComfyUI, url: str, tmp_path: Path):
    fake.dropped_replies["/view"] = 2
    run_workflow(GRAPH, url, folder=tmp_path)
    assert (tmp_path / "out_1.mp4").read_bytes() == FILES["output/SteadyScale/out_1.mp4"]


def test_a_download_that_is_always_cut_off_leaves_nothing(fake: FakeComfyUI, url: str, tmp_path: Path):
    fake.dropped_replies["/view"] = 100
    with pytest.raises(RunError, match="does not answer"):
        run_workflow(GRAPH, url, folder=tmp_path)
    assert list_files(tmp_path) == []


def test_an_earlier_result_stays(fake: FakeComfyUI, url: str, tmp_path: Path):
    (tmp_path / "out_1.mp4").write_bytes(b"mine")
    run_workflow(GRAPH, url, folder=tmp_path)
    assert list_files(tmp_path) == ["out_1 (2).mp4", "out_1.mp4"]
    assert (tmp_path / "out_1.mp4").read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("a.mp4", "a.mp4"),
        ("../../../etc/passwd", "passwd"),
        ("..\\..\\x.png", "x.png"),
        ("/abs.png", "abs.png"),
        ("..", "result"),
        ("a/", "result"),
        (".bashrc", "bashrc"),
        ("C:evil.png", "C_evil.png"),
        ("a\x1b[31m\n.png", "a_[31m_.png"),
        ("NUL.txt", "_NUL.txt"),
        ("x" * 400 + ".mp4", "x" * 100 + ".mp4"),
    ],
)
def test_names_of_results_stay_inside_the_folder(tmp_path: Path, name: str, safe: str):
    assert unused_path(tmp_path, name) == tmp_path / safe


def test_a_link_is_not_written_through(tmp_path: Path):
    (tmp_path / "a.mp4").symlink_to(tmp_path / "elsewhere")
    assert unused_path(tmp_path, "a.mp4") == tmp_path / "a (2).mp4"


@pytest.fixture
def command(url: str, workflow: Path, tmp_path: Path, capsys):
    """Run it, which has to fail: what it wrote on stderr."""

    def call(*words: str, at: str | None = None) -> str:
        out = tmp_path / "out"
        assert main.main(["run", str(workflow), "--server", at or url, "--output", str(out), *words]) == 1
        stdout, stderr = capsys.readouterr()
        assert stdout == ""
        assert not out.exists() or list_files(out) == []
        return stderr

    return call


def test_a_refused_graph_is_refused_in_the_servers_words(fake: FakeComfyUI, command):
    errors = [
        {"type": "value_not_in_list", "message": "Value not in list", "details": "model_name: 'x' not in ['y']"},
        {"type": "required_input_missing", "message": "Required input is missing", "details": "frames\x1b[2J"},
    ]
    answer = {
        "error": {"type": "failed", "message": "Prompt outputs failed validation", "details": ""},
        "node_errors": {"1": {"errors": errors, "class_type": "LoadVideo"}},
    }  # fmt: skip
    fake.refusals["/prompt"] = (400, json.dumps(answer))
    assert command().splitlines() == [
        "steadyscale: the server refuses the graph: Prompt outputs failed validation",
        "  Load Video (node 1): Value not in list: model_name: 'x' not in ['y']",
        "  Load Video (node 1): Required input is missing: frames [2J",
    ]


def test_a_graph_that_is_accepted_in_part_is_not_run(fake: FakeComfyUI, command):
    fake.release_event = threading.Event()
    fake.node_errors = {"2": {"errors": [{"message": "Value too big", "details": "prefix"}]}}
    assert "SaveVideo (node 2): Value too big: prefix" in command()
    wait_until(lambda: fake.deleted_ids)
    assert len(fake.interrupted_ids) == 1


def test_an_error_of_a_node_is_printed_in_the_servers_words(fake: FakeComfyUI, command):
    fake.outcome = "error"
    fake.error_data = {
        "node_id": "2",
        "node_type": "SaveVideo",
        "exception_type": "steadyscale.core.clip.ClipError",
        "exception_message": "640x361 is odd;\nchoose --size 640x360",
        "traceback": ["File x"],
    }
    assert command().splitlines() == [
        "steadyscale: SaveVideo (node 2) failed on the server",
        "  ClipError: 640x361 is odd;",
        "choose --size 640x360",
    ]


@pytest.mark.parametrize(
    ("ends", "words"),
    [
        ("interrupted", "interrupted on the server"),
        ("forgotten", "knows nothing of the run"),
        ("silent", "its log may"),
    ],
)
def test_other_ends_are_failures_too(fake: FakeComfyUI, command, ends: str, words: str):
    fake.outcome = ends
    assert words in command()


@pytest.mark.parametrize(
    ("path", "status", "body", "words"),
    [
        ("/object_info/LoadVideo", 404, "Not Found", "does not do what a ComfyUI does: HTTP 404"),
        ("/object_info/LoadVideo", 401, "", "it wants a login"),
        ("/object_info/LoadVideo", 302, "http://elsewhere.example/", "points to http://elsewhere.example/; name that"),
        ("/object_info/LoadVideo", 200, "<html>", "does not answer as a ComfyUI does"),
        ("/prompt", 500, "oops", "HTTP 500"),
        ("/queue", 200, "[1]", "does not answer as a ComfyUI does"),
        ("/view", 404, "", "out_1.mp4 cannot be downloaded: HTTP 404"),
        ("/view", 200, "", "out_1.mp4 is empty"),
    ],
)
def test_servers_that_answer_otherwise_are_named(
    fake: FakeComfyUI, command, path: str, status: int, body: str, words: str
):
    fake.refusals[path] = (status, body)
    assert words in command()


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [(413, "Maximum request body size 1 exceeded", "--max-upload-size"), (200, "{}", "did not say where it put it")],
)
def test_an_upload_that_is_refused_stops_it(
    fake: FakeComfyUI, command, tmp_path: Path, status: int, body: str, words: str
):
    (tmp_path / "clip.mp4").write_bytes(b"x")
    fake.refusals["/upload/image"] = (status, body)
    error = command("--set", f"1.file={tmp_path / 'clip.mp4'}")
    assert words in error
    assert "clip.mp4" in error
    assert fake.prompts == []


def test_a_server_that_is_not_there_is_named(command):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert f"http://127.0.0.1:{port} does not answer" in command(at=f"http://user:secret@127.0.0.1:{port}")


def test_a_login_goes_with_every_request(fake: FakeComfyUI, url: str, tmp_path: Path):
    run_workflow(GRAPH, url.replace("://", "://me:secret@"), folder=tmp_path)
    assert set(fake.auth_headers) == {"Basic bWU6c2VjcmV0"}
    assert "/ws" in fake.requests


def test_errors_show_no_password(command, fake: FakeComfyUI):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert "secret" not in command(at=f"http://user:secret@127.0.0.1:{port}/?token=secret")


@pytest.mark.parametrize("address", ["file:///etc/passwd", "ftp://x", "127.0.0.1:8188", "", "http://", "http://[::"])
def test_addresses_are_http(command, fake: FakeComfyUI, address: str):
    error = command(at=address or " ")
    assert "is no address of a server" in error
    assert error.count("\n") == 1
    assert fake.requests == []


def test_a_run_that_takes_too_long_is_stopped(fake: FakeComfyUI, command):
    fake.release_event = threading.Event()
    assert "not over after 1 s; --timeout allows more" in command("--timeout", "1")
    assert len(fake.interrupted_ids) == 1


def test_a_server_that_goes_away_and_stays_away_is_given_up(fake: FakeComfyUI, command):
    fake.release_event = threading.Event()

    def fall_silent() -> None:
        wait_until(lambda: fake.socket_count)
        fake.refusals |= {"/queue": (502, "Bad Gateway"), "/ws": (502, "")}
        fake.closes_socket = True

    threading.Thread(target=fall_silent, daemon=True).start()
    error = command()
    assert "502" in error
    assert "may continue there" in error


def test_a_server_that_comes_back_is_waited_for(
    fake: FakeComfyUI, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(remote, "MAX_OUTAGE_SECONDS", 60.0)
    fake.release_event = threading.Event()
    heard: list[str] = []

    def hear(label: str, done: int, total: int | None) -> None:
        heard.append(label)
        if label.startswith("waiting"):
            fake.refusals.clear()
            fake.release_event.set()

    fake.refusals["/queue"] = (502, "Bad Gateway")
    assert len(run_workflow(GRAPH, url, folder=tmp_path, on_progress=hear).files) == 1
    assert "waiting for the server to answer" in heard


@pytest.mark.skipif(os.name == "nt", reason="Windows delivers these signals in another way")
@pytest.mark.parametrize(
    ("signal_", "queued"), [(signal.SIGINT, False), (signal.SIGTERM, False), (signal.SIGINT, True)]
)
def test_ctrl_c_stops_the_run_on_the_server(
    fake: FakeComfyUI, url: str, workflow: Path, tmp_path: Path, signal_, queued: bool
):
    fake.release_event, fake.is_other_running = threading.Event(), queued
    command = cli_command("run", workflow, "--server", url, "--output", tmp_path / "out")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        wait_until(lambda: fake.socket_count)
        process.send_signal(signal_)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert fake.deleted_ids, stderr
    run = fake.deleted_ids[0]
    assert fake.interrupted_ids == ([] if queued else [run]), "the run of another client continues"
    assert re.search(f"the run {run} was stopped on the server", stderr)
    assert "interrupted" in stderr.splitlines()[-1]
    assert "Traceback" not in stderr


@pytest.mark.parametrize("turns", range(5))
def test_a_cancellation_that_comes_as_the_work_ends_is_not_lost(turns: int):
    """Python 3.11's own wait_for loses that of one of these turns of the loop."""

    async def scene() -> None:
        signalled = asyncio.Event()
        waiting = asyncio.ensure_future(remote.with_timeout(60, signalled.wait()))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        signalled.set()
        for _ in range(turns):
            await asyncio.sleep(0)
        assert not waiting.done() or turns > 2
        if waiting.cancel():
            with pytest.raises(asyncio.CancelledError):
                await waiting

    asyncio.run(scene())


def test_work_that_takes_too_long_ends_in_order_before_the_timeout_is_raised():
    async def scene() -> list[str]:
        ended: list[str] = []

        async def work() -> None:
            try:
                await asyncio.sleep(60)
            finally:
                await asyncio.sleep(0.01)
                ended.append("ended")

        with pytest.raises(asyncio.TimeoutError):
            await remote.with_timeout(0.01, work())
        return ended

    assert asyncio.run(scene()) == ["ended"]


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    with pytest.raises(RunError, match=r"steadyscale\[run\]"):
        run_workflow(GRAPH, "http://127.0.0.1:1", folder=tmp_path)
