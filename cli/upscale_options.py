"""Options of commands that upscale, and the settings that they stand for."""

from __future__ import annotations

import argparse
from dataclasses import replace

from ..core.upscaling.settings import (
    DEFAULT_DEFLICKER_STRENGTH,
    Alpha,
    ColorCorrection,
    OutputSize,
    PostProcess,
    Reuse,
    UpscaleSettings,
)
from .arg_types import (
    add_enum_option,
    change_threshold,
    deflicker_strength,
    frame_size,
    positive_float,
    unit_float,
)
from .device_options import inference_settings


def add_upscale_options(parser: argparse.ArgumentParser) -> None:
    """Add the options; their defaults are those of `UpscaleSettings`."""
    settings = UpscaleSettings()
    post = settings.postprocess
    parser.add_argument(
        "--model",
        help="a weight file, or a name from `steadyscale models list` (default: steadyscale-restore-2x, and "
        "steadyscale-restore-4x above twice the size)",
    )
    target = parser.add_mutually_exclusive_group()
    target.add_argument("--scale", type=positive_float, help="times each side (default: the network's own scale)")
    target.add_argument("--size", type=frame_size, metavar="WxH", help="exactly this many pixels")
    parser.add_argument(
        "--strength",
        type=unit_float,
        default=post.strength,
        help=f"1: the network alone, 0: a plain resize, between: a blend (default {post.strength:g})",
    )
    add_enum_option(
        parser,
        "--color",
        post.color_correction,
        "what of the source's color to take back",
        deprecated_name="--colour",
        dest="colour",
    )
    add_enum_option(parser, "--alpha", settings.alpha, "how alpha is upscaled by networks that do not take it")
    parser.add_argument(
        "--grain", type=unit_float, default=post.grain, help=f"film grain, from 0 to 1 (default {post.grain:g})"
    )
    parser.add_argument("--linear-light", action="store_true", help="resize light, not stored values; slower")
    parser.add_argument(
        "--temporal",
        type=deflicker_strength,
        metavar="STRENGTH",
        help="take out flicker and crawling detail by blending each frame with the last result along the motion, "
        f"from 0 (none) to 1; {DEFAULT_DEFLICKER_STRENGTH} suits most clips; auto: weak for video with "
        "steadyscale-restore, none otherwise (default auto)",
    )
    same = parser.add_mutually_exclusive_group()
    same.add_argument(
        "--repeat-threshold",
        type=change_threshold,
        default=settings.reuse.threshold,
        metavar="STEPS",
        help="largest change of any pixel, in steps of 1/255, that counts as none "
        f"(default {settings.reuse.threshold:g}: only what is identical)",
    )
    same.add_argument("--no-reuse", action="store_true", help="run the network on frames and tiles that did not change")


def upscale_settings(args: argparse.Namespace) -> UpscaleSettings:
    """Return the settings, with those of the options of `add_inference_options`."""
    return replace(
        inference_settings(args),
        size=OutputSize(factor=args.scale, size=args.size),
        reuse=Reuse(enabled=not args.no_reuse, threshold=args.repeat_threshold),
        postprocess=PostProcess(args.strength, ColorCorrection(args.colour), args.grain, args.linear_light),
        alpha=Alpha(args.alpha),
    )
