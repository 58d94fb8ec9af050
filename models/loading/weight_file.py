"""Read weight files of common formats as untrusted data.

No code in a file is executed, and sizes that it claims are checked before anything is allocated.
"""

from __future__ import annotations

import json
import logging
import mmap
import pickle
import re
import zipfile
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file  # pyright: ignore[reportUnknownVariableType]  # os.PathLike is incomplete

from ..errors import WeightsError
from . import ncnn
from .pickle_metadata import ignore_metadata, is_encoding_bounded

log = logging.getLogger(__name__)

MAX_HEADER_BYTES = 16 * 2**20  # of a safetensors header; the largest real ones have a few hundred KB
MAX_TENSORS = 20_000
# Globals that torch allows in a pickle although weights do not need them, and that turn a few bytes into gigabytes.
_ENCODE = b"_codecs\nencode\n"
FORBIDDEN_GLOBALS = (b"\nbytearray\n", _ENCODE, b"\n_rebuild_device_tensor_from_cpu_tensor\n")
MAX_EXPANSION_RATIO = 4  # of all tensors to their file: they may share memory, but not many times


class FileFormat(Enum):
    """The format of a file; values complete "it looks like ..." in messages."""

    SAFETENSORS = "a safetensors file"
    ZIP = "a zip archive"
    PICKLE = "a pickle of torch before 1.6"
    NCNN_PARAM = "an ncnn .param"
    EMPTY = "an empty file"
    LFS = "a Git LFS pointer, which refers to the weights but does not contain them"
    HTML = "a web page, often the result of a failed download"
    GGUF = "a GGUF language or diffusion model"
    TEXT = "plain text"
    UNKNOWN = "no known weight file format"


def detect_format(path: Path) -> FileFormat:
    """Detect the format of a file from its first bytes, whatever its extension."""
    with path.open("rb") as file:
        start = file.read(512)
    if not start:
        return FileFormat.EMPTY
    if start.startswith(b"PK\x03\x04"):
        return FileFormat.ZIP
    if start.startswith(b"version https://git-lfs"):
        return FileFormat.LFS
    if start.startswith(b"GGUF"):
        return FileFormat.GGUF
    if start.split(maxsplit=1)[0:1] == [b"7767517"]:
        return FileFormat.NCNN_PARAM
    if start[4:9] == b"\0\0\0\0{":
        return FileFormat.SAFETENSORS  # before PICKLE: a header length of 640 starts like a pickle
    if start[:1] == b"\x80" and len(start) > 1 and start[1] <= pickle.HIGHEST_PROTOCOL:
        return FileFormat.PICKLE
    if len(start) > 8 and start[8:9] == b"{":
        return FileFormat.SAFETENSORS
    if re.match(rb"\s*<(!doctype|html|\?xml)", start, re.IGNORECASE):
        return FileFormat.HTML
    if all(byte >= 32 or byte in b"\t\r\n" for byte in start):
        return FileFormat.TEXT
    return FileFormat.UNKNOWN


def read_weights(path: Path) -> Mapping[Any, Any]:
    """Read the contents of a weight file: CPU tensors by key.

    They may lie in wrappers, see `unwrap_state_dict`. Formats: safetensors, torch's .pth, .pt and .ckpt, and ncnn's
    .param and .bin (give either). Tensors may be memory-mapped. Raises WeightsError for everything else, before
    anything large is allocated.
    """
    if not path.is_file():
        raise WeightsError(f"{path} does not exist or is not a file; check the path")
    file_format = detect_format(path)
    if file_format is FileFormat.SAFETENSORS:
        return _read_safetensors(path)
    if file_format in (FileFormat.ZIP, FileFormat.PICKLE):
        return _read_torch(path, zipped=file_format is FileFormat.ZIP)
    if file_format is FileFormat.NCNN_PARAM:
        return ncnn.read_ncnn(path)
    param = path.with_suffix(".param")
    if path.suffix == ".bin" and file_format is FileFormat.UNKNOWN and param.is_file():
        return ncnn.read_ncnn(param)
    raise WeightsError(
        f"{path} is not a weight file but looks like {file_format.value}; "
        "download the model again (.safetensors, .pth, or ncnn .param with its .bin)"
    )


