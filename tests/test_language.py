"""Test that sources and documentation use the field's terms.

Each check takes a folder. FORBIDDEN holds terms with a standard replacement; ALLOWED holds interface names that must
keep an old word, such as ids of node inputs, keys of reports and flags of the command line.
"""

from __future__ import annotations

import ast
import re
import tokenize
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("core", "models", "nodes", "cli", "scripts", "bench", "examples", "docs")
SUFFIXES = {".py", ".pyi", ".md", ".cpp", ".h", ".hpp"}
MAX_SUMMARY = 80  # characters

FORBIDDEN = {
    "picture": (r"pictures?", "frame or image"),
    "sound": (r"sounds?", "audio"),
    "ending": (r"endings?", "extension or suffix"),
    "card": (r"cards?", "GPU or device"),
    "noughts": (r"noughts?", "zeros"),
    "made": (r"made (?:clips?|frames?|images?|videos?|footage)", "synthetic or generated"),
    "told": (r"told|untold", "reported, raised or logged"),
    "said": (r"said", "reported, raised or logged"),
    "to the bit": (r"to the (?:last )?bit", "bit-identical or bit-exact"),
    "begin": (r"(?:(?:the|a|an|its|their|[a-z]+'s) begin|begin of)", "start"),
    "shown": (r"shown", "displayed or visible"),
    "enlarge": (r"enlarg(?:e|es|ed|ing|ement|ements)", "upscale"),
    "steady": (r"(?:steadies|steadied|steadying|to steady)", "stabilize"),
    "calm": (r"calm(?:s|ed|ing|er)?", "deflicker"),
    "part of a pixel": (r"parts? of a pixel", "sub-pixel"),
    "number format": (r"number formats?", "dtype"),
    "lend": (r"(?:lends?|lent|lending|borrow(?:s|ed|ing)?|loans?)", "move to the device and restore"),
    "renew": (r"renew(?:s|ed|ing|al)?", "update"),
    "invented": (r"(?:invented|made up|makes? up)", "fill mask or synthesized pixels"),
    "colours": (r"colours", "color or chroma"),
    "nobody": (r"(?:nobody|somebody|whoever|anybody)(?:'s)?", "the caller, the consumer, another process"),
    "mend": (r"mend(?:s|ed|ing)?", "fix"),
    "begin with": (r"begins? with (?:a|the|another) (?:network|checkpoint|weights)", "initialize from"),
    "players": (r"(?:(?:both|two) players|opponents?)", "generator and discriminator"),
    "ranks agreed": (r"ranks? agreed?", "broadcast or all-reduce"),
    "freely": (r"(?:freely|by itself|by themselves|as ever|without a word)", "nothing: leave it out"),
}
ALLOWED = (
    # Ids of node inputs and outputs, and keys of reports and jobs; always quoted.
    r"""(?<=["'`])(?:pictures?|sound|ending|invented|shown|colours?|told|said)(?=["'`])""",
    r"\bpictures: int\b|\bpictures(?=[,)]| else)",  # the argument of Estimate Flow for its input `pictures`
    r"\bcolours(?=: the hue)",  # an option of Preview Flow, in its tooltip
    r"(?:flow|path)_picture|\binvented(?==\")",  # deprecated names
    r"""(?<=")enlarged(?=")""",  # the output of our ONNX files
    r"steadyscale-calm|calm\.toml",  # a weight file and its recipe
    r"\*invented\*|Picture_\d\w|model cards?|line endings|bench/card\.py|\bPictureType\b",
)
BRITISH = re.compile(r"colour|grey|(?<![a-z])(?:stabilis|equalis|initialis|optimis|normalis|quantis)")
"""Spellings that identifiers do not have: they follow the libraries that we call."""
INTERFACE_NAMES = {"colour", "colour_space"}
"""Arguments of node classes, which have the names of the nodes' inputs."""
_ALLOWED = re.compile("|".join(ALLOWED))
_BOUNDED = {
    name: re.compile(rf"(?<![A-Za-z])(?:{pattern})(?![a-z])".replace(" ", r"[\s_]+(?:#\s*)?"), re.IGNORECASE)
    for name, (pattern, _) in FORBIDDEN.items()
}
_CAMEL_CASE = re.compile(r"(?<=[a-z])(?=[A-Z])")

