"""The command `steadyscale native build`."""

from __future__ import annotations

import argparse

from ..console import tell


def add_arguments(command: argparse.ArgumentParser) -> None:
    """It has none of its own."""


def run(args: argparse.Namespace) -> None:
    from ...models import native

    library = native.build()
    tell(args, {"command": "native build", "library": str(library)}, str(library))
