"""The command `steadyscale models get`."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..console import print_report


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="a name from `steadyscale models list`")
    parser.add_argument("--to", metavar="FOLDER", help="target folder (default: the cache)")


def run(args: argparse.Namespace) -> None:
    from ...models.zoo import zoo

    file = zoo.fetch_weights(args.name, Path(args.to) if args.to else None)
    print_report(args, {"command": "models get", "name": args.name, "file": str(file)}, str(file))