PARTICIPLES = frozenset(
    """told made shown seen kept found whole filled drawn given taken opened closed written read_ held begun done left
    borrowed lent renewed enlarged steadied calmed sharpened turned moved cut joined split_ paired spread settled said
    asked wanted chosen tried measured counted watched resumed stopped saved stored loaded fetched planned padded
    cropped warped upscaled smoothed fitted trained pruned exported rescaled limited bounded cached locked
    guarded wrapped checked known finished""".split()  # noqa: SIM905
)
"""Names of functions that say neither what is done nor what is returned."""


def iter_files(folder: Path) -> Iterator[Path]:
    """The source and documentation files of a folder."""
    return (path for path in sorted(folder.rglob("*")) if path.suffix in SUFFIXES and path.is_file())


def forbidden_terms(text: str) -> Iterator[tuple[int, str, str]]:
    """(line number, term, what to write) of each forbidden term in a text."""
    words = _CAMEL_CASE.sub(" ", _ALLOWED.sub("", text))
    for name, pattern in _BOUNDED.items():
        for match in pattern.finditer(words):
            yield words.count("\n", 0, match.start()) + 1, match[0], FORBIDDEN[name][1]


def find_forbidden_terms(folder: Path) -> list[str]:
    """Forbidden terms in a folder, one a line."""
    return [
        f"{path.relative_to(folder.parent)}:{line}: {' '.join(term.split())!r}; write {replacement}"
        for path in iter_files(folder)
        for line, term, replacement in forbidden_terms(path.read_text(encoding="utf-8"))
    ]


def find_british_identifiers(folder: Path) -> list[str]:
    """Identifiers in British spelling."""
    return [
        f"{path.relative_to(folder.parent)}:{token.start[0]}: {token.string}"
        for path in iter_files(folder)
        if path.suffix == ".py"
        for token in tokenize.generate_tokens(StringIO(path.read_text(encoding="utf-8")).readline)
        if token.type == tokenize.NAME and BRITISH.search(token.string.lower()) and token.string not in INTERFACE_NAMES
    ]


def find_long_summaries(folder: Path) -> list[str]:
    """Docstrings whose first paragraph is longer than MAX_SUMMARY characters."""
    found = []
    for path in iter_files(folder):
        if path.suffix != ".py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            summary = " ".join((ast.get_docstring(node) or "").partition("\n\n")[0].split())
            if len(summary) > MAX_SUMMARY:
                name = getattr(node, "name", "module")
                found.append(f"{path.relative_to(folder.parent)}: {name}: {len(summary)} characters: {summary}")
    return found


def find_participles(folder: Path) -> list[str]:
    """Public functions and methods that are named by a bare participle."""
    return [
        f"{path.relative_to(folder.parent)}:{node.lineno}: {node.name}()"
        for path in iter_files(folder)
        if path.suffix == ".py"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name in PARTICIPLES
        and not any(ast.unparse(each) == "property" for each in node.decorator_list)
    ]


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_forbidden_term_is_used(folder: str) -> None:
    assert find_forbidden_terms(ROOT / folder) == []


@pytest.mark.parametrize("folder", FOLDERS)
def test_identifiers_are_in_american_spelling(folder: str) -> None:
    assert find_british_identifiers(ROOT / folder) == []


@pytest.mark.parametrize("folder", FOLDERS)
def test_docstrings_begin_with_a_summary_of_one_line(folder: str) -> None:
    assert find_long_summaries(ROOT / folder) == []


@pytest.mark.parametrize("folder", FOLDERS)
def test_public_functions_are_named_by_a_verb_or_a_noun(folder: str) -> None:
    assert find_participles(ROOT / folder) == []


@pytest.mark.parametrize(
    "text",
    [
        "the picture",
        "picture_size = 3",
        "class PictureClip:",
        "Whoever comes",
        "a part\n    # of a pixel",
        "a made clip",
        "noughts",
        "it was told",
        "frames are enlarged",
        "the file's begin",
        "the last colours",
        "`freely`",
    ],
)
def test_a_forbidden_term_is_found(text: str) -> None:
    assert [term.strip() for _, term, _ in forbidden_terms(text)]


@pytest.mark.parametrize(
    "text",
    [
        "frames begin late",
        "sounding",
        "discard",
        "a steady camera",
        "recommend",
        'report["pictures"]',
        "--colour wavelet",
        "a gray or grey frame",
        "the caller is done",
        "blended",
    ],
)
def test_a_standard_word_is_not_found(text: str) -> None:
    assert list(forbidden_terms(text)) == []
