"""ncnn's two files: .param, a graph of layers as text, and .bin, the weights one after another.

The format is described in ncnn's wiki under "param and model file structure".
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from ..errors import WeightsError

MAGIC = "7767517"
HALF_FLAG = 0x01306B47
FLOAT_FLAGS = (0, 0x0002C056)
MAX_LAYERS = 20_000

Value: TypeAlias = "int | float | list[float]"


@dataclass(frozen=True)
class Layer:
    """One line of the .param: numbered settings, arrays under the number that ncnn writes as -23300 - number."""

    kind: str
    name: str
    inputs: list[str]
    outputs: list[str]
    settings: dict[int, Value]

    def number(self, key: int, default: float) -> float:
        value = self.settings.get(key, default)
        if isinstance(value, list):
            raise WeightsError(f"layer {self.name} has a list for setting {key}")
        return value

    def whole(self, key: int, default: int) -> int:
        value = self.number(key, default)
        if value != int(value):
            raise WeightsError(f"layer {self.name} has {value} for setting {key}, where a whole number belongs")
        return int(value)

    def numbers(self, key: int) -> list[float]:
        value = self.settings.get(key, [])
        return value if isinstance(value, list) else [value]


def parse_param(text: str) -> list[Layer]:
    """The layers of a .param file's text, in order. Raises WeightsError naming the line that is wrong."""
    lines = text.splitlines()
    try:
        if lines[0].strip() != MAGIC:
            raise ValueError("no ncnn magic number")
        count = int(lines[1].split()[0])
        if count > MAX_LAYERS:
            raise ValueError(f"{count} layers")
    except (IndexError, ValueError) as error:
        raise WeightsError(f"its first lines are wrong ({error})") from error
    layers = []
    for position, line in enumerate(lines[2:], start=3):
        words = line.split()
        if not words:
            continue
        try:
            kind, name, inputs, outputs = words[0], words[1], int(words[2]), int(words[3])
            blobs, rest = words[4 : 4 + inputs + outputs], words[4 + inputs + outputs :]
            if inputs < 0 or outputs < 1 or len(blobs) < inputs + outputs:
                raise ValueError("too few blobs")
            layers.append(Layer(kind, name, blobs[:inputs], blobs[inputs:], dict(_setting(word) for word in rest)))
        except (IndexError, ValueError) as error:
            raise WeightsError(f"line {position} cannot be read ({error})") from error
    if len(layers) != count:
        raise WeightsError(f"it promises {count} layers and has {len(layers)}, so it is incomplete")
    return layers


def _setting(word: str) -> tuple[int, Value]:
    key, _, value = word.partition("=")
    if int(key) > -23300:
        return int(key), _finite(value) if "." in value or "e" in value else int(value)
    length, *values = value.split(",")
    if len(values) != int(length):
        raise ValueError(f"list {word[:80]}")
    return -23300 - int(key), [_finite(item) for item in values]


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"number {text[:80]}")
    return number


class Weights:
    """The .bin, read from front to back."""

    def __init__(self, data: bytearray) -> None:
        self._data = data
        self._at = 0

    def tagged(self, count: int) -> Tensor:
        """(count,): the next numbers, float16 or float32 as the flag before them says."""
        (flag,) = struct.unpack("<I", self._take(4))
        if flag == HALF_FLAG:
            values = self.plain(count, torch.float16)
            self._take(-2 * count % 4)  # ncnn pads to four bytes
            return values
        if flag in FLOAT_FLAGS:
            return self.plain(count)
        raise WeightsError(f"its weights are quantised (flag {flag:#010x})")

    def plain(self, count: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """(count,): the next numbers, without a flag."""
        start = self._at
        self._take(count * dtype.itemsize)
        return torch.frombuffer(self._data, dtype=dtype, count=count, offset=start) if count else torch.empty(0)

    def _take(self, size: int) -> bytes:
        start, self._at = self._at, self._at + size
        if size < 0 or self._at > len(self._data):
            raise WeightsError(f"its .bin has {len(self._data)} bytes and ends before the weights do")
        return bytes(self._data[start : self._at]) if size <= 4 else b""

    def finish(self) -> None:
        if self._at != len(self._data):
            raise WeightsError(f"its .bin has {len(self._data) - self._at} bytes more than the graph has weights")
