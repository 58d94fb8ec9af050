"""Serialise weights to .safetensors with reproducible bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping

from safetensors.torch import save
from torch import Tensor

HEADER_ALIGNMENT_BYTES = 8  # the header is padded with spaces so that the data starts at a multiple of it


def save_deterministic(state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """The bytes of a .safetensors file of contiguous CPU tensors with metadata.

    safetensors writes metadata in random order, so that files of equal weights would differ; here keys are sorted.
    """
    content = save(dict(state), dict(metadata))
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8:end]), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    header += b" " * (-len(header) % HEADER_ALIGNMENT_BYTES)
    return len(header).to_bytes(8, "little") + header + content[end:]
