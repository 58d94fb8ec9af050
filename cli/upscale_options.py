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
    group = parser.add_argument_group("upscaling")
    group.add_argument(
        "--model",
        help="a weight file, or a name from `steadyscale models list` (default: steadyscale-restore-2x, or "
        "steadyscale-restore-4x for a scale above 2)",
    )
    target = group.add_mutually_exclusive_group()
    target.add_argument("--scale", type=positive_float, help="scale factor (default: that of the network)")
    target.add_argument("--size", type=frame_size, metavar="WxH", help="output size in pixels")
    group.add_argument(
        "--strength",
        type=unit_float,
        default=post.strength,
        help=f"blend of a plain resize (0) and the network (1) (default {post.strength:g})",
    )
    add_enum_option(
        group,
        "--color",
        post.color_correction,
        "color correction towards the source: the mean of each frame, or all low frequencies",
        deprecated_name="--colour",
        dest="colour",
    )
    add_enum_option(group, "--alpha", settings.alpha, "how to upscale alpha, if the network takes RGB only")
    group.add_argument(
        "--grain",
        type=unit_float,
        default=post.grain,
        help=f"strength of added film grain, from 0 to 1 (default {post.grain:g})",
    )
    group.add_argument("--linear-light", action="store_true", help="resize in linear light; slower")
    group.add_argument(
        "--temporal",
        type=deflicker_strength,
        metavar="STRENGTH",
        help="deflicker: blend each frame with the previous result along the motion, from 0 (off) to 1; "
        f"{DEFAULT_DEFLICKER_STRENGTH} suits most clips; auto: weak for video with steadyscale-restore, off otherwise "
        "(default auto)",
    )
    same = group.add_mutually_exclusive_group()
    same.add_argument(
        "--repeat-threshold",
        type=change_threshold,
        default=settings.reuse.threshold,
        metavar="STEPS",
        help="reuse the output of regions in which no pixel changes by more than this, in steps of 1/255 "
        f"(default {settings.reuse.threshold:g}: of identical regions)",
    )
    same.add_argument("--no-reuse", action="store_true", help="run the network on unchanged frames and tiles as well")


def upscale_settings(args: argparse.Namespace) -> UpscaleSettings:
    """Return the settings, with those of the options of `add_inference_options`."""
    return replace(
        inference_settings(args),
        size=OutputSize(factor=args.scale, size=args.size),
        reuse=Reuse(enabled=not args.no_reuse, threshold=args.repeat_threshold),
        postprocess=PostProcess(args.strength, ColorCorrection(args.colour), args.grain, args.linear_light),
        alpha=Alpha(args.alpha),
    )
