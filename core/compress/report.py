"""Metrics and verdicts of a compression, as text tables and as JSON."""

from __future__ import annotations

from collections.abc import Sequence

from .model_metrics import FRAME_SIZE, ModelMetrics
from .quality_limits import Verdict


def format_table(metrics: Sequence[ModelMetrics]) -> str:
    """Format one line per model; changes are relative to the first."""
    width, height = FRAME_SIZE
    head = ["", "parameters", f"GMACs at {width}x{height}", "KB", "CPU s/frame", "PSNR-Y dB", "SSIM", "warping error"]
    rows = [head, *(_row(model, metrics[0]) for model in metrics)]
    if all(model.warping is None for model in metrics):
        rows = [row[:-1] for row in rows]
    return _align(rows)


def format_verdicts(verdicts: Sequence[Verdict]) -> str:
    """Format one line per quantity: the value of each judged model, and the limit."""
    models = list(dict.fromkeys(verdict.model for verdict in verdicts))
    rows = [["quality against the original", *models, "limit"]]
    for quantity in dict.fromkeys(verdict.quantity for verdict in verdicts):
        of_models = [verdict for verdict in verdicts if verdict.quantity == quantity]
        title = f"{quantity} [{of_models[0].unit}]" if of_models[0].unit else quantity
        rows.append([title, *map(_cell, of_models), of_models[0].limit])
    return _align(rows)


def _cell(verdict: Verdict) -> str:
    return f"{verdict.value:.3f}" + {True: " ok", False: " FAILS", None: ""}[verdict.passed]


def _align(rows: Sequence[Sequence[str]]) -> str:
    """Join the rows to a table: the first column to the left, the others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(cell.ljust(width) if column == 0 else cell.rjust(width) for column, (cell, width) in enumerate(cells))
        for cells in (list(zip(row, widths, strict=True)) for row in rows)
    ]
    return "\n".join(line.rstrip() for line in lines)


def _row(metrics: ModelMetrics, baseline: ModelMetrics) -> list[str]:
    is_baseline = metrics is baseline
    percentage = "" if is_baseline else f" ({100 * metrics.parameters / baseline.parameters:.0f} %)"
    speedup = "" if is_baseline else f" ({baseline.seconds / metrics.seconds:.2f}x)"
    change = "" if is_baseline else f" ({metrics.psnr - baseline.psnr:+.2f})"
    return [
        metrics.name,
        f"{metrics.parameters:,}{percentage}",
        f"{metrics.gmacs:.2f}",
        f"{metrics.bytes / 1000:.0f}",
        f"{metrics.seconds:.4f}{speedup} {metrics.engine}",
        f"{metrics.psnr:.2f}{change}",
        f"{metrics.ssim:.4f}",
        "" if metrics.warping is None else f"{metrics.warping:.1f}",
    ]


def json_records(metrics: Sequence[ModelMetrics]) -> list[dict[str, object]]:
    """Return the metrics as JSON objects.

    With the loss of PSNR in dB and the speed-up against the first.
    """
    baseline = metrics[0] if metrics else None
    return [
        {
            **{key: _rounded(value) for key, value in vars(model).items() if key != "fidelity"},
            "fidelity": {key: _rounded(value) for key, value in vars(model.fidelity).items()},
            **(
                {
                    "loss_db": round(baseline.psnr - model.psnr, 4),
                    "times_faster": round(baseline.seconds / model.seconds, 3),
                }
                if baseline is not None and model is not baseline
                else {}
            ),
        }
        for model in metrics
    ]


def json_verdicts(verdicts: Sequence[Verdict]) -> list[dict[str, object]]:
    """Return the verdicts as JSON objects, with the keys of `Verdict`."""
    return [{key: _rounded(value) for key, value in vars(verdict).items()} for verdict in verdicts]


def _rounded(value: object) -> object:
    return round(value, 6) if isinstance(value, float) else value
