"""An HTTP and websocket client of a ComfyUI server.

Files are uploaded, a graph is run, and its results are downloaded. The server's queue and history decide what becomes
of a run; they are polled every few seconds. The websocket only makes that faster and reports progress, so that a run is
followed to its end even when the websocket breaks.
Needs aiohttp, which `steadyscale[run]` installs.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from base64 import b64encode
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar
from urllib.parse import quote

from ..runtime.files.atomic_write import atomic_path
from .messages import decode_event, extract_outputs, format_refusal, http_status_hint, parse_event, strip_control_chars
from .responses import AnswerUnusable, check_announced_size, describe_response, describe_too_large, parse_json
from .workflow import Prompt, RunError, RunRefused, json_object

if TYPE_CHECKING:
    import aiohttp

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_SECONDS = 15.0  # until a connection must be established
READ_TIMEOUT_SECONDS = 60.0  # for the next data of an established connection
MIN_UPLOAD_BYTES_PER_SECOND = 50_000  # a slower upload is given up
MAX_OUTAGE_SECONDS = 120.0  # how long a server may be unreachable while it runs a graph
POLL_SECONDS = 5.0  # between requests for a run's state while the websocket is quiet
MAX_DOWNLOAD_BYTES = 64 * 2**30  # of one result, unless the caller allows more
_DOWNLOAD_ATTEMPTS = 3

ProgressCallback: TypeAlias = "Callable[[str, int, int | None], None]"
"""Called with (what is being done, amount done, total amount; None if unknown)."""
EventCallback: TypeAlias = "Callable[[str, dict[str, Any]], None]"
"""Called with (type, data) of each message of the websocket, see `messages.decode_event`."""
_Result = TypeVar("_Result")


async def with_timeout(seconds: float, coroutine: Coroutine[Any, Any, _Result]) -> _Result:
    """Await a coroutine, at most for some seconds.

    On a timeout it is cancelled and awaited, then asyncio.TimeoutError is raised. `asyncio.wait_for` of Python 3.10 and
    3.11 is not used, because it swallows a cancellation (Ctrl-C) that arrives when the coroutine finishes.
    """
    task = asyncio.ensure_future(coroutine)
    try:
        await asyncio.wait({task}, timeout=seconds)
    finally:
        over = task.done()
        if not over:
            task.cancel()
            await asyncio.wait({task})
    if not over:
        raise asyncio.TimeoutError
    return task.result()


class ComfyClient:
    """A ComfyUI server; `connect` returns it.

    Methods raise RunError with the server's message.
    """

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self._url, self._session = url, session
        self._socket: aiohttp.ClientWebSocketResponse[Any] | None = None
        self.client_id = uuid.uuid4().hex

    async def get_node_definition(self, class_type: str) -> dict[str, Any]:
        """The server's definition of a node class; empty if it has none."""
        answer = await self._request_json("GET", f"/object_info/{quote(class_type, safe='')}")
        return json_object(json_object(answer).get(class_type))

    async def upload(self, path: Path) -> str:
        """Upload a file into the server's input folder, and return its name there.

        The server changes a name that other files have.
        """
        import aiohttp

        with path.open("rb") as file:
            form = aiohttp.FormData(quote_fields=False)
            form.add_field("image", file, filename=path.name)
            form.add_field("type", "input")
            timeout = aiohttp.ClientTimeout(
                total=READ_TIMEOUT_SECONDS + path.stat().st_size / MIN_UPLOAD_BYTES_PER_SECOND,
                sock_connect=CONNECT_TIMEOUT_SECONDS,
            )
            answer = await self._request_json(
                "POST", "/upload/image", data=form, timeout=timeout, hint=f"{path} was not accepted"
            )
        try:
            folder, name = str(answer.get("subfolder") or ""), str(answer["name"])
        except (AttributeError, KeyError) as error:
            raise RunError(f"{path}: the server did not say where it put it") from error
        return f"{folder}/{name}" if folder else name

    async def queue_prompt(self, prompt: Prompt, run_id: str) -> str:
        """Queue a graph, and return its run id.

        run_id: the proposed id; some servers choose another. A graph of which the server refuses a part is not run at
        all.
        """
        body = {"prompt": prompt, "client_id": self.client_id, "prompt_id": run_id}
        async with self._request("POST", "/prompt", json=body) as reply:
            answer = await parse_json(reply)
        details = json_object(answer)
        if reply.status != 200 or not isinstance(answer, dict):
            raise RunRefused(format_refusal(prompt, reply.status, answer), details)
        run_id = str(details.get("prompt_id") or run_id)
        if details.get("node_errors"):
            await self.cancel_run(run_id)
            raise RunRefused(format_refusal(prompt, reply.status, answer), details)
        return run_id

    async def open_events(self) -> None:
        """Open the websocket before a graph is queued, so that no message is missed.

        `wait_for_outputs` then reads messages first, and asks for the state of the run when they pause.
        """
        self._socket = await self._open_websocket()

    async def close_events(self) -> None:
        """Close a websocket of `open_events` that no run has used."""
        socket, self._socket = self._socket, None
        await _close_websocket(socket)

    async def wait_for_outputs(
        self,
        run_id: str,
        prompt: Prompt,
        on_progress: ProgressCallback = lambda label, done, total: None,
        *,
        on_event: EventCallback | None = None,
        max_outage_seconds: float | None = None,
    ) -> dict[str, Any]:
        """Wait for the end of a run, and return its outputs by node id.

        The outputs are those of the server's history. max_outage_seconds: how long the server may be unreachable; None
        takes MAX_OUTAGE_SECONDS.
        """
        max_outage = MAX_OUTAGE_SECONDS if max_outage_seconds is None else max_outage_seconds
        last_answer, socket, self._socket = time.monotonic(), self._socket, None
        try:
            if socket:
                await _receive_progress(socket, run_id, prompt, on_progress, on_event)
            while True:
                try:
                    # The queue first: a run that has left it by then is in the history.
                    ahead = await self._queue_position(run_id)
                    entry = await self._history_entry(run_id)
                except AnswerUnusable:
                    raise
                except RunError as error:
                    if time.monotonic() - last_answer > max_outage:
                        raise RunError(f"{error}\nThe run {run_id} may continue there") from error
                    on_progress("waiting for the server to answer", 0, None)
                else:
                    last_answer = time.monotonic()
                    if entry:
                        return self._extract_outputs(entry, prompt)
                    if ahead is None:
                        raise RunError(f"the server knows nothing of the run {run_id}; was it restarted?")
                    if ahead:
                        on_progress(f"in the queue behind {ahead}", 0, None)
                socket = socket if socket and not socket.closed else await self._open_websocket()
                await _receive_progress(socket, run_id, prompt, on_progress, on_event)
        finally:
            await _close_websocket(socket)

    def _extract_outputs(self, entry: dict[str, Any], prompt: Prompt) -> dict[str, Any]:
        try:
            outputs = extract_outputs(entry, prompt)
        except (AttributeError, IndexError, KeyError, TypeError) as error:
            raise AnswerUnusable(f"{self._url} does not answer as a ComfyUI does") from error
        return {str(node): json_object(output) for node, output in json_object(outputs).items()}

    async def cancel_run(self, run_id: str) -> None:
        """Remove a run from the queue, or interrupt it; other runs continue."""
        await self._request_json("POST", "/queue", json={"delete": [run_id]})
        if await self._queue_position(run_id) == 0:
            await self._request_json("POST", "/interrupt", json={"prompt_id": run_id})

    async def download(self, item: dict[str, Any], target: Path, max_bytes: int = MAX_DOWNLOAD_BYTES) -> None:
        """Download an output file; it appears under its name when it is complete.

        max_bytes: the largest file that is accepted, decompressed. Raises RunError also for a file that is larger or
        smaller than the server announced, or does not fit on the disk.
        """
        query = {key: str(item.get(key) or "") for key in ("filename", "subfolder", "type")}
        for attempt in range(1, _DOWNLOAD_ATTEMPTS + 1):
            try:
                async with self._request("GET", "/view", params=query) as reply:
                    if reply.status != 200:
                        raise RunError(f"{query['filename']} cannot be downloaded: {await describe_response(reply)}")
                    announced = check_announced_size(reply, query["filename"], target, max_bytes)
                    with atomic_path(target) as partial, partial.open("wb") as file:
                        async for piece in reply.content.iter_chunked(2**18):
                            file.write(piece)
                            if file.tell() > min(max_bytes, announced or max_bytes):
                                raise RunError(describe_too_large(query["filename"], announced, max_bytes))
                        if not file.tell():
                            raise RunError(f"{query['filename']} is empty on the server")
                        if announced is not None and file.tell() < announced:
                            raise _ConnectionLost(
                                f"{query['filename']} ended after {file.tell()} of {announced} bytes; try again"
                            )
                return
            except _ConnectionLost:
                if attempt == _DOWNLOAD_ATTEMPTS:
                    raise
                await asyncio.sleep(1)
            except OSError as error:
                raise RunError(f"{target} cannot be written: {error.strerror or error}") from error

    async def _queue_position(self, run_id: str) -> int | None:
        """0: it is running, n: it waits behind n others, None: it is not queued."""
        queue = await self._request_json("GET", "/queue")
        try:
            running, pending = queue["queue_running"], sorted(queue["queue_pending"], key=lambda item: item[0])
            order = [str(item[1]) for item in pending]
            if run_id in (str(item[1]) for item in running):
                return 0
        except (IndexError, KeyError, TypeError) as error:
            raise RunError(f"{self._url} does not answer as a ComfyUI does") from error
        return len(running) + order.index(run_id) if run_id in order else None

    async def _history_entry(self, run_id: str) -> dict[str, Any] | None:
        """The history's entry of a run; None until it is finished."""
        history = await self._request_json("GET", f"/history/{run_id}")
        return json_object(history).get(run_id)

    async def _open_websocket(self) -> aiohttp.ClientWebSocketResponse[Any] | None:
        import aiohttp

        connecting = self._session.ws_connect(
            f"{self._url}/ws", params={"clientId": self.client_id}, heartbeat=20, max_msg_size=2**26
        )
        try:
            return await with_timeout(CONNECT_TIMEOUT_SECONDS, connecting)
        except (aiohttp.ClientError, OSError, asyncio.TimeoutError) as error:
            log.info("no progress is available, because the websocket does not open: %s", error)
            return None

    async def _request_json(self, method: str, path: str, *, hint: str = "", **body: Any) -> Any:
        async with self._request(method, path, **body) as reply:
            if reply.status != 200:
                start = hint or f"{self._url} does not do what a ComfyUI does"
                raise RunError(f"{start}: {await describe_response(reply)}{http_status_hint(reply.status)}")
            answer = await parse_json(reply)
        if answer is None and method == "GET":
            raise RunError(f"{self._url} does not answer as a ComfyUI does")
        return answer

    @asynccontextmanager
    async def _request(self, method: str, path: str, **body: Any) -> AsyncGenerator[aiohttp.ClientResponse, None]:
        """Send a request and yield the response, whatever its status.

        Redirects are refused: requests go to the user's address only.
        """
        import aiohttp

        try:
            async with self._session.request(method, self._url + path, allow_redirects=False, **body) as reply:
                if 300 <= reply.status < 400:
                    elsewhere = strip_control_chars(reply.headers.get("Location", "nowhere"))
                    raise RunError(f"{self._url} points to {elsewhere}; name that")
                yield reply
        except (aiohttp.ClientError, asyncio.TimeoutError, ConnectionError) as error:
            if isinstance(error, asyncio.TimeoutError):
                reason = f"it sent nothing for {READ_TIMEOUT_SECONDS:g} s"
            else:
                reason = strip_control_chars(str(error)) or type(error).__name__
            raise _ConnectionLost(f"{self._url} does not answer: {reason}") from error


