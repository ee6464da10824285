"""TensorBoard event files, written as they are defined: length, checksum, record, checksum.

A record is a `tensorflow.Event` message. Only three of its fields are needed for scalars, so that
the format is written here and no package of TensorBoard's is installed in the step; TensorBoard's
own reader is asked in the tests.
"""

import struct
import time
from collections.abc import Iterable
from pathlib import Path

import google_crc32c

from sft_components.launch_sft.metrics import Point

_MASK = 0xA282EAD8


def write_events(folder: Path, points: Iterable[Point]) -> Path:
    """Write `points` as one event file below `folder` and return it.

    The tags are the metrics' documented names without the leading slash. The file's name is always
    the same, so that it is written anew rather than beside an older one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "events.out.tfevents.0000000000.vertex-sft"
    moment = time.time()
    with path.open("wb") as file:
        file.write(_record(_double(1, moment) + _bytes(3, b"brain.Event:2")))
        for point in points:
            value = _bytes(1, point.metric.lstrip("/").encode()) + _float(2, point.value)
            event = (
                _double(1, point.time or moment)
                + _varint(2 << 3)
                + _varint(point.step)
                + _bytes(5, _bytes(1, value))
            )
            file.write(_record(event))
    return path


def _record(data: bytes) -> bytes:
    length = struct.pack("<Q", len(data))
    return length + _checksum(length) + data + _checksum(data)


def _checksum(data: bytes) -> bytes:
    crc = google_crc32c.value(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + _MASK) & 0xFFFFFFFF)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _double(field: int, value: float) -> bytes:
    return _varint(field << 3 | 1) + struct.pack("<d", value)


def _float(field: int, value: float) -> bytes:
    return _varint(field << 3 | 5) + struct.pack("<f", value)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value
