"""Starts a real ComfyUI, talks to it over HTTP and its websocket, and never leaves it running."""

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
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

# On Linux the kernel kills the host when its parent is gone, even if that was killed itself. The request has to be made
# in the child, and by a small program of its own: forking with Python code to run is unsafe in a process with threads.
_LAUNCHER_CODE = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    if os.getppid() != int(sys.argv[1]):
        sys.exit("the program that asked for this host has ended")
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""
# A proxy named in the environment is for the world outside, not for a server on this machine.
_direct_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class HostError(Exception):
    """The host did not start, went away, or refused; the message has its own words."""


@dataclass
class RunResult:
    """What became of one prompt. `status`: success, error, interrupted, or rejected (refused before anything ran)."""

    status: str
    error: str = ""  # what the host said, with the node it said it about
    outputs: dict[str, dict] = field(default_factory=dict)  # by node id, as in the host's history
    events: list[tuple[str, dict]] = field(default_factory=list)  # (type, data) of each websocket message, in order
    reply: dict = field(default_factory=dict)  # the answer to POST /prompt

    def raise_for_status(self) -> RunResult:
        """Itself, or HostError unless it succeeded."""
        if self.status != "success":
            raise HostError(f"{self.status}: {self.error}")
        return self


EventCallback = Callable[[str, dict], None]


class Host:
    """A ComfyUI process, as a context manager.

    tree: the folder with main.py. base: see basedir.lay_out. cpu: None takes a GPU if one can be used.
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
        """Returns when the host answers."""
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
        began = time.monotonic()
        with self.log_path.open("w") as log:
            # A session of its own, so that Ctrl-C reaches this program only, which then ends the host in order.
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
                    raise HostError(f"ComfyUI ended while starting:\n{self.log_tail()}\n  All of it: {self.log_path}")
                if time.monotonic() - began > timeout:
                    raise HostError(f"ComfyUI did not answer within {timeout:.0f} s. Its log: {self.log_path}")
                time.sleep(0.1)
        except BaseException:  # of an interrupt too: the host would run on by itself
            self.stop()
            raise
        self.boot_seconds = time.monotonic() - began

    def stop(self) -> None:
        """Asks the host to end, then makes it."""
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

    # -- HTTP

    def fetch(self, path: str) -> tuple[bytes, dict[str, str]]:
        """GET: the body and the headers."""
        with _direct_opener.open(self.url + path, timeout=60) as reply:
            return reply.read(), dict(reply.headers)

    def get(self, path: str) -> Any:
        return json.loads(self.fetch(path)[0])

    def post(self, path: str, body: object) -> tuple[int, Any]:
        """The status code and the parsed answer; a refusal (4xx) is an answer too."""
        data, headers = json.dumps(body).encode(), {"Content-Type": "application/json"}
        try:
            with _direct_opener.open(urllib.request.Request(self.url + path, data, headers), timeout=60) as reply:
                status, answer = reply.status, reply.read()
        except urllib.error.HTTPError as error:
            with error:
                status, answer = error.code, error.read()
        return status, json.loads(answer) if answer else None

    def view(self, item: dict[str, str]) -> bytes:
        """The content of a file that a node put out: an entry of `Run.outputs`, with filename, subfolder and type."""
        return self.fetch("/view?" + urllib.parse.urlencode(item))[0]

    def history(self, prompt_id: str) -> dict:
        return self.get(f"/history/{prompt_id}").get(prompt_id, {})

    def interrupt(self) -> None:
        self.post("/interrupt", {})

    # -- running a graph

    def run(self, prompt: dict, on_event: EventCallback | None = None, timeout: float = 600) -> RunResult:
        """Queues a graph in API format and follows it to its end. `on_event` sees each message as it comes."""
        return asyncio.run(asyncio.wait_for(self._run(prompt, on_event or (lambda *_: None)), timeout))

    async def _run(self, prompt: dict, on_event: EventCallback) -> RunResult:
        client = uuid.uuid4().hex
        run = RunResult(status="interrupted")
        async with aiohttp.ClientSession() as session:
            async with session.ws_connect(f"{self.url}/ws?clientId={client}", max_msg_size=0) as socket_:
                async with session.post(f"{self.url}/prompt", json={"prompt": prompt, "client_id": client}) as reply:
                    run.reply = await reply.json()
                    if reply.status != 200:
                        run.status, run.error = "rejected", _format_rejection(run.reply)
                        return run
                prompt_id = run.reply["prompt_id"]
                run.status = await self._follow(socket_, prompt_id, run, on_event)
            # The history is written just after the last message.
            for _ in range(100):
                async with session.get(f"{self.url}/history/{prompt_id}") as reply:
                    entry = (await reply.json()).get(prompt_id)
                if entry:
                    run.outputs = entry["outputs"]
                    break
                await asyncio.sleep(0.05)
        return run

    async def _follow(
        self,
        websocket: aiohttp.ClientWebSocketResponse[Any],
        prompt_id: str,
        result: RunResult,
        on_event: EventCallback,
    ) -> str:
        async for message in websocket:
            if message.type != aiohttp.WSMsgType.TEXT:
                continue  # previews come as binary messages
            event = json.loads(message.data)
            kind, data = event["type"], event["data"]
            result.events.append((kind, data))
            on_event(kind, data)
            if data.get("prompt_id") != prompt_id:
                continue
            if kind == "execution_error":
                result.error = f"{data['node_type']} (node {data['node_id']}): {data['exception_message'].strip()}"
            if kind in ("execution_success", "execution_error", "execution_interrupted"):
                return kind.removeprefix("execution_")
        raise HostError(f"ComfyUI went away while the graph ran:\n{self.log_tail()}\n  All of it: {self.log_path}")

    # -- looking inside

    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def log_tail(self, lines: int = 12) -> str:
        return "\n".join("    " + line for line in self.log().splitlines()[-lines:])

    def rss(self, peak: bool = False) -> int:
        """Resident memory of the host in MiB, now or at its highest. Linux only."""
        wanted = "VmHWM:" if peak else "VmRSS:"
        status = Path(f"/proc/{self.pid}/status").read_text()
        return next(int(line.split()[1]) // 1024 for line in status.splitlines() if line.startswith(wanted))

    def reset_peak(self) -> None:
        """`rss(peak=True)` counts from here."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def _is_ready(self) -> bool:
        try:
            self.get("/system_stats")
        except OSError:
            return False
        return True


def has_gpu(python: str = sys.executable) -> bool:
    """Whether ComfyUI can do without --cpu. Asks the driver first, because importing torch takes seconds."""
    if sys.platform != "linux":
        return True
    try:
        driver, count = ctypes.CDLL("libcuda.so.1"), ctypes.c_int(0)
    except OSError:
        return False
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)) or not count.value:
        return False
    # A driver older than the CUDA that torch was built for is no GPU for us.
    return (
        subprocess.run([python, "-c", "import torch; exit(not torch.cuda.is_available())"], check=False).returncode == 0
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _format_rejection(reply: dict) -> str:
    """The messages of a graph that the host did not accept, one a line."""
    lines = []
    for node_id, problem in reply.get("node_errors", {}).items():
        for error in problem["errors"]:
            lines.append(f"{problem['class_type']} (node {node_id}): {error['message']}: {error['details']}")
    error = reply.get("error", {})
    return "\n".join(lines) or f"{error.get('message', error)} {error.get('details', '')}".strip()
