"""Which clips a folder, a pattern or a list means, and where their results go."""

from __future__ import annotations

from pathlib import Path

import pytest
from steadyscale.core import ClipError
from steadyscale.core.batch.clip_list import read_clip_list


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("in/b.mp4", "in/a.AVI", "in/day/c.mkv", "in/.hidden/d.mp4", "in/notes.txt", "in/out/old.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(clips: str, out: str = "out") -> list[tuple[str, str]]:
    here = Path.cwd()
    listed = read_clip_list(clips, out)
    return [(Path(c.source).relative_to(here).as_posix(), Path(c.target).relative_to(here).as_posix()) for c in listed]


def test_a_folder_means_its_videos_without_hidden_ones_and_results(folder: Path) -> None:
    expected = [("in/a.AVI", "in/out/a.mp4"), ("in/b.mp4", "in/out/b.mp4"), ("in/day/c.mkv", "in/out/day/c.mkv")]
    assert names("in", "in/out") == expected


def test_a_pattern_keeps_the_folders_below_its_fixed_part(folder: Path) -> None:
    assert names("in/*.mp4") == [("in/b.mp4", "out/b.mp4")]
    assert names("in/**/*.mkv") == [("in/day/c.mkv", "out/day/c.mkv")]
    assert names("in/b.mp4") == [("in/b.mp4", "out/b.mp4")]


def test_csv_columns_are_settings(folder: Path) -> None:
    (folder / "in" / "list.csv").write_text("in,out,scale,no_reuse\nb.mp4,x/y.mov,2,\nday/c.mkv,,,true\n")
    clips = read_clip_list("in/list.csv", "out")
    assert names("in/list.csv") == [("in/b.mp4", "out/x/y.mov"), ("in/day/c.mkv", "out/c.mkv")]
    assert [clip.settings for clip in clips] == [{"scale": "2"}, {"no_reuse": "true"}]
    assert clips[1].place == "in/list.csv, line 3"


def test_json_lines_have_settings(folder: Path) -> None:
    text = '{"in": "in/b.mp4", "settings": {"scale": 2}}\n\n{"in": "in/day", "out": "day.mkv"}\n'
    (folder / "list.jsonl").write_text(text)
    clips = read_clip_list("list.jsonl", "out")
    assert names("list.jsonl") == [("in/b.mp4", "out/b.mp4"), ("in/day", "out/day.mkv")]
    assert [clip.settings for clip in clips] == [{"scale": 2}, {}]
    assert clips[1].place == "list.jsonl, line 3"


def test_image_sequences_become_mp4(folder: Path) -> None:
    (folder / "list.jsonl").write_text('{"in": "in/take.1"}\n{"in": "in/f_%04d.png"}')
    assert [target for _, target in names("list.jsonl")] == ["out/take.1.mp4", "out/f_%04d.png.mp4"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("l.csv", "file,out\na.mp4,b.mp4\n", "no column in"),
        ("l.csv", "in,out\na.mp4\n", "line 2: the number of columns"),
        ("l.csv", "in,out\na.mp4,b.mp4,c\n", "line 2: the number of columns"),
        ("l.csv", "in,out\n,b.mp4\n", "line 2: there is no source"),
        ("l.csv", "in\n", "there are no video files"),
        ("l.jsonl", '{"in": "a.mp4"}\n{"in": ', "line 2: this is not valid JSON"),
        ("l.jsonl", '["a.mp4"]', "line 1: a line is an object"),
        ("l.jsonl", '{"in": "a.mp4", "scale": 2}', "line 1: scale is not a key"),
        ("l.jsonl", '{"in": 3}', "line 1: in is 3"),
        ("l.jsonl", '{"in": "a.mp4", "settings": 2}', "line 1: settings is 2"),
        ("l.jsonl", "\udcff", "UTF-8"),
        ("l.txt", "a.mp4", "this is no list"),
    ],
)
def test_a_mistake_is_named_with_its_line(folder: Path, name: str, text: str, message: str) -> None:
    (folder / name).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ClipError, match=message):
        read_clip_list(name, "out")


def test_what_does_not_exist_is_no_empty_batch(folder: Path) -> None:
    (folder / "empty").mkdir()
    for clips in ("empty", "nowhere.mp4", "in/*.flv", "nowhere.csv"):
        with pytest.raises(ClipError, match=clips.replace("*", r"\*")):
            read_clip_list(clips, "out")
