"""Log of a run: lines that are readable at any time, samples, and the progress bar."""

import pytest
import torch
from steadyscale.cli.training_progress import show_progress
from steadyscale.core.training import Scores, StepReport, read_log
from steadyscale.core.training.loop import logger


def test_the_log_is_readable_while_it_is_written(tmp_path):
    with logger.open_log(tmp_path, 0) as run_logger:
        run_logger.log_values(1, {"loss/pixel": 0.123456789, "rate": 1e-4})
        assert read_log(tmp_path) == [{"step": 1, "loss/pixel": 0.123457, "rate": 1e-4}]
        run_logger.log_values(2, {"loss/pixel": float("nan"), "moved": 0.0})
        assert read_log(tmp_path)[1] == {"step": 2, "moved": 0.0}


def test_resuming_removes_later_and_incomplete_lines(tmp_path):
    with logger.open_log(tmp_path, 0) as run_logger:
        for step in (1, 2, 3):
            run_logger.log_values(step, {"rate": step})
    with (tmp_path / logger.LOG_FILE).open("a") as file:
        file.write('{"step": 4, "ra')  # killed while writing a line
    assert [line["step"] for line in read_log(tmp_path)] == [1, 2, 3]
    with logger.open_log(tmp_path, 2) as run_logger:
        run_logger.log_values(3, {"rate": 30})
    assert [line["rate"] for line in read_log(tmp_path)] == [1, 2, 30]
    assert read_log(tmp_path / "elsewhere") == []


def test_a_full_disk_loses_no_line(tmp_path, monkeypatch):
    with logger.open_log(tmp_path, 0) as run_logger:
        run_logger.log_values(1, {"rate": 1})

    def full(path, *_args, **_kwargs):
        path.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_text", full)
    with pytest.raises(OSError, match="No space left"), logger.open_log(tmp_path, 1):
        pass
    assert [line["step"] for line in read_log(tmp_path)] == [1]


def test_a_sample_shows_the_center_of_input_result_and_truth(tmp_path):
    small, pred, target = torch.zeros(1, 3, 200, 150), torch.full((1, 3, 400, 300), 0.5), torch.ones(1, 3, 400, 300)
    small[..., 100, 75] = 1
    image = logger.make_sample(small, pred, target)
    assert image.shape == (1, 3, 256, 768)
    assert image[..., 128:130, 128:130].min() == 1  # the marked pixel, upscaled by 2, in the center
    assert image[..., :256].sum() == 3 * 4
    assert [float(image[0, 0, 9, x]) for x in (300, 600)] == [0.5, 1.0]
    assert logger.write_sample(tmp_path / "samples", "one", image).stat().st_size > 100


def test_the_progress_bar_yields_all_reports():
    reports = [StepReport(step, 3, 2, {"pixel": 0.1}, True, 1e-4, 0.01) for step in (1, 2)]
    reports.append(StepReport(3, 3, 2, {}, False, 1e-4, 0.01, {2: Scores(30.0, 0.9)}))
    for quiet in (True, False):
        assert list(show_progress(iter(reports), quiet)) == reports