class _ConnectionLost(RunError):
    """The connection was lost; a second attempt may succeed."""


@asynccontextmanager
async def connect(url: str) -> AsyncGenerator[ComfyClient, None]:
    """Connect to the ComfyUI at `url`.

    The URL may have a path and, before an @, a name and a password.
    """
    try:
        import aiohttp
        from yarl import URL
    except ImportError as error:
        raise RunError('running graphs on a server needs aiohttp: pip install "steadyscale[run]"') from error
    try:
        address = URL(url.strip())
        if address.scheme not in ("http", "https") or not address.host:
            raise ValueError("it needs to begin with http:// or https://")
    except ValueError as error:
        raise RunError(f"{url} is no address of a server: {error}; such as http://127.0.0.1:8188") from error
    login = b64encode(f"{address.user}:{address.password or ''}".encode()).decode()
    headers = {"Authorization": f"Basic {login}"} if address.user else {}
    visible = str(address.with_user(None).with_query(None).with_fragment(None)).rstrip(
        "/"
    )  # messages contain no password
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_SECONDS, sock_read=READ_TIMEOUT_SECONDS)
    # A proxy of the environment is not for servers on this machine.
    is_remote = address.host not in ("localhost", "127.0.0.1", "::1")
    async with aiohttp.ClientSession(timeout=timeout, headers=headers, trust_env=is_remote) as session:
        client = ComfyClient(visible, session)
        try:
            yield client
        finally:
            await client.close_events()


async def _close_websocket(socket: aiohttp.ClientWebSocketResponse[Any] | None) -> None:
    if socket:
        with contextlib.suppress(Exception):
            await with_timeout(5, socket.close())


async def _receive_progress(
    socket: aiohttp.ClientWebSocketResponse[Any] | None,
    run_id: str,
    prompt: Prompt,
    on_progress: ProgressCallback,
    on_event: EventCallback | None,
) -> None:
    """Report the websocket's messages until the state of the run is to be polled.

    That is when the run may have ended, after POLL_SECONDS, or when the websocket is closed.
    """
    import aiohttp

    until = time.monotonic() + POLL_SECONDS
    if socket is None:
        await asyncio.sleep(1)
    while socket and (left := until - time.monotonic()) > 0:
        try:
            message = await socket.receive(left)
        except asyncio.TimeoutError:
            return
        if message.type not in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):  # it is closing, closed or broken
            await asyncio.sleep(1)
            return
        if on_event and (event := decode_event(message.data)):
            on_event(*event)
        if message.type == aiohttp.WSMsgType.BINARY:
            continue
        over, news = parse_event(message.data, run_id, prompt)
        if over:
            return
        if news:
            on_progress(*news)
