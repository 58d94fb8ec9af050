"""The command `steadyscale models get`."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..console import tell


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("name", metavar="NAME")
    command.add_argument("--to", metavar="FOLDER", help="where to put it (default: the cache)")


def run(args: argparse.Namespace) -> None:
    from ...models.zoo import zoo

    file = zoo.get(args.name, Path(args.to) if args.to else None)
    tell(args, {"command": "models get", "name": args.name, "file": str(file)}, str(file))
