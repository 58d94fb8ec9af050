"""Options of commands that run a network: device, precision, tiles."""

from __future__ import annotations

import argparse

from ..core.runtime.device.device_names import AUTO
from ..core.upscaling.settings import Engine, Precision, Tiling, UpscaleSettings
from .arg_types import add_enum_option, positive_int


def add_device_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--device",
        metavar="NAME",
        default=AUTO,
        help="auto (default: a GPU if one is there), cpu, cuda, cuda:1, xpu, mps, directml, or another name that torch "
        "knows; upscale and enhance run on several GPUs: cuda:0,cuda:1; stabilize runs on the CPU",
    )


def add_inference_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for running a network; the defaults suit every network."""
    precision = UpscaleSettings().precision
    add_enum_option(parser, "--precision", precision, "auto: the fastest that a self-check shows to be safe")
    parser.add_argument(
        "--tile",
        type=positive_int,
        metavar="PIXELS",
        help="side of the pieces of a frame (default: by memory); the result of networks that look at the whole frame, "
        "such as OmniSR, HAT and SwinIR, changes a little with it, that of others does not",
    )
    add_enum_option(
        parser,
        "--engine",
        UpscaleSettings().engine,
        "what runs the network; auto: on a CPU the native engine if it is built, else torch; onnx: ONNX Runtime, after "
        "a check against torch",
    )
    parser.add_argument("--compile", action="store_true", help="compile the network with torch: pays for long clips")


def inference_settings(args: argparse.Namespace) -> UpscaleSettings:
    """Return settings from the options of `add_inference_options`.

    The others have their defaults.
    """
    return UpscaleSettings(
        tiling=Tiling(args.tile),
        precision=Precision(args.precision),
        compile=args.compile,
        engine=Engine(args.engine),
    )
