"""Choose a pixel format that keeps the bit depth and the chroma of the source.

Choose the chroma location, too, which the encoder or the container stores in few formats only.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path

import av

from ..format.chroma_location import (
    CENTER,
    LEFT,
    TOP,
    TOP_LEFT,
    UNSPECIFIED_LOCATION,
    chroma_subsampling,
)
from ..format.stream_format import StreamFormat, bit_depth, has_alpha, is_rgb
from .codecs import Codec, check_pixel_format

log = logging.getLogger(__name__)

_PLANAR = re.compile(r"yuva?(420|422|444)p(\d+le)?|gbra?p(\d+le)?")


def choose_pixel_format(
    path: Path,
    codec: Codec,
    *,
    requested: str | None = None,
    source_format: StreamFormat | None = None,
    bits: int | None = None,
    is_transparent: bool = False,
    is_logged: bool = True,
) -> str:
    """Return the requested pixel format, or one that keeps what the source has.

    It is the codec's default if that is at least as deep as the source and has as much chroma, else the smallest format
    that does, else the one that loses least, which is logged if `is_logged`. RGB of 8 bits, such as GIF, becomes the
    default, because 4:4:4 plays in few players; YUV never becomes RGB.
    bits: least bit depth of frames, by default that of the source. is_transparent: whether the format needs alpha.
    Raises ClipError for a requested format that the encoder does not have.
    """
    if requested is not None:
        check_pixel_format(path, codec, requested)
        return requested
    default = codec.alpha_format if is_transparent and codec.alpha_format else codec.pixel_format
    check_pixel_format(path, codec, default)
    source = source_format.pixel_format if source_format else None
    bits = bits or (bit_depth(source) if source else 8)
    chroma = chroma_subsampling(source) if source and not _has_no_chroma_format(source) else (2, 2)
    if source and is_rgb(source) and bits <= 8:
        chroma = chroma_subsampling(default)
    candidates = [default, *(f for f in _planar_formats(codec) if has_alpha(f) == has_alpha(default))]
    prefer_rgb = is_rgb(default) and (source is None or is_rgb(source))
    candidates = [f for f in candidates if not is_rgb(f) or is_rgb(default)]

    def losses(pixel_format: str) -> tuple[int, int]:
        steps = chroma_subsampling(pixel_format)
        lost_chroma = sum(max(0, step - wanted) for step, wanted in zip(steps, chroma, strict=True))
        return max(0, bits - bit_depth(pixel_format)), lost_chroma

    def cost(pixel_format: str) -> tuple[object, ...]:
        return (
            *losses(pixel_format),
            is_rgb(pixel_format) != prefer_rgb,
            pixel_format != default,
            bit_depth(pixel_format),
            -sum(chroma_subsampling(pixel_format)),
        )

    chosen = min(candidates, key=cost)
    if is_logged:
        is_reduced = any(losses(chosen)) or _loses_rgb(source, chosen)
        _log_choice(path, codec, source, bits, chosen, is_reduced=is_reduced)
    return chosen


def stored_chroma_location(codec: str, muxer: str, pixel_format: str, wanted: int, *, is_hardware: bool) -> int:
    """Return the chroma location that readers of the file will assume.

    It is `wanted` where the file can store it. codec: a key of CODECS. muxer: FFmpeg's name. All locations are FFmpeg's
    constants.
    """
    subsampling = chroma_subsampling(pixel_format)
    if subsampling == (1, 1):
        return UNSPECIFIED_LOCATION
    is_420 = subsampling[1] == 2
    if is_hardware:  # drivers write no location; this is what decoders assume
        return CENTER if codec == "av1" else LEFT
    if codec == "h264":
        return wanted if is_420 else LEFT
    if codec == "hevc":
        return wanted if is_420 else CENTER
    if muxer in ("matroska", "webm"):
        kept = (LEFT, CENTER, TOP_LEFT, TOP)
    else:
        kept = (LEFT, CENTER, TOP_LEFT) if codec == "av1" else (CENTER,)
    return wanted if wanted in kept else kept[0]


def _planar_formats(codec: Codec) -> list[str]:
    formats = (f.name for f in av.Codec(codec.encoder, "w").video_formats or [])
    return [f for f in formats if _PLANAR.fullmatch(f)]


def _has_no_chroma_format(pixel_format: str) -> bool:
    """Whether it is gray."""
    return not is_rgb(pixel_format) and chroma_subsampling(pixel_format) == (1, 1) and "444" not in pixel_format


def _loses_rgb(source: str | None, chosen: str) -> bool:
    return source is not None and is_rgb(source) and chroma_subsampling(chosen) != (1, 1)


def _log_choice(path: Path, codec: Codec, source: str | None, bits: int, chosen: str, *, is_reduced: bool) -> None:
    """Log what the file loses, or that few players may decode it."""
    depth, chroma = bit_depth(chosen), chroma_subsampling(chosen)
    if is_reduced:
        losses = [f"{depth} bits in place of {bits}"] if depth < bits else []
        if source is not None:
            own = chroma_subsampling(source)
            if not _has_no_chroma_format(source) and any(
                step > wanted for step, wanted in zip(chroma, own, strict=True)
            ):
                losses.append(f"chroma of {_chroma_name(chroma)} in place of {_chroma_name(own)}")
            if has_alpha(source) and not has_alpha(chosen):
                losses.append("no alpha channel")
        log.warning(
            "%s: the source is %s, the result %s: %s; with %s nothing closer is written by default "
            "(--pixel-format, --codec)",
            path, source or f"{bits} bits", chosen, ", ".join(losses), codec.encoder,
        )  # fmt: skip
    elif codec.encoder == "libx264" and chosen not in ("yuv420p", "yuvj420p"):
        rare = [(f"{depth} bits", "8 bits")] if depth > 8 else []
        rare += [(f"chroma of {_chroma_name(chroma)}", "chroma of 4:2:0")] if chroma != (2, 2) else []
        kept, lost = (" and ".join(names) for names in zip(*rare, strict=True))
        hevc = "--codec hevc plays in more of them, and " if chroma == (2, 2) else ""
        log.warning(
            "%s: is H.264 with %s (%s), to lose nothing of the source; some players and browsers do not play that: "
            "%s--pixel-format yuv420p plays in all, with %s",
            path, kept, chosen, hevc, lost,
        )  # fmt: skip


def _chroma_name(subsampling: tuple[int, int]) -> str:
    """The usual name, such as 4:2:0, of what `chroma_subsampling` returns."""
    columns, rows = subsampling
    if rows > 1:
        return {1: "4:4:0", 2: "4:2:0", 4: "4:1:0"}.get(columns, f"1/{columns} x 1/{rows}")
    return f"4:{4 // columns}:{4 // columns}"
