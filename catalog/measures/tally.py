"""What adds: counts, areas and sums from which every number about diversity is made.

Shards, collections and subsets each have a tally; that of their union is the sum, that of growth the sum with what
came, and what is taken away can be subtracted. All that is kept is whole numbers, so that sums do not depend on their
order: the tally of a union *is* the sum of the tallies, to the bit.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from catalog.measures.sums import (
    BIN_WIDTH,
    ENTROPY_UNIT,
    NUM_BINS,
    SHARE_UNIT,
    AreaTally,
    BandTally,
    EntropyTally,
    added,
)
from catalog.spectral import SpectralMeasures
from pwcat.errors import CatalogError

__all__ = ["CLASS_COLUMNS", "CODEBOOK", "ESTIMATORS", "Tally", "sum_tallies"]

VERSION = "1.0"

# Layers whose classes are counted, each a column ``div:<name>`` of the items.
CLASS_COLUMNS = ("continent", "biome", "ecoregion", "landcover")

# Estimators of spectral entropy, and their columns.
CODEBOOK = "codebook"
ESTIMATORS = {
    "band-histogram": "div:spectral_entropy",
    CODEBOOK: "div:spectral_entropy_codebook",
    "covariance": "div:spectral_entropy_covariance",
}

# Rows whose sums in those units fit into 64 bits.
ROWS_AT_ONCE = 1 << 20

# Shares as they are multiplied: products are whole multiples of 2**-40, and so many rows of them add up in a double
# without rounding.
COARSE_SHARE_UNIT = 2.0**-20
EXACT_ROWS = 1 << 12


@dataclass(frozen=True, kw_only=True)
class Tally:
    """Everything about some samples that adds.

    Attributes:
        num_samples: how many they are.
        classes: by layer, samples by class; those without a class are in none.
        cells: samples by biome and continent, of those that have both.
        area: shares of land cover.
        spectra: entropies by estimator; those by a codebook under ``codebook:`` and its hash.
        bands: pixels by name of the band; only where pixels were measured.
        things: of a map, what its tiles hold: entities and tags by class, by :data:`pwcat.osm.counting.ENTITY` and ``TAG``.
    """

    num_samples: int = 0
    classes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    cells: Mapping[tuple[str, str], int] = field(default_factory=dict)
    area: AreaTally = field(default_factory=AreaTally)
    spectra: Mapping[str, EntropyTally] = field(default_factory=dict)
    bands: Mapping[str, BandTally] = field(default_factory=dict)
    things: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        items: pa.Table,
        measures: SpectralMeasures | None = None,
        *,
        codebooks: Mapping[str, str] | None = None,
        things: Mapping[str, Mapping[str, int]] | None = None,
    ) -> Tally:
        """The tally of some items.

        Args:
            items: rows of ``items.parquet``; columns that are missing count as empty.
            measures: what the pixels of the same samples say, for the bands; entropies are taken from the items.
            codebooks: hash of each collection's codebook, by its name; that of ``measures`` where there are any.
            things: what the map holds on the same tiles.
        """
        return cls(
            num_samples=len(items),
            classes={name: counts for name in CLASS_COLUMNS if (counts := _class_counts(items, f"div:{name}"))},
            cells=_cells(items),
            area=_area(items),
            spectra=_spectra(items, measures, codebooks or {}),
            bands=_bands(measures) if measures else {},
            things=things or {},
        )

    def __add__(self, other: Tally) -> Tally:
        """The tally of both together; a sample that is in both counts twice."""
        return self._combine(other, 1)

    def __sub__(self, other: Tally) -> Tally:
        """The tally of what is left when the samples of ``other``, all of which are in this one, are taken away.

        Raises:
            CatalogError: some of them are not in this one, as far as counts can tell.
        """
        left = self._combine(other, -1)
        if left.num_samples < 0 or any(n < 0 for counts in left.classes.values() for n in counts.values()):
            raise CatalogError("a tally of samples that are not all in this one cannot be taken from it")
        return left

    def _combine(self, other: Tally, sign: int) -> Tally:
        classes = {
            name: added(self.classes.get(name, {}), other.classes.get(name, {}), sign)
            for name in sorted({*self.classes, *other.classes})
        }
        spectra = {
            name: self.spectra.get(name, EntropyTally()).combined(other.spectra.get(name, EntropyTally()), sign)
            for name in sorted({*self.spectra, *other.spectra})
        }
        bands = {
            name: self.bands.get(name, BandTally()).combined(other.bands.get(name, BandTally()), sign)
            for name in sorted({*self.bands, *other.bands})
        }
        things = {
            name: added(self.things.get(name, {}), other.things.get(name, {}), sign)
            for name in sorted({*self.things, *other.things})
        }
        return Tally(
            num_samples=self.num_samples + sign * other.num_samples,
            classes={name: counts for name, counts in classes.items() if counts},
            cells=added(self.cells, other.cells, sign),
            area=self.area.combined(other.area, sign),
            spectra={name: entropies for name, entropies in spectra.items() if entropies.count},
            bands={name: band for name, band in bands.items() if band.counts_K.any()},
            things={name: counts for name, counts in things.items() if counts},
        )

    def to_json(self) -> dict[str, Any]:
        """What :meth:`from_json` reads: plain values; band histograms are compressed."""
        return {
            "version": VERSION,
            "num_samples": self.num_samples,
            "classes": {name: dict(counts) for name, counts in self.classes.items()},
            "cells": [[*pair, count] for pair, count in self.cells.items()],
            "area": self.area.to_json(),
            "spectra": {name: entropies.to_json() for name, entropies in self.spectra.items()},
            "bands": {name: band.to_json() for name, band in self.bands.items()},
            **({"things": {name: dict(counts) for name, counts in self.things.items()}} if self.things else {}),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Tally:
        """The tally that :meth:`to_json` wrote.

        Raises:
            CatalogError: it is none, or of a version that this one does not read.
        """
        if document.get("version") != VERSION:
            raise CatalogError(
                f"a tally of version {document.get('version')!r} cannot be read: this pwcat reads {VERSION!r}; "
                "describe the collection again"
            )
        try:
            return cls(
                num_samples=document["num_samples"],
                classes={name: dict(counts) for name, counts in document["classes"].items()},
                cells={(biome, continent): count for biome, continent, count in document["cells"]},
                area=AreaTally.from_json(document["area"]),
                spectra={name: EntropyTally.from_json(values) for name, values in document["spectra"].items()},
                bands={name: BandTally.from_json(values) for name, values in document["bands"].items()},
                things={name: dict(counts) for name, counts in document.get("things", {}).items()},
            )
        except (KeyError, TypeError, ValueError, AttributeError, zlib.error) as exc:
            raise CatalogError(f"a tally cannot be read ({exc!r}): describe the collection again") from exc


def _class_counts(items: pa.Table, column: str) -> dict[str, int]:
    if column not in items.column_names:
        return {}
    values = items[column]
    values = values.cast(pa.string()) if pa.types.is_dictionary(values.type) else values
    found = values.drop_null().value_counts()
    return dict(sorted((entry["values"].as_py(), entry["counts"].as_py()) for entry in found))


def _cells(items: pa.Table) -> dict[tuple[str, str], int]:
    columns = ["div:biome", "div:continent"]
    if not set(columns) <= set(items.column_names):
        return {}
    held = items.select(columns).drop_null()
    grouped = held.group_by(columns).aggregate([([], "count_all")])
    names = zip(*(grouped[column].to_pylist() for column in columns), strict=True)
    return dict(sorted(zip(names, grouped["count_all"].to_pylist(), strict=True)))


def _area(items: pa.Table) -> AreaTally:
    if "div:landcover_fractions" not in items.column_names:
        return AreaTally()
    whole = AreaTally()
    for start in range(0, len(items), ROWS_AT_ONCE):
        column = items["div:landcover_fractions"].slice(start, ROWS_AT_ONCE).combine_chunks()
        whole = whole.combined(_area_of(column), 1)
    return whole


def _area_of(column: pa.ListArray) -> AreaTally:
    shares = column.flatten()
    if not len(shares):
        return AreaTally()
    names = shares.field("name").dictionary_encode()
    codes = names.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    values = shares.field("fraction").to_numpy(zero_copy_only=False)
    rows = pa.compute.list_parent_indices(column).to_numpy(zero_copy_only=False)
    labels = names.dictionary.to_pylist()
    sums = np.zeros(len(labels), dtype=np.int64)
    np.add.at(sums, codes, np.rint(values / SHARE_UNIT).astype(np.int64))
    products = _products(rows, codes, np.rint(values / COARSE_SHARE_UNIT), len(labels))
    order = sorted(range(len(labels)), key=labels.__getitem__)
    return AreaTally(
        num_samples=1 + int(np.count_nonzero(np.diff(rows))),  # they come in order
        sums={labels[a]: int(sums[a]) for a in order if sums[a]},
        products={
            (labels[a], labels[b]): int(products[a, b])
            for at, a in enumerate(order)
            for b in order[at:]
            if products[a, b]
        },
    )


def _products(
    rows: NDArray[np.int64], codes: NDArray[np.int64], values: NDArray[np.float64], classes: int
) -> NDArray[np.int64]:
    """Sums over rows of the products of shares, ``(classes, classes)``: exact, for each block's fit into a double."""
    total = np.zeros((classes, classes), dtype=np.int64)
    for first in range(0, int(rows[-1]) + 1, EXACT_ROWS):
        start, stop = np.searchsorted(rows, [first, first + EXACT_ROWS])
        shares = np.zeros((EXACT_ROWS, classes))
        np.add.at(shares, (rows[start:stop] - first, codes[start:stop]), values[start:stop])
        total += (shares.T @ shares).astype(np.int64)
    return total


