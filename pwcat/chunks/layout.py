"""How a sharded array lies in its files: what its metadata say, as far as it can be read without zarr."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from pwcat.chunks.codecs import Decoder, decoder_of, is_plain

__all__ = ["Layout", "layout_of"]

# Offset and length of a chunk that is not there (Zarr v3, sharding_indexed).
MISSING = 2**64 - 1
CRC_BYTES = 4


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A sharded array of uint16 whose chunks are whole chips.

    Attributes:
        shard_size: chips a shard.
        chip_shape: of one.
        decode: what decodes a chunk; ``None`` where chunks are the bytes of their pixels.
        checked: whether a checksum stands behind the index of a shard.
        index_first: whether the index stands at the start of a shard, not at its end.
        fill_value: of a chip whose chunk is not there.
    """

    shard_size: int
    chip_shape: tuple[int, ...]
    decode: Decoder | None
    checked: bool
    index_first: bool
    fill_value: int

    @property
    def chip_bytes(self) -> int:
        """Of a decoded chip."""
        return 2 * int(np.prod(self.chip_shape))

    @property
    def index_bytes(self) -> int:
        """Of a shard's index, its checksum included."""
        return 16 * self.shard_size + CRC_BYTES * self.checked

    def index_of(self, stored: bytes) -> NDArray[np.uint64]:
        """Offset and length of each chunk, ``(chip, 2)``; :data:`MISSING` twice where there is none.

        Raises:
            ValueError: the bytes are not those of an index.
        """
        if len(stored) != self.index_bytes:
            raise ValueError(f"its index has {len(stored)} bytes of {self.index_bytes}")
        table = stored[: 16 * self.shard_size]
        if self.checked and google_crc32c.value(table) != int.from_bytes(stored[-CRC_BYTES:], "little"):
            raise ValueError("the checksum of its index is wrong")
        return np.frombuffer(table, dtype="<u8").reshape(-1, 2)


def layout_of(metadata: Mapping[str, Any]) -> Layout | None:
    """The layout of an array by its metadata (``zarr.json``); ``None`` where it is one that only zarr can read."""
    shape, codecs = metadata["shape"], metadata["codecs"]
    keys, grid = metadata["chunk_key_encoding"], metadata["chunk_grid"]
    usual = (
        metadata["data_type"] == "uint16"
        and keys["name"] == "default"
        and (keys.get("configuration") or {}).get("separator", "/") == "/"
        and grid["name"] == "regular"
        and [codec["name"] for codec in codecs] == ["sharding_indexed"]
        and not metadata.get("storage_transformers")
    )
    if not usual:
        return None
    sharding, shard = codecs[0]["configuration"], tuple(grid["configuration"]["chunk_shape"])
    inner, chip_shape = sharding["codecs"], tuple(shape[1:])
    index = [codec["name"] for codec in sharding["index_codecs"]]
    decode = decoder_of(inner)
    if (
        tuple(sharding["chunk_shape"]) != (1, *chip_shape)
        or shard[1:] != chip_shape
        or index not in (["bytes"], ["bytes", "crc32c"])
        or sharding["index_codecs"][0]["configuration"]["endian"] != "little"
        or (decode is None and not is_plain(inner))
    ):
        return None
    return Layout(
        shard_size=int(shard[0]),
        chip_shape=chip_shape,
        decode=decode,
        checked=len(index) == 2,
        index_first=sharding.get("index_location", "end") == "start",
        fill_value=int(metadata["fill_value"]),
    )
