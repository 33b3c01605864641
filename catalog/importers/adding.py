"""A foreign dataset becomes a collection of the catalog: described where it lies, without copying a pixel."""

from __future__ import annotations

import json
import math
import os
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from catalog.importers.batches import PLACES, Batcher, Losses, codebook_of
from catalog.importers.entry import entry_of
from catalog.importers.importer import Facts, Importer, Options
from catalog.importers.labels import require_known_layers
from catalog.importers.pixels import DOCUMENT, PIXELS, VERSION
from catalog.importers.published import Published
from catalog.importers.tables import moment
from catalog.measures.codebook import Codebook, write_codebook
from catalog.measures.tally import Tally
from catalog.stac.describing import CODEBOOK
from catalog.store import write_catalog, write_collection
from pwcat.errors import CatalogError
from pwcat.regions import Regions
from pwcat.splits import spatial_split

__all__ = ["Added", "NothingAdded", "Wishes", "add_dataset"]

# Doubts that are told by name, and sizes.
MOST_TOLD = 5
SCRATCH = ".adding-"


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What a user says of the collection to be.

    Attributes:
        name: of the collection, and of its folder.
        title: for people; the name where ``None``.
        license: SPDX identifier; the dataset's own where ``None``, else ``other``.
        attribution: whom to name; the dataset's own where ``None``.
        size_px: side of the centre windows that are its chips; whole samples where ``None``.
        val_fraction: share of samples to validate with, where the dataset has no splits of its own.
        block_km: side of the blocks that go to one side or the other.
        seed: of that split, and of the codebook.
        codebook: for spectral entropies that compare with another collection's; fitted where ``None``.
        replace: whether an imported collection of that name gives way.
    """

    name: str
    title: str | None = None
    license: str | None = None
    attribution: str | None = None
    size_px: int | None = None
    val_fraction: float = 0.0
    block_km: float = 50.0
    seed: int = 0
    codebook: Codebook | None = None
    replace: bool = False


@dataclass(frozen=True, kw_only=True)
class Added:
    """What :func:`add_dataset` leaves behind.

    Attributes:
        folder: of the collection.
        format: name of the importer.
        samples: how many are described.
        losses: what could not be read, and why.
        notes: what was assumed.
        suspects: samples whose pixels contradict the offset that is removed.
        size_px: side of the chips; ``None`` where they differ, and so cannot be read together.
        sizes: the sizes that samples have, most frequent first, in words.
    """

    folder: Path
    format: str
    samples: int
    losses: Losses
    notes: tuple[str, ...]
    suspects: list[tuple[str, str]]
    size_px: int | None
    sizes: str


class NothingAdded(CatalogError):
    """A dataset of which no sample could be read: nothing is written.

    Attributes:
        losses: why.
    """

    def __init__(self, folder: Path, losses: Losses) -> None:
        first = next(iter(losses.counts.most_common(1)), None)
        why = f": {first[1]} of {losses.total} {first[0]}, such as {losses.examples[first[0]][0]}" if first else ""
        super().__init__(f"{folder}: no sample can be read{why}; nothing is written")
        self.losses = losses


def add_dataset(
    folder: Path,
    *,
    catalog: Path,
    wishes: Wishes,
    importer: type[Importer],
    options: Options | None = None,
    regions: Regions | None = None,
    progress: Callable[[int, int | None], None] = lambda done, total: None,
) -> Added:
    """Describe a foreign dataset as a collection of a catalog: items, statistics, and where its pixels lie.

    Args:
        folder: the dataset's.
        catalog: folder of the catalog; the collection gets a folder of its name in it.
        wishes: what the collection is to be.
        importer: its format.
        options: what the files do not say.
        regions: layers that label; labels that the dataset brings along stay where there is no layer of their name.
        progress: called with the samples done, and those there seem to be.

    Raises:
        NothingAdded: no sample of it can be read.
        CatalogError: the folder is not of that format, the name is taken or none, or options make no sense.
    """
    regions = regions or Regions()
    require_known_layers(regions)
    target = _target(catalog, wishes)
    options = options or Options()
    _require_sense(options)
    opened = importer(folder, options)
    facts = opened.facts()
    progress(0, facts.total)
    codebook = wishes.codebook or codebook_of(
        opened, facts, size_px=wishes.size_px, rng=np.random.default_rng(wishes.seed)
    )
    catalog.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=SCRATCH, dir=catalog) as scratch:
        made = Path(scratch) / wishes.name  # two levels down, so that a catalog is not seen to hold it
        made.mkdir()
        batcher = Batcher(
            importer=opened,
            facts=facts,
            regions=regions,
            size_px=wishes.size_px,
            codebook=codebook,
            root=PurePosixPath(os.path.relpath(folder.resolve(), target.resolve()).replace(os.sep, "/")),
        )
        found = _go_over(batcher, made, progress)
        if not found.samples:
            raise NothingAdded(folder, batcher.losses)
        added = _describe(found, batcher, opened, wishes, target=target, scratch=made, layers=_layers(opened, regions))
        if target.exists():
            target.rename(Path(scratch) / "replaced")
        made.rename(target)
    write_catalog(catalog)
    return added


def _require_sense(options: Options) -> None:
    """Refuse what holds for no dataset at all, before every sample is refused for it."""
    faults = []
    if options.scale is not None and not (math.isfinite(options.scale) and options.scale > 0):
        faults.append(f"--scale {options.scale:g}: give a number above 0; 10000 for fractions")
    if options.date is not None:
        try:
            moment(options.date)
        except ValueError:
            faults.append(f"--date {options.date!r}: give it as ISO 8601 has it, 2021-07-01 or 2021-07-01T10:30:00Z")
    if faults:
        raise CatalogError("; ".join(faults))


def _target(catalog: Path, wishes: Wishes) -> Path:
    """The collection's folder, which is free, or may be replaced."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", wishes.name):
        raise CatalogError(f"{wishes.name!r} is no name of a collection: lower-case letters, digits, '.', '_' and '-'")
    target = catalog / wishes.name
    if not target.exists():
        return target
    if not (target / DOCUMENT).is_file():
        raise CatalogError(f"{target} is there, and was not added from elsewhere; choose another name with --name")
    if not wishes.replace:
        raise CatalogError(f"{target} is there already; --replace describes the dataset anew")
    return target


