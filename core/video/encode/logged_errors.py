"""Errors of FFmpeg with the line that it logs for them."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import av.logging


@contextmanager
def logged_errors() -> Generator[None, None, None]:
    """Let errors of FFmpeg carry the line that it logs for them; see `error_message`.

    Muxers give most reasons there only, and PyAV drops the log unless a level is set. No video is to be decoded
    meanwhile: the threads of its decoder would wait for Python to log.
    """
    if av.logging.get_level() is not None:  # The application receives the log.
        yield
        return
    av.logging.set_level(av.logging.ERROR)
    try:
        with av.logging.Capture(local=False):
            yield
    finally:
        av.logging.set_level(None)
