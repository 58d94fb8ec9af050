"""The command `steadyscale native build`."""

from __future__ import annotations

import argparse

from ..console import print_report


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """There are no arguments."""


def run(args: argparse.Namespace) -> None:
    from ...models import native

    library = native.build_library()
    print_report(args, {"command": "native build", "library": str(library)}, str(library))