def _layers(opened: Importer, regions: Regions) -> dict[str, str]:
    """Where labels come from: the layers given, else what the dataset says of those it brings along."""
    brought = opened.layers() if isinstance(opened, Published) else {}
    return {**brought, **regions.sources()}


@dataclass(kw_only=True)
class _FoundAll:
    """What one pass over a dataset found."""

    samples: int = 0
    tally: Tally = field(default_factory=Tally)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    steps: Counter[float] = field(default_factory=Counter)
    suspects: list[tuple[str, str]] = field(default_factory=list)
    digest: Any = field(default_factory=sha256)


def _go_over(batcher: Batcher, scratch: Path, progress: Callable[[int, int | None], None]) -> _FoundAll:
    """Describe all samples, batch by batch; rows go to files, counts are added."""
    found = _FoundAll()
    rows: pq.ParquetWriter | None = None
    with pq.ParquetWriter(scratch / PIXELS, PLACES, compression="zstd") as places:
        for batch in batcher.batches():
            places.write_table(batch.places)
            rows = rows or pq.ParquetWriter(scratch / "rows.parquet", batch.items.schema, compression="zstd")
            rows.write_table(batch.items)
            found.samples += len(batch.items)
            found.tally += batch.tally
            found.sizes += batch.sizes
            found.steps += batch.steps
            found.suspects += batch.suspects
            for name in ("id", "path", "part", "row", "offset"):
                found.digest.update(json.dumps(batch.places[name].to_pylist()).encode())
            progress(found.samples + batcher.losses.total, batcher.facts.total)
    if rows is not None:
        rows.close()
    return found


