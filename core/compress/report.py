"""The figures before and after, for people and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from .model_metrics import FRAME, Figures


def table(found: Sequence[Figures]) -> str:
    """One line for each network; changes are against the first."""
    width, height = FRAME
    head = ["", "parameters", f"GMACs at {width}x{height}", "KB", "CPU s/frame", "PSNR-Y dB", "SSIM", "warping error"]
    rows = [head, *(_row(figure, found[0]) for figure in found)]
    if all(figure.warping is None for figure in found):
        rows = [row[:-1] for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(cell.ljust(width) if column == 0 else cell.rjust(width) for column, (cell, width) in enumerate(cells))
        for cells in (list(zip(row, widths, strict=True)) for row in rows)
    ]
    return "\n".join(line.rstrip() for line in lines)


def _row(figure: Figures, before: Figures) -> list[str]:
    first = figure is before
    share = "" if first else f" ({100 * figure.parameters / before.parameters:.0f} %)"
    times = "" if first else f" ({before.seconds / figure.seconds:.2f}x)"
    change = "" if first else f" ({figure.psnr - before.psnr:+.2f})"
    return [
        figure.name,
        f"{figure.parameters:,}{share}",
        f"{figure.gmacs:.2f}",
        f"{figure.bytes / 1000:.0f}",
        f"{figure.seconds:.4f}{times} {figure.engine}",
        f"{figure.psnr:.2f}{change}",
        f"{figure.ssim:.4f}",
        "" if figure.warping is None else f"{figure.warping:.1f}",
    ]


def facts(found: Sequence[Figures]) -> list[dict[str, object]]:
    """The same as JSON takes it, with what each loses, in dB, and how many times faster it is."""
    before = found[0] if found else None
    return [
        {
            **{key: round(value, 6) if isinstance(value, float) else value for key, value in asdict(figure).items()},
            **(
                {
                    "loss_db": round(before.psnr - figure.psnr, 4),
                    "times_faster": round(before.seconds / figure.seconds, 3),
                }
                if before is not None and figure is not before
                else {}
            ),
        }
        for figure in found
    ]
