"""Test that a real ComfyUI serves the help pages and translations."""

from __future__ import annotations

import urllib.error
from pathlib import Path
from urllib.parse import quote

import pytest
import schemas
from comfyhost import Host

import locales

pytestmark = pytest.mark.host

NODES = schemas.read_schemas()
DOCS = Path(__file__).parents[2] / "web" / "docs"
SERVED = "/extensions/steadyscale/docs/"  # by the name of the pack's folder


def test_every_help_page_and_image_is_served(any_host: Host) -> None:
    files = [path for path in DOCS.rglob("*") if path.is_file()]
    assert len(files) > 2 * len(NODES)
    for path in files:
        body = any_host.fetch(SERVED + path.relative_to(DOCS).as_posix())
        assert body == path.read_bytes(), path.name


def test_every_script_and_template_is_served(host: Host) -> None:
    root = DOCS.parents[1]
    scripts = {
        f"/extensions/steadyscale/{p.relative_to(root / 'web').as_posix()}": p for p in root.glob("web/js/**/*.js")
    }
    offered = host.get("/workflow_templates")["steadyscale"]
    templates = {f"/api/workflow_templates/steadyscale/{quote(p.name)}": p for p in (root / "workflows").glob("*.*")}
    assert {*offered} == {path.stem for path in templates.values() if path.suffix == ".json"}
    assert scripts
    for address, path in {**scripts, **templates}.items():
        assert host.fetch(address) == path.read_bytes(), path.name


def test_missing_help_page_of_a_language_is_answered_with_404(any_host: Host) -> None:
    """The frontend loads NODE.md if NODE/LANGUAGE.md is answered with an error."""
    for node in NODES:
        with pytest.raises(urllib.error.HTTPError, match="404") as refused:
            any_host.fetch(f"{SERVED}{node.node_id}/fr.md")
        refused.value.close()
        any_host.fetch(f"{SERVED}{node.node_id}.md")


def test_translations_are_served(any_host: Host) -> None:
    offered = any_host.get("/i18n")
    for language in (locales.ENGLISH, *locales.LANGUAGES):
        assert offered[language]["nodeDefs"] == locales.read_texts(language, "nodeDefs.json")
        folders = locales.read_texts(language, "main.json")["nodeCategories"]
        assert folders.items() <= offered[language]["nodeCategories"].items()


def test_schemas_read_without_a_host_equal_the_hosts(any_host: Host) -> None:
    schemas_of_host = any_host.get("/object_info")
    assert {node.node_id for node in NODES} == {name for name in schemas_of_host if name.startswith("SteadyScale_")}
    for node in NODES:
        info = schemas_of_host[node.node_id]
        assert (info["display_name"], info["description"]) == (node.display_name, node.description)
        assert info["category"] == node.category
        declared = {**info["input"].get("required", {}), **info["input"].get("optional", {})}
        assert set(declared) == {socket.name for socket in node.inputs}
        for socket in node.inputs:
            kind, more = declared[socket.name]
            assert more["tooltip"] == socket.tooltip, f"{node.node_id}.{socket.name}"
            assert more["display_name"] == socket.label, f"{node.node_id}.{socket.name}"
            assert more.get("advanced", False) == socket.is_advanced, f"{node.node_id}.{socket.name}"
            choices = kind if isinstance(kind, list) else more.get("options", [])
            # Of a list that begins with this machine's files, the rest is the same everywhere.
            shared = tuple(choices)[len(choices) - len(socket.options) :]
            assert shared == socket.options, f"{node.node_id}.{socket.name}"
        assert info["output_name"] == [socket.name for socket in node.outputs]
        assert info["output_tooltips"] == [socket.tooltip for socket in node.outputs]
