"""Samples of a foreign dataset in batches that fit into memory, each labelled, measured and made into rows."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import islice
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from catalog.importers.importer import Block, Facts, Found, Grid, Importer, Lost, Sample
from catalog.importers.labels import label, lonlat_of, metres_of
from catalog.importers.numbers import remove_offset, valid_fraction
from catalog.importers.pixels import centre_window
from catalog.importers.rows import rows_of_items
from catalog.measures.codebook import Codebook, fit_codebook
from catalog.measures.tally import Tally
from catalog.spectral import measure
from pwcat.errors import CatalogError
from pwcat.pixels.harmonise import check_offset
from pwcat.regions import Regions

__all__ = ["PLACES", "Batch", "Batcher", "Losses", "codebook_of"]

# Pixels that are held at a time, but for one block of the importer's.
BATCH_BYTES = 64 * 2**20
BATCH_SAMPLES = 512

# Pixels a side, at least, whose numbers are looked at for an offset: percentiles need no more.
CHECKED_PX = 96

# Blocks that are read while others are measured.
READ_THREADS = 2

# Chips that a codebook is fitted on, spread over the dataset.
CODEBOOK_CHIPS = 256
MOST_EXAMPLES = 3

PLACES = pa.schema(
    [
        pa.field("id", pa.string()),
        pa.field("lon", pa.float64()),
        pa.field("lat", pa.float64()),
        pa.field("path", pa.string()),
        pa.field("part", pa.int64()),
        pa.field("row", pa.int64()),
        pa.field("offset", pa.int32()),
        pa.field("valid_fraction", pa.float64()),
        pa.field("datetime", pa.list_(pa.timestamp("us", tz="UTC"))),
    ]
)


@dataclass
class Losses:
    """Samples that could not be read, by reason, with a few examples of each.

    Attributes:
        counts: samples by reason.
        examples: names of files or samples by reason, three at most.
    """

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, lost: Lost) -> None:
        """Count it."""
        self.counts[lost.reason] += lost.count
        names = self.examples.setdefault(lost.reason, [])
        if len(names) < MOST_EXAMPLES:
            names.append(lost.what)

    @property
    def total(self) -> int:
        """How many samples."""
        return sum(self.counts.values())


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What became of some samples.

    Attributes:
        items: rows of items, see :func:`~catalog.importers.rows.rows_of_items`.
        places: rows of ``pixels.parquet``.
        tally: of them.
        sizes: samples by height and width in pixels, before centre windows are cut.
        steps: samples by the size of a pixel, metres.
        suspects: samples whose pixels contradict the offset that is removed, with what was seen.
    """

    items: pa.Table
    places: pa.Table
    tally: Tally
    sizes: Counter[tuple[int, int]]
    steps: Counter[float]
    suspects: list[tuple[str, str]]


