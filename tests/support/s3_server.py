"""A server that speaks S3 (moto's), on this machine, whose replies can be made to fail."""

from __future__ import annotations

import socket
import time
from collections import Counter
from collections.abc import Callable, Iterable
from threading import Thread
from typing import Any

BUCKET = "clips"
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "never-in-a-log",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": "/nonexistent",
    "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
}
SLOW_SECONDS = 0.2
_ERROR = b"<?xml version='1.0'?><Error><Code>%s</Code><Message>%s</Message></Error>"


class S3Server:
    """Serves S3 at `url`, until `stop`. requests: how often each method was used.

    fault: called with the method, the path and the number of the request; returns "reset", "500", "503", "slow",
    "partial" (half of the body) or "lost" (the request is carried out, and its reply is not sent), or None.
    """

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.fault: Callable[[str, str, int], str | None] = lambda method, path, number: None
        # Imported here, as every worker collects all tests, and one runs those of this server.
        from moto.moto_server import werkzeug_app
        from werkzeug.serving import make_server

        self._app = werkzeug_app.DomainDispatcherApplication(werkzeug_app.create_backend_app)
        handler = werkzeug_app.MotoRequestHandler
        self._server = make_server("127.0.0.1", 0, self._respond, True, request_handler=handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def clear(self) -> None:
        self.fault = lambda method, path, number: None
        self.requests.clear()
        self.faults.clear()

    def _respond(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        self.requests[method] += 1
        kind = self.fault(method, path, self.requests.total())
        if kind is not None:
            self.faults[kind] += 1
        if kind == "reset":
            return _reset(environ)
        if kind in ("500", "503"):
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            name = (b"InternalError", b"try again") if kind == "500" else (b"SlowDown", b"reduce your request rate")
            start_response(f"{kind} {name[0].decode()}", [("Content-Type", "application/xml")])
            return [_ERROR % name]
        if kind == "slow":
            time.sleep(SLOW_SECONDS)
        reply = self._app(environ, start_response)
        if kind == "lost":
            b"".join(reply)
            return _reset(environ)
        if kind == "partial":
            body = b"".join(reply)
            return _Cut(body[: len(body) // 2], environ)  # after a header with the whole length
        return reply


class _Cut:
    """Part of a body, after which the connection ends."""

    def __init__(self, body: bytes, environ: dict[str, Any]) -> None:
        self._body, self._environ = body, environ

    def __iter__(self) -> Iterable[bytes]:
        yield self._body
        _reset(self._environ)


def _reset(environ: dict[str, Any]) -> list[bytes]:
    """End the connection without a reply."""
    connection: socket.socket = environ["werkzeug.socket"]
    connection.shutdown(socket.SHUT_RDWR)
    raise ConnectionError("a fault of the test")
