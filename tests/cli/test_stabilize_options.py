"""Options of commands that stabilize: their defaults."""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
import pytest
from steadyscale.cli.stabilize_options import add_stabilize_options, stabilize_settings
from steadyscale.core.clip import ClipError
from steadyscale.core.hold import Hold, Region, RegionMask
from steadyscale.core.smoothing.smooth import Smoothing
from steadyscale.core.smoothing.strength import Strength
from steadyscale.core.stabilize import StabilizeSettings


def settings_of(*words: str) -> StabilizeSettings:
    parser = argparse.ArgumentParser()
    add_stabilize_options(parser)
    return stabilize_settings(parser.parse_args(words))


def test_without_options_the_settings_are_the_defaults():
    assert settings_of() == StabilizeSettings()


def test_a_file_of_the_learned_smoother_means_learned():
    for words in ((), ("--smoothing", "learned")):
        settings = settings_of(*words, "--smoother", "path.safetensors")
        assert (settings.smoothing, settings.smoother) == (Smoothing.LEARNED, "path.safetensors")


@pytest.mark.parametrize("smoothing", ["gaussian", "kalman"])  # one of them is the default
def test_a_file_of_the_learned_smoother_is_not_for_another_that_is_given(smoothing: str):
    message = rf"smoother is path\.safetensors, and smoothing is {smoothing}; such a file is for 'learned': choose that"
    with pytest.raises(ClipError, match=message):
        settings_of("--smoothing", smoothing, "--smoother", "path.safetensors")
    with pytest.raises(ClipError, match=message):
        StabilizeSettings(smoothing=smoothing, smoother="path.safetensors")  # pyright: ignore[reportArgumentType]


def test_what_is_kept_is_not_removed():
    assert settings_of("--keep-x", "0.25").strength == Strength(x=0.75)


@pytest.mark.parametrize(("word", "readout"), [("auto", None), ("off", 0.0), ("0.4", 0.4), ("-1", -1.0)])
def test_the_rolling_shutter_is_a_word_or_a_number(word: str, readout: float | None):
    assert settings_of("--rolling-shutter", word).readout_time == readout


def test_a_region_is_what_is_held(tmp_path: Path):
    settings = settings_of("--region", "300, 120.5,96,140,25")
    assert settings == StabilizeSettings(hold=Hold.REGION, region=Region(300, 120.5, 96, 140, 25))
    cv2.imwrite(str(tmp_path / "2,3,4,5.png"), np.full((8, 12), 255, np.uint8))
    mask = settings_of("--hold", "region", "--region", str(tmp_path / "2,3,4,5.png")).region
    assert isinstance(mask, RegionMask)
    assert mask.masks.all()
    assert mask.masks.shape[0] == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--hold", "region"], r"give the region \(--region\)"),
        (["--hold", "background", "--region", "1,2,30,40"], r"hold 'region' \(--hold\), or leave it out"),
        (["--region", "1,2,30"], "is no region"),
        (["--region", "1,2,30,40,-1"], "is no box"),
        (["--region", "1,2,30,inf"], "is no region"),
        (["--region", "1,2,0,40"], "is no box"),
        (["--region", "missing.png"], "missing.png"),
    ],
)
def test_regions_that_cannot_be_held(words: list[str], message: str):
    with pytest.raises(ClipError, match=message):
        settings_of(*words)
