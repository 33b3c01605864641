"""What a layer holds, class by class, and what points are labelled as."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pwcat.atomic import replacing
from pwcat.errors import RegionError
from pwcat.layers import Layer
from pwcat.providers import OpenSource
from pwcat.regions.cache import dataset_path, place_of
from pwcat.regions.continents import Deviation, continents_by_land
from pwcat.regions.datasets import find_dataset
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
    return {**facts, "file": str(path)} if path is not None else facts


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
    """Points with the columns they came with and one column a layer; ``None`` where a layer has no class."""

    rows: pd.DataFrame
    layers: list[str]

    def to_records(self) -> list[dict[str, Any]]:
        """For JSON: longitude, latitude and labels."""
        columns = ["lon", "lat", *self.layers]
        return [
            {key: None if value is None or value != value else value for key, value in zip(columns, row, strict=True)}
            for row in self.rows[columns].itertuples(index=False)
        ]

    def write(self, path: Path) -> None:
        """Write a CSV or a Parquet file.

        Raises:
            RegionError: the name ends otherwise.
        """
        if path.suffix not in (".csv", ".parquet"):
            raise RegionError(f"{path}: labels are written as .csv or .parquet")
        with replacing(path) as temporary:
            if path.suffix == ".csv":
                self.rows.to_csv(temporary, index=False)
            else:
                self.rows.to_parquet(temporary, index=False)


def read_points(points: str) -> pd.DataFrame:
    """Points as a table with ``lon`` and ``lat`` (EPSG:4326), and whatever other columns there are.

    Args:
        points: ``LON,LAT``, a CSV with columns lon and lat, or any vector file; of other shapes than points, the centroid.

    Raises:
        RegionError: it is neither, or a coordinate is no place on Earth.
    """
    pair = re.fullmatch(r"\s*([-+.\deE]+)\s*,\s*([-+.\deE]+)\s*", points)
    if pair:
        table = pd.DataFrame({"lon": [pair[1]], "lat": [pair[2]]})
        return _on_earth(table, points)
    path = Path(points)
    if not path.is_file():
        raise RegionError(f"{points}: neither a file nor a point written LON,LAT, such as 37.6,-1.3")
    return _on_earth(_read_csv(path) if path.suffix.lower() == ".csv" else _read_shapes(path), points)


def _read_csv(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_csv(path)
    except (ValueError, UnicodeDecodeError) as exc:  # pandas' parser errors are ValueErrors
        raise RegionError(f"{path} cannot be read as a CSV: {exc}") from exc
    spelt = {str(column).strip().lower(): column for column in table.columns}
    found = {
        name: next((spelt[x] for x in names if x in spelt), None)
        for name, names in {"lon": ("lon", "lng", "long", "longitude", "x"), "lat": ("lat", "latitude", "y")}.items()
    }
    if None in found.values():
        raise RegionError(f"{path} has no columns lon and lat; it has {', '.join(map(str, table.columns))}")
    return table.rename(columns={column: name for name, column in found.items()})


def _read_shapes(path: Path) -> pd.DataFrame:
    frame: gpd.GeoDataFrame = read_vector(path, name="points")
    centres = frame.geometry.representative_point()
    rest = frame.drop(columns=[frame.geometry.name, *({"lon", "lat"} & set(frame.columns))])
    return pd.DataFrame(rest).assign(lon=centres.x, lat=centres.y)


def _on_earth(table: pd.DataFrame, points: str) -> pd.DataFrame:
    table = table.assign(**{name: pd.to_numeric(table[name], errors="coerce") for name in ("lon", "lat")})
    wrong = ~((table["lon"].abs() <= 180) & (table["lat"].abs() <= 90)).to_numpy()
    if wrong.any():
        raise RegionError(
            f"{points}: {int(wrong.sum()):,} of {len(table):,} points are no place on Earth (longitude within ±180, latitude "
            f"within ±90), the first in row {int(np.flatnonzero(wrong)[0]) + 1}"
        )
    return table


def label_points(
    table: pd.DataFrame, documents: Mapping[str, Layer], *, base_dir: Path, source: OpenSource | None = None
) -> Labelled:
    """Points with a column a layer.

    Raises:
        RegionError: a layer is missing or unreadable.
    """
    lonlat = table[["lon", "lat"]].to_numpy(dtype=np.float64)
    labels = {
        name: open_layer(name, document, base_dir=base_dir, source=source).label(lonlat)
        for name, document in documents.items()
    }
    return Labelled(rows=table.assign(**labels), layers=list(labels))
