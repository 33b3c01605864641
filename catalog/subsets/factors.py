"""Factors that subsets can differ or agree in: each sample's class of one, from labels, dates, clouds or numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from catalog.querying.beside import is_column_name
from catalog.subsets.drawing import STRATA, classes_of
from pwcat.errors import CatalogError

if TYPE_CHECKING:
    from catalog.subset import Subset

__all__ = ["FACTORS", "Factor", "cloud_cover", "factor"]

# Meteorological seasons of the northern hemisphere, from December; the southern has them half a year later.
SEASONS = ("winter", "spring", "summer", "autumn")
CLOUD_STEP = 10.0  # per cent
LATITUDE_STEP = 10.0  # degrees
QUANTILES = 4
VALID_EDGES = (0.0, 0.5, 0.9, 0.99, 1.0)


@dataclass(frozen=True, kw_only=True)
class Factor:
    """Classes of a factor.

    Attributes:
        codes: each sample's class, ``(n,)``, as its place in ``names``; -1 where it has none.
        names: of the classes.
    """

    codes: NDArray[np.int64]
    names: list[str]


def factor(subset: Subset, name: str) -> Factor:
    """A factor by its name.

    Args:
        subset: whose samples are classed.
        name: a layer, ``split`` or ``collection``; ``season``, by hemisphere; ``month``; ``year``; ``cloud``, the scene's cloud
            cover in steps of 10 %; ``latitude``, in steps of 10 degrees; ``valid``, the share of pixels with data;
            ``entropy``, quarters of these samples by spectral entropy, or ``entropy:10`` for tenths; likewise a column kept
            beside the items, such as ``loss:run`` or ``loss:run:10``, whose texts are classes themselves.

    Raises:
        CatalogError: there is no such factor, or it is not known of these samples.
    """
    base, _, detail = name.partition(":")
    column, _, parts = name.rpartition(":")
    if base not in (*STRATA, *FACTORS) and is_column_name(name):
        return _of_column(subset, name, "")
    if is_column_name(column):
        return _of_column(subset, column, parts)
    if base in STRATA and not detail:
        codes, names = classes_of(subset, base)
        return Factor(codes=codes, names=names)
    if base not in FACTORS or (detail and base != "entropy"):
        raise CatalogError(
            f"unknown factor {name!r}; there are {', '.join((*STRATA, *FACTORS))}, and entropy:10 for tenths"
        )
    if base == "entropy":
        return _quantiles(subset.column("div:spectral_entropy"), "entropy", detail)
    return FACTORS[base](subset)


def _season(subset: Subset) -> Factor:
    month, known = _times(subset, "month")
    northern = (month % 12) // 3
    codes = np.where(subset.lonlat[:, 1] >= 0, northern, (northern + 2) % 4)
    return Factor(codes=np.where(known, codes, -1), names=list(SEASONS))


def _month(subset: Subset) -> Factor:
    month, known = _times(subset, "month")
    return Factor(codes=np.where(known, month - 1, -1), names=[f"month {k:02d}" for k in range(1, 13)])


def _year(subset: Subset) -> Factor:
    year, known = _times(subset, "year")
    return _named(np.where(known, year, -1), lambda k: str(k))


def _times(subset: Subset, part: str) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    column = getattr(pc, part)(subset.columns(["datetime"])["datetime"])
    known = pc.is_valid(column).to_numpy()
    return np.asarray(pc.fill_null(column, 0).to_numpy(), dtype=np.int64), np.asarray(known)


def _latitude(subset: Subset) -> Factor:
    band = np.floor(subset.lonlat[:, 1] / LATITUDE_STEP).astype(np.int64)
    return _named(band + 9, lambda k: f"{(k - 9) * LATITUDE_STEP:g} to {(k - 8) * LATITUDE_STEP:g} degrees")


def _valid(subset: Subset) -> Factor:
    share = subset.column("div:valid_fraction").astype(np.float64)
    codes = np.clip(np.searchsorted(VALID_EDGES, share, side="right") - 1, 0, len(VALID_EDGES) - 2)
    names = [f"{low:.0%} to {high:.0%} valid" for low, high in pairwise(VALID_EDGES)]
    return Factor(codes=np.where(np.isnan(share), -1, codes), names=names)


def _cloud(subset: Subset) -> Factor:
    """Cloud cover of each sample's first scene, in steps."""
    cover = cloud_cover(subset)
    step = np.minimum(np.floor(np.nan_to_num(cover) / CLOUD_STEP), 100 / CLOUD_STEP - 1).astype(np.int64)
    return _named(
        np.where(np.isnan(cover), -1, step), lambda k: f"{k * CLOUD_STEP:g} to {(k + 1) * CLOUD_STEP:g} % cloud"
    )


