"""The verdict of each block, as JSON and as a table."""

from __future__ import annotations

import importlib
import textwrap
from collections import Counter
from typing import Any

from .session import Row, Session, first_line

NAME_COLUMNS, TEXT_COLUMNS = 26, 92  # characters


def collect_verdicts(rows: list[Row]) -> dict[str, dict[str, Any]]:
    """Status, seconds and summary of each block that has rows, by its name."""
    from . import BLOCKS

    verdicts: dict[str, dict[str, Any]] = {}
    for name in BLOCKS:
        own = [row for row in rows if row["block"] == name]
        if own:
            end = next((row for row in own if row.get("event") == "end"), {"status": "cut", "seconds": None})
            verdicts[name] = {
                "status": _overall_status(end, own),
                "seconds": end["seconds"],
                "rows": dict(Counter(row["status"] for row in own if row.get("event") != "end")),
                "summary": _summarize(name, own),
                "errors": list(dict.fromkeys(row["error"] for row in own if row["status"] == "failed"))[:3],
            }
    return verdicts


def format_table(session: Session, verdicts: dict[str, dict[str, Any]]) -> str:
    """The table for people."""
    first = session.rows[0]
    lines = ["", f"{first['device']}; {first['machine']}", ""]
    for name, verdict in verdicts.items():
        seconds = "" if verdict["seconds"] is None else f"{verdict['seconds']:.0f} s"
        head = f"{name:13} {verdict['status']:6} {seconds:>5}"
        parts = (verdict["summary"] or "nothing was measured").split("; ")
        parts += [f"error: {error}" for error in verdict["errors"]]
        wrapped = [line for part in parts for line in textwrap.wrap(part, TEXT_COLUMNS)]
        lines += [f"{head if n == 0 else '':{NAME_COLUMNS}} {line}" for n, line in enumerate(wrapped)]
    return "\n".join(lines)


def _overall_status(end: Row, rows: list[Row]) -> str:
    if end["status"] != "ok":
        return end["status"]
    return "failed" if any(row["status"] == "failed" for row in rows) else "ok"


def _summarize(name: str, rows: list[Row]) -> str:
    try:
        return importlib.import_module(f"{__package__}.{name}").summarize([row for row in rows if "event" not in row])
    except Exception as error:  # A verdict must not hide the others.
        return first_line(error)