def _read_safetensors(path: Path) -> Mapping[str, Any]:
    # The library would create all the entries that a header claims, so they are counted here first.
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > MAX_HEADER_BYTES:
            raise WeightsError(
                f"{path} has a safetensors header of {length} bytes, more than any model needs; download it again"
            )
        header = file.read(length)
    try:
        entries = json.loads(header, object_pairs_hook=_reject_duplicate_keys)
        count = len(entries)
    except (ValueError, TypeError, RecursionError) as error:
        raise WeightsError(f"{path} has a broken safetensors header ({error}); download it again") from error
    if count > MAX_TENSORS:
        raise WeightsError(
            f"{path} claims {count} tensors, more than the {MAX_TENSORS} that a model may have; download it again"
        )
    try:
        return load_file(path)
    except Exception as error:  # whatever a hostile file makes the library raise
        raise WeightsError(
            f"{path} is a broken safetensors file of {size} bytes ({_first_line(error)}); download it again"
        ) from error


def _reject_duplicate_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) < len(pairs):
        raise ValueError("a key appears twice")
    return entries


def _read_torch(path: Path, *, zipped: bool) -> Mapping[Any, Any]:
    if torch_version() < (2, 6):
        raise WeightsError(
            f"{path} is a pickle, and torch {torch.__version__} can be made to execute code in it (CVE-2025-32434); "
            "use a .safetensors file or torch 2.6 or later"
        )
    if zipped:
        _check_zip(path)
    _check_pickle_globals(path, zipped=zipped)
    try:
        with ignore_metadata():
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped or None)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path} holds more than tensors, which may be harmful code, so it was not loaded; "
            "get the model as .safetensors or from a source you trust to convert it"
        ) from error
    except Exception as error:  # a broken pickle can raise anything at all
        raise WeightsError(f"{path} is a damaged .pth file ({_first_line(error)}); download it again") from error
    if not isinstance(content, Mapping):
        raise WeightsError(
            f"{path} holds a {type(content).__name__} instead of a dictionary of tensors; it is not a model"
        )
    return cast("Mapping[Any, Any]", content)


def torch_version() -> tuple[int, int]:
    """(major, minor) version of torch."""
    major, minor = torch.__version__.split(".")[:2]
    return int(major), int(minor)


def _check_zip(path: Path) -> None:
    """Reject archives that torch did not write.

    torch never compresses, so a compressed entry may be a zip bomb.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise WeightsError(f"{path} is a damaged or incomplete .pth file ({error}); download it again") from error
    names = [entry.filename for entry in entries]
    if len(entries) > MAX_TENSORS + 100:
        raise WeightsError(
            f"{path} is an archive of {len(entries)} files, more than any model needs; download it again"
        )
    if any("/code/" in name or name.endswith("/constants.pkl") for name in names):
        raise WeightsError(f"{path} is a TorchScript or exported program, not weights; get its state dict instead")
    if not any(name.endswith("/data.pkl") or name == "data.pkl" for name in names):
        raise WeightsError(f"{path} is a zip archive without weights; unpack it and use the model file inside")
    if compressed := [entry.filename for entry in entries if entry.compress_type != zipfile.ZIP_STORED]:
        raise WeightsError(
            f"{path} has compressed entries ({compressed[0]}), which torch never writes; download it again"
        )


def _check_pickle_globals(path: Path, *, zipped: bool) -> None:
    """Reject dangerous pickle globals.

    Their names lie uncompressed in both kinds of .pth file.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if found := [name for name in FORBIDDEN_GLOBALS if content.find(name) >= 0]:
            if found == [_ENCODE] and is_encoding_bounded(path, zipped=zipped):
                return
            name = " ".join(found[0].decode().split())
            raise WeightsError(f"{path} calls {name}, which can fill all memory; save a state dict of tensors only")


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


# ---- state dicts ----

_WRAPPER_KEYS = (
    "params_ema",
    "params-ema",
    "generator_ema",
    "net_g_ema",
    "params",
    "model_state_dict",
    "state_dict",
    "generator",
    "model",
    "net_g",
    "netG",
    "net",
)
_MAX_WRAPPER_DEPTH = 4  # a pickle can hold a dictionary that contains itself
_KEY_PREFIXES = ("module.", "_orig_mod.", "netG.", "net_g.", "generator.", "params_ema.", "params.")
# Of a checkpoint that also holds a discriminator, losses or counters: the network, its average preferred.
_GENERATOR_PREFIXES = ("generator_ema.", "net_g_ema.", "params_ema.", "generator.", "net_g.", "netG.", "params.")


