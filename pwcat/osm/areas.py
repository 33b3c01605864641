"""Which closed ways are areas, and which are lines that end where they begin: their tags say it.

Source: the rules of "Overpass turbo/Polygon Features" in OpenStreetMap's wiki (the list ``osm-polygon-features`` has them as
data): a closed way is an area unless ``area=no``, when one of these keys is there, and its value is not ``no`` and is among
those that count.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

__all__ = ["is_area"]

# With any value
_ALWAYS: Final = frozenset(
    {
        *("amenity", "area", "area:highway", "boundary", "building", "building:part", "craft", "golf", "historic"),
        *(
            "indoor",
            "landuse",
            "leisure",
            "military",
            "office",
            "place",
            "public_transport",
            "ruins",
            "shop",
            "tourism",
        ),
    }
)
# With these values
_ONLY: Final[Mapping[str, frozenset[str]]] = {
    "barrier": frozenset({"city_wall", "ditch", "hedge", "retaining_wall", "wall", "spikes"}),
    "highway": frozenset({"services", "rest_area", "escape", "elevator"}),
    "power": frozenset({"plant", "substation", "generator", "transformer"}),
    "railway": frozenset({"station", "turntable", "roundhouse", "platform"}),
    "waterway": frozenset({"riverbank", "dock", "boatyard", "dam"}),
}
# With any value but these
_BUT: Final[Mapping[str, frozenset[str]]] = {
    "aeroway": frozenset({"taxiway"}),
    "man_made": frozenset({"cutline", "embankment", "pipeline"}),
    "natural": frozenset({"coastline", "cliff", "ridge", "arete", "tree_row"}),
}


def is_area(tags: Mapping[str, str]) -> bool:
    """Whether a closed way with these tags, all it has, is an area."""
    if tags.get("area") == "no":
        return False
    return any(_makes_area(key, value) for key, value in tags.items() if value != "no")


def _makes_area(key: str, value: str) -> bool:
    if key in _ALWAYS:
        return True
    if key in _ONLY:
        return value in _ONLY[key]
    return key in _BUT and value not in _BUT[key]
