"""The command `steadyscale bench`."""

from __future__ import annotations

import argparse

from ...core.runtime.device.device_names import resolve_device
from ..arg_types import frame_size, positive_int
from ..console import print_report
from ..device_options import add_device_option, add_inference_options, inference_settings
from ..progress import ProgressBars


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="a weight file, or a name from `steadyscale models list`")
    parser.add_argument(
        "--size", type=frame_size, default=(640, 360), metavar="WxH", help="frame size (default 640x360)"
    )
    parser.add_argument("--frames", type=positive_int, default=8, help="number of measured frames (default 8)")
    add_device_option(parser)
    add_inference_options(parser)


def run(args: argparse.Namespace) -> None:
    from ...core.upscaling.benchmark import benchmark, synthetic_frames
    from ...models import load_upscaler
    from ...models.zoo import zoo

    network = load_upscaler(zoo.find_weights(args.model))
    with ProgressBars(args.quiet) as bars:
        width, height = args.size
        frames = bars.track(synthetic_frames(width, height, args.frames + 1), "measuring", args.frames + 1)
        result = benchmark(
            frames,
            network,
            inference_settings(args),
            device=resolve_device(args.device),
        )
    print_report(args, {"command": "bench", **result.to_dict()}, str(result))
