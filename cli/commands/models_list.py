"""The command `steadyscale models list`."""

from __future__ import annotations

import argparse

from ..console import tell


def add_arguments(command: argparse.ArgumentParser) -> None:
    """It has none of its own."""


def run(args: argparse.Namespace) -> None:
    from ...models.zoo import zoo

    rows = [
        {
            "name": known.name,
            "architecture": known.architecture,
            "scale": known.scale,
            "about": known.about,
            "licence": known.licence,
            "here": zoo.is_here(known.name),
        }
        for known in (*zoo.SHIPPED, *zoo.ENTRIES)
    ]
    lines = [f"{'*' if r['here'] else ' '} {r['name']:<24} {r['scale']}x  {r['about']} ({r['licence']})" for r in rows]
    tell(args, {"command": "models list", "models": rows}, "\n".join([*lines, "* is here already"]))
