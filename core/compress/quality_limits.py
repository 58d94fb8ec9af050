"""Judge a compressed model against its teacher: limits, and a verdict for each."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .model_metrics import ModelMetrics


@dataclass(frozen=True)
class QualityLimits:
    """Limits of the quality that a compressed model may lose.

    The quantities are those of `Fidelity` and `ModelMetrics`. min_kept: bicubic interpolation keeps 0; at 0.5 the
    errors are half of its. min_detail, max_detail: a tenth more or less is hardly visible; less is blur, more is
    ringing or noise. max_extra_grid, max_extra_unevenness: beyond the teacher's own, because a periodic pattern also
    has detail energy. The first is a constant one, visible in flat areas from about half a level on; the second one
    whose sign follows the content. max_drift: in levels of 1/255; more is a tint. max_flicker: as a factor of the
    teacher's flicker; the excess is the error of the measurement. max_added_flicker: the limit for a teacher with
    little flicker, where it allows more: root of the difference of the squares of both, in levels; 1.25 is noise of
    less than a level in each view. max_loss_db: loss of PSNR-Y to the ground truth, judged only where the teacher is
    better than bicubic interpolation.
    """

    min_kept: float = 0.5
    min_detail: float = 0.9
    max_detail: float = 1.1
    max_extra_grid: float = 0.25
    max_extra_unevenness: float = 0.1
    max_drift: float = 0.5
    max_flicker: float = 1.05
    max_added_flicker: float = 1.25
    max_loss_db: float = 0.3


@dataclass(frozen=True)
class Verdict:
    """One quantity of one model, its limits and whether it is within them.

    model: its name in the metrics. minimum, maximum: None for no limit. passed: None if it is only reported. note: why.
    """

    model: str
    quantity: str
    value: float
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    passed: bool | None = None
    note: str = ""

    @property
    def limit(self) -> str:
        """The limits in words, such as "at most 0.5"."""
        if self.passed is None:
            return self.note
        if self.minimum is None:
            return f"at most {self.maximum:.3g}"
        return f"at least {self.minimum:.3g}" if self.maximum is None else f"{self.minimum:.3g} to {self.maximum:.3g}"


def judge(metrics: Sequence[ModelMetrics], bicubic_psnr: float, limits: QualityLimits) -> tuple[Verdict, ...]:
    """Judge all models but the first, which is their teacher.

    bicubic_psnr: PSNR-Y of bicubic interpolation to the ground truth, in dB.
    """
    teacher, *candidates = metrics
    return tuple(verdict for model in candidates for verdict in _judge_model(teacher, model, bicubic_psnr, limits))


def describe_failures(verdicts: Sequence[Verdict]) -> str:
    """Name all limits that are exceeded, in one line; "" if there are none."""
    failures: dict[str, list[str]] = {}
    for verdict in verdicts:
        if verdict.passed is False:
            value = f"{verdict.quantity} is {verdict.value:.3g}{' ' * bool(verdict.unit)}{verdict.unit}"
            failures.setdefault(verdict.model, []).append(f"{value} ({verdict.limit} allowed)")
    return "; ".join(f"{model}: {', '.join(texts)}" for model, texts in failures.items())


def _judge_model(
    teacher: ModelMetrics, model: ModelMetrics, bicubic_psnr: float, limits: QualityLimits
) -> Iterator[Verdict]:
    reference, found = teacher.fidelity, model.fidelity

    def check(
        quantity: str, value: float, unit: str = "", minimum: float | None = None, maximum: float | None = None
    ) -> Verdict:
        # Not written as `<` and `>`, so that NaN does not pass.
        passed = (minimum is None or value >= minimum) and (maximum is None or value <= maximum)
        return Verdict(model.name, quantity, value, unit, minimum, maximum, passed)

    def report(quantity: str, value: float, unit: str, note: str) -> Verdict:
        return Verdict(model.name, quantity, value, unit, note=note)

    yield check("kept", found.kept, minimum=limits.min_kept)
    yield report("PSNR to the original", found.teacher_psnr, "dB", "reported")
    if found.perceptual_kept is not None:
        yield report("perceptual kept", found.perceptual_kept, "", "reported")
    yield check("detail", found.detail, minimum=limits.min_detail, maximum=limits.max_detail)
    yield check("grid", found.grid, "levels", maximum=reference.grid + limits.max_extra_grid)
    yield check("unevenness", found.unevenness, maximum=reference.unevenness + limits.max_extra_unevenness)
    yield check("color drift", found.drift, "levels", maximum=limits.max_drift)
    max_flicker = max(limits.max_flicker * reference.flicker, math.hypot(reference.flicker, limits.max_added_flicker))
    yield check("flicker", found.flicker, "levels", maximum=max_flicker)
    if teacher.warping is not None and model.warping is not None:
        added = 1e6 * (limits.max_added_flicker / 255) ** 2  # the warping error is a square
        maximum = max(limits.max_flicker**2 * teacher.warping, teacher.warping + added)
        yield check("warping error", model.warping, maximum=maximum)
    loss = teacher.psnr - model.psnr
    if teacher.psnr <= bicubic_psnr:
        note = f"not judged: the original has {teacher.psnr:.2f} dB, bicubic {bicubic_psnr:.2f} dB"
        yield report("PSNR loss", loss, "dB", note)
    else:
        yield check("PSNR loss", loss, "dB", maximum=limits.max_loss_db)
