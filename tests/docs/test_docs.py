"""Every Python block, `steadyscale` line and TOML block of the README and the documentation works as written.

Commands in `sh` blocks run. Those in `text` blocks need a compiler, a server, a download or hours: their arguments are
parsed, and the configuration that they read is checked.
"""

from __future__ import annotations

import importlib.util
import re
import runpy
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import steadyscale
import steadyscale.core
import steadyscale.models
from numbered_video import make_video
from PIL import Image
from steadyscale.cli.main import build_parser, main
from steadyscale.core.training.config.schema import TrainConfig, config_from
from steadyscale.core.training.config.toml_dataclass import read_toml, to_table

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
    config_from(read_toml(file))


@pytest.fixture(scope="module")
def hooks() -> Any:
    spec = importlib.util.spec_from_file_location("hooks", ROOT / "docs" / "hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_training_page_explains_every_setting(hooks: Any) -> None:
    """The table is generated when the site is built; a setting without a meaning in its docstring is a KeyError."""
    assert (ROOT / "docs" / "training.md").read_text(encoding="utf-8").count(hooks.SETTINGS_MARKER) == 1
    lines = list(hooks.settings_reference(TrainConfig()))
    row = re.compile(r"^\| `(.+?)` \| `(.+?)` \| (.+) \|$")
    rows = {match[1]: (match[2], match[3]) for match in map(row.match, lines) if match}
    assert rows["optim.min_learning_rate"] == ("1e-07", "in the last step.")
    assert rows["degrade.second.blur_prob"][0] == "0.8"
    assert rows["losses.pixel_kind"][1].endswith("One of `l1`, `charbonnier`.")

    def count(table: dict[str, Any]) -> int:
        return sum(count(value) if isinstance(value, dict) and value else 1 for value in table.values())

    assert len(rows) == count(to_table(TrainConfig()))


def test_meanings_are_read_from_a_docstring(hooks: Any) -> None:
    text = "width, height: in pixels, as\nin: files. fps: of the\nclip (note: exact). size: none."
    assert hooks.describe_fields(text, ["width", "height", "fps", "size"]) == {
        "width": "in pixels, as in: files.", "height": "in pixels, as in: files.", "fps": "of the clip (note: exact).",
        "size": "none.",
    }  # fmt: skip


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
