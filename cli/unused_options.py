"""Warnings about options that have no effect on this clip.

They are no errors: a script may give the same options for clips of all kinds.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ..core.smoothing.smooth import Smoothing
from ..core.video.images.sequence_paths import is_image_sequence, is_image_source
from .io_options import DEFAULT_FPS

log = logging.getLogger(__name__)


def warn_of_unused_options(args: argparse.Namespace) -> None:
    """Log each option that has no effect, and what it needs."""
    with suppress(OSError, ValueError):  # of a name that the command refuses
        for message in _unused_options(args):
            log.warning("%s", message)


def _unused_options(args: argparse.Namespace) -> Iterator[str]:
    if args.fps != DEFAULT_FPS and not is_image_source(Path(args.input)):
        yield f"--fps has no effect: {args.input} has a frame rate of its own; it is for images, which have none"
    if args.bits is not None and not is_image_sequence(Path(args.output)):
        yield (
            f"--bits has no effect: {args.output} is a video; it is for PNG images, and --pixel-format is for videos"
        )
    if getattr(args, "reference", None) is not None and args.smoothing != Smoothing.LOCKED and not args.horizon:
        yield "--reference has no effect: it is for --smoothing locked, or a --horizon above 0; add one of them"
