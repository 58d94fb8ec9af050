"""Curves of a run are drawn at the logged values."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import ImageDraw
from steadyscale.core.visualize.training_curves import BEFORE_COLOR, plot_run
from torch import Tensor


def heights(image: Tensor, color: tuple[int, int, int], rows: slice, columns: slice = slice(62, 740)) -> np.ndarray:
    """For each column, the mean row of the pixels of a color; NaN where there are none."""
    wanted = torch.tensor(color).view(3, 1, 1) / 255
    near = ((image[0] - wanted).abs().amax(0) < 0.25)[rows, columns].numpy()
    count = near.sum(0)
    places = (near * np.arange(near.shape[0])[:, None]).sum(0)
    return np.where(count, places / np.maximum(count, 1), np.nan)


def log_lines(count: int) -> list[dict[str, float]]:
    return [{"step": n, "loss/pixel": 10.0 ** -(n / count), "rate": 1.0} for n in range(1, count + 1)]


def test_exponential_loss_is_a_straight_line():
    image = plot_run(log_lines(500), 500)
    assert image.shape == (1, 3, 384, 768)
    assert 0 <= image.min() < image.max() <= 1
    found = heights(image, BEFORE_COLOR, slice(30, 170))
    known = found[~np.isnan(found)]
    assert len(known) > 600, "it spans the panel"
    line = np.polyval(np.polyfit(np.arange(len(known)), known, 1), np.arange(len(known)))
    assert np.abs(known - line).max() < 3
    assert known[-1] - known[0] > 90, "down"


def test_half_of_a_run_takes_half_of_the_width():
    found = heights(plot_run(log_lines(250), 500), BEFORE_COLOR, slice(30, 170))
    known = np.flatnonzero(~np.isnan(found))
    assert 0.46 < known.max() / 690 < 0.54


def test_score_crosses_the_bicubic_reference_line():
    lines = [{"step": n, "psnr/2x": 28 + 4 * n / 100} for n in range(10, 101, 10)]
    image = plot_run(lines, 100, bicubic=30.0)
    curve = heights(image, BEFORE_COLOR, slice(220, 360))
    known = curve[~np.isnan(curve)]
    assert known[-1] < known[0] - 60, "up"
    ink = (image[0].amin(0) > 0.5)[220:360, 100:730].float().mean(1).numpy()
    bicubic = int(ink.argmax())
    assert ink[bicubic] > 0.8, "a line across"
    assert known[-1] + 20 < bicubic < known[0], "28.4 dB is below it, 32 dB above"


def test_single_score_is_visible():
    image = plot_run([{"step": 5, "psnr/2x": 31.0}], 100, bicubic=30.0)
    assert np.isfinite(heights(image, BEFORE_COLOR, slice(220, 360))).sum() >= 4


@pytest.mark.parametrize(("low", "high"), [(0.0098, 0.0235), (0.01, 1.0), (0.0126, 0.0135), (3e-6, 4e4)])
def test_loss_ticks_are_round_numbers(low: float, high: float, monkeypatch):
    written: list[str] = []
    monkeypatch.setattr(ImageDraw.ImageDraw, "text", lambda _, place, text, **__: written.append(text))
    plot_run([{"step": 1, "loss/pixel": low}, {"step": 100, "loss/pixel": high}], 100)
    numbers, around = written[1 : written.index("0")], (high / low) ** 0.11
    assert 2 <= len(numbers) <= 12
    assert all(low / around / 1.05 < float(number) < high * around * 1.05 for number in numbers)
    assert all(len(number.strip("0.").rstrip("0")) <= 3 or "e" in number for number in numbers), "1, 3 or 0.015"


@pytest.mark.parametrize(("low", "high"), [(31.2, 38.0), (28.0, 32.0), (33.61, 33.93), (11.0, 19.0)])
def test_score_axis_has_two_ticks_or_more(low: float, high: float):
    image = plot_run([{"step": 1, "psnr/2x": low}, {"step": 100, "psnr/2x": high}], 100)
    numbers = (image[0].amin(0) > 0.5)[200:376, 4:56].any(1).int()
    assert int((numbers.diff() == 1).sum()) >= 2, "lines of text left of the panel"


def test_sample_is_below_at_full_width():
    sample = torch.zeros(1, 3, 64, 192)
    sample[..., 64:128], sample[..., 128:] = 0.5, 1.0
    image = plot_run([], 10, sample=sample)
    assert image.shape == (1, 3, 384 + 256, 768)
    row = image[0, 0, 384 + 200]
    assert [round(float(row[x]), 1) for x in (100, 400, 700)] == [0.0, 0.5, 1.0]


def test_empty_log_gives_an_empty_plot():
    assert plot_run([], 10).shape == (1, 3, 384, 768)
    assert plot_run([{"step": 1, "loss/pixel": 0.0}], 1).isfinite().all()
