"""Codecs of a chunk of uint16: none, blosc, zstd, gzip. Bytes that are no such chunk raise ValueError or RuntimeError.

Decoders let go of the interpreter's lock while they work, and each thread has scratch memory of its own.
"""

from __future__ import annotations

import struct
import threading
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numcodecs import blosc, lz4, zstd
from numpy.typing import NDArray

__all__ = ["Decoder", "decoder_of", "is_plain"]

# Decodes the bytes of one chunk, which it may write to, into its flat pixels.
Decoder = Callable[[memoryview, NDArray[np.uint16]], None]

# Header of a blosc 1 frame: version, version of the codec, flags, size of a number, bytes, bytes a block, bytes in all.
BLOSC_HEADER = struct.Struct("<BBBBIII")
# Flags of: LZ4, bit shuffle, the bytes of a number compressed apart. Every other frame is left to blosc itself.
LZ4_BIT_SHUFFLED = 0x24
BYTES_APART = 2


def decoder_of(codecs: Sequence[Mapping[str, Any]]) -> Decoder | None:
    """What decodes chunks of uint16 that were encoded by these codecs, as an array's metadata has them.

    ``None`` where they are unknown, and where chunks are kept as they are: see :func:`is_plain`.
    """
    names = [codec["name"] for codec in codecs]
    known: Mapping[str, Decoder] = {"blosc": BloscDecoder(), "zstd": _from_zstd, "gzip": _from_gzip}
    if not codecs or not _is_little_endian(codecs[0]) or len(names) != 2:
        return None
    return known.get(names[1])


def is_plain(codecs: Sequence[Mapping[str, Any]]) -> bool:
    """Whether chunks are the bytes of their pixels, as they are."""
    return len(codecs) == 1 and _is_little_endian(codecs[0])


def _is_little_endian(codec: Mapping[str, Any]) -> bool:
    return codec["name"] == "bytes" and (codec.get("configuration") or {}).get("endian") == "little"


def _from_zstd(chunk: memoryview, out: NDArray[np.uint16]) -> None:
    _fill(zstd.decompress(chunk), out)


def _from_gzip(chunk: memoryview, out: NDArray[np.uint16]) -> None:
    try:
        _fill(zlib.decompress(chunk, wbits=31), out)
    except zlib.error as exc:
        raise ValueError(str(exc)) from exc


def _fill(pixels: bytes, out: NDArray[np.uint16]) -> None:
    _require_size(len(pixels), out)
    out[...] = np.frombuffer(pixels, dtype="<u2")


def _require_size(size: int, out: NDArray[np.uint16]) -> None:
    if size != out.nbytes:
        raise ValueError(f"a chip is of {size} bytes, not {out.nbytes}")


class BloscDecoder:
    """Blosc frames; those that our cubes are made of, LZ4 and bit shuffle, faster than blosc does it.

    The first chips of a process are left to blosc: what the fast way needs takes a third of a second to load, in which blosc
    decodes some thousand.

    Attributes:
        patience: how many are left to it.
        decoded: how many there were in this process; roughly, as threads count together.
    """

    patience: ClassVar[int] = 512
    decoded: ClassVar[int] = 0

    def __init__(self) -> None:
        self._own = threading.local()

    def __call__(self, chunk: memoryview, out: NDArray[np.uint16]) -> None:
        """Decode one frame."""
        if len(chunk) < BLOSC_HEADER.size:
            raise ValueError(f"a blosc frame of {len(chunk)} bytes")
        _, _, flags, typesize, size, block, stored = BLOSC_HEADER.unpack_from(chunk)
        _require_size(size, out)
        if stored != len(chunk):  # blosc would read on
            raise ValueError(f"a blosc frame of {len(chunk)} bytes, not {stored}")
        BloscDecoder.decoded += 1
        ours = flags == LZ4_BIT_SHUFFLED and typesize == BYTES_APART and block and block % 16 == 0 == size % block
        if not ours or self.decoded <= self.patience:
            blosc.decompress(chunk, out)
            return
        try:
            self._decode(chunk, out, block)
        except struct.error as exc:
            raise ValueError(f"a blosc frame that leads astray ({exc})") from exc

    def _decode(self, chunk: memoryview, out: NDArray[np.uint16], block: int) -> None:
        from pwcat.chunks.planes import merge_planes

        numbers, half = block // BYTES_APART, block // 2
        planes = self._planes(block)
        for number, start in enumerate(struct.unpack_from(f"<{out.nbytes // block}i", chunk, BLOSC_HEADER.size)):
            streams = []
            for k in range(BYTES_APART):
                (length,) = struct.unpack_from("<i", chunk, start)
                streams.append(_stream(chunk, start, length, planes[k * half : (k + 1) * half]))
                start += 4 + length
            merge_planes(streams[0], streams[1], out[number * numbers : (number + 1) * numbers])

    def _planes(self, size: int) -> NDArray[np.uint8]:
        planes = getattr(self._own, "planes", None)
        if planes is None or len(planes) < size:
            planes = self._own.planes = np.empty(size, dtype=np.uint8)
        return planes


def _stream(chunk: memoryview, start: int, length: int, out: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """One LZ4 stream of a block, decoded into ``out``; as it lies there, where it would not compress."""
    stop = start + 4 + length
    if not 0 < length <= len(out) or start < 0 or stop > len(chunk):
        raise ValueError(f"a stream of {length} bytes at {start} in a blosc frame of {len(chunk)}")
    if length == len(out):
        return np.frombuffer(chunk, dtype=np.uint8, count=length, offset=start + 4)
    struct.pack_into("<i", chunk, start, len(out))  # numcodecs wants the decoded size before the stream
    lz4.decompress(chunk[start:stop], out)
    return out
