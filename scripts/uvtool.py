"""Gets uv, the package installer: one pinned version, checked against the hashes in uv.txt, kept in the cache."""

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

import steps

PIN = Path(__file__).with_name("uv.txt")
PYTHON = Path(getattr(sys, "_base_executable", sys.executable))  # not the one inside a virtual environment


def uv() -> Path:
    """The uv program, installed into the cache when it is not there yet."""
    version = _version()
    folder = steps.cache() / "uv" / version
    if not folder.exists():
        with steps.step(f"Package installer (uv {version})"):
            steps.make_once(folder, _install)
    return folder / "bin" / "uv"


def _version() -> str:
    return re.findall(r"uv==(\S+)", PIN.read_text())[0]


def environment() -> dict[str, str]:
    """The variables uv runs with: pip's settings for the index and for certificates count for uv too."""
    env = {k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "CONDA_PREFIX")}
    if "PIP_INDEX_URL" in env:
        env.setdefault("UV_DEFAULT_INDEX", env["PIP_INDEX_URL"])
    if "PIP_CERT" in env:
        env.setdefault("SSL_CERT_FILE", env["PIP_CERT"])
    if "STEADYSCALE_CACHE" in env:
        env.setdefault("UV_CACHE_DIR", str(steps.cache() / "uv-packages"))
    env.setdefault("UV_HTTP_TIMEOUT", "120")
    env["UV_PYTHON_DOWNLOADS"] = "never"
    return env


def install(*arguments: str | Path, log: Path) -> None:
    """`uv pip install`, first from uv's cache alone, so that what was downloaded once is not asked for again."""
    log.unlink(missing_ok=True)
    command = [uv(), "pip", "install", "--no-progress", *arguments]
    if not steps.run([*command, "--offline"], log, environment()) and not steps.run(command, log, environment()):
        raise steps.Trouble(f"packages could not be installed. uv said:\n{steps.tail(log)}\n  All of it: {log}")


def _install(folder: Path) -> None:
    log = steps.cache() / "logs" / "uv.log"
    log.unlink(missing_ok=True)
    python = _python_with_pip(folder.with_name(folder.name + ".pip"), log)
    if python is None:
        try:
            _download(folder)
        except (OSError, ValueError) as error:
            raise steps.Trouble(f"uv could not be downloaded: {error}") from error
        return
    pinned = ("--no-deps", "--only-binary", ":all:", "--require-hashes", "-r", PIN)
    if not steps.run([python, "-m", "pip", "install", "--quiet", *pinned, "--target", folder], log):
        raise steps.Trouble(f"pip could not install uv:\n{steps.tail(log, 4)}\n  All of it: {log}")


def _python_with_pip(venv: Path, log: Path) -> Path | None:
    if importlib.util.find_spec("pip") is not None:
        return Path(sys.executable)
    if importlib.util.find_spec("ensurepip") is not None and steps.run([PYTHON, "-m", "venv", "--clear", venv], log):
        return venv / "bin" / "python"
    return None


def _download(folder: Path) -> None:
    """For a Python without pip and ensurepip, as Debian ships it: the wheel, straight from the index."""
    index = os.environ.get("UV_DEFAULT_INDEX") or os.environ.get("PIP_INDEX_URL") or "https://pypi.org/simple"
    page = f"{index.rstrip('/')}/uv/"
    version = _version()
    links = _Links()
    links.feed(_get(page).decode())
    for address in links.found:
        address, _, _ = urllib.parse.urljoin(page, address).partition("#")
        name = urllib.parse.unquote(address.rsplit("/", 1)[-1])
        if name.startswith(f"uv-{version}-") and name.endswith(".whl") and _fits(name):
            break
    else:
        raise ValueError(f"{page} has no uv {version} for {sys.platform} on {platform.machine()}")
    wheel = _get(address)
    digest = hashlib.sha256(wheel).hexdigest()
    if f"sha256:{digest}" not in PIN.read_text():
        raise ValueError(f"{address} has the sha256 {digest}, which is not one of those in {PIN}")
    folder.mkdir(parents=True)
    archive = folder / name
    archive.write_bytes(wheel)
    with zipfile.ZipFile(archive) as content:
        program = content.read(f"uv-{version}.data/scripts/uv")
    archive.unlink()
    (folder / "bin").mkdir()
    (folder / "bin" / "uv").write_bytes(program)
    (folder / "bin" / "uv").chmod(0o755)


def _fits(wheel: str) -> bool:
    if sys.platform == "darwin":
        return "macosx" in wheel and platform.machine() in wheel
    libc = "manylinux" if platform.libc_ver()[0] == "glibc" else "musllinux"
    return libc in wheel and platform.machine() in wheel


def _get(address: str) -> bytes:
    context = ssl.create_default_context(cafile=os.environ.get("PIP_CERT"))
    request = urllib.request.Request(address, headers={"Accept": "text/html", "User-Agent": "steadyscale-setup"})
    with urllib.request.urlopen(request, timeout=60, context=context) as reply:
        return reply.read()


class _Links(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.found += [value for key, value in attrs if key == "href" and value]
