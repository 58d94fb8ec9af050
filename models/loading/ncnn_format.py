"""Parser of ncnn's .param (layers as text) and .bin (their weights).

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

PARAM_MAGIC = "7767517"
FLOAT16_FLAG = 0x01306B47
FLOAT32_FLAGS = (0, 0x0002C056)
MAX_LAYERS = 20_000

SettingValue: TypeAlias = "int | float | list[float]"


@dataclass(frozen=True)
class Layer:
    """A layer, one line of the .param, with its numbered settings.

    The file stores lists under the key -23300 - number.
    """

    kind: str
    name: str
    inputs: list[str]
    outputs: list[str]
    settings: dict[int, SettingValue]

    def get_float(self, key: int, default: float) -> float:
        """A numeric setting. Raises WeightsError if it is a list."""
        value = self.settings.get(key, default)
        if isinstance(value, list):
            raise WeightsError(f"layer {self.name} has a list for setting {key} instead of a number")
        return value

    def get_int(self, key: int, default: int) -> int:
        """An integer setting. Raises WeightsError if it is not an integer."""
        value = self.get_float(key, default)
        if value != int(value):
            raise WeightsError(f"layer {self.name} has {value} for setting {key} instead of an integer")
        return int(value)

    def get_floats(self, key: int) -> list[float]:
        """A list setting; a single number counts as a list of one."""
        value = self.settings.get(key, [])
        return value if isinstance(value, list) else [value]


def parse_param(text: str) -> list[Layer]:
    """Parse the text of an ncnn .param file into its layers, in order.

    Raises WeightsError with the number of a wrong line.
    """
    lines = text.splitlines()
    try:
        if lines[0].strip() != PARAM_MAGIC:
            raise ValueError("the ncnn magic number is missing")
        count = int(lines[1].split()[0])
        if count > MAX_LAYERS:
            raise ValueError(f"{count} layers, more than {MAX_LAYERS}")
    except (IndexError, ValueError) as error:
        raise WeightsError(f"its first lines are wrong ({error})") from error
    layers: list[Layer] = []
    for position, line in enumerate(lines[2:], start=3):
        words = line.split()
        if not words:
            continue
        try:
            kind, name, inputs, outputs = words[0], words[1], int(words[2]), int(words[3])
            blobs, rest = words[4 : 4 + inputs + outputs], words[4 + inputs + outputs :]
            if inputs < 0 or outputs < 1 or len(blobs) < inputs + outputs:
                raise ValueError("too few blob names")
            layers.append(
                Layer(kind, name, blobs[:inputs], blobs[inputs:], dict(_parse_setting(word) for word in rest))
            )
        except (IndexError, ValueError) as error:
            raise WeightsError(f"line {position} cannot be read ({error})") from error
    if len(layers) != count:
        raise WeightsError(f"it announces {count} layers and has {len(layers)}, so it is incomplete")
    return layers


def _parse_setting(word: str) -> tuple[int, SettingValue]:
    key, _, value = word.partition("=")
    if int(key) > -23300:
        return int(key), _parse_finite(value) if "." in value or "e" in value else int(value)
    length, *values = value.split(",")
    if len(values) != int(length):
        raise ValueError(f"wrong list length in {word[:80]}")
    return -23300 - int(key), [_parse_finite(item) for item in values]


def _parse_finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:80]} is not finite")
    return number


class BinReader:
    """Sequential reader of a .bin file."""

    def __init__(self, data: bytearray) -> None:
        self._data = data
        self._offset = 0

    def read_tagged(self, count: int) -> Tensor:
        """(count,): the next values, float16 or float32 according to the flag before them."""
        (flag,) = struct.unpack("<I", self._advance(4))
        if flag == FLOAT16_FLAG:
            values = self.read_raw(count, torch.float16)
            self._advance(-2 * count % 4)  # ncnn pads to four bytes
            return values
        if flag in FLOAT32_FLAGS:
            return self.read_raw(count)
        raise WeightsError(f"its weights are quantised (flag {flag:#010x})")

    def read_raw(self, count: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Read the next `count` values of an array that has no type flag."""
        start = self._offset
        self._advance(count * dtype.itemsize)
        return torch.frombuffer(self._data, dtype=dtype, count=count, offset=start) if count else torch.empty(0)

    def _advance(self, size: int) -> bytes:
        start, self._offset = self._offset, self._offset + size
        if size < 0 or self._offset > len(self._data):
            raise WeightsError(f"its .bin is too short for the weights ({len(self._data)} bytes)")
        return bytes(self._data[start : self._offset]) if size <= 4 else b""

    def expect_end(self) -> None:
        """Raise WeightsError unless everything has been read."""
        if self._offset != len(self._data):
            raise WeightsError(
                f"its .bin is {len(self._data) - self._offset} bytes longer than the weights of the graph"
            )
