"""A codebook: reflectance vectors that stand for all, to which pixels are counted. Entropies compare within one."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import ArrayLike, NDArray

from pwcat.atomic import replacing
from pwcat.errors import CatalogError

__all__ = ["CENTRES", "Codebook", "fit_codebook", "fitted_to", "read_codebook", "write_codebook"]

CENTRES = 128

# Pixels that a codebook is fitted on, and of one chip among them at most: few of many chips tell more than many of few.
PIXELS = 32_768
PIXELS_PER_CHIP = 256

# Rounds of Lloyd's algorithm: it has mostly settled after twenty.
ROUNDS = 50

_NOTE = b"pwcat:codebook"
_VERSION = "1.0"


@dataclass(frozen=True, kw_only=True, eq=False)
class Codebook:
    """Centres of reflectance vectors.

    Attributes:
        centres_KB: ``(centres, bands)``, whole DN (reflectance times 10,000), sorted by row, no two alike.
        bands: what the columns are, as chips have them in order.
    """

    centres_KB: NDArray[np.uint16]
    bands: tuple[str, ...]

    @cached_property
    def hash(self) -> str:
        """SHA-256 of bands and centres: entropies of one hash compare, others do not."""
        head = json.dumps(list(self.bands)).encode()
        return sha256(head + np.ascontiguousarray(self.centres_KB, dtype="<u2").tobytes()).hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Codebook) and self.hash == other.hash

    def __hash__(self) -> int:
        return hash(self.hash)

    def __len__(self) -> int:
        return len(self.centres_KB)


def fit_codebook(
    chips: Iterable[NDArray[np.uint16]], *, bands: Sequence[str], rng: np.random.Generator, size: int = CENTRES
) -> Codebook:
    """k-means of pixels of these chips: k-means++ (Arthur and Vassilvitskii 2007), then Lloyd's algorithm.

    From every chip up to 256 pixels are drawn that have data in every band; of all of them at most 32,768 are taken.
    The same chips and the same ``rng`` give the same codebook. Where fewer reflectance vectors differ than centres are
    asked for, these are they.

    Args:
        chips: arrays of ``(n, time, band, y, x)`` DN; of a large collection some hundred chips, spread over it.
        bands: their names.
        rng: where pixels and first centres are drawn from.
        size: centres.

    Raises:
        CatalogError: no pixel has data in every band.
    """
    drawn = [_draw(chip_TBHW, rng) for part in chips for chip_TBHW in part]
    pixels_MB = np.concatenate(drawn) if drawn else np.empty((0, len(bands)), dtype=np.uint16)
    if not len(pixels_MB):
        raise CatalogError("no pixel has data in every band: a codebook cannot be fitted to these chips")
    pixels_MB = rng.permutation(pixels_MB)[:PIXELS]
    return _codebook(_k_means(pixels_MB.astype(np.float64), size, rng), bands)


def read_codebook(path: str | Path) -> Codebook:
    """The codebook of a file that :func:`write_codebook` wrote.

    Raises:
        CatalogError: the file is missing, or is none.
    """
    try:
        table = pq.read_table(path)
        json.loads(table.schema.metadata[_NOTE])
        centres = np.column_stack([table[name].to_numpy() for name in table.column_names]).astype(np.uint16)
    except (OSError, KeyError, TypeError, ValueError, pa.ArrowException) as exc:
        raise _unreadable(path, exc) from exc
    return _codebook(centres, table.column_names)


def _unreadable(path: str | Path, exc: Exception) -> CatalogError:
    return CatalogError(f"{path} cannot be read as a codebook ({exc}): give the codebook.parquet of a collection")


def fitted_to(path: str | Path) -> str | None:
    """What the codebook of a file was fitted to, as it was written; ``None`` for one that is to stay as it is.

    Raises:
        CatalogError: the file is missing, or is none.
    """
    try:
        told = json.loads(pq.read_schema(path).metadata[_NOTE]).get("fitted_to")
    except (OSError, KeyError, TypeError, ValueError, pa.ArrowException) as exc:
        raise _unreadable(path, exc) from exc
    return None if told is None else str(told)


def write_codebook(path: str | Path, codebook: Codebook, *, fitted_to: str | None = None) -> None:
    """Write a Parquet file, a row a centre and a column a band; whole or not at all.

    Args:
        path: the file.
        codebook: centres and bands.
        fitted_to: what tells the chips that it was fitted to from others; ``None`` where it is to stay whatever they are.
    """
    columns = dict(zip(codebook.bands, np.asarray(codebook.centres_KB).T, strict=True))
    note = {"version": _VERSION, "hash": codebook.hash, "unit": "reflectance times 10,000"}
    note |= {"fitted_to": fitted_to} if fitted_to is not None else {}
    table = pa.table(columns).replace_schema_metadata({_NOTE: json.dumps(note).encode()})
    with replacing(Path(path)) as temporary:
        pq.write_table(table, temporary)


def _codebook(centres_KB: ArrayLike, bands: Sequence[str]) -> Codebook:
    centres = np.unique(np.rint(np.asarray(centres_KB, dtype=np.float64)).astype(np.uint16), axis=0)
    return Codebook(centres_KB=centres, bands=tuple(bands))


def _draw(chip_TBHW: NDArray[np.uint16], rng: np.random.Generator) -> NDArray[np.uint16]:
    pixels_PB = np.moveaxis(chip_TBHW, 1, -1).reshape(-1, chip_TBHW.shape[1])
    chosen = pixels_PB[rng.permutation(len(pixels_PB))[: 2 * PIXELS_PER_CHIP]]
    return chosen[(chosen > 0).all(axis=1)][:PIXELS_PER_CHIP]


def _k_means(pixels_MB: NDArray[np.float64], size: int, rng: np.random.Generator) -> NDArray[np.float64]:
    centres = _spread_out(pixels_MB, size, rng)
    nearest = np.full(len(pixels_MB), -1)
    for _ in range(ROUNDS):
        found = _squared_distances(pixels_MB, centres).argmin(axis=1)
        if (found == nearest).all():
            break
        nearest = found
        members = np.bincount(nearest, minlength=len(centres))
        for band in range(pixels_MB.shape[1]):
            sums = np.bincount(nearest, weights=pixels_MB[:, band], minlength=len(centres))
            centres[:, band] = np.where(members > 0, sums / np.maximum(members, 1), centres[:, band])
    return centres


def _spread_out(pixels_MB: NDArray[np.float64], size: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """First centres: each a pixel drawn by its squared distance from those before; fewer where none is apart."""
    centres = [pixels_MB[rng.integers(len(pixels_MB))]]
    apart = ((pixels_MB - centres[0]) ** 2).sum(axis=1)
    while len(centres) < size and apart.any():
        sums = np.cumsum(apart)
        centres.append(pixels_MB[np.searchsorted(sums, rng.random() * sums[-1], side="right")])
        apart = np.minimum(apart, ((pixels_MB - centres[-1]) ** 2).sum(axis=1))
    return np.array(centres)


def _squared_distances(pixels_MB: NDArray[np.float64], centres_KB: NDArray[np.float64]) -> NDArray[np.float64]:
    """``(pixels, centres)``, each less the pixel's own square, which changes no order."""
    return (centres_KB**2).sum(axis=1) - 2 * pixels_MB @ centres_KB.T
