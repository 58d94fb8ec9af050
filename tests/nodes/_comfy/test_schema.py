"""Test that a schema has only the fields that its host knows."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest


@dataclass
class OldSchema:
    node_id: str
    category: str = "sd"
    inputs: list[Any] = field(default_factory=list)


@dataclass
class NewSchema(OldSchema):
    search_aliases: list[str] = field(default_factory=list)
    essentials_category: str | None = None


def make_schema(fake_host: Any, schema_class: type, *input_ids: str, **fields: Any) -> Any:
    sys.modules["comfy_api.latest"].io.Schema = schema_class
    node_schema = fake_host.import_("_comfy.schema").node_schema
    inputs = [SimpleNamespace(id=name, display_name=None, extra_dict={}) for name in input_ids]
    return node_schema(
        node_id="A", category="B", inputs=inputs, search_aliases="deshake, video stabilization", **fields
    )


def test_an_old_host_gets_the_fields_that_it_knows(fake_host):
    assert make_schema(fake_host, OldSchema, essentials_category="Tools") == OldSchema("A", "B")


def test_a_new_host_gets_all_fields(fake_host):
    expected = NewSchema("A", "B", [], ["deshake", "video stabilization"], "Tools")
    assert make_schema(fake_host, NewSchema, essentials_category="Tools") == expected


def test_a_mistyped_field_is_not_dropped(fake_host):
    with pytest.raises(TypeError, match="is_output"):
        make_schema(fake_host, OldSchema, is_output=True)


def test_advanced_inputs_are_marked_on_every_host(fake_host):
    inputs = make_schema(fake_host, OldSchema, "fps", "border", "tile", advanced="fps, tile").inputs
    assert [each.extra_dict for each in inputs] == [{"advanced": True}, {}, {"advanced": True}]


def test_an_advanced_input_has_to_exist(fake_host):
    with pytest.raises(KeyError, match="tiles"):
        make_schema(fake_host, OldSchema, "tile", advanced="tiles")


def test_an_input_without_a_label_is_called_by_its_id(fake_host):
    schema = make_schema(fake_host, OldSchema, "max_zoom", "fps")
    assert [each.display_name for each in schema.inputs] == ["max zoom", "fps"]
