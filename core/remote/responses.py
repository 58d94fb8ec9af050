"""Read responses of a ComfyUI server: JSON, announced sizes and errors."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .messages import strip_control_chars
from .workflow import RunError

if TYPE_CHECKING:
    import aiohttp

MAX_JSON_BYTES = 64 * 2**20  # of one answer, decompressed; histories and definitions of all nodes take a few MB


class AnswerUnusable(RunError):
    """An answer that no ComfyUI sends; a second attempt would fail too."""


async def parse_json(reply: aiohttp.ClientResponse) -> Any:
    """The JSON of an answer; None where it is none.

    Raises RunError for what is too large or nested too deeply.
    """
    body = bytearray()
    async for piece in reply.content.iter_chunked(2**18):  # decompressed, so that a gzip bomb is stopped here too
        body += piece
        if len(body) > MAX_JSON_BYTES:
            raise AnswerUnusable(
                f"the server's answer is larger than {MAX_JSON_BYTES // 2**20} MB, which no ComfyUI sends"
            )
    try:
        return json.loads(body.decode(errors="replace"))
    except ValueError:
        return None
    except RecursionError as error:
        raise AnswerUnusable("the server's answer is nested too deeply, as no ComfyUI's is") from error


def check_announced_size(reply: aiohttp.ClientResponse, name: str, target: Path, max_bytes: int) -> int | None:
    """The size in bytes that the server announces for a file.

    None where it does not, or compresses the file.

    Raises RunError for one that is too large.
    """
    size = reply.content_length if not reply.headers.get("Content-Encoding") else None
    if size is not None and size > max_bytes:
        raise RunError(describe_too_large(name, size, max_bytes))
    free = shutil.disk_usage(target.parent).free
    if size is not None and size > free:
        raise RunError(f"{target} needs {size / 1e6:.1f} MB and {free / 1e6:.1f} MB are free; free some disk space")
    return size


def describe_too_large(name: str, announced: int | None, max_bytes: int) -> str:
    """The message for a file above its announced or its allowed size."""
    if announced is not None and announced <= max_bytes:
        return f"{name}: the server sends more than the {announced} bytes that it announced"
    return f"{name} is larger than {max_bytes / 1e6:g} MB; --max-mb allows more"


async def describe_response(reply: aiohttp.ClientResponse) -> str:
    """The status and the start of the body."""
    page = "html" in reply.headers.get("Content-Type", "")
    body = (
        "" if page else " ".join(strip_control_chars((await reply.content.read(2000)).decode(errors="replace")).split())
    )
    return f"HTTP {reply.status} {reply.reason or ''}{': ' if body else ''}{body[:300]}".strip()
