"""The state of one run: the device, the rows, and what one block hands to another."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import torch
from steadyscale.core.runtime.device.accelerator import accelerator_for
from steadyscale.core.runtime.device.out_of_memory import is_out_of_memory
from steadyscale.core.upscaling.benchmark import describe_machine
from steadyscale.core.upscaling.model.precision import ComputeMode

Row = dict[str, Any]

QUICK_DIVISOR = 8  # of the sides of frames


class NotAvailable(Exception):
    """What a row measures does not exist here; the message says why."""


class Session:
    """One run on one device.

    peaks: operations per second of a matrix product by mode ("fp16", ...), once the block "ceilings" has run.
    """

    def __init__(
        self,
        device: str,
        file: TextIO,
        *,
        is_quick: bool = False,
        comfyui: Path | None = None,
        photographs: Path | None = None,
    ) -> None:
        self.device, self.accelerator = torch.device(device), accelerator_for(torch.device(device))
        self.is_quick, self.comfyui, self.photographs = is_quick, comfyui, photographs
        self.peaks: dict[str, float] = {}
        self.rows: list[Row] = []
        self.block = ""
        self._file = file
        self._common: Row = {"device": self.accelerator.name, "machine": describe_machine()}
        if is_quick:
            self._common["quick"] = True

    @property
    def device_module(self) -> Any:
        """torch's module for the device, such as `torch.cuda`; None if there is none."""
        return None if self.accelerator.is_cpu else getattr(torch, self.device.type, None)

    @property
    def modes(self) -> tuple[ComputeMode, ...]:
        """The modes that the device computes in, the preferred one first, bfloat16 last."""
        has_half = torch.float16 in self.accelerator.candidate_dtypes
        modes = [ComputeMode.FP16] if has_half else []
        modes += [ComputeMode.TF32] if self.accelerator.has_tf32 else []
        return (*modes, ComputeMode.FP32, *([ComputeMode.BF16] if has_half else []))

    def size(self, width: int, height: int) -> tuple[int, int]:
        """A size in pixels, reduced in a quick run; even."""
        if not self.is_quick:
            return width, height
        return width // QUICK_DIVISOR // 2 * 2, height // QUICK_DIVISOR // 2 * 2

    def count(self, number: int, quick: int = 1) -> int:
        """A number of frames or repetitions, or the other one in a quick run."""
        return quick if self.is_quick else number

    def write(self, status: str = "ok", **values: object) -> None:
        """Write a row at once."""
        row = {"block": self.block, "status": status, **self._common, **values}
        self.rows.append(row)
        self._file.write(json.dumps(_to_json(row), allow_nan=False) + "\n")
        self._file.flush()

    def measure_row(self, measure: Callable[[], Row], **keys: object) -> Row | None:
        """Write a row with the result of a function, or with its error; return the result.

        keys: what the row measures. A result may have another status. None after an error.
        """
        try:
            result = measure()
        except Exception as error:
            self.write(status=_classify(error), **keys, error=first_line(error))
        else:
            self.write(**{**keys, **result})
            return result
        self.accelerator.release_cache()  # Only here has the error released the tensors of its frames.
        return None


def first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"


def _classify(error: Exception) -> str:
    if is_out_of_memory(error):
        return "out of memory"
    return "not available" if isinstance(error, (NotAvailable, ImportError)) else "failed"


def _to_json(value: Any) -> Any:
    """The same with five significant digits, and without what JSON does not know."""
    if isinstance(value, dict):
        return {str(key): _to_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_to_json(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.5g}") if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)
