"""What a layer holds, class by class, and what points are labelled as."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pwcat.errors import RegionError
from pwcat.geo.places import read_place_table
from pwcat.layers import Layer
from pwcat.providers import OpenSource
from pwcat.regions.cache import checked, dataset_path, place_of
from pwcat.regions.continents import Deviation, continents_by_land
from pwcat.regions.datasets import find_dataset
from pwcat.regions.editions import edition_of
from pwcat.regions.layer import RegionLayer
from pwcat.regions.opening import open_layer
from pwcat.regions.raster import RasterLayer
from pwcat.regions.vector import VectorLayer, read_vector

__all__ = ["Description", "Labelled", "describe_layer", "label_points", "read_points"]


@dataclass(frozen=True, kw_only=True)
class Description:
    """A layer for people.

    Attributes:
        name: of the layer.
        source: where it came from.
        facts: title, licence, attribution, page, file, as far as they are known.
        classes: with their area in km², where it is known, and share of the area of all.
        pixel_m: native sampling.
        deviations: of continents: the places that are not what their country's attribute says.
    """

    name: str
    source: str
    facts: Mapping[str, str]
    classes: list[tuple[str, float | None, float | None]]
    pixel_m: float | None
    deviations: list[Deviation] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        classes = [{"class": name, "area_km2": area, "share": share} for name, area, share in self.classes]
        deviations = [asdict(deviation) for deviation in self.deviations]
        facts = dict(self.facts)
        return {"name": self.name, "source": self.source, **facts, "pixel_m": self.pixel_m, "classes": classes} | (
            {"deviations": deviations} if deviations else {}
        )


def describe_layer(name: str, document: Layer, *, base_dir: Path, source: OpenSource | None = None) -> Description:
    """What a layer holds.

    Raises:
        RegionError: it is missing or unreadable.
    """
    layer = open_layer(name, document, base_dir=base_dir, source=source)
    areas = layer.areas_km2() if isinstance(layer, VectorLayer | RasterLayer) else None
    return Description(
        name=name,
        source=layer.source,
        facts=_facts(document, base_dir=base_dir),
        classes=_classes(layer, areas),
        pixel_m=layer.pixel_m,
        deviations=_deviations(name, document, base_dir=base_dir),
    )


def _classes(layer: RegionLayer, areas: NDArray[np.float64] | None) -> list[tuple[str, float | None, float | None]]:
    if areas is None:
        return [(value, None, None) for value in layer.classes]
    total = max(float(areas.sum()), 1e-300)
    return [
        (layer.classes[code], float(areas[code]), float(areas[code]) / total)
        for code in np.argsort(-areas, kind="stable")
    ]


def _file_of(document: Layer, *, base_dir: Path) -> Path | None:
    if document.path is not None:
        return (base_dir / document.path).resolve()
    dataset = find_dataset(document.dataset) if document.dataset is not None else None
    return place_of(dataset) if dataset is not None and dataset.kind != "stac" else None


def _facts(document: Layer, *, base_dir: Path) -> dict[str, str]:
    facts = {}
    if document.dataset is not None:
        dataset = find_dataset(document.dataset)
        facts = {
            "title": dataset.title,
            "licence": dataset.licence,
            "attribution": dataset.attribution,
            "page": dataset.page,
        }
    path = _file_of(document, base_dir=base_dir)
    if path is None:
        return facts
    return {**facts, **_checks(document, path), "file": str(path)}


def _checks(document: Layer, path: Path) -> dict[str, str]:
    """What is known of the file at hand: its version, and what it was checked for."""
    if document.dataset is None:
        return {}
    dataset = find_dataset(document.dataset)
    edition = edition_of(dataset, path)
    said = f"{edition}, {edition.said_by} says" if edition is not None else f"not said; taken for {dataset.version}"
    version = {"version": said.removeprefix("version ")} if dataset.version else {}
    return version if document.path is not None else {**version, "checked": checked(dataset)}


def _deviations(name: str, document: Layer, *, base_dir: Path) -> list[Deviation]:
    dataset = find_dataset(document.dataset) if document.dataset is not None else None
    if dataset is None or not dataset.by_land or document.field not in (None, dataset.layers["continent"]):
        return []
    path = _file_of(document, base_dir=base_dir) if document.path is not None else dataset_path(dataset.name)
    assert path is not None
    inside = dataset.inside if path.suffix == ".zip" else None
    return continents_by_land(read_vector(path, name=name, inside=inside), name=name, source=dataset.name, path=path)[1]


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """Points with the columns they came with and one column a layer; ``None`` where a layer has no class.

    Attributes:
        rows: ``(n, columns)``, ``lon`` and ``lat`` (EPSG:4326) and the layers' columns among them.
        sources: where the labels came from, by column.
    """

    rows: pd.DataFrame
    sources: Mapping[str, str]

    def to_records(self) -> list[dict[str, Any]]:
        """For JSON: longitude, latitude and labels."""
        columns = ["lon", "lat", *self.sources]
        return [
            {key: None if value is None or value != value else value for key, value in zip(columns, row, strict=True)}
            for row in self.rows[columns].itertuples(index=False)
        ]


def read_points(points: str, *, lon: str | None = None, lat: str | None = None) -> pd.DataFrame:
    """Points as a table with ``lon`` and ``lat`` (EPSG:4326), and whatever other columns there are.

    Args:
        points: ``LON,LAT``, or a file of places; of other shapes than points, the centroid.
        lon: column of longitudes of a table; found by its name where not given.
        lat: column of latitudes.

    Raises:
        RegionError: it is neither, or a coordinate is no place on Earth.
    """
    pair = re.fullmatch(r"\s*([-+.\deE]+)\s*,\s*([-+.\deE]+)\s*", points)
    if pair:
        return _one_point(points, pair[1], pair[2])
    path = Path(points).expanduser()
    if not path.is_file():
        raise RegionError(f"{points}: neither a file nor a point written LON,LAT, such as 37.6,-1.3")
    return read_place_table(path, lon=lon, lat=lat)


def _one_point(points: str, lon: str, lat: str) -> pd.DataFrame:
    try:
        x, y = float(lon), float(lat)
    except ValueError as exc:
        raise RegionError(f"{points}: no point written LON,LAT in degrees, such as 37.6,-1.3") from exc
    if not (abs(x) <= 360 and abs(y) <= 90):
        raise RegionError(f"{points}: no place on Earth: longitude goes from -180 to 180, latitude from -90 to 90")
    return pd.DataFrame({"lon": [x if abs(x) <= 180 else (x + 180) % 360 - 180], "lat": [y]})


def label_points(
    table: pd.DataFrame,
    documents: Mapping[str, Layer],
    *,
    base_dir: Path,
    source: OpenSource | None = None,
    columns: Mapping[str, str] | None = None,
) -> Labelled:
    """Points with a column a layer.

    Args:
        table: ``(n, columns)``, with ``lon`` and ``lat``, EPSG:4326.
        documents: the layers, by name.
        base_dir: the folder that relative paths start from.
        source: for collections without a ``url`` of their own.
        columns: what a layer's column is called, where that is not its name.

    Raises:
        RegionError: a layer is missing or unreadable, or the table has a column of that name.
    """
    column_of = {name: (columns or {}).get(name, name) for name in documents}
    _require_free(column_of, table)
    lonlat = table[["lon", "lat"]].to_numpy(dtype=np.float64)
    opened = {
        name: open_layer(name, document, base_dir=base_dir, source=source) for name, document in documents.items()
    }
    labels = {column_of[name]: layer.label(lonlat) for name, layer in opened.items()}
    sources = {column_of[name]: layer.source for name, layer in opened.items()}
    return Labelled(rows=table.assign(**labels), sources=sources)


def _require_free(column_of: Mapping[str, str], table: pd.DataFrame) -> None:
    taken = [name for name, column in column_of.items() if column in table.columns]
    if taken:
        columns = ", ".join(repr(column_of[name]) for name in taken)
        options = " ".join(f"--column {name}={name}_label" for name in taken)
        raise RegionError(
            f"the points have {'columns' if len(taken) > 1 else 'a column'} {columns} already, which labels would replace: "
            f"write them under other names, as with {options}"
        )
    doubled = sorted({column for column in column_of.values() if [*column_of.values()].count(column) > 1})
    if doubled:
        raise RegionError(
            f"several layers would write the column {', '.join(map(repr, doubled))}: give each its own name"
        )
