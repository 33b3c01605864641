"""The same acquisition at another provider: found by what both say of it, and only where its pixels are on the same grid.

Providers call a product differently, date it differently (the Planetary Computer by the start of the datatake, Earth Search
by the sensing of the tile, a quarter of an hour later), and may have processed it anew. What stays is the satellite, the
datatake and the tile; all of Sentinel-2's product names hold them.

An answer is kept beside the ledger, so that a rerun reads what the first run read, whatever the provider lists by then.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import shapely

from pwcat.atomic import replacing
from pwcat.errors import SourceError
from pwcat.providers import OpenSource
from pwcat.providers.transport import Patience
from pwcat.recipe import Chip
from pwcat.scenes import Scene
from pwcat.search import find_items

__all__ = ["OtherGridError", "find_counterpart"]

log = logging.getLogger(__name__)

# The longest datatake of Sentinel-2 is shorter (32 minutes); the next orbit comes later (100 minutes).
SEARCHED = timedelta(minutes=40)
# Dates of one acquisition, where they are all that is known.
SAME_TIME = timedelta(seconds=10)
# Footprints of one acquisition, where no tile is named: common area by joint area.
SAME_FOOTPRINT = 0.8
# Corners of pixel grids: so far from a whole pixel counts as on it.
TOLERANCE_PX = 1e-4

_PRODUCT = re.compile(r"(S2[A-D])_MSIL\w\w_(\d{8}T\d{6})_(?:N\d{4}_)?R\d{3}_T(\d{2}[A-Z]{3})")
_DATATAKE = re.compile(r"G(S2[A-D])_(\d{8}T\d{6})_\d+")
_TILE = re.compile(r"(?:MGRS-)?(\d{1,2}[A-Z]{3})")


class OtherGridError(SourceError):
    """The acquisition is there, on another pixel grid."""


def find_counterpart(
    scene: Scene,
    fallback: OpenSource,
    *,
    source: OpenSource,
    chip: Chip,
    folder: Path,
    patience: Patience | None = None,
) -> Scene:
    """The scene of another source that is the same acquisition, on the same pixel grid.

    Args:
        scene: as the plan names it.
        fallback: the other source.
        source: the plan's.
        chip: whose bands and pixels are wanted.
        folder: where answers are kept.
        patience: with the other source's API; the usual one where ``None``.

    Raises:
        OtherGridError: it is on another grid.
        SourceError: the source does not answer, does not have it, or not with all bands.
    """
    path = folder / f"{_key(scene, fallback)}.json"
    with _lock_of(path):
        item = _kept(path)
        if item is None:
            item = _ask(scene, fallback, patience)
            folder.mkdir(parents=True, exist_ok=True)
            with replacing(path) as part:
                part.write_text(json.dumps(item, sort_keys=True) + "\n", encoding="utf-8")
    found = Scene.from_item(item, source=fallback, bands=chip.bands)
    _require_same_grid(
        scene, found, pixels_m=(_pixel_m(scene, source, chip), _pixel_m(found, fallback, chip)), chip=chip
    )
    return found


@lru_cache(maxsize=4096)
def _lock_of(path: Path) -> Lock:
    """Threads that want the same answer wait for the one that asks."""
    return Lock()


def _kept(path: Path) -> dict[str, Any] | None:
    """An answer that was kept; ``None`` where there is none that can be read."""
    try:
        item: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return item if isinstance(item, dict) else None


def _key(scene: Scene, fallback: OpenSource) -> str:
    place = fallback.name if fallback.provider == "archive" else fallback.url
    return sha256("\n".join([scene.id, place, fallback.collection]).encode()).hexdigest()[:32]


def _ask(scene: Scene, fallback: OpenSource, patience: Patience | None) -> dict[str, Any]:
    """The item of the same acquisition; of several, the one whose footprint is most alike, then the nearest in time, by id."""
    point = scene.footprint.representative_point()
    span = "/".join((scene.time + step).strftime("%Y-%m-%dT%H:%M:%SZ") for step in (-SEARCHED, SEARCHED))
    asked = find_items(
        replace(fallback, search="api"), datetime=span, sites=np.array([[point.x, point.y]]), patience=patience
    )
    wanted = Acquisition.of(scene.item)
    same = [item for item in asked if wanted.is_of(Acquisition.of(item))]
    if not same:
        raise SourceError(f"{fallback.name} has no such acquisition as {scene.id}")
    best = min(same, key=lambda item: (-round(wanted.likeness(Acquisition.of(item)), 6), wanted.lag(item), item["id"]))
    log.info("scene %s is %s of %s", scene.id, best["id"], fallback.name)
    return best


@dataclass(frozen=True, kw_only=True)
class Acquisition:
    """What tells one acquisition from others, as far as an item says.

    Attributes:
        satellite: ``S2A``, or the platform in lower case.
        datatake: start of Sentinel-2's datatake, ``20230216T145731``.
        tile: of MGRS, ``31UDQ``.
        time: of the item.
        footprint: EPSG:4326.
    """

    satellite: str | None
    datatake: str | None
    tile: str | None
    time: datetime
    footprint: shapely.Geometry

    @classmethod
    def of(cls, item: Mapping[str, Any]) -> Acquisition:
        """What a STAC item says."""
        properties = item.get("properties") or {}
        said = [
            str(properties.get(key) or "") for key in ("s2:product_uri", "title", "s2:datatake_id", "eopf:datatake_id")
        ]
        product = next(filter(None, map(_PRODUCT.search, [item["id"], *said])), None)
        datatake = product or next(filter(None, map(_DATATAKE.search, said)), None)
        platform = re.sub(r"^sentinel-?(?=\d)", "s", str(properties.get("platform") or "").lower())
        when = properties.get("datetime") or properties.get("start_datetime")
        return cls(
            satellite=datatake[1] if datatake else platform.upper() or None,
            datatake=datatake[2] if datatake else None,
            tile=_tile_of(properties) or (product[3] if product else None),
            time=datetime.fromisoformat(str(when)),
            footprint=shapely.geometry.shape(item["geometry"]),
        )

    def is_of(self, other: Acquisition) -> bool:
        """Whether both are the same: what both say must agree, and together it must be enough to tell."""
        if self.satellite and other.satellite and self.satellite != other.satellite:
            return False
        if self.datatake and other.datatake:
            together = self.datatake == other.datatake
        else:
            together = abs(self.time - other.time) <= SAME_TIME
        if self.tile and other.tile:
            return together and self.tile == other.tile
        return together and self.likeness(other) >= SAME_FOOTPRINT

    def likeness(self, other: Acquisition) -> float:
        """Common area of the footprints by joint area, in square degrees, ``[0, 1]``."""
        common, joint = self.footprint.intersection(other.footprint).area, self.footprint.union(other.footprint).area
        return float(common / joint) if joint else 0.0

    def lag(self, item: Mapping[str, Any]) -> float:
        """Seconds between this and an item."""
        return abs((self.time - Acquisition.of(item).time).total_seconds())


def _tile_of(properties: Mapping[str, Any]) -> str | None:
    """MGRS tile, by whichever extension says it."""
    parts = [properties.get(f"mgrs:{key}") for key in ("utm_zone", "latitude_band", "grid_square")]
    whole = "".join(map(str, parts)) if all(parts) else ""
    said = [str(properties.get("grid:code") or ""), str(properties.get("s2:mgrs_tile") or ""), whole]
    found = next(filter(None, (_TILE.fullmatch(text) for text in said)), None)
    return found[1].zfill(5) if found else None


def _require_same_grid(scene: Scene, found: Scene, *, pixels_m: tuple[float, float], chip: Chip) -> None:
    """Refuse pixels that would have to be resampled to lie where the plan's do."""
    offset = np.array([found.left - scene.left, found.top - scene.top]) / chip.resolution_m
    aligned = np.abs(offset - np.rint(offset)).max() < TOLERANCE_PX
    if found.epsg != scene.epsg or not aligned or pixels_m[0] != pixels_m[1]:
        raise OtherGridError(
            f"{found.id} is on another pixel grid than {scene.id}: EPSG:{found.epsg}, corner {found.left:.1f} {found.top:.1f}, "
            f"pixels of {pixels_m[1]:g} m, not EPSG:{scene.epsg}, {scene.left:.1f} {scene.top:.1f}, {pixels_m[0]:g} m"
        )


def _pixel_m(scene: Scene, source: OpenSource, chip: Chip) -> float:
    """Side of the finest of the bands' pixels, metres."""
    assets, whole = scene.item["assets"], scene.item["properties"].get("proj:transform")
    said = [assets[source.band_asset(band, assets)].get("proj:transform") or whole for band in chip.bands]
    return min(abs(float(transform[0])) for transform in said if transform)
