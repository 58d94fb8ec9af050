"""Paths and URLs."""

from __future__ import annotations

from pathlib import Path

import pytest
from steadyscale.core.clip import ClipError
from steadyscale.core.storage.location import ObjectUrl, absolute, is_url, parse_location


@pytest.mark.parametrize("text", ["clip.mp4", "/a/b.mp4", "c:/a.mp4", "c://a.mp4", "a:b.mp4", "s3:/bucket/a.mp4"])
def test_paths_are_no_urls(text: str):
    assert not is_url(text)
    assert parse_location(text) == Path(text)
    assert absolute(text) == str(Path(text).absolute())


def test_the_parts_of_a_url_are_those_of_a_path():
    url = parse_location("s3://bucket/reel 1/shaky.v2.mp4")
    assert isinstance(url, ObjectUrl)
    assert (url.name, url.suffix, str(url.parent)) == ("shaky.v2.mp4", ".mp4", "s3://bucket/reel 1")
    assert str(url.parent / "b" / "c.mkv") == "s3://bucket/reel 1/b/c.mkv"
    assert str(url.with_name("x.job")) == "s3://bucket/reel 1/x.job"
    assert absolute("s3://bucket/a.mp4") == "s3://bucket/a.mp4"


def test_a_file_url_is_a_path(tmp_path: Path):
    path = tmp_path / "a b#1?.mp4"
    assert parse_location(path.as_uri()) == path
    assert parse_location(f"file://localhost{tmp_path}") == tmp_path
    with pytest.raises(ClipError, match="server is another machine"):
        parse_location("file://server/share/a.mp4")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("ftp://host/a.mp4", r"ftp is not a storage that can be used; .*s3://.*file://"),
        ("https://host/a.mp4?token=SECRET", "https is not a storage"),
        ("s3://KEY:SECRET@bucket/a.mp4", "contains a password"),
        ("s3://", "names no object; use s3://BUCKET/NAME"),
    ],
)
def test_other_urls_are_refused_without_their_secrets(url: str, message: str):
    with pytest.raises(ClipError, match=message) as error:
        parse_location(url)
    assert "SECRET" not in str(error.value)
