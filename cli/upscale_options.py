"""Options of commands that enlarge, and the stages that they become."""

from __future__ import annotations

import argparse

from ..core.pipeline.pipeline import Pipeline
from ..core.upscaling.settings import (
    DEFAULT_DEFLICKER_STRENGTH,
    Alpha,
    ColorCorrection,
    OutputSize,
    PostProcess,
    Precision,
    Reuse,
    Tiling,
    UpscaleSettings,
    UpscaleStats,
)
from .arg_types import add_enum_option, change_threshold, frame_size, positive_float, unit_float
from .device_options import resolve_device


def add_upscale_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model",
        help="a weight file, or a name from `steadyscale models list` (default: steadyscale-2x, and steadyscale-4x "
        "above twice the size)",
    )
    target = parser.add_mutually_exclusive_group()
    target.add_argument("--scale", type=positive_float, help="times each side (default: the network's own scale)")
    target.add_argument("--size", type=frame_size, metavar="WxH", help="exactly this many pixels")
    parser.add_argument(
        "--strength",
        type=unit_float,
        default=1.0,
        help="1: the network alone, 0: a plain resize, between: a blend (default 1)",
    )
    add_enum_option(parser, "--colour", ColorCorrection.NONE, "what of the source's colours to take back")
    add_enum_option(parser, "--alpha", Alpha.RESIZE, "how alpha is enlarged by networks that do not take it")
    parser.add_argument("--grain", type=unit_float, default=0.0, help="film grain, from 0 to 1 (default 0)")
    parser.add_argument("--linear-light", action="store_true", help="resize light, not stored values; slower")
    parser.add_argument(
        "--temporal",
        type=unit_float,
        default=0.0,
        metavar="STRENGTH",
        help="take out flicker and crawling detail by blending each frame with the last result along the motion, "
        f"from 0 to 1 (default 0: none; {DEFAULT_DEFLICKER_STRENGTH} suits most clips)",
    )
    same = parser.add_mutually_exclusive_group()
    same.add_argument(
        "--repeat-threshold",
        type=change_threshold,
        default=0.0,
        metavar="STEPS",
        help="largest change of any pixel, in steps of 1/255, that counts as none (default 0: only what is identical)",
    )
    same.add_argument("--no-reuse", action="store_true", help="run the network on frames and tiles that did not change")


def add_upscale_ops(args: argparse.Namespace, pipeline: Pipeline, stats: UpscaleStats) -> Pipeline:
    """The recipe with the network that the arguments name. Only here torch is loaded: a clip that cannot be read, or a
    target that cannot be written, is told at once.
    """
    from ..core.pipeline.deflicker_op import DeflickerOp
    from ..core.pipeline.upscale_op import UpscaleOp
    from ..models import load_upscaler
    from ..models.zoo import zoo

    width, height = pipeline.info.width, pipeline.info.height
    factor = max(args.size[0] / width, args.size[1] / height) if args.size else args.scale
    grain = 0.0 if args.temporal else args.grain  # the temporal stage would average it away
    enlarge = UpscaleOp(
        load_upscaler(zoo.find_weights(args.model or zoo.select_bundled(factor).name)),
        UpscaleSettings(
            size=OutputSize(factor=args.scale, size=args.size),
            tiling=Tiling(args.tile),
            precision=Precision(args.precision),
            reuse=Reuse(enabled=not args.no_reuse, threshold=args.repeat_threshold),
            postprocess=PostProcess(args.strength, ColorCorrection(args.colour), grain, args.linear_light),
            alpha=Alpha(args.alpha),
            compile=args.compile,
        ),
        device=resolve_device(args),
        stats=stats,
    )
    pipeline = pipeline.then(enlarge)
    return pipeline.then(DeflickerOp(args.temporal, args.grain)) if args.temporal else pipeline
