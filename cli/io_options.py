"""Options of commands from clip to clip: source, target, encoding, resuming."""

from __future__ import annotations

import argparse
from fractions import Fraction
from typing import Any

from ..core.jobs.segments import SEGMENT_SECONDS
from ..core.video.decode.corruption_report import OnDamage
from ..core.video.decode.hwaccel import HWACCELS
from ..core.video.decode.packets.demux import MAX_PIXELS
from ..core.video.encode.codecs import CODECS, ENCODERS, Encoding
from .arg_types import add_enum_option, frame_rate, positive_float
from .device_options import add_device_option
from .progress import ProgressBars

SOURCE_HELP = "a video file, a folder of images, or a pattern such as frame_%%04d.png"
URL_HELP = "or a video file in a store, such as s3://bucket/clip.mp4 (extra cloud)"


def add_fps_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--fps", type=frame_rate, default=Fraction(24), help="frames per second of images (default 24)")


def add_encoding_options(parser: argparse.ArgumentParser) -> None:
    default = Encoding()
    parser.add_argument(
        "--codec", choices=tuple(CODECS), default=default.codec, help="default: what suits the file name's extension"
    )
    parser.add_argument(
        "--crf", type=int, default=default.crf, help="quality, lower is better and larger (default: as good as visible)"
    )
    parser.add_argument("--preset", default=default.preset, help="the encoder's own word for speed against size")
    parser.add_argument(
        "--pixel-format",
        default=default.pixel_format,
        help="such as yuv420p, which plays everywhere (default: bit depth and chroma of IN)",
    )
    parser.add_argument(
        "--encoder",
        choices=ENCODERS,
        default=default.encoder,
        help="encode on the CPU (software) or with the video encoder of a GPU; where that fails, a message states "
        f"why and the CPU encodes (default {default.encoder})",
    )
    parser.add_argument(
        "--bits",
        type=int,
        choices=(8, 16),
        default=None,
        help="per channel of PNG images (default: 16 if IN has more than 8)",
    )
    parser.add_argument("--max-pixels", type=int, default=MAX_PIXELS, help="largest frame to accept, in pixels")


def add_io_options(parser: argparse.ArgumentParser) -> None:
    """Add IN and OUT, and the options for resuming and for corrupt sources."""
    add_device_option(parser)
    _add_resume_options(parser)
    add_decoding_options(parser)
    parser.add_argument("input", metavar="IN", help=f"{SOURCE_HELP}; {URL_HELP}")
    parser.add_argument("output", metavar="OUT", help=f"{SOURCE_HELP}; images are PNG; {URL_HELP}")


def add_decoding_options(parser: argparse.ArgumentParser) -> None:
    about = "at damaged frames of IN, stop, or keep what the decoder makes of them, repeat the rest, and count"
    add_enum_option(parser, "--on-damage", OnDamage.FAIL, about)
    parser.add_argument(
        "--hwaccel",
        choices=HWACCELS,
        default="none",
        help="decode IN with the video decoder of a GPU; where that fails, a message states why and the CPU decodes "
        "the same frames (default none)",
    )


def _add_resume_options(parser: argparse.ArgumentParser) -> None:
    about = "keep what is finished beside OUT, so that the same command goes on where a run was stopped or killed"
    parser.add_argument("--resumable", action="store_true", help=about)
    parser.add_argument("--job", metavar="FOLDER", help="the same, kept in this folder, or below this URL")
    parser.add_argument(
        "--segment-seconds",
        type=positive_float,
        default=SEGMENT_SECONDS,
        metavar="S",
        help=f"how much of the clip a stopped run can lose at most (default {SEGMENT_SECONDS:g})",
    )
    parser.set_defaults(keeps=_is_resumable)


def _is_resumable(args: argparse.Namespace) -> bool:
    return bool(args.resumable or args.job)


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
