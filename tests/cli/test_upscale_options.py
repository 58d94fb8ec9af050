"""Options of commands that upscale: their defaults, and names that have changed."""

from __future__ import annotations

import argparse

import pytest
from steadyscale.cli.device_options import add_inference_options
from steadyscale.cli.upscale_options import add_upscale_options, upscale_settings
from steadyscale.core.upscaling.settings import ColorCorrection, Engine, UpscaleSettings


def parse(*words: str) -> argparse.Namespace:
    return make_parser().parse_args(words)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    add_upscale_options(parser)
    add_inference_options(parser)
    return parser


def test_without_options_the_settings_are_the_defaults():
    assert upscale_settings(parse()) == UpscaleSettings()


@pytest.mark.parametrize("name", ["--color", "--colour"])
def test_color_is_accepted_under_its_old_name_too(name: str):
    settings = upscale_settings(parse(name, "wavelet"))
    assert settings.postprocess.color_correction is ColorCorrection.WAVELET


def test_the_old_name_is_not_displayed():
    text = make_parser().format_help()
    assert "--color " in text
    assert "--colour" not in text


@pytest.mark.parametrize("engine", list(Engine))
def test_every_engine_can_be_chosen(engine: Engine):
    assert upscale_settings(parse("--engine", engine.value)).engine is engine
