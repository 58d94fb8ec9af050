"""Values of options: the ends of each range are accepted, what lies beyond is refused with the value."""

from __future__ import annotations

import argparse
from fractions import Fraction

import pytest
from steadyscale.cli import arg_types
from steadyscale.cli.registry import COMMANDS, load_command
from steadyscale.core.bars import BarDetection, Bars
from steadyscale.core.lens import LENSES, Lens, LensDetection
from steadyscale.core.motion.camera.readout_time import RollingShutter

ACCEPTED = [
    ("number", "-1.5", -1.5),
    ("integer", "-3", -3),
    ("integer", "1_000", 1000),
    ("positive_float", "0.001", 0.001),
    ("non_negative_float", "0", 0.0),
    ("unit_float", "0", 0.0),
    ("unit_float", "1", 1.0),
    ("readout_time", "-1", -1.0),
    ("readout_time", "1", 1.0),
    ("readout_time", "auto", RollingShutter.AUTO),
    ("bars", "none", BarDetection.NONE),
    ("deflicker_strength", "auto", None),
    ("deflicker_strength", "0.6", 0.6),
    ("lens", "auto", LensDetection.AUTO),
    ("lens", "150", Lens(150.0)),
    ("lens", "gopro-wide", LENSES["gopro-wide"]),
    ("bars", "0,140,2,138", Bars(0, 140, 2, 138)),
    ("positive_int", "1", 1),
    ("whole_number", "0", 0),
    ("change_threshold", "0", 0.0),
    ("change_threshold", "255", 255.0),
    ("zoom_factor", "1", 1.0),
    ("frame_rate", "24000/1001", Fraction(24000, 1001)),
    ("frame_rate", "23.976", Fraction(2997, 125)),
    ("frame_size", "1920x1080", (1920, 1080)),
    ("frame_size", "3X2", (3, 2)),
]
REFUSED = [
    ("number", "abc"),
    ("number", "nan"),
    ("integer", "1.5"),
    ("integer", "abc"),
    ("positive_float", "abc"),
    ("non_negative_float", "abc"),
    ("unit_float", "abc"),
    ("readout_time", "abc"),
    ("deflicker_strength", "abc"),
    ("change_threshold", "abc"),
    ("zoom_factor", "abc"),
    ("positive_float", "0"),
    ("positive_float", "inf"),
    ("positive_float", "nan"),
    ("non_negative_float", "-0.01"),
    ("non_negative_float", "inf"),
    ("unit_float", "-0.01"),
    ("unit_float", "1.01"),
    ("unit_float", "nan"),
    ("readout_time", "-1.01"),
    ("readout_time", "1.01"),
    ("readout_time", "nan"),
    ("bars", "140"),
    ("deflicker_strength", "1.01"),
    ("lens", "wide"),
    ("lens", "400"),
    ("bars", "0,-1,0,0"),
    ("positive_int", "0"),
    ("positive_int", "-1"),
    ("positive_int", "1.5"),
    ("whole_number", "-1"),
    ("whole_number", "1.5"),
    ("change_threshold", "-1"),
    ("change_threshold", "256"),
    ("zoom_factor", "0.99"),
    ("zoom_factor", "inf"),
    ("frame_rate", "0"),
    ("frame_rate", "-24"),
    ("frame_rate", "1/0"),
    ("frame_rate", "fast"),
    ("frame_size", "0x10"),
    ("frame_size", "10x0"),
    ("frame_size", "10"),
    ("frame_size", "10x-1"),
]


@pytest.mark.parametrize(("name", "text", "value"), ACCEPTED)
def test_a_value_within_the_range_is_accepted(name, text, value):
    assert getattr(arg_types, name)(text) == value


@pytest.mark.parametrize(("name", "text"), REFUSED)
def test_a_value_beyond_the_range_is_refused_with_the_value(name, text):
    with pytest.raises(argparse.ArgumentTypeError, match=rf"^{text} is |'{text}' is no |is {text}\.0"):
        getattr(arg_types, name)(text)


@pytest.mark.parametrize("command", COMMANDS)
def test_no_option_names_a_function_in_its_error(command: str):
    parser = argparse.ArgumentParser()
    load_command(command).add_arguments(parser)
    for action in parser._actions:
        if action.type is not None:
            with pytest.raises(argparse.ArgumentTypeError, match=r"abc.* is n"):
                action.type("abc")


def test_every_type_is_here():
    own = {
        name
        for name, value in vars(arg_types).items()
        if callable(value) and value.__module__ == arg_types.__name__ and name != "add_enum_option" and name[0] != "_"
    }
    assert own == {name for name, *_ in ACCEPTED} == {name for name, _ in REFUSED}
