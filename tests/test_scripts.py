"""Test the set-up scripts: interruptions, verified downloads, the lock file."""

from __future__ import annotations

import hashlib
import http.server
import re
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import assets
import pytest
import script_support
import uvtool

SCRIPTS = Path(script_support.__file__).parent


class TestMakeOnce:
    def test_an_interrupted_fill_leaves_no_target_and_can_be_repeated(self, tmp_path: Path) -> None:
        target = tmp_path / "deep" / "thing"

        def half(part: Path) -> None:
            part.mkdir()
            (part / "one").write_text("1")
            raise KeyboardInterrupt

        def whole(part: Path) -> None:
            part.mkdir()
            (part / "two").write_text("2")

        with pytest.raises(KeyboardInterrupt):
            script_support.create_once(target, half)
        assert not target.exists()
        script_support.create_once(target, whole)
        assert [path.name for path in target.iterdir()] == ["two"]

    def test_what_is_there_is_not_made_again(self, tmp_path: Path) -> None:
        target = tmp_path / "thing"
        script_support.create_once(target, lambda part: part.write_text("first"))
        script_support.create_once(target, lambda part: part.write_text("second"))
        assert target.read_text() == "first"

    def test_two_at_once_make_it_once(self, tmp_path: Path) -> None:
        target, made, started = tmp_path / "thing", [], threading.Event()

        def fill(part: Path) -> None:
            started.set()
            made.append(1)
            part.write_text("x" * 1000)

        threads = [threading.Thread(target=script_support.create_once, args=(target, fill)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(made) == 1


def test_symlink_is_replaced_atomically(tmp_path: Path) -> None:
    script_support.replace_symlink(tmp_path / "link", tmp_path / "old")
    script_support.replace_symlink(tmp_path / "link", tmp_path / "new")
    assert (tmp_path / "link").readlink() == tmp_path / "new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link"]


class TestInputFiles:
    def test_a_hard_link_replaces_a_symbolic_one(self, tmp_path: Path) -> None:
        source, target = tmp_path / "clip.mp4", tmp_path / "input.mp4"
        source.write_bytes(b"a clip")
        target.symlink_to(source)
        script_support.link_or_copy(source, target)
        assert not target.is_symlink()
        assert target.samefile(source)

    def test_another_file_system_gets_a_copy_once(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        source, target = tmp_path / "clip.mp4", tmp_path / "input.mp4"
        source.write_bytes(b"a clip")

        def refuse(*_: object) -> None:
            raise OSError("another device")

        monkeypatch.setattr(Path, "hardlink_to", refuse)
        script_support.link_or_copy(source, target)
        assert target.read_bytes() == b"a clip"
        before = target.stat().st_ino
        script_support.link_or_copy(source, target)
        assert target.stat().st_ino == before, "an equal copy stays"
        source.write_bytes(b"a longer clip")
        script_support.link_or_copy(source, target)
        assert target.read_bytes() == b"a longer clip"


def test_a_program_that_fails_is_reported_with_its_output(tmp_path: Path) -> None:
    assert not script_support.run_logged(["sh", "-c", "echo the reason; exit 3"], tmp_path / "log")
    assert "the reason" in script_support.log_tail(tmp_path / "log")


class TestCache:
    def test_its_place_can_be_chosen(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("STEADYSCALE_CACHE", str(tmp_path / "own"))
        assert script_support.cache_folder() == tmp_path / "own"
        monkeypatch.delenv("STEADYSCALE_CACHE")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
        assert script_support.cache_folder() == tmp_path / "xdg" / "steadyscale"


class TestLock:
    lock = (SCRIPTS / "environment.lock").read_text()

    def test_every_dependency_of_the_project_and_of_the_host_is_pinned(self) -> None:
        listed = (SCRIPTS / "environment.in").read_text().splitlines()
        project = (script_support.REPO_ROOT / "pyproject.toml").read_text()
        for table in ("dependencies", "opencv", "dev"):
            block = re.search(rf"^{table} = \[(.*?)\]$", project, re.MULTILINE | re.DOTALL)
            assert block, table
            listed += re.findall(r'"([^"]+)"', block.group(1))
        for requirement in listed:
            name = re.split(r"[^\w.-]", requirement)[0].lower().replace("_", "-")
            assert not name or re.search(rf"^{name}==", self.lock, re.MULTILINE), f"{name}: run `make lock`"

    def test_every_pin_has_a_hash_and_no_address(self) -> None:
        pins = re.findall(r"^[a-z].*$", self.lock, re.MULTILINE)
        assert len(pins) > 80
        assert all(pin.endswith("\\") for pin in pins)
        assert "://" not in self.lock
        assert "index-url" not in self.lock


def test_the_newest_frontend_is_pinned_with_hashes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    version, hashes = assets.newest_frontend()
    assert tuple(map(int, version.split("."))) > tuple(map(int, assets.OLDEST_FRONTEND.split(".")))
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in hashes)
    pin = tmp_path / "pin.txt"
    pin.write_text("# comment==0\ncomfyui-frontend-package==2.3.4 \\\n    --hash=sha256:ab \\\n    --hash=sha256:cd\n")
    monkeypatch.setattr(assets, "NEWEST_FRONTEND_FILE", pin)
    assert assets.newest_frontend() == ("2.3.4", ("ab", "cd"))


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package index on this machine with a `uv` that only greets; its folder."""
    folder = tmp_path / "index"
    (folder / "uv").mkdir(parents=True)
    version = "1.2.3"
    wheels = [f"uv-{version}-py3-none-{tag}.whl" for tag in ("manylinux_2_17_x86_64", "manylinux_2_17_aarch64")]
    wheels += [f"uv-{version}-py3-none-musllinux_1_1_x86_64.whl", "uv-1.2.30-py3-none-manylinux_2_17_x86_64.whl"]
    pins = [f"uv=={version} \\"]
    for wheel in wheels:
        with zipfile.ZipFile(folder / "uv" / wheel, "w") as archive:
            archive.writestr(f"uv-{version}.data/scripts/uv", f"#!/bin/sh\necho {wheel}\n")
        pins.append(f"    --hash=sha256:{hashlib.sha256((folder / 'uv' / wheel).read_bytes()).hexdigest()} \\")
    (folder / "uv" / "index.html").write_text("".join(f'<a href="{w}#sha256=unused">{w}</a>\n' for w in wheels))
    monkeypatch.setattr(uvtool, "PIN_FILE", tmp_path / "uv.txt")
    uvtool.PIN_FILE.write_text("\n".join(pins))

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments, directory=str(folder))

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.delenv("UV_DEFAULT_INDEX", raising=False)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setenv("STEADYSCALE_CACHE", str(tmp_path / "cache"))
        # As on Debian without python3-venv and python3-pip.
        monkeypatch.setattr(uvtool.importlib.util, "find_spec", lambda name: None)
        monkeypatch.setattr(uvtool.sys, "platform", "linux")
        monkeypatch.setattr(uvtool.platform, "machine", lambda: "x86_64")
        monkeypatch.setattr(uvtool.platform, "libc_ver", lambda: ("glibc", "2.36"))
        yield folder
        server.shutdown()
        thread.join()


class TestInstallerWithoutPip:
    def test_the_wheel_for_this_machine_is_unpacked(self, index: Path, tmp_path: Path) -> None:
        program = uvtool.get_uv()
        assert script_support.run_logged([program], tmp_path / "log")
        assert "uv-1.2.3-py3-none-manylinux_2_17_x86_64.whl" in (tmp_path / "log").read_text()

    def test_a_wheel_with_another_content_is_refused(self, index: Path) -> None:
        wheel = index / "uv" / "uv-1.2.3-py3-none-manylinux_2_17_x86_64.whl"
        wheel.write_bytes(wheel.read_bytes() + b"!")
        with pytest.raises(script_support.SetupError, match="sha256"):
            uvtool.get_uv()
        assert not (script_support.cache_folder() / "uv" / "1.2.3").exists()

    def test_a_platform_without_a_wheel_is_reported(self, index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(uvtool.platform, "machine", lambda: "vax")
        with pytest.raises(script_support.SetupError, match="vax"):
            uvtool.get_uv()