@dataclass(kw_only=True)
class Batcher:
    """Goes over a dataset once.

    Attributes:
        importer: of the dataset.
        facts: of it.
        regions: layers that label.
        size_px: side of the centre windows that are the chips; whole samples where ``None``.
        codebook: for the spectral estimator of that name.
        root: the dataset's folder, relative to the collection's.
        losses: filled on the way.
    """

    importer: Importer
    facts: Facts
    regions: Regions
    size_px: int | None
    codebook: Codebook | None
    root: PurePosixPath
    losses: Losses = field(default_factory=Losses)
    _ids: set[int] = field(default_factory=set)
    _done: int = 0

    def batches(self) -> Iterator[Batch]:
        """Batch after batch, in the order in which samples lie in the files."""
        held: list[Found] = []
        for found in self._samples():
            if held and (_bytes(held) + found.dn_TBHW.nbytes > BATCH_BYTES or len(held) == BATCH_SAMPLES):
                yield self._batch(held)
                held = []
            held.append(found)
        if held:
            yield self._batch(held)

    def _samples(self) -> Iterator[Found]:
        for found in _ahead(self.importer):
            kept = self._checked(found) if isinstance(found, Found) else found
            if isinstance(kept, Lost):
                self.losses.add(kept)
            else:
                yield kept

    def _checked(self, found: Found) -> Found | Lost:
        """The sample if it is like the others; else why it is left out."""
        sample, (times, bands, height, width) = found.sample, found.dn_TBHW.shape
        expected = self.facts.num_times, len(self.facts.bands)
        if (times, bands) != expected or len(sample.times) != times:
            return Lost(sample.id, f"has {times} dates and {bands} bands, not {expected[0]} and {expected[1]}")
        if self.size_px is not None and min(height, width) < self.size_px:
            return Lost(sample.id, f"is smaller than {self.size_px} pixels a side")
        if not found.dn_TBHW.any():
            return Lost(sample.id, "holds no data")
        key = int.from_bytes(blake2b(sample.id.encode(), digest_size=8).digest())
        if key in self._ids:
            return Lost(sample.id, "has the id of another sample")
        self._ids.add(key)
        return found

    def _batch(self, held: list[Found]) -> Batch:
        samples = [found.sample for found in held]
        grids = [_windowed(sample.grid, self.size_px) for sample in samples]
        lonlat = lonlat_of(samples, grids)
        labels = label(samples, grids, lonlat, self.regions)
        chips = [remove_offset(centre_window(found.dn_TBHW, self.size_px), found.sample.place.offset) for found in held]
        valid = [valid_fraction(chip) for chip in chips]
        order, spectra, tally = [], [], Tally()
        for rows in _alike(chips):
            measures = measure(np.stack([chips[row] for row in rows]), codebook=self.codebook, bands=self.facts.bands)
            part = rows_of_items(
                [samples[row] for row in rows],
                [grids[row] for row in rows],
                lonlat[rows],
                labels=labels.take(rows),
                spectra=measures,
                valid=[valid[row] for row in rows],
                numbers=self._done + np.array(rows),
                root=self.root,
            )
            tally += Tally.of(part, measures)
            spectra.append(part)
            order += rows
        items = pa.concat_tables(spectra).take(pa.array(np.argsort(order)))
        self._done += len(held)
        return Batch(
            items=items,
            places=_places(samples, lonlat, valid),
            tally=tally,
            sizes=Counter((sample.grid.height, sample.grid.width) for sample in samples),
            steps=Counter(round(metres_of(sample.grid), 2) for sample in samples),
            suspects=list(self._suspects(held)),
        )

    def _suspects(self, held: list[Found]) -> Iterator[tuple[str, str]]:
        for found in held:
            offset = found.sample.place.offset
            step = max(1, min(found.dn_TBHW.shape[2:]) // CHECKED_PX)
            some = found.dn_TBHW[:, :, ::step, ::step]
            check = check_offset(some, bands=self.facts.bands, expected_offset=offset)
            if check.suspect:
                yield found.sample.id, str(check).replace("metadata says", "what is removed is")


def _ahead(importer: Importer) -> Iterator[Found | Lost]:
    """What the blocks of a dataset hold, in their order; a few blocks are read ahead where they are small."""
    with ThreadPoolExecutor(READ_THREADS, thread_name_prefix="pwcat-add") as pool:
        ahead: deque[Future[deque[Found | Lost]]] = deque()
        most = 0
        try:
            for block in importer.walk():
                ahead.append(pool.submit(_load, importer, block))
                if len(ahead) > most:
                    part = ahead.popleft().result()
                    most = READ_THREADS if _bytes([one for one in part if isinstance(one, Found)]) < BATCH_BYTES else 0
                    yield from _handed(part)
            while ahead:
                yield from _handed(ahead.popleft().result())
        finally:
            for future in ahead:
                future.cancel()


def _load(importer: Importer, block: Block | Lost) -> deque[Found | Lost]:
    return deque([block] if isinstance(block, Lost) else importer.load(block))


def _handed(part: deque[Found | Lost]) -> Iterator[Found | Lost]:
    """The samples of a block, which are its no more: pixels that share memory with others get some of their own."""
    while part:
        found = part.popleft()
        yield Found(found.sample, found.dn_TBHW.copy()) if isinstance(found, Found) else found


def _bytes(held: list[Found]) -> int:
    return sum(found.dn_TBHW.nbytes for found in held)


def _windowed(grid: Grid, size: int | None) -> Grid:
    return grid if size is None else grid.centre(size)


def _alike(chips: list[NDArray[np.uint16]]) -> Iterator[list[int]]:
    """Rows of chips of one shape."""
    by_shape: dict[tuple[int, ...], list[int]] = {}
    for row, chip in enumerate(chips):
        by_shape.setdefault(chip.shape, []).append(row)
    yield from by_shape.values()


def _places(samples: list[Sample], lonlat: NDArray[np.float64], valid: list[float]) -> pa.Table:
    columns: dict[str, list[Any]] = {
        "id": [sample.id for sample in samples],
        "lon": lonlat[:, 0].tolist(),
        "lat": lonlat[:, 1].tolist(),
        **{name: [getattr(sample.place, name) for sample in samples] for name in ("path", "part", "row", "offset")},
        "valid_fraction": list(valid),
        "datetime": [list(sample.times) for sample in samples],
    }
    return pa.Table.from_pydict(columns, schema=PLACES)


def codebook_of(importer: Importer, facts: Facts, *, size_px: int | None, rng: np.random.Generator) -> Codebook | None:
    """A codebook fitted on some hundred chips, spread over the dataset; ``None`` where no pixel has data in every band."""
    blocks = [block for block in importer.walk() if isinstance(block, Block)]
    step = max(1, len(blocks) // CODEBOOK_CHIPS)
    chosen = blocks[::step][:CODEBOOK_CHIPS]
    each = max(1, CODEBOOK_CHIPS // max(1, len(chosen)))

    def chips() -> Iterator[NDArray[np.uint16]]:
        for block in chosen:
            found = (one for one in importer.load(block) if isinstance(one, Found))
            for one in islice(found, each):
                if one.dn_TBHW.shape[1] == len(facts.bands):
                    window = centre_window(one.dn_TBHW, size_px)
                    yield remove_offset(window, one.sample.place.offset)[None]

    try:
        return fit_codebook(chips(), bands=facts.bands, rng=rng)
    except CatalogError:
        return None
