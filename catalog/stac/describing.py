"""A collection described shard by shard: each shard's items and tally in a file, made where it is missing or out of date."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from catalog.items import item_rows
from catalog.measures.codebook import Codebook, fit_codebook, fitted_to, read_codebook, write_codebook
from catalog.measures.tally import Tally
from catalog.spectral import SpectralMeasures, measure
from pwcat.atomic import remove_leftovers, replacing
from pwcat.building.execution import LOCAL_SHARDS, Work, run_shards
from pwcat.building.ledger import ledger_path, read_one
from pwcat.cube import OFFSET, SCALE, Cube, open_cube, shard_path
from pwcat.errors import CatalogError
from pwcat.plan import FrozenPlan
from pwcat.recipe import Chip
from pwcat.reserve import plan_hash

__all__ = [
    "CODEBOOK",
    "PARTS",
    "as_reflectance",
    "describe_shards",
    "mark_of",
    "part_path",
    "part_tally",
    "read_part",
    "reflectance_numbers",
    "settled_codebook",
    "shard_outcome",
    "write_part",
]

log = logging.getLogger(__name__)

PARTS = "described"
CODEBOOK = "codebook.parquet"
# To be raised where the same shard would be described otherwise: all are described again then.
VERSION = "1"
TALLY, MARK = b"pwcat:tally", b"pwcat:of"
# Chips that a codebook is fitted on, drawn from the whole collection.
CODEBOOK_CHIPS = 512


@dataclass(frozen=True, kw_only=True)
class DescribeTask:
    """Everything a worker needs to describe one shard.

    Attributes:
        folder: the collection's; must be the same place for every worker.
        shard: its number.
        rows: the plan's rows of this shard, and ``pwcat:index``.
        chip: of the recipe.
        codebook: of its spectra; ``None`` where no pixel has data in every band.
        mark: of what it is described from.
        threads: that measure.
        share: not used; every task of a cluster has one.
    """

    folder: Path
    shard: int
    rows: pa.Table
    chip: Chip
    codebook: Codebook | None
    mark: str
    threads: int
    share: float = 1.0

    @property
    def part(self) -> Path:
        """The file that it writes."""
        return part_path(self.folder, self.shard)


def part_path(folder: Path, shard: int) -> Path:
    """The description of one shard, in a collection's folder."""
    return folder / PARTS / f"{shard:06d}.parquet"


