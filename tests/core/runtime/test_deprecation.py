"""Deprecated aliases: they work, they warn at the caller's line, and they do not hide mistakes."""

import copy
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import NamedTuple

import pytest
from steadyscale.core.runtime.deprecation import deprecated_property, renamed_arguments, renamed_fields


@renamed_fields(trust="confidence")
@dataclass(frozen=True)
class Step:
    confidence: float
    readout: float = 0.0


@renamed_fields(invented="fill_mask")
class Pair(NamedTuple):
    frames: int
    fill_mask: int = 0


class Info:
    def __init__(self, side: int) -> None:
        self.side = side

    def fit_within(self, side: int) -> int:
        return min(side, self.side)

    within = deprecated_property("within", "fit_within")


@renamed_arguments(most="max_zoom", room="margin")
def limit(value: float, max_zoom: float, *, margin: float = 0.0) -> float:
    """Limit a value."""
    return min(value, max_zoom - margin)


def test_an_old_method_name_calls_the_new_one() -> None:
    with pytest.warns(DeprecationWarning, match=r"Info\.within is now Info\.fit_within.*0\.2") as caught:
        assert Info(7).within(3) == 3
    assert Path(caught[0].filename) == Path(__file__)


def test_an_old_keyword_argument_is_passed_under_its_new_name() -> None:
    with pytest.warns(DeprecationWarning, match=r"'most' of limit\(\) is now 'max_zoom'") as caught:
        assert limit(3.0, most=2.0) == 2.0
    assert Path(caught[0].filename) == Path(__file__)
    with pytest.warns(DeprecationWarning, match="'room'"):
        assert limit(3.0, 2.0, room=0.5) == 1.5


def test_new_names_do_not_warn() -> None:  # warnings are errors in this suite
    assert limit(3.0, max_zoom=2.0, margin=0.5) == 1.5
    assert Step(confidence=0.5).confidence == Pair(1, fill_mask=2)[1] / 4 == 0.5
    assert (limit.__name__, limit.__doc__) == ("limit", "Limit a value.")


def test_old_and_new_name_together_are_an_error() -> None:
    with pytest.raises(TypeError, match="both 'max_zoom' and its deprecated name 'most'"):
        limit(3.0, max_zoom=2.0, most=2.0)


@pytest.mark.parametrize(("cls", "old", "new"), [(Step, "trust", "confidence"), (Pair, "invented", "fill_mask")])
def test_an_old_field_name_is_read_and_accepted_by_the_constructor(cls: type, old: str, new: str) -> None:
    first = {} if cls is Step else {"frames": 1}
    with pytest.warns(DeprecationWarning, match=f"'{old}' of {cls.__name__}") as caught:
        value = cls(**first, **{old: 3})
    assert Path(caught[0].filename) == Path(__file__)
    with pytest.warns(DeprecationWarning, match=f"{cls.__name__}.{old} is now {cls.__name__}.{new}") as caught:
        assert getattr(value, old) == getattr(value, new) == 3
    assert Path(caught[0].filename) == Path(__file__)


def test_aliases_are_no_fields() -> None:
    assert [f.name for f in fields(Step)] == list(asdict(Step(1.0))) == ["confidence", "readout"]
    assert Pair._fields == ("frames", "fill_mask")
    assert len(Pair(1)) == 2


def test_values_are_replaced_and_copied_as_before() -> None:
    step, pair = Step(0.5, readout=0.25), Pair(1, 2)
    assert replace(step, confidence=1.0) == Step(1.0, 0.25)
    assert pair._replace(fill_mask=3) == Pair(1, 3)
    for value in (step, pair):
        assert copy.deepcopy(value) == value
