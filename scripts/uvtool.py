"""Install uv, the package installer: a pinned version, checked against uv.txt."""

from __future__ import annotations

import hashlib
import html.parser
import importlib.util
import os
import platform
import re
import ssl
import sys
import urllib.parse
import urllib.request
import zipfile
from pathlib import Path

import script_support

PIN_FILE = Path(__file__).with_name("uv.txt")
BASE_PYTHON = Path(getattr(sys, "_base_executable", sys.executable))  # not the one inside a virtual environment


def get_uv() -> Path:
    """The uv executable, installed into the cache if it is missing."""
    version = _pinned_version()
    folder = script_support.cache_folder() / "uv" / version
    if not folder.exists():
        with script_support.report_step(f"Package installer (uv {version})"):
            script_support.create_once(folder, _install_uv)
    return folder / "bin" / "uv"


def _pinned_version() -> str:
    return re.findall(r"uv==(\S+)", PIN_FILE.read_text())[0]


def uv_environment() -> dict[str, str]:
    """Environment variables for uv, with pip's index and certificate settings."""
    env = {k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "CONDA_PREFIX")}
    if "PIP_INDEX_URL" in env:
        env.setdefault("UV_DEFAULT_INDEX", env["PIP_INDEX_URL"])
    if "PIP_CERT" in env:
        env.setdefault("SSL_CERT_FILE", env["PIP_CERT"])
    if "STEADYSCALE_CACHE" in env:
        env.setdefault("UV_CACHE_DIR", str(script_support.cache_folder() / "uv-packages"))
    env.setdefault("UV_HTTP_TIMEOUT", "120")
    env["UV_PYTHON_DOWNLOADS"] = "never"
    return env


def pip_install(*arguments: str | Path, log: Path) -> None:
    """Run `uv pip install`, first from uv's cache alone, to avoid repeated downloads."""
    log.unlink(missing_ok=True)
    command = [get_uv(), "pip", "install", "--no-progress", *arguments]
    if not script_support.run_logged([*command, "--offline"], log, uv_environment()) and not script_support.run_logged(
        command, log, uv_environment()
    ):
        raise script_support.SetupError(
            f"packages could not be installed; uv reported:\n{script_support.log_tail(log)}\n  Full log: {log}"
        )


def _install_uv(folder: Path) -> None:
    log = script_support.cache_folder() / "logs" / "uv.log"
    log.unlink(missing_ok=True)
    python = _find_pip_python(folder.with_name(folder.name + ".pip"), log)
    if python is None:
        try:
            _download_wheel(folder)
        except (OSError, ValueError) as error:
            raise script_support.SetupError(f"uv could not be downloaded: {error}") from error
        return
    pinned = ("--no-deps", "--only-binary", ":all:", "--require-hashes", "-r", PIN_FILE)
    if not script_support.run_logged([python, "-m", "pip", "install", "--quiet", *pinned, "--target", folder], log):
        raise script_support.SetupError(
            f"pip could not install uv:\n{script_support.log_tail(log, 4)}\n  Full log: {log}"
        )


def _find_pip_python(venv: Path, log: Path) -> Path | None:
    if importlib.util.find_spec("pip") is not None:
        return Path(sys.executable)
    if importlib.util.find_spec("ensurepip") is not None and script_support.run_logged(
        [BASE_PYTHON, "-m", "venv", "--clear", venv], log
    ):
        return venv / "bin" / "python"
    return None


def _download_wheel(folder: Path) -> None:
    """Download the wheel from the index, without pip and ensurepip (Debian)."""
    index = os.environ.get("UV_DEFAULT_INDEX") or os.environ.get("PIP_INDEX_URL") or "https://pypi.org/simple"
    page = f"{index.rstrip('/')}/uv/"
    version = _pinned_version()
    links = _LinkParser()
    links.feed(_http_get(page).decode())
    for address in links.links:
        address, _, _ = urllib.parse.urljoin(page, address).partition("#")
        name = urllib.parse.unquote(address.rsplit("/", 1)[-1])
        if name.startswith(f"uv-{version}-") and name.endswith(".whl") and _is_compatible(name):
            break
    else:
        raise ValueError(f"{page} has no uv {version} for {sys.platform} on {platform.machine()}")
    wheel = _http_get(address)
    digest = hashlib.sha256(wheel).hexdigest()
    if f"sha256:{digest}" not in PIN_FILE.read_text():
        raise ValueError(f"{address} has the sha256 {digest}, which is not one of those in {PIN_FILE}")
    folder.mkdir(parents=True)
    archive = folder / name
    archive.write_bytes(wheel)
    with zipfile.ZipFile(archive) as content:
        program = content.read(f"uv-{version}.data/scripts/uv")
    archive.unlink()
    (folder / "bin").mkdir()
    (folder / "bin" / "uv").write_bytes(program)
    (folder / "bin" / "uv").chmod(0o755)


def _is_compatible(wheel: str) -> bool:
    if sys.platform == "darwin":
        return "macosx" in wheel and platform.machine() in wheel
    libc = "manylinux" if platform.libc_ver()[0] == "glibc" else "musllinux"
    return libc in wheel and platform.machine() in wheel


def _http_get(url: str) -> bytes:
    context = ssl.create_default_context(cafile=os.environ.get("PIP_CERT"))
    request = urllib.request.Request(url, headers={"Accept": "text/html", "User-Agent": "steadyscale-setup"})
    with urllib.request.urlopen(request, timeout=60, context=context) as reply:
        return reply.read()


class _LinkParser(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.links += [value for key, value in attrs if key == "href" and value]
