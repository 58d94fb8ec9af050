"""Weights as the bytes of a .safetensors file, which are the same for the same weights."""

from __future__ import annotations

import json
from collections.abc import Mapping

from safetensors.torch import save
from torch import Tensor

HEADER_ALIGNMENT_BYTES = 8  # bytes: where the numbers begin behind the header, which spaces fill up


def save_deterministic(state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """The file for contiguous tensors on the CPU. facts: go into its header as they are.

    safetensors leaves the order of the facts to chance, so that files of equal weights would differ; here it is that of
    their names.
    """
    made = save(dict(state), dict(metadata))
    end = 8 + int.from_bytes(made[:8], "little")
    header = json.dumps(json.loads(made[8:end]), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    header += b" " * (-len(header) % HEADER_ALIGNMENT_BYTES)
    return len(header).to_bytes(8, "little") + header + made[end:]
