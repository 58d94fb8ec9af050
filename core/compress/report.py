"""The figures before and after, for people and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from .model_metrics import FRAME_SIZE, ModelMetrics


def format_table(metrics: Sequence[ModelMetrics]) -> str:
    """One line for each network; changes are against the first."""
    width, height = FRAME_SIZE
    head = ["", "parameters", f"GMACs at {width}x{height}", "KB", "CPU s/frame", "PSNR-Y dB", "SSIM", "warping error"]
    rows = [head, *(_row(figure, metrics[0]) for figure in metrics)]
    if all(figure.warping is None for figure in metrics):
        rows = [row[:-1] for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(cell.ljust(width) if column == 0 else cell.rjust(width) for column, (cell, width) in enumerate(cells))
        for cells in (list(zip(row, widths, strict=True)) for row in rows)
    ]
    return "\n".join(line.rstrip() for line in lines)


def _row(metrics: ModelMetrics, baseline: ModelMetrics) -> list[str]:
    first = metrics is baseline
    share = "" if first else f" ({100 * metrics.parameters / baseline.parameters:.0f} %)"
    times = "" if first else f" ({baseline.seconds / metrics.seconds:.2f}x)"
    change = "" if first else f" ({metrics.psnr - baseline.psnr:+.2f})"
    return [
        metrics.name,
        f"{metrics.parameters:,}{share}",
        f"{metrics.gmacs:.2f}",
        f"{metrics.bytes / 1000:.0f}",
        f"{metrics.seconds:.4f}{times} {metrics.engine}",
        f"{metrics.psnr:.2f}{change}",
        f"{metrics.ssim:.4f}",
        "" if metrics.warping is None else f"{metrics.warping:.1f}",
    ]


def json_records(metrics: Sequence[ModelMetrics]) -> list[dict[str, object]]:
    """The same as JSON takes it, with what each loses, in dB, and how many times faster it is."""
    before = metrics[0] if metrics else None
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
        for figure in metrics
    ]
