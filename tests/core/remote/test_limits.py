"""What a server may send is limited, and each limit is one clear error."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from steadyscale.core.remote import client as remote
from steadyscale.core.remote import responses
from steadyscale.core.remote.client import ComfyClient, connect
from steadyscale.core.remote.workflow import RunError

ITEM = {"filename": "a.mp4", "type": "output"}
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def call(handler: Handler, action: Callable[[ComfyClient], Awaitable[Any]]) -> Any:
    """The result of an action of a client whose server answers everything with `handler`."""

    async def run() -> Any:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", handler)
        runner = web.AppRunner(app, shutdown_timeout=0)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        try:
            async with connect(f"http://127.0.0.1:{runner.addresses[0][1]}") as client:
                return await action(client)
        finally:
            await runner.cleanup()

    return asyncio.run(run())


def answer(body: bytes, **headers: str) -> Handler:
    async def handler(_: web.Request) -> web.StreamResponse:
        return web.Response(body=body, headers={name.replace("_", "-"): value for name, value in headers.items()})

    return handler


@pytest.mark.parametrize(
    ("handler", "message"),
    [
        (answer(b"[" * 100_000), "nested too deeply"),
        (answer(b" " * 2**21), "larger than 1 MB"),
        (answer(gzip.compress(b" " * 2**24), Content_Encoding="gzip"), "larger than 1 MB"),
        (answer(b'{"queue_running": 3}'), "does not answer as a ComfyUI does"),
    ],
)
def test_answers_that_no_server_sends(handler: Handler, message: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(responses, "MAX_JSON_BYTES", 2**20)
    monkeypatch.setattr(remote, "MAX_OUTAGE_SECONDS", 0)
    with pytest.raises(RunError, match=message):
        call(handler, lambda client: client.wait_for_outputs("run", {}))


@pytest.mark.parametrize("entry", [b'{"run": {"status": {"messages": [3]}}}', b'{"run": {"status": 4}}'])
def test_a_history_of_another_form(entry: bytes):
    async def handler(request: web.Request) -> web.StreamResponse:
        queue = b'{"queue_running": [], "queue_pending": []}'
        return web.Response(body=queue if request.path == "/queue" else entry)

    with pytest.raises(RunError, match="does not answer as a ComfyUI does"):
        call(handler, lambda client: client.wait_for_outputs("run", {}))


@pytest.mark.parametrize(
    ("handler", "message"),
    [
        (answer(b"x" * 3000), "larger than 0.002 MB; --max-mb allows more"),
        (answer(gzip.compress(b"x" * 2**20), Content_Encoding="gzip"), "larger than 0.002 MB; --max-mb allows more"),
    ],
)
def test_a_file_that_is_too_large(handler: Handler, message: str, tmp_path: Path):
    with pytest.raises(RunError, match=message):
        call(handler, lambda client: client.download(ITEM, tmp_path / "a.mp4", 2000))
    assert [*tmp_path.iterdir()] == []


def test_a_file_that_does_not_fit_on_the_disk(tmp_path: Path):
    async def handler(_: web.Request) -> web.StreamResponse:
        return web.Response(headers={"Content-Length": str(2**60)})

    with pytest.raises(RunError, match="MB are free; free some disk space"):
        call(handler, lambda client: client.download(ITEM, tmp_path / "a.mp4", 2**62))
    assert [*tmp_path.iterdir()] == []


def test_a_server_that_stops_sending(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "100"})
        await response.prepare(request)
        await response.write(b"x")
        await asyncio.sleep(5)
        return response

    monkeypatch.setattr(remote, "READ_TIMEOUT_SECONDS", 0.1)
    monkeypatch.setattr(remote, "_DOWNLOAD_ATTEMPTS", 1)
    with pytest.raises(RunError, match=r"it sent nothing for 0.1 s"):
        call(handler, lambda client: client.download(ITEM, tmp_path / "a.mp4"))
    assert [*tmp_path.iterdir()] == []
