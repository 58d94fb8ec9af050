"""Warnings about options that have no effect on this clip.

They are no errors: a script may give the same options for clips of all kinds.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ..core.clip import ClipError
from ..core.smoothing.smooth import Smoothing
from ..core.video.encode.codecs import Encoding, codec_for, container_for
from ..core.video.images.sequence_paths import is_image_sequence, is_image_source
from .io_options import DEFAULT_FPS

log = logging.getLogger(__name__)


def warn_of_unused_options(args: argparse.Namespace) -> None:
    """Log each option that has no effect, and what it needs."""
    with suppress(OSError, ValueError, ClipError):  # of what the command refuses
        for message in _unused_options(args):
            log.warning("%s", message)


def _unused_options(args: argparse.Namespace) -> Iterator[str]:
    if args.fps != DEFAULT_FPS and not is_image_source(Path(args.input)):
        yield f"--fps has no effect: {args.input} has a frame rate of its own; it is for images, which have none"
    if args.bits is not None and not is_image_sequence(Path(args.output)):
        yield (
            f"--bits has no effect: {args.output} is a video; it is for PNG images, and --pixel-format is for videos"
        )
    if args.preset is not None and (name := _codec_without_presets(args)):
        yield f"--preset has no effect: {name} has no presets; they are for h264, hevc and av1"
    if getattr(args, "reference", None) is not None and args.smoothing != Smoothing.LOCKED and not args.horizon:
        yield "--reference has no effect: it is for --smoothing locked, or a --horizon above 0; add one of them"


def _codec_without_presets(args: argparse.Namespace) -> str | None:
    """The encoder of OUT, if it has no presets."""
    target = Path(args.output)
    if is_image_sequence(target):
        return "PNG"
    codec = codec_for(target, container_for(target), Encoding(args.codec))
    return codec.encoder if codec.preset is None else None
