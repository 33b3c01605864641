"""Vector files (GeoPackage, GeoJSON, FlatGeobuf, what else GDAL reads) as features: columns are tags."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyogrio
import shapely
from numpy.typing import NDArray
from pyogrio.errors import DataLayerError, DataSourceError
from pyproj import CRS, Transformer

from pwcat.errors import SourceError
from pwcat.osm.exclusion import Exclusion
from pwcat.osm.features import Features, Losses
from pwcat.osm.schema import OSM_TYPES

__all__ = ["read_vectors"]

BATCH: Final = 8_192

# Columns that say which entity it is; "@id" holds both, "way/123"
ID_NAMES: Final = ("osm_id", "osm_way_id", "@id")
TYPE_NAMES: Final = ("osm_type", "@type")
# Columns of many tags: GDAL's (hstore, or JSON), and what tools on DuckDB write
MANY_TAGS: Final = ("other_tags", "all_tags", "tags")

# Of the layer of areas that GDAL's driver makes: it has both columns, and each row one of the numbers.
_BY_COLUMN: Final = {("osm_id", True): 2, ("osm_way_id", True): 1}

_HSTORE: Final = re.compile(r'"((?:[^"\\]|\\.)*)"\s*=>\s*(?:"((?:[^"\\]|\\.)*)"|NULL)')


def read_vectors(path: Path, *, exclude: Exclusion, leave: Sequence[str], losses: Losses) -> Iterator[Features]:
    """What the layers of a file hold, as far as it has tags left.

    ``osm_id`` and ``osm_type`` (node, way, relation) name an entity where they are there; without them it is numbered as its
    row, and is a node where it is a point, else a way. Without a type, a negative number is a relation's, and so is that of
    ``osm_id`` where there is ``osm_way_id`` too. Nulls and empty texts are no tags; true and false are ``yes`` and ``no``.

    Args:
        path: of the file; one that names no CRS is in EPSG:4326.
        exclude: tags that are left out.
        leave: columns that are no tags.
        losses: what is broken is counted there.

    Raises:
        SourceError: the file is missing or cannot be read, or a column that is to be left is not there.
    """
    try:
        layers = [name for name, kind in pyogrio.list_layers(path) if kind is not None]
        _require_columns(path, layers, leave)
        row = 0
        for layer in layers:
            with pyogrio.open_arrow(path, layer=layer, use_pyarrow=True, batch_size=BATCH) as (meta, reader):
                to_degrees = _transformation(meta["crs"])
                for batch in reader:
                    yield from _features(batch, meta, row, exclude=exclude, leave=leave, losses=losses, to=to_degrees)
                    row += len(batch)
    except (DataSourceError, DataLayerError, OSError, pa.ArrowException) as exc:
        reason = "there is no such file" if not path.exists() else " ".join(str(exc).split())
        raise SourceError(f"{path} cannot be read as a map: {reason}; give an .osm.pbf or a vector file") from exc


def _require_columns(path: Path, layers: Sequence[str], leave: Sequence[str]) -> None:
    known = {str(name) for layer in layers for name in pyogrio.read_info(path, layer=layer)["fields"]}
    unknown = [name for name in leave if name not in known]
    if unknown:
        raise SourceError(f"{path} has no column {', '.join(unknown)} to leave; it has {', '.join(sorted(known))}")


def _transformation(crs: str | None) -> Callable[[NDArray[np.float64]], NDArray[np.float64]] | None:
    if crs is None or CRS.from_user_input(crs).to_epsg() == 4326:
        return None
    transformer = Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    return lambda places: np.column_stack(transformer.transform(*places.T))


def _features(
    batch: pa.RecordBatch,
    meta: dict[str, Any],
    row: int,
    *,
    exclude: Exclusion,
    leave: Sequence[str],
    losses: Losses,
    to: Callable[[NDArray[np.float64]], NDArray[np.float64]] | None,
) -> Iterator[Features]:
    geometry = _geometry(batch, meta, to)
    tags = [exclude.keep(pairs) for pairs in _tags(batch, [*leave, *ID_NAMES, *TYPE_NAMES], set(meta["fields"]))]
    has_tags = np.array([bool(pairs) for pairs in tags], dtype=bool)
    bare = shapely.is_missing(geometry) | shapely.is_empty(geometry)
    losses.leave("row without a geometry", int((bare & has_tags).sum()))
    chosen = np.flatnonzero(has_tags & ~bare)
    if len(chosen):
        types, ids = _names(batch, geometry, row)
        yield Features(
            osm_type=types[chosen], osm_id=ids[chosen], tags=[tags[n] for n in chosen], geometry=geometry[chosen]
        )


def _geometry(
    batch: pa.RecordBatch, meta: dict[str, Any], to: Callable[[NDArray[np.float64]], NDArray[np.float64]] | None
) -> NDArray[np.object_]:
    column = batch[meta["geometry_name"] or "wkb_geometry"]
    geometry = shapely.from_wkb(column.to_numpy(zero_copy_only=False), on_invalid="fix")
    geometry = shapely.force_2d(geometry)
    return geometry if to is None else shapely.transform(geometry, to)


def _tags(batch: pa.RecordBatch, leave: Sequence[str], fields: set[str]) -> Iterator[list[tuple[str, str]]]:
    names = [name for name in batch.schema.names if name in fields and name not in leave]
    columns = [batch[name].to_pylist() for name in names]
    for values in zip(*columns, strict=True) if columns else ([] for _ in range(len(batch))):
        found: dict[str, str] = {}
        for name, value in zip(names, values, strict=True):
            if value is None or value == "":
                continue
            found |= _many(value) if name in MANY_TAGS else {name: _text(value)}
        yield list(found.items())


def _many(value: Any) -> dict[str, str]:
    """The tags of a column that holds many."""
    if isinstance(value, str) and not value.lstrip().startswith("{"):
        return {_unescaped(key): _unescaped(text) for key, text in _HSTORE.findall(value)}
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return {"tags": value}
    pairs = value.items() if isinstance(value, dict) else value
    return {str(key): _text(each) for key, each in pairs if each is not None}


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)


def _names(
    batch: pa.RecordBatch, geometry: NDArray[np.object_], row: int
) -> tuple[NDArray[np.int8], NDArray[np.int64]]:
    """Type and number of each row's entity."""
    is_point = shapely.get_type_id(geometry) == shapely.GeometryType.POINT
    types = np.where(is_point, 0, 1).astype(np.int8)
    ids = np.arange(row, row + len(batch), dtype=np.int64)
    of_gdal = "osm_way_id" in batch.schema.names
    for name in (each for each in ID_NAMES if each in batch.schema.names):
        for n, value in enumerate(batch[name].to_pylist()):
            kind, number = _parsed(value)
            if number is not None:
                ids[n] = abs(number)
                kind = _BY_COLUMN.get((name, of_gdal)) if kind is None else kind
                types[n] = 2 if number < 0 else types[n] if kind is None else kind
    for name in (each for each in TYPE_NAMES if each in batch.schema.names):
        for n, value in enumerate(batch[name].to_pylist()):
            kind = _type_named(value)
            types[n] = types[n] if kind is None else kind
    return types, ids


def _parsed(value: Any) -> tuple[int | None, int | None]:
    """Type and number that a column's value names."""
    kind, _, number = str(value).rpartition("/")
    try:
        return _type_named(kind), int(float(number)) if "." in number else int(number)
    except ValueError:
        return None, None


def _type_named(value: Any) -> int | None:
    text = str(value).lower()
    return next((n for n, name in enumerate(OSM_TYPES) if text and (text == name or text == name[0])), None)
