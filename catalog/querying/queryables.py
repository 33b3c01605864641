"""What can be asked of items: names, the columns they stand for, and what kind of value each is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

__all__ = ["COLUMN_TYPES", "KINDS", "LAYERS", "QUERYABLES", "Kind", "Queryable"]

Kind = Literal["text", "number", "time", "geometry"]

# Layers whose classes samples are found by, each a column of prefix `div:`.
LAYERS = ("continent", "biome", "ecoregion", "landcover")

_SCALARS: Mapping[str, tuple[Kind, str]] = {
    **{f"div:{layer}": ("text", f"{layer} of the sample") for layer in ("continent", "biome", "ecoregion")},
    "div:landcover": ("text", "land cover with the largest share of the chip"),
    "div:landcover_share": ("number", "that share, 0 to 1"),
    "div:spectral_entropy": ("number", "nats, by histograms of bands"),
    "div:spectral_entropy_codebook": ("number", "nats, by the collection's codebook"),
    "div:spectral_entropy_covariance": ("number", "nats, by the covariance of bands"),
    "div:valid_fraction": ("number", "share of pixels with data, 0 to 1"),
    "pwcat:split": ("text", "train or val; of map tiles also test"),
    "pwcat:index": ("number", "row in the cube"),
    "proj:code": ("text", "CRS of the chip's grid"),
}


@dataclass(frozen=True, kw_only=True)
class Queryable:
    """A name that a filter may use.

    Attributes:
        sql: the expression that it stands for.
        kind: what it is compared with.
        meaning: in a few words.
    """

    sql: str
    kind: Kind
    meaning: str


def _queryables() -> dict[str, Queryable]:
    found = {
        "id": Queryable(sql='"id"', kind="text", meaning="sample id"),
        "collection": Queryable(sql='"collection"', kind="text", meaning="name of the dataset"),
        "datetime": Queryable(sql='"datetime"', kind="time", meaning="first date of the sample, UTC"),
        "geometry": Queryable(sql='"geometry"', kind="geometry", meaning="outline of the chip, EPSG:4326"),
        "lon": Queryable(sql='"proj:centroid".lon', kind="number", meaning="longitude of the site, degrees"),
        "lat": Queryable(sql='"proj:centroid".lat', kind="number", meaning="latitude of the site, degrees"),
    }
    for name, (kind, meaning) in _SCALARS.items():
        found[name] = Queryable(sql=f'"{name}"', kind=kind, meaning=meaning)
        prefix, _, short = name.partition(":")
        if prefix == "div" or name == "pwcat:split":
            found[short] = found[name]
    return found


ALL: Mapping[str, Queryable] = _queryables()

# Names that a query may use, and the expressions they stand for.
QUERYABLES: Mapping[str, str] = {name: queryable.sql for name, queryable in ALL.items()}

# Of which kind each of those expressions is.
KINDS: Mapping[str, Kind] = {queryable.sql: queryable.kind for queryable in ALL.values()}

# Columns that queries may name, in the types of SQL: an older or foreign items file may lack one, which is then null.
COLUMN_TYPES: Mapping[str, str] = {
    "datetime": "TIMESTAMP WITH TIME ZONE",
    "proj:centroid": "STRUCT(lat DOUBLE, lon DOUBLE)",
    "div:landcover_fractions": 'STRUCT("name" VARCHAR, fraction DOUBLE)[]',
    "collection": "VARCHAR",
    **{name: "DOUBLE" if kind == "number" else "VARCHAR" for name, (kind, _) in _SCALARS.items()},
    "pwcat:index": "BIGINT",
}
