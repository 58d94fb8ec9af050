"""The command `steadyscale models list`."""

from __future__ import annotations

import argparse

from ..console import print_report


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """There are no arguments."""


def run(args: argparse.Namespace) -> None:
    from ...models.zoo import zoo

    rows = [
        {
            "name": known.name,
            "architecture": known.architecture,
            "scale": known.scale,
            "about": known.description,
            "licence": known.license_id,
            "here": zoo.is_available(known.name),
        }
        for known in (*zoo.BUNDLED_MODELS, *zoo.ENTRIES)
    ]
    lines = [f"{'*' if r['here'] else ' '} {r['name']:<24} {r['scale']}x  {r['about']} ({r['licence']})" for r in rows]
    print_report(args, {"command": "models list", "models": rows}, "\n".join([*lines, "* is here already"]))