def _spectra(
    items: pa.Table, measures: SpectralMeasures | None, codebooks: Mapping[str, str]
) -> dict[str, EntropyTally]:
    found = {}
    for estimator, column in ESTIMATORS.items():
        if column not in items.column_names:
            continue
        values = items[column].cast(pa.float64()).to_numpy(zero_copy_only=False)
        if estimator == CODEBOOK:
            for name, rows in _rows_by_codebook(items, measures, codebooks):
                found[f"{estimator}:{name}"] = _entropies_of(values[rows])
        else:
            found[estimator] = _entropies_of(values)
    return {name: entropies for name, entropies in sorted(found.items()) if entropies.count}


def _rows_by_codebook(
    items: pa.Table, measures: SpectralMeasures | None, codebooks: Mapping[str, str]
) -> list[tuple[str, Any]]:
    if measures is not None and measures.codebook_hash:
        return [(measures.codebook_hash, slice(None))]
    if not codebooks or "collection" not in items.column_names:
        return [("", slice(None))]
    hashes: dict[str, list[str]] = {}
    for collection in items["collection"].unique().to_pylist():
        hashes.setdefault(codebooks.get(collection, ""), []).append(collection)
    return [
        (name, pa.compute.is_in(items["collection"], pa.array(held)).to_numpy(zero_copy_only=False))
        for name, held in hashes.items()
    ]


