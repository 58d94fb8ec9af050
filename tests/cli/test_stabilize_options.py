"""Options of commands that stabilize: their defaults."""

from __future__ import annotations

import argparse

import pytest
from steadyscale.cli.stabilize_options import add_stabilize_options, stabilize_settings
from steadyscale.core.clip import ClipError
from steadyscale.core.path.smooth import Smoothing
from steadyscale.core.path.strength import Strength
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
    with pytest.raises(
        ClipError, match=r"smoother is path\.safetensors, and smoothing is gaussian; such a file is for"
    ):
        settings_of("--smoothing", "gaussian", "--smoother", "path.safetensors")


def test_what_is_kept_is_not_removed():
    assert settings_of("--keep-x", "0.25").strength == Strength(x=0.75)


@pytest.mark.parametrize(("word", "readout"), [("auto", None), ("off", 0.0), ("0.4", 0.4), ("-1", -1.0)])
def test_the_rolling_shutter_is_a_word_or_a_number(word: str, readout: float | None):
    assert settings_of("--rolling-shutter", word).readout_time == readout
