"""Add a track of GoPro telemetry (GPMF) to an MP4 file.

The format: https://github.com/gopro/gpmf-parser. Payloads of one second; gyroscope in radians per second, accelerometer
in meters per square second, both as z, x, y of the camera, as GoPro orders them.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

GYRO_SCALE, ACCELERATION_SCALE = 3755, 417
TIMESCALE = 1000


def add_gpmf_track(path: Path, gyro: NDArray[np.float64], gravity: NDArray[np.float64], rate: int) -> None:
    """Append telemetry to a file of PyAV, whose `moov` box is its last one.

    gyro, gravity: (n, 3), samples at `rate` per second from the first frame on, in the order of the file.
    """
    data = path.read_bytes()
    start = next(offset for offset, kind in _boxes(data) if kind == b"moov")
    moov, before = data[start + 8 :], data[:start]
    payloads = [_payload(gyro[i : i + rate], gravity[i : i + rate], i) for i in range(0, len(gyro), rate)]
    durations = [TIMESCALE * len(gyro[i : i + rate]) // rate for i in range(0, len(gyro), rate)]
    body = b"".join(payloads)
    offset = len(before) + 8
    path.write_bytes(before + _box(b"mdat", body) + _box(b"moov", moov + _track(payloads, durations, offset)))


def _boxes(data: bytes) -> list[tuple[int, bytes]]:
    found, offset = [], 0
    while offset < len(data):
        size = struct.unpack(">I", data[offset : offset + 4])[0]
        found.append((offset, data[offset + 4 : offset + 8]))
        offset += size
    return found


def _box(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I", 8 + len(body)) + kind + body


def _full_box(kind: bytes, *parts: bytes, flags: int = 0) -> bytes:
    return _box(kind, struct.pack(">I", flags), *parts)


def _klv(key: bytes, kind: bytes, size: int, count: int, data: bytes) -> bytes:
    return key + kind + struct.pack(">BH", size, count) + data + b"\0" * (-len(data) % 4)


def _text(key: bytes, text: bytes) -> bytes:
    return _klv(key, b"c", 1, len(text), text)


def _nest(key: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return _klv(key, b"\0", 1, len(body), body)


def _stream(key: bytes, name: bytes, unit: bytes, scale: int, values: NDArray[np.float64], first: int) -> bytes:
    integers = np.rint(values * scale).astype(">i2")
    return _nest(
        b"STRM",
        _klv(b"TSMP", b"L", 4, 1, struct.pack(">I", first + len(values))),
        _text(b"STNM", name),
        _text(b"SIUN", unit),
        _klv(b"SCAL", b"s", 2, 1, struct.pack(">h", scale)),
        _klv(key, b"s", 6, len(integers), integers.tobytes()),
    )


def _payload(gyro: NDArray[np.float64], gravity: NDArray[np.float64], first: int) -> bytes:
    return _nest(
        b"DEVC",
        _klv(b"DVID", b"L", 4, 1, struct.pack(">I", 1)),
        _text(b"DVNM", b"HERO6 Black"),
        _stream(b"ACCL", b"Accelerometer", b"m/s\xb2", ACCELERATION_SCALE, gravity, first),
        _stream(b"GYRO", b"Gyroscope", b"rad/s", GYRO_SCALE, gyro, first),
    )


def _track(payloads: list[bytes], durations: list[int], offset: int) -> bytes:
    total, count = sum(durations), len(payloads)
    unity = struct.pack(">9i", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
    header = struct.pack(">5I", 0, 0, 3, 0, total) + struct.pack(">2I4H", 0, 0, 0, 0, 0, 0) + unity + bytes(8)
    offsets = np.cumsum([0, *map(len, payloads[:-1])]) + offset
    sizes = b"".join(struct.pack(">I", len(p)) for p in payloads)
    table = _box(
        b"stbl",
        _full_box(b"stsd", struct.pack(">I", 1), _box(b"gpmd", struct.pack(">6BHI", 0, 0, 0, 0, 0, 0, 1, 0))),
        _full_box(b"stts", struct.pack(">I", count), b"".join(struct.pack(">2I", 1, d) for d in durations)),
        _full_box(b"stsc", struct.pack(">4I", 1, 1, 1, 1)),
        _full_box(b"stsz", struct.pack(">2I", 0, count), sizes),
        _full_box(b"stco", struct.pack(">I", count), b"".join(struct.pack(">I", int(o)) for o in offsets)),
    )
    dinf = _box(b"dinf", _full_box(b"dref", struct.pack(">I", 1), _full_box(b"url ", flags=1)))
    gmhd = _box(b"gmhd", _full_box(b"gmin", struct.pack(">6H", 64, 32768, 32768, 32768, 0, 0)))
    media = _box(
        b"mdia",
        _full_box(b"mdhd", struct.pack(">4I2H", 0, 0, TIMESCALE, total, 0x55C4, 0)),
        _full_box(b"hdlr", b"mhlr", b"meta", b"\0" * 12, b"\x0bGoPro MET  "),
        _box(b"minf", gmhd, dinf, table),
    )
    return _box(b"trak", _full_box(b"tkhd", header, flags=15), media)
