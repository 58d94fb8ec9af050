"""Options of commands from clip to clip: source, target, encoding, resuming."""

from __future__ import annotations

import argparse
from fractions import Fraction
from typing import Any

from ..core.jobs.segments import SEGMENT_SECONDS
from ..core.storage.location import ObjectUrl, parse_location
from ..core.video.decode.corruption_report import OnDamage
from ..core.video.decode.hwaccel import HWACCELS
from ..core.video.decode.packets.demux import MAX_PIXELS
from ..core.video.encode.codecs import CODECS, ENCODERS, Encoding
from .arg_types import add_enum_option, frame_rate, integer, positive_float
from .device_options import add_device_option
from .progress import ProgressBars

DEFAULT_FPS = Fraction(24)
SOURCE_HELP = "a video file, a folder of images, or a pattern such as frame_%%04d.png"
URL_HELP = "or the URL of a video file, such as s3://bucket/clip.mp4 (extra cloud)"


def add_fps_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--fps", type=frame_rate, default=DEFAULT_FPS, help="frame rate of image sequences (default 24)"
    )


def add_encoding_options(parser: argparse.ArgumentParser) -> None:
    group, default = parser.add_argument_group("encoding"), Encoding()
    group.add_argument(
        "--codec",
        choices=tuple(CODECS),
        default=default.codec,
        help="video codec (default: by the file name extension)",
    )
    group.add_argument(
        "--crf",
        type=integer,
        default=default.crf,
        help="constant quality; lower is better (default: visually lossless)",
    )
    group.add_argument("--preset", default=default.preset, help="encoder preset: speed against file size")
    group.add_argument(
        "--pixel-format",
        default=default.pixel_format,
        help="such as yuv420p, which plays everywhere (default: bit depth and chroma subsampling of IN)",
    )
    group.add_argument(
        "--encoder",
        choices=ENCODERS,
        default=default.encoder,
        help="software encoder, or the hardware encoder of a GPU with fallback to software, which is reported "
        f"(default {default.encoder})",
    )
    group.add_argument(
        "--bits",
        type=integer,
        choices=(8, 16),
        default=None,
        help="bits per channel of PNG images (default: 16 if IN has more than 8)",
    )
    group.add_argument(
        "--max-pixels", type=integer, default=MAX_PIXELS, help=f"largest frame size to accept (default {MAX_PIXELS})"
    )


def add_io_options(parser: argparse.ArgumentParser) -> None:
    """Add IN and OUT, and the options for resuming and for corrupt sources."""
    add_device_option(parser)
    _add_resume_options(parser)
    add_decoding_options(parser)
    parser.add_argument("input", metavar="IN", help=f"{SOURCE_HELP}; {URL_HELP}")
    parser.add_argument("output", metavar="OUT", help=f"{SOURCE_HELP} (PNG); {URL_HELP}")


def add_decoding_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("decoding")
    about = "at corrupt frames of IN: fail, or keep what the decoder conceals, repeat what is missing, and count both"
    add_enum_option(group, "--on-damage", OnDamage.FAIL, about)
    group.add_argument(
        "--hwaccel",
        choices=HWACCELS,
        default="none",
        help="hardware decoder, with fallback to software, which is reported; frames are the same (default none)",
    )


def _add_resume_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("resuming")
    about = "keep finished segments beside OUT; the same command resumes an interrupted run"
    group.add_argument("--resumable", action="store_true", help=about)
    group.add_argument("--job", metavar="FOLDER", help="the same, with the segments in this folder, or below this URL")
    group.add_argument(
        "--segment-seconds",
        type=positive_float,
        default=SEGMENT_SECONDS,
        metavar="S",
        help=f"length of a segment, the most that an interrupted run loses (default {SEGMENT_SECONDS:g})",
    )
    parser.set_defaults(keeps=_keeps_work)


def _keeps_work(args: argparse.Namespace) -> bool:
    """Whether there is a job folder; one in which nothing was finished is removed."""
    if not (args.resumable or args.job):
        return False
    from ..core.jobs.state.folder import default_job_folder

    folder = parse_location(args.job) if args.job else default_job_folder(args.output)
    return isinstance(folder, ObjectUrl) or folder.exists()


def run_options(args: argparse.Namespace, bars: ProgressBars) -> dict[str, Any]:
    """Return the keyword arguments that all functions of `core.api` share."""
    return {
        **file_options(args),
        "device": args.device,
        "resumable": args.resumable,
        "job": args.job or None,
        "segment_seconds": args.segment_seconds,
        "progress": bars.show,
    }


def file_options(args: argparse.Namespace) -> dict[str, Any]:
    """Return the part of `run_options` for reading and writing files."""
    return {
        "encoding": Encoding(args.codec, args.crf, args.preset, args.pixel_format, args.encoder),
        "bits": args.bits,
        "fps": args.fps,
        "max_pixels": args.max_pixels,
        "on_damage": OnDamage(args.on_damage),
        "hwaccel": args.hwaccel,
    }
