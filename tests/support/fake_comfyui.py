"""A server that speaks as ComfyUI does, in this process, and fails on demand."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import WSMsgType, web

COMBO_SPEC = [["kalman", "gaussian"], {}]
LOAD_VIDEO_SPEC = {
    "input": {
        "required": {"file": [["there.mp4"], {"video_upload": True}], "note": ["STRING", {}]},
        "optional": {
            "fps": ["FLOAT", {}], "count": ["INT", {}], "loop": ["BOOLEAN", {}], "kind": COMBO_SPEC,
            "newer": ["COMBO", {"options": [24, "auto"]}],
        },
    }
}  # fmt: skip
SAVE_VIDEO_SPEC = {"input": {"required": {"video": ["VIDEO", {}], "prefix": ["STRING", {}]}}}


@dataclass
class FakeComfyUI:
    """Configuration of the fake, and the requests it received; see `FakeServer`."""

    definitions: dict[str, Any] = field(
        default_factory=lambda: {"LoadVideo": LOAD_VIDEO_SPEC, "SaveVideo": SAVE_VIDEO_SPEC}
    )
    refusals: dict[str, tuple[int, str]] = field(default_factory=dict)  # path -> (status, body), for ever
    dropped_replies: dict[str, int] = field(
        default_factory=dict
    )  # path -> how many requests are cut off in their answer
    events: list[tuple[str, dict]] = field(default_factory=list)  # sent while a graph runs; prompt_id is added
    closes_socket: bool = False  # the websocket closes after the first event
    rejects_socket: bool = False
    release_event: threading.Event | None = None  # the run goes on until it is set, or until it is interrupted
    outcome: str = "success"  # or: error, interrupted, forgotten
    error_data: dict[str, Any] = field(default_factory=dict)  # of execution_error
    node_errors: dict[str, Any] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)  # "type/subfolder/filename" -> content

    prompts: list[dict] = field(default_factory=list)
    uploads: dict[str, bytes] = field(default_factory=dict)
    interrupted_ids: list[str] = field(default_factory=list)
    deleted_ids: list[str] = field(default_factory=list)
    socket_count: int = 0
    requests: list[str] = field(default_factory=list)
    auth_headers: list[str | None] = field(default_factory=list)  # of each request
    is_other_running: bool = False  # another client's graph runs, and ours waits

    _running_id: str | None = None
    _history: dict[str, Any] = field(default_factory=dict)
    _listeners: list[web.WebSocketResponse] = field(default_factory=list)
    _tasks: set[asyncio.Task] = field(default_factory=set)

    def make_application(self) -> web.Application:
        app = web.Application(middlewares=[self._inject_faults])
        app.router.add_get("/object_info/{name}", self._get_definition)
        app.router.add_get("/ws", self._open_socket)
        app.router.add_get("/queue", self._get_queue)
        app.router.add_post("/queue", self._delete_queued)
        app.router.add_post("/interrupt", self._interrupt)
        app.router.add_get("/history/{run}", self._get_history)
        app.router.add_post("/upload/image", self._upload)
        app.router.add_post("/prompt", self._post_prompt)
        app.router.add_get("/view", self._get_file)
        return app

    @web.middleware
    async def _inject_faults(self, request: web.Request, handler: Callable) -> web.StreamResponse:
        self.requests.append(request.path)
        self.auth_headers.append(request.headers.get("Authorization"))
        if request.path in self.refusals:
            status, body = self.refusals[request.path]
            return web.Response(status=status, text=body, headers={"Location": body} if status < 400 else None)
        if self.dropped_replies.get(request.path, 0):
            self.dropped_replies[request.path] -= 1
            cut = web.StreamResponse(headers={"Content-Length": "1000"})
            await cut.prepare(request)
            await cut.write(b"half of")
            assert request.transport
            request.transport.close()
            return cut
        return await handler(request)

    async def _get_history(self, request: web.Request) -> web.Response:
        return web.json_response(self._history)

    async def _get_definition(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        return web.json_response({name: self.definitions[name]} if name in self.definitions else {})

    async def _open_socket(self, request: web.Request) -> web.StreamResponse:
        if self.rejects_socket:
            return web.Response(status=403)
        self.socket_count += 1
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self._listeners.append(socket)
        await socket.send_bytes(b"\0\0\0\1a preview")
        await socket.send_str("not even JSON")
        await socket.send_json({"type": "crystools.monitor", "data": {"cpu": 1}})
        async for message in socket:
            assert message.type == WSMsgType.TEXT
        self._listeners.remove(socket)
        return socket

    async def _get_queue(self, request: web.Request) -> web.Response:
        ours = [[1, self._running_id, {}, {}, []]] if self._running_id else []
        theirs = [[0, "theirs", {}, {}, []]] if self.is_other_running else []
        running, pending = (theirs, ours) if theirs else (ours, [])
        return web.json_response({"queue_running": running, "queue_pending": pending})

    async def _delete_queued(self, request: web.Request) -> web.Response:
        self.deleted_ids += (await request.json())["delete"]
        return web.Response()

    async def _interrupt(self, request: web.Request) -> web.Response:
        self.interrupted_ids.append((await request.json())["prompt_id"])
        return web.Response()

    async def _upload(self, request: web.Request) -> web.Response:
        post = await request.post()
        image = post["image"]
        assert isinstance(image, web.FileField)
        assert post["type"] == "input"
        self.uploads[image.filename] = image.file.read()
        return web.json_response({"name": f"1 {image.filename}", "subfolder": "", "type": "input"})

    async def _post_prompt(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.prompts.append(body["prompt"])
        self._running_id = body["prompt_id"]
        task = asyncio.create_task(self._run(body["prompt_id"]))
        self._tasks.add(task)
        return web.json_response({"prompt_id": body["prompt_id"], "number": 1, "node_errors": self.node_errors})

    async def _run(self, prompt_id: str) -> None:
        for _ in range(200):  # until a client listens
            if self._listeners or self.rejects_socket:
                break
            await asyncio.sleep(0.01)
        for kind, data in self.events:
            for socket in list(self._listeners):
                await socket.send_json({"type": kind, "data": {"prompt_id": prompt_id, **data}})
                if self.closes_socket:
                    await socket.close()
        while self.release_event and not self.release_event.is_set() and not self._is_stopped():
            await asyncio.sleep(0.01)
        if self.outcome != "forgotten":
            messages = {"error": ["execution_error", self.error_data], "interrupted": ["execution_interrupted", {}]}
            status = {"status_str": "success" if self.outcome == "success" else "error", "messages": []}
            if self.outcome in messages:
                status["messages"].append(messages[self.outcome])
            self._history = {prompt_id: {"outputs": self.outputs, "status": status}}
        self._running_id = None
        for socket in self._listeners:
            await socket.send_json({"type": "executing", "data": {"node": None, "prompt_id": prompt_id}})

    def _is_stopped(self) -> bool:
        """As in ComfyUI, a queued graph is deleted, and a running one interrupted."""
        return bool(self.deleted_ids) if self.is_other_running else bool(self.interrupted_ids)

    async def _get_file(self, request: web.Request) -> web.Response:
        name = "/".join(request.query[part] for part in ("type", "subfolder", "filename"))
        return web.Response(body=self.files[name]) if name in self.files else web.Response(status=404, text="no such")


class FakeServer:
    """A context manager that serves the fake at `url`, in a thread."""

    def __init__(self, fake: FakeComfyUI) -> None:
        self.fake, self.url = fake, ""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._ready = threading.Event()

    def __enter__(self) -> FakeServer:
        self._thread.start()
        assert self._ready.wait(20)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(20)

    def _serve(self) -> None:
        runner = web.AppRunner(self.fake.make_application(), access_log=None, shutdown_timeout=0.2)
        self._loop.run_until_complete(runner.setup())
        site = web.TCPSite(runner, "127.0.0.1", 0)
        self._loop.run_until_complete(site.start())
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        self._ready.set()
        self._loop.run_forever()
        self._loop.run_until_complete(runner.cleanup())
        self._loop.run_until_complete(self._cancel_tasks())
        self._loop.close()

    async def _cancel_tasks(self) -> None:
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


def wait_until(condition: Callable[[], object], seconds: float = 60) -> None:
    """Waits until something is so."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came to pass"
        time.sleep(0.02)
