"""The command `steadyscale native info`."""

from __future__ import annotations

import argparse

from ..console import print_report


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """There are no arguments."""


def run(args: argparse.Namespace) -> None:
    from ...models import native

    facts = native.describe_engine()
    print_report(args, {"command": "native info", **facts}, "\n".join(f"{k}: {v}" for k, v in facts.items()))