def cloud_cover(subset: Subset) -> NDArray[np.float64]:
    """Cloud cover of each sample's first scene, as its source states it, ``(n,)``, per cent; NaN where it does not.

    Raises:
        CatalogError: a collection has no scenes.
    """
    cover = np.full(len(subset), np.nan)
    for member, rows in subset.parts():
        if not member.place.has("scenes.parquet"):
            raise CatalogError(f"{member.place}: cloud cover is not known, for there is no scenes.parquet")
        scenes = subset.columns(["pwcat:scene_ids"])["pwcat:scene_ids"][rows.start : rows.stop]
        known_of = pc.fill_null(pc.greater(pc.list_value_length(scenes), 0), False)
        first = pc.list_element(pc.if_else(known_of, scenes, pa.scalar([None], scenes.type)), 0)
        known = member.engine.table(
            f'SELECT id, any_value("eo:cloud_cover")::DOUBLE AS cover FROM read_parquet({_scenes(member)}) GROUP BY id'  # noqa: S608
        )
        place = pc.index_in(first, known["id"].combine_chunks())
        cover[rows] = pc.fill_null(known["cover"].take(place), np.nan).to_numpy()
    return cover


def _scenes(member: object) -> str:
    from catalog.querying.engine import quoted

    return quoted(member.place.address("scenes.parquet"))  # type: ignore[attr-defined]


def _of_column(subset: Subset, name: str, detail: str) -> Factor:
    """Equal parts of a column of numbers that is kept beside the items, or the texts of one."""
    column = subset.columns([name])[name]
    if pa.types.is_string(column.type) and not detail:
        names = sorted(pc.unique(column.drop_null()).to_pylist())
        codes = pc.fill_null(pc.index_in(column, pa.array(names, pa.string())), -1)
        return Factor(codes=np.asarray(codes.to_numpy(), dtype=np.int64), names=names)
    if not (pa.types.is_floating(column.type) or pa.types.is_integer(column.type)):
        raise CatalogError(
            f"column {name!r} holds {column.type}: factors are made of numbers, and of texts as they are"
        )
    return _quantiles(subset.column(name), name, detail)


def _quantiles(column: NDArray[Any], name: str, detail: str) -> Factor:
    if detail and not (detail.isdecimal() and 2 <= int(detail) <= 100):
        raise CatalogError(f"{name}:{detail}: a number of equal parts from 2 to 100 is wanted")
    parts = int(detail or QUANTILES)
    values = column.astype(np.float64)
    known = np.flatnonzero(np.isfinite(values))
    codes = np.full(len(values), -1, dtype=np.int64)
    place = np.empty(len(known), dtype=np.int64)
    place[np.argsort(values[known], kind="stable")] = np.arange(len(known))
    codes[known] = place * parts // max(1, len(known))
    return Factor(codes=codes, names=[f"{name} {k + 1} of {parts}" for k in range(parts)])


def _named(codes: NDArray[np.int64], name: Callable[[int], str]) -> Factor:
    """A factor whose classes are those that occur; -1 is none."""
    there, place = np.unique(codes, return_inverse=True)
    missing = int(len(there) > 0 and there[0] < 0)
    return Factor(codes=place.reshape(-1).astype(np.int64) - missing, names=[name(int(k)) for k in there[missing:]])


# Beside those in :data:`catalog.subsets.drawing.STRATA`.
FACTORS: Mapping[str, Callable[[Subset], Factor]] = {
    "season": _season,
    "month": _month,
    "year": _year,
    "cloud": _cloud,
    "latitude": _latitude,
    "valid": _valid,
    "entropy": lambda subset: _quantiles(subset.column("div:spectral_entropy"), "entropy", ""),
}
