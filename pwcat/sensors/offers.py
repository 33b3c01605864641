"""What a sensor's source has: items that bring all of its bands, cut down to what reading needs."""

from __future__ import annotations

import json
import logging
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from pwcat.errors import SourceError
from pwcat.providers import OpenSource
from pwcat.sensors.bands import assets_of, data_type, holds_classes
from pwcat.sensors.document import Sensor, encoding_of, no_mean
from pwcat.sensors.outlines import item_outline

__all__ = ["SensorItems", "collect_items"]

log = logging.getLogger(__name__)

# What is kept of an item: where its pixels are, when it is of, and what its bands are called.
ITEM_FIELDS = ("type", "stac_version", "stac_extensions", "id", "collection")
TIME_FIELDS = ("datetime", "start_datetime", "end_datetime")
ASSET_FIELDS = ("href", "type", "roles", "gsd", "data_type")
BAND_FIELDS = ("name", "common_name", "eo:common_name", "data_type")
# Numbers of these fields are of one kind in every item, whole or not.
GRID_FIELDS = {"proj:transform": float, "proj:shape": int, "proj:bbox": float}

# Numbers that the cube can hold as they are.
WHOLE = ("uint8", "uint16")


@dataclass(frozen=True, kw_only=True)
class SensorItems:
    """Items of a sensor, by id.

    Attributes:
        packed: STAC items, half a kilobyte each: a year of radar over the whole Earth is some 300,000.
        outlines: ``(n,)`` where they lie, EPSG:4326.
        start: ``(n,)`` the first moment that each is of, seconds since 1970; NaN where it has no date.
        end: ``(n,)`` the last.
    """

    packed: list[bytes]
    outlines: NDArray[np.object_]
    start: NDArray[np.float64]
    end: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.packed)

    def item(self, number: int) -> dict[str, Any]:
        """One of the items, as a STAC document."""
        item: dict[str, Any] = json.loads(zlib.decompress(self.packed[number]))
        return item


def collect_items(found: Iterable[Mapping[str, Any]], *, name: str, sensor: Sensor, source: OpenSource) -> SensorItems:
    """Items that can serve a sensor: with all of its bands, a place, and a date where one is needed.

    Others are left out; the most frequent reasons are logged with their counts.

    Args:
        found: items as the source has them.
        name: of the sensor.
        sensor: as the recipe has it.
        source: its source, open.

    Raises:
        SourceError: items were found, but none can serve, says why; a band has numbers that the cube cannot hold and no
            encoding, or classes that would be interpolated; or an address is of this computer or its network, and that is not
            allowed.
    """
    kept: dict[str, tuple[bytes, shapely.Geometry, float, float]] = {}
    left_out: Counter[str] = Counter()
    for item in found:
        try:
            keys = assets_of(source, sensor.bands, item.get("assets") or {})
            outline, span = item_outline(item.get("geometry"), item.get("bbox")), _span(item)
            if outline is None or (span is None and not sensor.static):
                raise SourceError("no geometry" if outline is None else "no date")
        except SourceError as exc:
            left_out[str(exc)] += 1
            continue
        _require_nearest(item, keys, name=name, sensor=sensor, source=source)
        _require_encodings(item, keys, name=name, sensor=sensor, source=source)
        _check_addresses(item, keys, name=name, source=source)
        packed = zlib.compress(json.dumps(_cut(item, keys, outline, source)).encode(), level=1)
        kept[str(item["id"])] = (packed, outline, *(span or (np.nan, np.nan)))
    _tell(left_out, len(kept), name=name, source=source)
    columns = [kept[key] for key in sorted(kept)]
    return SensorItems(
        packed=[row[0] for row in columns],
        outlines=np.array([row[1] for row in columns], dtype=object),
        start=np.array([row[2] for row in columns], dtype=np.float64),
        end=np.array([row[3] for row in columns], dtype=np.float64),
    )


def _tell(left_out: Counter[str], kept: int, *, name: str, source: OpenSource) -> None:
    if left_out and not kept:
        reason, count = left_out.most_common(1)[0]
        raise SourceError(
            f"sensors.{name}: none of the {left_out.total():,} items of {source.collection} can serve; {count:,}: {reason}"
        )
    for reason, count in left_out.most_common(3):
        log.warning("sensors.%s: %d item(s) of %s are left out: %s", name, count, source.collection, reason)