def describe_shards(
    plan: FrozenPlan,
    *,
    codebook: Codebook | None,
    scheduler: str | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Path]:
    """The descriptions of all shards, in their order; those that are there, of the same pixels and labels, are kept.

    Args:
        plan: of the collection.
        codebook: of its spectra.
        scheduler: address of a Dask scheduler; threads of this process where ``None``.
        progress: called with shards done and shards in all.

    Raises:
        CubeError: a shard is missing or damaged; the others are described by then.
    """
    cube = open_cube(plan.folder / "cube.zarr")
    total = -(-len(plan) // cube.shard_size)
    (plan.folder / PARTS).mkdir(exist_ok=True)
    remove_leftovers(plan.folder / PARTS)
    parts = [part_path(plan.folder, shard) for shard in range(total)]
    for stray in set((plan.folder / PARTS).glob("*.parquet")) - set(parts):
        stray.unlink()
    missing = list(_missing(plan, cube, codebook))
    progress(done := total - len(missing), total)
    work = cast("Work", describe_shard)
    for _ in run_shards(work, cast("Iterator[Any]", _tasks(plan, cube, codebook, missing)), scheduler=scheduler):
        progress(done := done + 1, total)
    return parts


def _missing(plan: FrozenPlan, cube: Cube, codebook: Codebook | None) -> Iterator[tuple[int, str]]:
    """Shards whose description is missing or out of date, with the mark that it is to have."""
    common = json.dumps([VERSION, plan_hash(plan.folder), plan.recipe.hash, codebook.hash if codebook else None])
    for shard in range(-(-len(plan) // cube.shard_size)):
        mark = sha256(common.encode() + shard_outcome(plan.folder, shard)).hexdigest()
        if mark_of(part_path(plan.folder, shard)) != mark:
            yield shard, mark


def shard_outcome(folder: Path, shard: int) -> bytes:
    """What became of a shard, without what it took: its pixels' hash and size, and what of its ledger goes into items."""
    pixels = shard_path(folder / "cube.zarr", shard)
    ledger = read_one(ledger_path(folder, shard), columns={"id", "status", "valid_fraction", "item"})
    notes = ledger.schema.metadata or {}
    told = [notes.get(b"pwcat:shard_sha256", b"").decode(), pixels.stat().st_size if pixels.is_file() else None]
    sink = pa.BufferOutputStream()
    plain = ledger.replace_schema_metadata(None).combine_chunks()
    with pa.ipc.new_stream(sink, plain.schema) as writer:
        writer.write_table(plain)
    return json.dumps(told).encode() + sink.getvalue().to_pybytes()


def mark_of(part: Path) -> str | None:
    """What a description says that it was made from; ``None`` where there is none, or it cannot be read."""
    if not part.is_file():
        return None
    try:
        with pq.ParquetFile(part) as file:
            return ((file.schema_arrow.metadata or {}).get(MARK) or b"").decode()
    except (pa.ArrowException, OSError):
        return None


def _tasks(
    plan: FrozenPlan, cube: Cube, codebook: Codebook | None, missing: list[tuple[int, str]]
) -> Iterator[DescribeTask]:
    for shard, mark in missing:
        index = np.arange(shard * cube.shard_size, min((shard + 1) * cube.shard_size, len(plan)))
        yield DescribeTask(
            folder=plan.folder,
            shard=shard,
            rows=plan.table.take(pa.array(index)).append_column("pwcat:index", pa.array(index)),
            chip=plan.recipe.chip,
            codebook=codebook,
            mark=mark,
            threads=max(1, (os.cpu_count() or 1) // LOCAL_SHARDS),
        )


def describe_shard(task: DescribeTask) -> int:
    """Describe one shard, and write its part; returns how many of its samples have pixels."""
    ledger = read_one(ledger_path(task.folder, task.shard))
    written = np.flatnonzero(pc.equal(ledger["status"], "written").to_numpy())
    chosen = pa.array(written)
    rows, told = task.rows.take(chosen), ledger.take(chosen).replace_schema_metadata(None)
    found = _measures(task, written) if len(written) else None
    items = item_rows(
        task.chip,
        rows,
        told,
        spectra={
            "div:spectral_entropy": found.band_histogram if found else (),
            "div:spectral_entropy_codebook": found.codebook if found else (),
            "div:spectral_entropy_covariance": found.covariance if found else (),
        },
    )
    write_part(task.part, items, Tally.of(items, found), mark=task.mark)
    return len(items)


def _measures(task: DescribeTask, written: NDArray[np.int64]) -> SpectralMeasures:
    """Of the reflectance alone: what sensors measure has other units."""
    cube = open_cube(task.folder / "cube.zarr")
    chips = reflectance_numbers(cube, task.shard * cube.shard_size + written)
    return measure(chips, codebook=task.codebook, bands=cube.bands[cube.main], threads=task.threads)


def reflectance_numbers(cube: Cube, rows: NDArray[np.int64]) -> NDArray[np.uint16]:
    """Chips of the main source's bands, ``(n, time, band, y, x)``, in ten thousandths of 1, however the cube keeps them.

    Images of 8 bits are kept by another scale: what is black there is 1 here, for 0 is no data.
    """
    return as_reflectance(cube, cube.read(rows))


def as_reflectance(cube: Cube, chips: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """The same of chips that were read: the main source's bands, in ten thousandths of 1."""
    chips = chips[:, :, cube.main]
    scale, offset = float(cube.attrs.get("scale", SCALE)), float(cube.attrs.get("offset", OFFSET))
    if (scale, offset) == (SCALE, OFFSET):
        return chips
    numbers = np.arange(int(chips.max(initial=0)) + 1)
    table = np.clip(np.rint((numbers * scale + offset) / SCALE), 1, np.iinfo(np.uint16).max).astype(np.uint16)
    table[0] = 0
    return table[chips]


def write_part(path: Path, items: pa.Table, tally: Tally, *, mark: str = "") -> None:
    """Write rows of items with their tally, whole or not at all.

    Args:
        path: the file.
        items: columns of :data:`catalog.items.ITEM_SCHEMA`; what is the same for all of a collection may be left out.
        tally: of these items.
        mark: of what they were made from.
    """
    notes = {TALLY: json.dumps(tally.to_json(), ensure_ascii=False).encode(), MARK: mark.encode()}
    with replacing(path) as temporary:
        pq.write_table(items.replace_schema_metadata(notes), temporary, compression="zstd", write_page_checksum=True)


def read_part(path: Path) -> pa.Table:
    """The items of a part, every byte checked.

    Raises:
        CatalogError: it is missing or damaged.
    """
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            return file.read(use_threads=False).replace_schema_metadata(None)
    except (pa.ArrowException, OSError) as exc:
        raise CatalogError(f"{path}: cannot be read ({exc}); remove it and describe the dataset again") from exc


def part_tally(path: Path) -> Tally:
    """The tally of a part, from its notes alone.

    Raises:
        CatalogError: it is missing, damaged, or no part.
    """
    try:
        with pq.ParquetFile(path) as file:
            return Tally.from_json(json.loads((file.schema_arrow.metadata or {})[TALLY]))
    except (pa.ArrowException, OSError, KeyError, ValueError) as exc:
        raise CatalogError(f"{path}: has no tally ({exc!r}); remove it and describe the dataset again") from exc


def settled_codebook(folder: Path, written: NDArray[np.int64], *, given: Codebook | None = None) -> Codebook | None:
    """The codebook of a collection: the one given, else one fitted to its chips, which is kept while these stay as they are.

    Chips are chosen by their rows in the plan, so that a finished collection has one and the same codebook in however many
    goes it was built. One that was given stays. ``None`` where no pixel has data in every band.

    Args:
        folder: of the collection.
        written: rows of the cube that have pixels.
        given: a codebook to use, of another collection say.
    """
    path = folder / CODEBOOK
    if given is not None:
        write_codebook(path, given)
        return given
    cube = open_cube(folder / "cube.zarr")
    bands = cube.bands[cube.main]
    chosen = _fitting_rows(cube, written)
    mark = _fitting_mark(folder, cube, chosen)
    if (there := _codebook_there(path, bands, mark)) is not None:
        return there
    codebook = _fitted(cube, chosen, bands)
    if codebook is not None:
        write_codebook(path, codebook, fitted_to=mark)
    return codebook


def _fitting_rows(cube: Cube, written: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows that a codebook is fitted to, sorted: the first that have pixels, in a fixed order of all rows of the plan.

    A sample that comes later takes the place of few others, or none.
    """
    there = np.zeros(cube.num_samples, dtype=np.bool_)
    there[written] = True
    order = np.random.default_rng(0).permutation(cube.num_samples)
    return np.sort(order[there[order]][:CODEBOOK_CHIPS])


def _fitting_mark(folder: Path, cube: Cube, chosen: NDArray[np.int64]) -> str:
    """What tells these chips from others: their rows, and what became of the shards that they lie in."""
    mark = sha256(np.ascontiguousarray(chosen, dtype="<i8").tobytes())
    for shard in np.unique(chosen // cube.shard_size).tolist():
        mark.update(shard_outcome(folder, shard))
    return mark.hexdigest()


def _codebook_there(path: Path, bands: tuple[str, ...], mark: str) -> Codebook | None:
    if not path.is_file():
        return None
    try:
        there, fitted = read_codebook(path), fitted_to(path)
    except CatalogError as exc:
        log.warning("%s; another is fitted", exc)
        return None
    return there if there.bands == bands and fitted in (None, mark) else None


def _fitted(cube: Cube, chosen: NDArray[np.int64], bands: tuple[str, ...]) -> Codebook | None:
    chips = (reflectance_numbers(cube, rows) for rows in np.array_split(chosen, -(-len(chosen) // 32)))
    try:
        return fit_codebook(chips, bands=bands, rng=np.random.default_rng(0))
    except CatalogError:
        return None
