"""Run a ComfyUI process for a script or a test; it ends with its owner.

Graphs are run by the client of steadyscale.core.remote.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from steadyscale.core.remote.client import EventCallback, connect, with_timeout
from steadyscale.core.remote.workflow import RunError, RunInterrupted, RunRefused

# On Linux the kernel kills the host when its parent ends, even by SIGKILL. prctl must be called in the child, and in a
# program of its own: running Python code after a fork is unsafe in a process with threads.
_LAUNCHER_CODE = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    if os.getppid() != int(sys.argv[1]):
        sys.exit("the program that asked for this host has ended")
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""
# A proxy of the environment must not be used for a server on this machine.
_direct_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class HostError(Exception):
    """The host did not start, ended, or a run failed; the message quotes it."""


@dataclass
class RunResult:
    """The result of one prompt; status: success, error, interrupted or rejected."""

    status: str
    error: str = ""  # the host's message, with the node
    outputs: dict[str, dict] = field(default_factory=dict)  # by node id, as in the host's history
    events: list[tuple[str, dict]] = field(default_factory=list)  # (type, data) of each websocket message, in order
    reply: dict = field(default_factory=dict)  # the host's answer to a rejected prompt

    def raise_for_status(self) -> RunResult:
        """Return self, or raise HostError unless the run succeeded."""
        if self.status != "success":
            raise HostError(f"{self.status}: {self.error}")
        return self


class Host:
    """A ComfyUI process, as a context manager.

    tree: the folder with main.py. base: see base_directory.py. cpu: None uses a GPU if there is one.
    """

    def __init__(
        self,
        tree: Path,
        base: Path,
        *,
        flags: Sequence[str] = (),
        cpu: bool | None = None,
        python: str = sys.executable,
        log: Path | None = None,
        env: dict[str, str] | None = None,
    ) -> None:
        self.tree, self.base, self.python = tree, base, python
        self.log_path = log or base / "host.log"
        self.cpu = not has_gpu(python) if cpu is None else cpu
        self.flags = list(flags)
        self.env = env or {}
        self.url = ""
        self.boot_seconds = 0.0
        self._process: subprocess.Popen | None = None

    def __enter__(self) -> Host:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, timeout: float = 180) -> None:
        """Start the process and wait until it answers."""
        port = _free_port()
        self.url = f"http://127.0.0.1:{port}"
        command = [
            *(self.python, "-c", _LAUNCHER_CODE, str(os.getpid())),
            *("main.py", "--listen", "127.0.0.1", "--port", str(port), "--base-directory", str(self.base)),
            *("--disable-auto-launch", "--disable-api-nodes", "--database-url", "sqlite:///:memory:"),
            *(["--cpu"] if self.cpu else []),
            *self.flags,
        ]
        env = {**os.environ, "PYTHONUNBUFFERED": "1", **self.env}
        start = time.monotonic()
        with self.log_path.open("w") as log:
            # In a session of its own, Ctrl-C does not reach the host: `stop` ends it.
            self._process = subprocess.Popen(
                command,
                cwd=self.tree,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            while not self._is_ready():
                if self._process.poll() is not None:
                    raise HostError(f"ComfyUI ended while starting:\n{self.log_tail()}\n  Full log: {self.log_path}")
                if time.monotonic() - start > timeout:
                    raise HostError(f"ComfyUI did not answer within {timeout:.0f} s. Its log: {self.log_path}")
                time.sleep(0.1)
        except BaseException:  # also on an interrupt: the host would keep running
            self.stop()
            raise
        self.boot_seconds = time.monotonic() - start

    def stop(self) -> None:
        """Interrupt the host, and kill it after three seconds."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(3)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    @property
    def pid(self) -> int:
        if self._process is None:
            raise HostError("the host is not running")
        return self._process.pid

    # -- HTTP, synchronous: also for callers in a running event loop

    def fetch(self, path: str, body: object = None) -> bytes:
        """The answer to a GET, or to a POST of a JSON body; raises HTTPError."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"})
        with _direct_opener.open(request, timeout=60) as reply:
            return reply.read()

    def get(self, path: str) -> Any:
        return json.loads(self.fetch(path))

    def view(self, item: dict[str, str]) -> bytes:
        """The content of an output file: an item of `RunResult.outputs`."""
        return self.fetch("/view?" + urllib.parse.urlencode(item))

    def history(self, prompt_id: str) -> dict:
        return self.get(f"/history/{prompt_id}").get(prompt_id, {})

    def interrupt(self) -> None:
        self.fetch("/interrupt", {})

    # -- graphs

    def run(self, prompt: dict, on_event: EventCallback | None = None, timeout: float = 600) -> RunResult:
        """Run a graph in API format; `on_event` gets each websocket message as it arrives."""
        result = RunResult(status="success")

        def record(kind: str, data: dict[str, Any]) -> None:
            result.events.append((kind, data))
            if on_event is not None:
                on_event(kind, data)

        async def run_graph() -> dict[str, Any]:
            async with connect(self.url) as client:
                await client.open_events()
                run_id = await client.queue_prompt(prompt, str(uuid.uuid4()))
                return await client.wait_for_outputs(run_id, prompt, on_event=record, max_outage_seconds=0)

        try:
            result.outputs = asyncio.run(with_timeout(timeout, run_graph()))
        except RunRefused as error:
            result.status, result.error, result.reply = "rejected", str(error), error.answer
        except RunInterrupted as error:
            result.status, result.error = "interrupted", str(error)
        except RunError as error:
            if self._process is None or self._process.poll() is not None:
                message = f"ComfyUI ended while the graph ran:\n{self.log_tail()}\n  Full log: {self.log_path}"
                raise HostError(message) from error
            result.status, result.error = "error", str(error)
        return result

    # -- the process

    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def log_tail(self, lines: int = 12) -> str:
        return "\n".join("    " + line for line in self.log().splitlines()[-lines:])

    def rss(self, peak: bool = False) -> int:
        """Resident memory of the host in MiB, current or peak. Linux only."""
        key = "VmHWM:" if peak else "VmRSS:"
        status = Path(f"/proc/{self.pid}/status").read_text()
        return next(int(line.split()[1]) // 1024 for line in status.splitlines() if line.startswith(key))

    def reset_peak(self) -> None:
        """Reset the value of `rss(peak=True)`."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def _is_ready(self) -> bool:
        try:
            self.get("/system_stats")
        except OSError:
            return False
        return True


def has_gpu(python: str = sys.executable) -> bool:
    """Whether ComfyUI can use a GPU; the driver is asked before torch is imported."""
    if sys.platform != "linux":
        return True
    try:
        driver, count = ctypes.CDLL("libcuda.so.1"), ctypes.c_int(0)
    except OSError:
        return False
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)) or not count.value:
        return False
    # The driver may be too old for the CUDA version of torch.
    return (
        subprocess.run([python, "-c", "import torch; exit(not torch.cuda.is_available())"], check=False).returncode == 0
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