def _describe(
    found: _FoundAll,
    batcher: Batcher,
    opened: Importer,
    wishes: Wishes,
    *,
    target: Path,
    scratch: Path,
    layers: dict[str, str],
) -> Added:
    """Write all of the collection into the scratch folder."""
    size, sizes = _size(found.sizes, wishes.size_px), _told(found.sizes)
    document = _document(found, batcher, opened, wishes, size=size, sizes=sizes)
    (scratch / DOCUMENT).write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    items = _with_splits(pq.read_table(scratch / "rows.parquet", memory_map=True), wishes)
    (scratch / "rows.parquet").unlink()
    if batcher.codebook is not None:
        write_codebook(scratch / CODEBOOK, batcher.codebook)
    entry = entry_of(opened, batcher.facts, document, layers=layers, codebook=batcher.codebook is not None)
    write_collection(scratch, items=items, tally=found.tally, metadata=entry)
    return Added(
        folder=target,
        format=opened.name,
        samples=found.samples,
        losses=batcher.losses,
        notes=batcher.facts.notes,
        suspects=found.suspects,
        size_px=size,
        sizes=sizes,
    )


def _document(
    found: _FoundAll, batcher: Batcher, opened: Importer, wishes: Wishes, *, size: int | None, sizes: str
) -> dict[str, Any]:
    """``import.json``: what it takes to read the pixels again, and what was assumed."""
    facts: Facts = batcher.facts
    options = opened.options.to_dict()  # type: ignore[attr-defined]
    how = {"format": opened.name, "options": options, "size_px": wishes.size_px, "samples": found.digest.hexdigest()}
    return {
        "version": VERSION,
        "importer": opened.name,
        "folder": str(batcher.root),
        "options": options,
        "name": wishes.name,
        "title": wishes.title or wishes.name,
        "license": wishes.license or opened.license or "other",
        "attribution": wishes.attribution or opened.attribution,
        "bands": list(facts.bands),
        "num_samples": found.samples,
        "num_times": facts.num_times,
        "size_px": size,
        "sizes": sizes,
        "resolution_m": found.steps.most_common(1)[0][0],
        "notes": list(facts.notes),
        "lost": dict(batcher.losses.counts.most_common()),
        "suspect_offsets": len(found.suspects),
        "hash": sha256(json.dumps(how, sort_keys=True).encode()).hexdigest(),
    }


def _size(sizes: Counter[tuple[int, int]], wanted: int | None) -> int | None:
    if wanted is not None:
        return wanted
    one = next(iter(sizes)) if len(sizes) == 1 else (0, 1)
    return one[0] if one[0] == one[1] else None


def _told(sizes: Counter[tuple[int, int]]) -> str:
    most = [f"{count:,} of {height} x {width} px" for (height, width), count in sizes.most_common(MOST_TOLD)]
    rest = len(sizes) - len(most)
    return ", ".join(most) + (f", and {rest:,} more sizes" if rest > 0 else "")


def _with_splits(items: pa.Table, wishes: Wishes) -> pa.Table:
    """The items with a split each: the dataset's own; where it has none, whole blocks, or all to train with."""
    column = items["pwcat:split"]
    if column.null_count < len(items):
        return items.set_column(items.column_names.index("pwcat:split"), "pwcat:split", column.fill_null("train"))
    splits: Any = pa.array(["train"]).take(pa.array(np.zeros(len(items), dtype=np.int32)))
    if wishes.val_fraction:
        sites = items["proj:centroid"].combine_chunks()
        lonlat = np.column_stack([pa.compute.struct_field(sites, name).to_numpy() for name in ("lon", "lat")])
        found = spatial_split(lonlat, val_fraction=wishes.val_fraction, block_km=wishes.block_km, seed=wishes.seed)
        splits = pa.array(found.tolist(), pa.string())
    return items.set_column(items.column_names.index("pwcat:split"), "pwcat:split", splits)
