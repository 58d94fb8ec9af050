"""The error of a batch."""

from __future__ import annotations


class BatchFailed(Exception):
    """Clips of a batch failed; the message has a line for each."""
