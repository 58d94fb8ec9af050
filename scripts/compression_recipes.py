"""Compress a published network by a recipe, behind the quality gate.

    steadyscale models get realesr-animevideov3
    python scripts/compression_recipes.py animevideov3-third --calibrate clips/ photographs/ --output small.safetensors

animevideov3-third: half of the channels of realesr-animevideov3, for a third of its cost.
x4plus-anime-half: half of the channels and blocks of realesrgan-x4plus-anime.

The result is written only if the gate of `steadyscale compress` passes it; the report has each value and its limit. The
exit status is 1 if it does not, or if the network costs more than the recipe promises. `--model` and `--steps` try a
recipe out with another network, or in a shorter time.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass

from steadyscale.core.compress import CompressReport, CompressSettings, compress, format_table, format_verdicts


@dataclass(frozen=True)
class Recipe:
    """A network, what to remove, and how long to train what is left.

    max_cost: of the result, as a share of the multiply-accumulates of the original.
    """

    model: str
    prune: float
    steps: int
    max_cost: float


RECIPES = {
    "animevideov3-third": Recipe("realesr-animevideov3", prune=0.5, steps=20_000, max_cost=1 / 3),
    "x4plus-anime-half": Recipe("realesrgan-x4plus-anime", prune=0.5, steps=20_000, max_cost=0.5),
}


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("recipe", choices=RECIPES)
    parser.add_argument("--calibrate", nargs="+", required=True, metavar="DATA", help="images, folders and videos")
    parser.add_argument("--output", required=True, metavar="FILE", help="a .safetensors file")
    parser.add_argument("--model", metavar="FILE", help="another network of the same type")
    parser.add_argument("--steps", type=int, help="of the training (default: those of the recipe)")
    parser.add_argument("--device", default="auto")
    args = parser.parse_args(words)
    recipe = RECIPES[args.recipe]
    settings = CompressSettings(
        model=args.model or recipe.model,
        calibrate=tuple(args.calibrate),
        output=args.output,
        prune=recipe.prune,
        steps=recipe.steps if args.steps is None else args.steps,
        device=args.device,
    )
    report = run(settings)
    print(format_table(report.metrics), format_verdicts(report.verdicts), sep="\n")
    cost = cost_of(report)
    print(f"cost: {cost:.3f} of the original's, at most {recipe.max_cost:.3f}")
    if report.rejection:
        print(report.rejection, file=sys.stderr)
    return int(bool(report.rejection) or cost > recipe.max_cost)


def run(settings: CompressSettings) -> CompressReport:
    """Compress, with a line for each stage, and return the last report."""
    report = CompressReport("reading")
    for last in compress(settings):
        if last.stage != report.stage:
            print(last.stage, file=sys.stderr)
        report = last
    return report


def cost_of(report: CompressReport) -> float:
    """Multiply-accumulates of the result, as a share of those of the original."""
    original, small = report.metrics
    return small.gmacs / original.gmacs


if __name__ == "__main__":
    raise SystemExit(main())