def _entropies_of(values_N: NDArray[np.float64]) -> EntropyTally:
    values = values_N[~np.isnan(values_N)]
    bins = np.bincount(np.clip(np.floor(values / BIN_WIDTH), 0, NUM_BINS - 1).astype(np.int64))
    return EntropyTally(
        count=len(values),
        total=_exact_sum(values, ENTROPY_UNIT),
        total_of_squares=_exact_sum(values**2, ENTROPY_UNIT),
        bins={int(k): int(bins[k]) for k in np.flatnonzero(bins)},
    )


def _exact_sum(values: NDArray[np.float64], unit: float) -> int:
    whole = np.rint(values / unit).astype(np.int64)
    return sum(int(whole[start : start + ROWS_AT_ONCE].sum()) for start in range(0, len(whole), ROWS_AT_ONCE))


def _bands(measures: SpectralMeasures) -> dict[str, BandTally]:
    columns = zip(measures.bands, measures.histogram_BK, measures.sum_B, measures.sum_of_squares_B, strict=True)
    return {
        name: BandTally(counts_K=counts, sum=int(total), sum_of_squares=int(squares))
        for name, counts, total, squares in columns
        if counts.any()
    }


def sum_tallies(tallies: Iterable[Tally]) -> Tally:
    """The sum of any number of tallies."""
    whole = Tally()
    for tally in tallies:
        whole = whole + tally
    return whole
