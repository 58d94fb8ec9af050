"""Test comfyhost.Host on a fast stand-in for ComfyUI: it never outlives its owner."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import comfyhost
import pytest
from comfyhost import Host, HostError

STAND_IN = """
import http.server, json, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(json.dumps(sys.argv).encode())
    def log_message(self, *_): pass
print("started", flush=True)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Handler).serve_forever()
"""
OWNER = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from comfyhost import Host
with Host(Path(sys.argv[2]), Path(sys.argv[2]), cpu=True) as host:
    print(host.pid, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "main.py").write_text(STAND_IN)
    return tmp_path


def test_host_starts_answers_and_ends(tree: Path) -> None:
    with Host(tree, tree, cpu=True, flags=["--extra"]) as host:
        arguments, pid = host.get("/system_stats"), host.pid
        assert "--cpu" in arguments
        assert arguments[-1] == "--extra"
        assert arguments[arguments.index("--base-directory") + 1] == str(tree)
        assert "started" in host.log()
        assert 0 < host.rss() <= host.rss(peak=True)
    assert not _alive(pid)


def test_a_host_that_cannot_start_is_quoted(tree: Path) -> None:
    (tree / "main.py").write_text("raise SystemExit('no module named torch')")
    with pytest.raises(HostError, match="no module named torch"):
        Host(tree, tree, cpu=True).start()


def test_a_host_that_ignores_the_interrupt_is_killed(tree: Path) -> None:
    (tree / "main.py").write_text("import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n" + STAND_IN)
    with Host(tree, tree, cpu=True) as host:
        pid = host.pid
    assert not _alive(pid)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
def test_host_ends_when_its_owner_is_killed(tree: Path) -> None:
    scripts = str(Path(comfyhost.__file__).parent)
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, scripts, str(tree)], stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        assert _alive(pid)
        owner.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 30
    while _alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _alive(pid)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A process that has ended but was not waited for yet still has its number.
    return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text() if sys.platform == "linux" else True
