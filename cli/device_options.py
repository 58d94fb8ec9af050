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
        help="auto, cpu, cuda, cuda:1, xpu, mps, directml or another torch device; upscale and enhance accept several "
        "GPUs: cuda:0,cuda:1; stabilize runs on the CPU (default auto: a GPU, if available)",
    )


def add_inference_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for running a network; the defaults suit every network."""
    group = parser.add_argument_group("network execution")
    precision = UpscaleSettings().precision
    add_enum_option(group, "--precision", precision, "dtype; auto: the fastest that passes a self-check")
    group.add_argument(
        "--tile",
        type=positive_int,
        metavar="PIXELS",
        help="tile size (default: as memory allows); it slightly changes the result of networks with an unbounded "
        "receptive field, such as OmniSR, HAT and SwinIR, and of no others",
    )
    add_enum_option(
        group,
        "--engine",
        UpscaleSettings().engine,
        "inference engine; auto: the native engine on a CPU, if it is built, else torch; onnx: ONNX Runtime, after a "
        "check against torch",
    )
    group.add_argument("--compile", action="store_true", help="use torch.compile; worthwhile for long clips")


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
