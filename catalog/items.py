"""Samples as STAC items, held as columns: what each column means, and how a shard's samples become rows of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import ArrayLike, NDArray

from catalog.extension import SCHEMA_URI
from catalog.stac.outlines import BBOX, outline_columns
from pwcat.osm.columns import ENTITY_COUNT, TAG_ENTROPY
from pwcat.osm.targets import TARGET_COLUMNS, TARGETS
from pwcat.recipe import Chip
from pwcat.sites.schema import FRACTIONS

__all__ = [
    "ASSET",
    "ITEM_SCHEMA",
    "MAP_MEANINGS",
    "MAP_SCHEMA",
    "MEANINGS",
    "PROJECTION_URI",
    "STAC_VERSION",
    "ZARR_MEDIA_TYPE",
    "complete_items",
    "first_fraction",
    "item_rows",
    "list_column",
    "repeat",
]

STAC_VERSION = "1.1.0"
PROJECTION_URI = "https://stac-extensions.github.io/projection/v2.0.0/schema.json"
# As the best practices of Zarr in STAC have it: https://eoap.github.io/zarr-cloud-native-format/compliance
ZARR_MEDIA_TYPE: Final = "application/vnd.zarr; version=3"

_TEXTS = pa.list_(pa.string())
_LINK = pa.struct([pa.field(name, pa.string()) for name in ("href", "rel", "type")])
ASSET = pa.struct(
    [
        pa.field("href", pa.string()),
        pa.field("title", pa.string()),
        pa.field("type", pa.string()),
        pa.field("roles", _TEXTS),
    ]
)
_CENTROID = pa.struct([pa.field("lat", pa.float64()), pa.field("lon", pa.float64())])

# Every column of ``items.parquet``: its type and what it means.
_COLUMNS: Final[Mapping[str, tuple[pa.DataType, str]]] = {
    "type": (pa.string(), "Feature"),
    "stac_version": (pa.string(), "version of STAC"),
    "stac_extensions": (_TEXTS, "schemas of the extensions whose fields the item has"),
    "id": (pa.string(), "sample id, as in the plan"),
    "geometry": (pa.binary(), "outline of the chip, WKB, EPSG:4326; cut at the antimeridian"),
    "bbox": (BBOX, "bounds of the outline, degrees; across the antimeridian xmin is larger than xmax"),
    "links": (pa.list_(_LINK), "links of the item"),
    "assets": (pa.struct([pa.field("chips", ASSET)]), "where the pixels are, relative to the collection"),
    "collection": (pa.string(), "name of the dataset"),
    "datetime": (pa.timestamp("us", tz="UTC"), "first date of the sample"),
    "proj:code": (pa.string(), "CRS of the chip's own pixel grid"),
    "proj:shape": (pa.list_(pa.int32()), "rows and columns of the chip"),
    "proj:transform": (pa.list_(pa.float64()), "affine transform of the chip's grid, six numbers"),
    "proj:centroid": (_CENTROID, "the site, EPSG:4326, degrees"),
    "div:continent": (pa.string(), "continent of the sample's centre"),
    "div:biome": (pa.string(), "biome of the sample's centre"),
    "div:ecoregion": (pa.string(), "ecoregion of the sample's centre; null where no such layer is known"),
    "div:landcover": (pa.string(), "land cover with the largest share of the chip's area"),
    "div:landcover_share": (pa.float64(), "that share, of the chip's area, 0 to 1"),
    "div:landcover_fractions": (FRACTIONS, "shares of the chip's area, largest first"),
    "div:spectral_entropy": (pa.float64(), "nats: mean over bands of the entropy of 256-bin histograms of reflectance"),
    "div:spectral_entropy_codebook": (pa.float64(), "nats: joint entropy of the bands over the collection's codebook"),
    "div:spectral_entropy_covariance": (pa.float64(), "nats: entropy of the spectrum of the covariance between bands"),
    "div:valid_fraction": (pa.float64(), "share of pixels with data in every band and date"),
    "pwcat:index": (pa.int64(), "row of the sample in the cube; null where there is no cube of ours"),
    "pwcat:split": (pa.string(), "train or val; of map tiles also test"),
    "pwcat:scene_ids": (_TEXTS, "STAC items that its dates come from"),
}
ITEM_SCHEMA: Final = pa.schema([pa.field(name, kind) for name, (kind, _) in _COLUMNS.items()])
MEANINGS: Final = {name: meaning for name, (_, meaning) in _COLUMNS.items()}

# Columns that items of map tiles have besides, behind the others.
MAP_SCHEMA: Final = pa.schema(
    [
        pa.field("map:tile", pa.string()),
        pa.field("map:group", pa.string()),
        pa.field("map:region", pa.string()),
        pa.field(ENTITY_COUNT, pa.int64()),
        pa.field(TAG_ENTROPY, pa.float64()),
        *(pa.field(name, pa.float64()) for name in TARGET_COLUMNS),
    ]
)
MAP_MEANINGS: Final[Mapping[str, str]] = {
    "map:tile": "tile of the web mercator grid, zoom/x/y",
    "map:group": "the larger tile that it lies in: groups are of one split",
    "map:region": "the recipe's box that its middle lies in, by name",
    ENTITY_COUNT: "entities on the tile: anything on the map that has tags",
    TAG_ENTROPY: "nats: entropy of the tags on the tile",
    **{
        target.column: f"{target.title}, {target.unit}" if target.unit == "km/h" else target.title
        for target in TARGETS.values()
    },
}

# What is the same for every sample of a collection, where a table of items does not say otherwise.
_ALIKE: Final[Mapping[str, Any]] = {
    "type": "Feature",
    "stac_version": STAC_VERSION,
    "stac_extensions": [PROJECTION_URI, SCHEMA_URI],
    "links": [{"href": "./collection.json", "rel": "collection", "type": "application/json"}],
    "assets": {"chips": {"href": "./cube.zarr", "title": "Chips, Zarr v3", "type": ZARR_MEDIA_TYPE, "roles": ["data"]}},
}


def item_rows(chip: Chip, rows: pa.Table, ledger: pa.Table, *, spectra: Mapping[str, ArrayLike]) -> pa.Table:
    """The items of some samples that have pixels, without what is the same for all of a collection.

    Args:
        chip: of the recipe: size and resolution.
        rows: of the plan, and ``pwcat:index``, each one's row in the cube.
        ledger: of the same samples.
        spectra: columns of spectral entropy by name, ``(n,)`` nats; NaN where there is nothing to measure.
    """
    step, count = chip.resolution_m, len(rows)
    x0, y0 = rows["x0"].to_numpy(), rows["y0"].to_numpy()
    geometry, boxes = outline_columns(rows["epsg"].to_numpy(), x0, y0, chip.size_px * step)
    zeros = np.zeros(count)
    fractions = rows["landcover_fractions"].combine_chunks()
    columns: dict[str, Any] = {
        "id": rows["id"],
        "geometry": geometry,
        "bbox": boxes,
        "datetime": pc.list_element(rows["datetime"], 0),
        "proj:code": pc.binary_join_element_wise("EPSG", rows["epsg"].cast(pa.string()), ":"),
        "proj:shape": list_column(np.full((count, 2), chip.size_px)),
        "proj:transform": list_column(np.column_stack([zeros + step, zeros, x0, zeros, zeros - step, y0])),
        "proj:centroid": pc.make_struct(rows["lat"], rows["lon"], field_names=["lat", "lon"]),
        "div:continent": rows["continent"],
        "div:biome": rows["biome"],
        "div:ecoregion": rows["ecoregion"],
        "div:landcover": rows["landcover"],
        "div:landcover_share": first_fraction(fractions),
        "div:landcover_fractions": fractions,
        **{name: pa.array(np.asarray(values, dtype=np.float64), from_pandas=True) for name, values in spectra.items()},
        "div:valid_fraction": ledger["valid_fraction"],
        "pwcat:index": rows["pwcat:index"],
        "pwcat:split": rows["split"],
        "pwcat:scene_ids": _served(rows["scene_ids"].combine_chunks(), ledger["item"].combine_chunks()),
    }
    fields = [field for field in ITEM_SCHEMA if field.name in columns]
    return pa.Table.from_arrays([_typed(columns[field.name], field.type) for field in fields], schema=pa.schema(fields))


def complete_items(rows: pa.Table, *, collection: str) -> pa.Table:
    """Items with all columns of :data:`ITEM_SCHEMA`, in its order: what they lack is what they have in common, or null.

    Args:
        rows: some columns of the items; assets may be others than the chips, and columns of other names come last.
        collection: name of the dataset.
    """
    alike = {**_ALIKE, "collection": collection}
    count, names = len(rows), []
    columns: list[pa.ChunkedArray | pa.Array] = []
    for field in ITEM_SCHEMA:
        names.append(field.name)
        if field.name in rows.column_names:
            columns.append(rows[field.name] if field.name == "assets" else rows[field.name].cast(field.type))
        elif field.name in alike:
            columns.append(repeat(alike[field.name], count, field.type))
        else:
            columns.append(pa.nulls(count, field.type))
    others = [name for name in rows.column_names if name not in names]
    return pa.Table.from_arrays([*columns, *(rows[name] for name in others)], names=[*names, *others])


def repeat(value: Any, count: int, kind: pa.DataType) -> pa.Array:
    """A column of one value, nested or not, without a Python object a row."""
    return pa.array([value], kind).take(pa.array(np.zeros(count, dtype=np.int32)))


def list_column(values_NK: NDArray[Any]) -> pa.ListArray:
    """Rows of a matrix as a column of lists."""
    count, width = values_NK.shape
    return pa.ListArray.from_arrays(np.arange(count + 1, dtype=np.int32) * width, pa.array(values_NK.ravel()))


def _typed(values: Any, kind: pa.DataType) -> pa.ChunkedArray | pa.Array:
    return values.cast(kind) if isinstance(values, pa.ChunkedArray | pa.Array) else pa.array(values, type=kind)


def first_fraction(fractions: pa.ListArray) -> pa.Array:
    """The largest share of each chip, which comes first; null where it has none."""
    there = pc.fill_null(pc.greater(pc.list_value_length(fractions), 0), False).to_numpy(zero_copy_only=False)
    shares = np.full(len(fractions), np.nan)
    # the first of each list that has one: of the values of those lists alone, where they begin
    chosen = fractions.filter(pa.array(there))
    lengths = pc.list_value_length(chosen).to_numpy()
    values = pc.struct_field(chosen.flatten(), "fraction").to_numpy(zero_copy_only=False)
    shares[there] = values[np.cumsum(lengths) - lengths]
    return pa.array(shares, from_pandas=True)


def _served(planned: pa.ListArray, items: pa.ListArray) -> pa.ListArray:
    """The item that the pixels of each date come from: another than the plan's where another source stood in.

    Args:
        planned: the plan's scene of each date, ``(n, T)``.
        items: of the ledger: null, or one a date, null where it is the plan's.
    """
    count = len(planned)
    times = int(pc.list_value_length(planned[:1])[0].as_py()) if count else 0
    if not times:
        return planned
    dates = [pc.coalesce(pc.list_element(items, t), pc.list_element(planned, t)) for t in range(times)]
    # date after date, as columns; row after row, as lists
    rows = np.arange(count * times).reshape(times, count).T.ravel()
    return pa.ListArray.from_arrays(np.arange(count + 1, dtype=np.int32) * times, pa.concat_arrays(dates).take(rows))
