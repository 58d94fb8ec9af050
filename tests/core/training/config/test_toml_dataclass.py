"""Damaged TOML files and absurd numbers are one clear error each."""

from __future__ import annotations

from pathlib import Path

import pytest
from steadyscale.core.training.config.schema import read_config
from steadyscale.core.training.errors import TrainingError


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'name = "\xe4"', r"is not UTF-8 \(byte 8\); save it as UTF-8"),
        (b"steps = " + b"9" * 5000, "is not valid TOML"),
        (b"steps = " + b"[" * 10_000, "is not valid TOML"),
        (b"steps = 9223372036854775808", "steps must be below 2\\^63, not a number of 19 digits"),
        (b"[losses]\npixel = nan", "pixel must be a finite number, not nan"),
        (b"[losses]\npixel = " + b"9" * 400, "pixel must be a finite number, not 9999"),
    ],
)
def test_a_file_that_cannot_be_used(content: bytes, message: str, tmp_path: Path):
    (tmp_path / "run.toml").write_bytes(content)
    with pytest.raises(TrainingError, match=message):
        read_config(tmp_path / "run.toml")