def unwrap_state_dict(content: Mapping[Any, Any]) -> Mapping[Any, Any]:
    """The innermost dictionary of tensors, without common key prefixes.

    Prefixes are `module.` and others. Wrappers are `params_ema` (preferred), `params`, `state_dict` and others. In a
    checkpoint with several networks it is that of the generator, or of its running average (`generator_ema.`).
    """
    for _ in range(_MAX_WRAPPER_DEPTH):
        content = next((content[key] for key in _WRAPPER_KEYS if isinstance(content.get(key), Mapping)), content)
    for _ in range(_MAX_WRAPPER_DEPTH):
        stripped = _strip_common_prefix(content)
        generator = next(
            (part for p in _GENERATOR_PREFIXES if _has_convolution(part := _with_prefix(stripped, p))), None
        )
        if generator is None:
            return stripped
        content = generator
    return content


def _strip_common_prefix(content: Mapping[Any, Any]) -> Mapping[Any, Any]:
    while content and (
        prefix := next((p for p in _KEY_PREFIXES if all(str(key).startswith(p) for key in content)), "")
    ):
        content = _with_prefix(content, prefix)
    return content


def _with_prefix(content: Mapping[Any, Any], prefix: str) -> dict[Any, Any]:
    return {key[len(prefix) :]: value for key, value in content.items() if str(key).startswith(prefix)}


def _has_convolution(content: Mapping[Any, Any]) -> bool:
    return any(isinstance(value, torch.Tensor) and value.ndim == 4 for value in content.values())


def validate_tensors(state: Mapping[Any, Any], path: Path) -> dict[str, torch.Tensor]:
    """Return the dictionary if it holds only CPU tensors that fit into the file.

    Raises WeightsError otherwise.
    """
    size = sum(file.stat().st_size for file in {path, path.with_suffix(".bin")} if file.is_file())
    if not state:
        raise WeightsError(f"{path} holds no tensors; download the model again")
    if len(state) > MAX_TENSORS:
        raise WeightsError(
            f"{path} holds {len(state)} tensors, more than the {MAX_TENSORS} that a model may have; download it again"
        )
    total = 0
    for key, tensor in state.items():
        if not isinstance(key, str) or type(tensor) not in (torch.Tensor, torch.nn.Parameter):
            raise WeightsError(
                f"{path} holds {str(key)[:80]!r}, a {type(tensor).__name__}, instead of a tensor; save weights only"
            )
        if tensor.layout is not torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
            raise WeightsError(
                f"{path} holds {str(key)[:80]!r} as a sparse, quantised or meta tensor; get the float32 weights"
            )
        claimed = tensor.numel() * tensor.element_size()
        total += claimed
        if not claimed <= tensor.untyped_storage().nbytes() <= size or total > MAX_EXPANSION_RATIO * size:
            raise WeightsError(
                f"{path} claims {str(key)[:80]!r} to be larger than the file itself ({size} bytes); download it again"
            )
    return {key: tensor.detach() for key, tensor in state.items()}


_OTHER_KIND_PATTERNS = (  # (pattern of a key, what the file is if any key matches)
    (r"lora_(up|down|A|B)\b|\.hada_w|\.lokr_", "a LoRA, which needs a LoRA loader"),
    (r"^model\.diffusion_model\.|^double_blocks\.|^cond_stage_model\.|^conditioner\.", "a diffusion checkpoint"),
    (r"^(first_stage_model\.)?(encoder\.down|decoder\.up)(_blocks)?\.", "a VAE"),
    (r"^text_model\.|^transformer\.text_model\.|^shared\.weight$", "a text encoder"),
    (r"^optimizers?$|^optimizer_states$|^schedulers$", "a training state without the network"),
    (r"^conv9\.weight|^features\.\d+\.|^classifier\.", "a discriminator or classifier"),
)


def guess_other_kind(state: Mapping[str, Any]) -> str | None:
    """Describe a well-known model that is not an upscaler, such as "a LoRA, ...".

    It is recognised by its keys. None for all others.
    """
    for pattern, meaning in _OTHER_KIND_PATTERNS:
        if any(re.search(pattern, str(key)) for key in state):
            return meaning
    return None


def first_keys(state: Mapping[str, Any]) -> str:
    """The first few keys, for error messages."""
    return ", ".join(str(key)[:80] for key in list(state)[:5])
