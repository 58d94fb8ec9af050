"""The command `steadyscale native info`."""

from __future__ import annotations

import argparse

from ..console import tell


def add_arguments(command: argparse.ArgumentParser) -> None:
    """It has none of its own."""


def run(args: argparse.Namespace) -> None:
    from ...models import native

    facts = native.describe()
    tell(args, {"command": "native info", **facts}, "\n".join(f"{k}: {v}" for k, v in facts.items()))
