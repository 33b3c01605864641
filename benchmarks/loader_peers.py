"""The peers of benchmarks/loader.py: how each stores the same chips, and reads them in random order.

Each is used as its documentation says, in the way that was the fastest of those tried on this data and two cores: tensorstore
without a cache, `datasets` from its memory-mapped Arrow, WebDataset and LitData in this process, as workers of theirs pass
batches on between processes.
"""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numcodecs import blosc
from numpy.typing import NDArray

Chips = NDArray[np.uint16]
Rows = NDArray[np.int64]
BATCH = 256


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way to read chips in random order.

    Attributes:
        name: of it.
        stored: the codec.
        epoch: batches of an epoch by its number: rows and chips, each of which is verified once.
        bytes: on disk.
        most: batches that are measured a turn; all where ``None``.
    """

    name: str
    stored: str
    epoch: Callable[[int], Iterator[tuple[Rows, Any]]]
    bytes: int
    most: int | None = None


def size_of(path: Path) -> int:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)


def batches_of(count: int, epoch: int) -> list[Rows]:
    """All rows once, in random order."""
    return np.array_split(np.random.default_rng(epoch).permutation(count), -(-count // BATCH))


def by_index(count: int, read: Callable[[Rows], Any]) -> Callable[[int], Iterator[tuple[Rows, Any]]]:
    """Epochs of a way that reads any rows."""

    def epoch(number: int) -> Iterator[tuple[Rows, Any]]:
        for rows in batches_of(count, number):
            yield rows, read(rows)

    return epoch


def memmap_ways(path: Path) -> list[Way]:
    chips = np.load(path, mmap_mode="r")
    out = np.empty((BATCH, *chips.shape[1:]), dtype=np.uint16)

    def into(rows: Rows) -> Chips:
        return np.take(chips, rows, axis=0, out=out[: len(rows)], mode="clip")

    ways = {"numpy memmap": lambda rows: chips[rows], "numpy memmap, into the same memory": into}
    return [
        Way(name=name, stored="none", epoch=by_index(len(chips), read), bytes=size_of(path))
        for name, read in ways.items()
    ]


def tensorstore_way(path: Path, codec: str) -> Way:
    import tensorstore as ts

    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(path / "chips")}}
    context = ts.Context({"cache_pool": {"total_bytes_limit": 0}})
    store = ts.open(spec, open=True, context=context).result()
    read = lambda rows: store[rows].read().result()  # noqa: E731
    return Way(name="tensorstore", stored=codec, epoch=by_index(store.shape[0], read), bytes=size_of(path))


def zarr_ways(path: Path, codec: str) -> list[Way]:
    array = zarr.open_array(path / "chips", mode="r")
    fancy = lambda rows: array.oindex[rows]  # noqa: E731
    loop = lambda rows: np.stack([array[row] for row in rows])  # noqa: E731
    ways = {"zarr-python, fancy index": fancy, "zarr-python, chip by chip": loop}
    return [
        Way(name=name, stored=codec, epoch=by_index(array.shape[0], read), bytes=size_of(path), most=1)
        for name, read in ways.items()
    ]


def datasets_way(folder: Path, chips: Chips) -> Way:
    """A binary column of Parquet, which `datasets` makes memory-mapped Arrow of."""
    import datasets
    import pyarrow as pa
    import pyarrow.parquet as pq

    datasets.disable_progress_bars()
    folder.mkdir()
    schema = pa.schema([("chip", pa.large_binary())])
    with pq.ParquetWriter(folder / "chips.parquet", schema, compression="none", use_dictionary=False) as writer:
        for start in range(0, len(chips), BATCH):
            blobs = [chip.tobytes() for chip in chips[start : start + BATCH]]
            writer.write_table(pa.table({"chip": pa.array(blobs, pa.large_binary())}), row_group_size=64)
    table = datasets.Dataset.from_parquet(str(folder / "chips.parquet"), cache_dir=str(folder / "cache"))
    out = np.empty((BATCH, *chips.shape[1:]), dtype=np.uint16)

    def read(rows: Rows) -> Chips:
        for place, blob in enumerate(table[rows]["chip"]):
            out[place] = np.frombuffer(blob, dtype=np.uint16).reshape(out.shape[1:])
        return out[: len(rows)]

    name = "datasets, Parquet with a binary column"
    return Way(name=name, stored="none", epoch=by_index(len(chips), read), bytes=size_of(folder / "chips.parquet"))


def webdataset_way(folder: Path, chips: Chips, *, codec: str) -> Way:
    """Tar files of 256 chips; files in random order, and 1,024 samples shuffled together."""
    import webdataset as wds

    folder.mkdir()
    for shard in range(0, len(chips), BATCH):
        with tarfile.open(folder / f"{shard // BATCH:06d}.tar", "w") as tar:
            for row in range(shard, min(len(chips), shard + BATCH)):
                blob = _packed(chips[row], codec)
                entry = tarfile.TarInfo(f"{row:08d}.chip")
                entry.size = len(blob)
                tar.addfile(entry, io.BytesIO(blob))
    urls = sorted(str(path) for path in folder.iterdir())
    unpack = partial(_unpacked, shape=chips.shape[1:], codec=codec)

    def epoch(number: int) -> Iterator[tuple[Rows, Any]]:
        samples = wds.WebDataset(urls, shardshuffle=len(urls), seed=number, empty_check=False).shuffle(1024)
        yield from samples.map(unpack).batched(BATCH, collation_fn=_stacked)

    return Way(name="WebDataset", stored=codec, epoch=epoch, bytes=size_of(folder))


def _packed(chip: Chips, codec: str) -> bytes:
    if codec == "none":
        return chip.tobytes()
    return bytes(blosc.compress(np.ascontiguousarray(chip), b"lz4", 5, blosc.BITSHUFFLE))


def _unpacked(sample: dict[str, Any], *, shape: tuple[int, ...], codec: str) -> tuple[int, Chips]:
    blob = sample["chip"] if codec == "none" else blosc.decompress(sample["chip"])
    return int(sample["__key__"].rsplit("/", 1)[-1]), np.frombuffer(blob, dtype=np.uint16).reshape(shape)


def _stacked(samples: list[tuple[int, Chips]]) -> tuple[Rows, Chips]:
    return np.array([row for row, _ in samples]), np.stack([chip for _, chip in samples])


def litdata_way(folder: Path, chips_file: Path, count: int, *, compression: str | None) -> Way:
    """Chunks of 64 MB, shuffled by LitData."""
    for name in ("DATA_OPTIMIZER_CACHE_FOLDER", "DATA_OPTIMIZER_DATA_CACHE_FOLDER"):
        os.environ[name] = str(folder.with_name(f"{folder.name}-{name.lower()}"))
    import litdata

    litdata.optimize(
        fn=partial(_litdata_sample, path=str(chips_file)), inputs=list(range(count)), output_dir=str(folder),
        chunk_bytes="64MB", num_workers=1, compression=compression, verbose=False,
    )  # fmt: skip
    data = litdata.StreamingDataset(str(folder), shuffle=True, seed=0)
    loader = litdata.StreamingDataLoader(data, batch_size=BATCH, num_workers=0, collate_fn=_litdata_batch)

    def epoch(number: int) -> Iterator[tuple[Rows, Any]]:
        yield from loader

    return Way(name="LitData", stored=compression or "none", epoch=epoch, bytes=size_of(folder))


def _litdata_sample(row: int, *, path: str) -> dict[str, Any]:
    return {"row": row, "chip": np.array(np.load(path, mmap_mode="r")[row])}


def _litdata_batch(samples: list[dict[str, Any]]) -> tuple[Rows, Any]:
    import torch

    return np.array([one["row"] for one in samples]), torch.from_numpy(np.stack([one["chip"] for one in samples]))