def _span(item: Mapping[str, Any]) -> tuple[float, float] | None:
    """First and last moment that an item is of."""
    properties = item.get("properties") or {}
    moment = properties.get("datetime")
    start, end = properties.get("start_datetime") or moment, properties.get("end_datetime") or moment
    try:
        return (_moment(start).timestamp(), _moment(end).timestamp()) if start and end else None
    except ValueError:
        return None


def _moment(text: str) -> datetime:
    """A date of an item; some write a space for the T, or no zone."""
    moment = datetime.fromisoformat(text)
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def _has_moment(properties: Mapping[str, Any], field: str) -> bool:
    try:
        return bool(properties.get(field)) and bool(_moment(properties[field]))
    except ValueError:
        return False


def _require_nearest(
    item: Mapping[str, Any], keys: Mapping[str, str], *, name: str, sensor: Sensor, source: OpenSource
) -> None:
    """See that classes are not interpolated."""
    if sensor.resampling == "nearest":
        return
    if classes := [band for band, key in keys.items() if holds_classes(source, band, item["assets"][key])]:
        raise SourceError(f"sensors.{name}.resampling: {no_mean(classes)}")


def _require_encodings(
    item: Mapping[str, Any], keys: Mapping[str, str], *, name: str, sensor: Sensor, source: OpenSource
) -> None:
    """See that every band's numbers become the cube's."""
    faults = []
    for band, key in keys.items():
        kind = data_type(source, band, item["assets"][key])
        if encoding_of(sensor, band) is None and kind not in WHOLE:
            got = f"are {kind}" if kind else "may be anything: its item does not say"
            faults.append(f"say `sensors.{name}.encode.{band}: {{scale: ..., offset: ...}}`, for its numbers {got}")
    if faults:
        raise SourceError(f"sensors.{name}: the cube holds whole numbers from 0 to 65535; {'; '.join(faults)}")


def _check_addresses(item: Mapping[str, Any], keys: Mapping[str, str], *, name: str, source: OpenSource) -> None:
    for key in set(keys.values()):
        try:
            source.check(item["assets"][key]["href"], resolve=False)
        except SourceError as exc:
            raise SourceError(f"sensors.{name}: item {item['id']} of {source.provider}: {exc}") from exc


def _cut(
    item: Mapping[str, Any], keys: Mapping[str, str], outline: shapely.Geometry, source: OpenSource
) -> dict[str, Any]:
    """The item with what reading needs alone; one without a geometry gets the one of its bounding box."""
    said = item.get("properties") or {}
    properties = {field: _moment(said[field]).isoformat() for field in TIME_FIELDS if _has_moment(said, field)}
    geometry = item.get("geometry") or shapely.geometry.mapping(outline)
    return {
        **{field: item[field] for field in ITEM_FIELDS if field in item},
        "geometry": geometry,
        "bbox": item.get("bbox") or list(shapely.bounds(outline)),
        "properties": {"datetime": None, **properties, **_offset(said, source), **_grid(said)},
        "assets": {key: _cut_asset(item["assets"][key]) for key in sorted(set(keys.values()))},
        "links": [],
    }


def _offset(said: Mapping[str, Any], source: OpenSource) -> dict[str, Any]:
    """What an item of Sentinel-2 says of the offset of its numbers."""
    rule = source.record.offset
    named = () if rule is None else (rule.baseline, rule.applied)
    return {field: said[field] for field in named if field is not None and field in said}


def _cut_asset(asset: Mapping[str, Any]) -> dict[str, Any]:
    fields = {field: asset[field] for field in ASSET_FIELDS if asset.get(field) is not None}
    for lists in ("bands", "eo:bands", "raster:bands"):
        bands: Sequence[Mapping[str, Any]] = asset.get(lists) or ()
        cut = [{field: band[field] for field in BAND_FIELDS if band.get(field) is not None} for band in bands]
        if any(cut):
            fields[lists] = cut
    return fields | _grid(asset)


def _grid(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The pixel grid, where it is told."""
    grid = {
        field: [kind(number) for number in fields[field]] for field, kind in GRID_FIELDS.items() if fields.get(field)
    }
    code = fields.get("proj:code") or (f"EPSG:{fields['proj:epsg']}" if fields.get("proj:epsg") else None)
    return grid | ({"proj:code": code} if code else {})
