"""Files of TensorFlow's records, read without TensorFlow: where records lie, and the arrays of an example.

A record is its length (8 bytes), the masked CRC-32C of these, the data, and the masked CRC-32C of the data. The data are a
message ``tf.train.Example``: a map from names to lists of floats or whole numbers, packed. Features are found without reading
what lies between them, since one example may hold megabytes.

Source: TensorFlow's ``record_writer.h``, ``example.proto`` and ``feature.proto``; Protocol Buffers, "Encoding".
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray

__all__ = ["Read", "Record", "array_of", "features_of", "masked_crc", "reader", "records_of"]

# Reads so many bytes from a place on, fewer at the end.
Read = Callable[[int, int], bytes]

HEAD, FOOT = struct.Struct("<QI"), struct.Struct("<I")
MASK = 0xA282EAD8
# Tags of the messages: the number of a field, and that its length comes first.
FEATURES = ENTRY = KEY = VALUES = 0x0A
VALUE = 0x12
FLOATS, WHOLE_NUMBERS = 0x12, 0x1A
LONGEST_HEAD = 128  # of an entry: its tag, length, name and the tag and length of its value
CONTINUES = 0x80  # of a varint: another byte follows
MOST_BYTES = 10  # of a varint


@dataclass(frozen=True, kw_only=True)
class Record:
    """Where the data of a record lie in its file.

    Attributes:
        start: of the data.
        length: of the data.
        crc: masked CRC-32C of the data.
    """

    start: int
    length: int
    crc: int

    def data(self, read: Read) -> bytes:
        """The data.

        Raises:
            ValueError: they are not those that were written.
        """
        data = read(self.start, self.length)
        if masked_crc(data) != self.crc:
            raise ValueError(f"the record at byte {self.start} is damaged: its checksum differs")
        return data


def masked_crc(data: bytes) -> int:
    """Checksum as it is written beside what it is of."""
    crc = int(google_crc32c.value(data))
    return (((crc >> 15) | (crc << 17)) + MASK) & 0xFFFFFFFF


def records_of(path: Path) -> list[Record]:
    """The records of a file, without their data.

    Raises:
        ValueError: it is not a file of records, or ends within one.
    """
    records: list[Record] = []
    size, place = path.stat().st_size, 0
    with path.open("rb") as file:
        while place < size:
            file.seek(place)
            head = file.read(HEAD.size)
            if len(head) < HEAD.size:
                raise ValueError(f"it ends within the head of record {len(records)}")
            length, crc = HEAD.unpack(head)
            if masked_crc(head[:8]) != crc:
                raise ValueError(
                    f"record {len(records)} has no sound head: it is damaged, packed, or no file of records"
                )
            start, place = place + HEAD.size, place + HEAD.size + length + FOOT.size
            if place > size:
                raise ValueError(f"it ends within record {len(records)}, {place - size:,} bytes early")
            file.seek(start + length)
            records.append(Record(start=start, length=length, crc=FOOT.unpack(file.read(FOOT.size))[0]))
    return records


def reader(descriptor: int) -> Read:
    """Reads of an opened file."""
    return lambda place, length: os.pread(descriptor, length, place)


def features_of(read: Read, start: int, length: int) -> dict[str, tuple[int, int]]:
    """Where the value of each feature of an example lies: its first byte, and how many there are.

    Args:
        read: of the file, or of the data alone.
        start: of the data.
        length: of the data.

    Raises:
        ValueError: this is no example.
    """
    found: dict[str, tuple[int, int]] = {}
    place, end = start, start + length
    while place < end:
        inner, size = _field(read(place, LONGEST_HEAD), 0, FEATURES)
        found |= dict(_entries(read, place + inner, place + inner + size))
        place += inner + size
    return found


def _entries(read: Read, place: int, end: int) -> Iterator[tuple[str, tuple[int, int]]]:
    while place < end:
        head = read(place, LONGEST_HEAD)
        inner, size = _field(head, 0, ENTRY)
        name_at, name_length = _field(head, inner, KEY)
        name = head[name_at : name_at + name_length].decode()
        value_at, value_length = _field(head, name_at + name_length, VALUE)
        yield name, (place + value_at, value_length)
        place += inner + size


def array_of(value: bytes) -> NDArray[Any]:
    """The numbers of a feature's value, (n,): float32 or int64.

    Raises:
        ValueError: it holds strings, or is damaged.
    """
    if not value:
        return np.zeros(0, dtype=np.float32)
    kind = value[0]
    if kind not in (FLOATS, WHOLE_NUMBERS):
        raise ValueError("a feature is no list of numbers")
    at, size = _field(value, 0, kind)
    if size:
        at, size = _field(value, at, VALUES)
    packed = value[at : at + size]
    if len(packed) < size:
        raise ValueError("a feature ends early")
    return np.frombuffer(packed, dtype="<f4") if kind == FLOATS else _varints(np.frombuffer(packed, dtype=np.uint8))


def _varints(packed: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Whole numbers of seven bits a byte, the lowest first."""
    if not packed.size or packed.max() < CONTINUES:
        return packed.astype(np.int64)
    last = np.flatnonzero(packed < CONTINUES)
    if not last.size or last[-1] != packed.size - 1:
        raise ValueError("a whole number ends early")
    first = np.concatenate([[0], last[:-1] + 1])
    place = np.arange(packed.size) - np.repeat(first, last - first + 1)
    if place.max() >= MOST_BYTES:
        raise ValueError("a whole number has too many bytes")
    parts = (packed & (CONTINUES - 1)).astype(np.uint64) << (7 * place).astype(np.uint64)
    return np.asarray(np.add.reduceat(parts, first)).view(np.int64)


def _field(data: bytes, at: int, tag: int) -> tuple[int, int]:
    """Where the content of the field at a place begins, and how long it is."""
    if at >= len(data) or data[at] != tag:
        raise ValueError("this is no example of named lists of numbers")
    number = shift = 0
    for place in range(at + 1, len(data)):
        number |= (data[place] & (CONTINUES - 1)) << shift
        if data[place] < CONTINUES:
            return place + 1, number
        shift += 7
    raise ValueError("a length ends early")
