"""Every Python block, `steadyscale` line and TOML block of the README and the documentation works as written.

Commands in `sh` blocks run. Those in `text` blocks need a compiler, a server, a download or hours: their arguments are
parsed, and the configuration that they read is checked.
"""

from __future__ import annotations

import re
import runpy
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import steadyscale
import steadyscale.core
import steadyscale.models
from numbered_video import make_video
from PIL import Image
from steadyscale.cli.main import build_parser, main
from steadyscale.core.training.config.schema import config_from
from steadyscale.core.training.config.toml_dataclass import read_toml

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    page: str
    language: str
    text: str


def blocks(*languages: str) -> list[Block]:
    return [
        Block(page.name, language, text)
        for page in PAGES
        for language, text in BLOCK.findall(page.read_text(encoding="utf-8"))
        if language in languages
    ]


def commands(language: str) -> Iterator[str]:
    for block in blocks(language):
        yield from (line for line in block.text.splitlines() if line.startswith("steadyscale "))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder of a reader: in.mp4, shaky.mp4 and frames_in/."""
    for name in ("in.mp4", "shaky.mp4"):
        make_video(tmp_path / name)
    (tmp_path / "frames_in").mkdir()
    for number in range(3):
        Image.new("RGB", (48, 32), (40 * number, 80, 120)).save(tmp_path / "frames_in" / f"{number:04d}.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("line", sorted(set(commands("sh"))))
def test_commands_run(line: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path for path in folder.rglob("*") if path.is_file()}
    words = shlex.split(line)[1:]
    assert main(words) == 0, capsys.readouterr().err
    if words[0] in ("upscale", "stabilize", "enhance"):
        assert {path for path in folder.rglob("*") if path.is_file()} - before, "a file was written"
    else:
        assert capsys.readouterr().out.strip()


@pytest.mark.parametrize("line", sorted(set(commands("text"))))
def test_arguments_of_other_commands_are_valid(line: str) -> None:
    if "COMMAND" not in line:
        build_parser().parse_args(shlex.split(line)[1:])


@pytest.mark.parametrize("page", [page.name for page in PAGES])
def test_python_blocks_run(page: str, folder: Path) -> None:
    """The blocks of a page continue each other, as a reader would type them."""
    script = folder / "page.py"
    script.write_text("\n".join(block.text for block in blocks("python") if block.page == page), encoding="utf-8")
    runpy.run_path(str(script), run_name="__main__")


@pytest.mark.parametrize("block", blocks("toml"), ids=lambda block: block.page)
def test_configurations_are_valid(block: Block, tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text(block.text, encoding="utf-8")
    assert config_from(read_toml(file)).network.scales == (2, 4)


def test_the_readme_is_short_enough_to_be_read() -> None:
    prose = BLOCK.sub("", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert len(prose.split()) <= 600


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_images_lead_to_files(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        generated = page.parent / target
        help_page = ROOT / "web" / "docs" / Path(target).name  # docs/hooks.py puts them under nodes/
        assert generated.exists() or (target.startswith("nodes/") and help_page.exists()), target


def test_the_api_page_documents_every_public_name() -> None:
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    names = {*steadyscale.__all__, *steadyscale.core.__all__, *steadyscale.models.__all__} - {"zoo"}
    assert {name for name in names if not re.search(rf"^::: steadyscale\.\S*\b{name}$", page, re.MULTILINE)} == set()
