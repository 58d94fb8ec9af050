"""Options of commands that enlarge, and the stages that they become."""

from __future__ import annotations

import argparse

from ..core.pipeline.pipeline import Recipe
from ..core.upscaling.settings import TEMPORAL, Alpha, Colour, Finish, Precision, Reuse, Tally, Target, Tiling
from .arg_types import above_zero, add_choice, share, size, steps
from .device_options import chosen_device


def add_enlarging(options: argparse.ArgumentParser) -> None:
    options.add_argument(
        "--model",
        help="a weight file, or a name from `steadyscale models list` (default: steadyscale-2x, and steadyscale-4x "
        "above twice the size)",
    )
    target = options.add_mutually_exclusive_group()
    target.add_argument("--scale", type=above_zero, help="times each side (default: the network's own scale)")
    target.add_argument("--size", type=size, metavar="WxH", help="exactly this many pixels")
    options.add_argument(
        "--strength",
        type=share,
        default=1.0,
        help="1: the network alone, 0: a plain resize, between: a blend (default 1)",
    )
    add_choice(options, "--colour", Colour.NONE, "what of the source's colours to take back")
    add_choice(options, "--alpha", Alpha.RESIZE, "how alpha is enlarged by networks that do not take it")
    options.add_argument("--grain", type=share, default=0.0, help="film grain, from 0 to 1 (default 0)")
    options.add_argument("--linear-light", action="store_true", help="resize light, not stored values; slower")
    options.add_argument(
        "--temporal",
        type=share,
        default=0.0,
        metavar="STRENGTH",
        help="take out flicker and crawling detail by blending each frame with the last result along the motion, "
        f"from 0 to 1 (default 0: none; {TEMPORAL} suits most clips)",
    )
    same = options.add_mutually_exclusive_group()
    same.add_argument(
        "--repeat-threshold",
        type=steps,
        default=0.0,
        metavar="STEPS",
        help="largest change of any pixel, in steps of 1/255, that counts as none (default 0: only what is identical)",
    )
    same.add_argument("--no-reuse", action="store_true", help="run the network on frames and tiles that did not change")


def enlarged(args: argparse.Namespace, recipe: Recipe, tally: Tally) -> Recipe:
    """The recipe with the network that the arguments name. Only here torch is loaded: a clip that cannot be read, or a
    target that cannot be written, is told at once.
    """
    from ..core.pipeline.deflicker_op import Calm
    from ..core.pipeline.upscale_op import Enlarge
    from ..models import load_upscaler
    from ..models.zoo import zoo

    width, height = recipe.info.width, recipe.info.height
    factor = max(args.size[0] / width, args.size[1] / height) if args.size else args.scale
    grain = 0.0 if args.temporal else args.grain  # the temporal stage would average it away
    enlarge = Enlarge(
        load_upscaler(zoo.find(args.model or zoo.shipped_for(factor).name)),
        target=Target(factor=args.scale, size=args.size),
        tiling=Tiling(args.tile),
        precision=Precision(args.precision),
        device=chosen_device(args),
        reuse=Reuse(on=not args.no_reuse, threshold=args.repeat_threshold),
        finish=Finish(args.strength, Colour(args.colour), grain, args.linear_light),
        alpha=Alpha(args.alpha),
        compile_network=args.compile,
        tally=tally,
    )
    recipe = recipe.then(enlarge)
    return recipe.then(Calm(args.temporal, args.grain)) if args.temporal else recipe
