"""Format values for people."""

from __future__ import annotations


def format_duration(seconds: float) -> str:
    """Format a duration: "0.4 s", "42 s", "7 min 5 s", "3 h 20 min"."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    rounded = round(seconds)
    if rounded < 60:
        return f"{rounded} s"
    if rounded < 3600:
        return f"{rounded // 60} min {rounded % 60} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min"
