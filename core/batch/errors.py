"""The error of a batch."""

from __future__ import annotations


class BatchFailed(Exception):
    """Clips of a batch failed; the message has a line for each."""


def prefix_path(path: str, text: str) -> str:
    """Return the text after the path, with which it may begin already."""
    return text if text.startswith(f"{path}:") else f"{path}: {text}"
