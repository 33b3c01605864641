"""Land-cover legends: what the values of common class rasters mean."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["LEGENDS"]

# IGBP classes of MODIS MCD12C1 v6.1, from its user guide; 255 is unclassified.
IGBP: Mapping[int, str] = {
    0: "water",
    1: "evergreen_needleleaf_forest",
    2: "evergreen_broadleaf_forest",
    3: "deciduous_needleleaf_forest",
    4: "deciduous_broadleaf_forest",
    5: "mixed_forest",
    6: "closed_shrubland",
    7: "open_shrubland",
    8: "woody_savanna",
    9: "savanna",
    10: "grassland",
    11: "wetland",
    12: "cropland",
    13: "urban",
    14: "cropland_natural_mosaic",
    15: "snow_ice",
    16: "barren",
}

# ESA WorldCover 2021 v200, from its product user manual; 0 is no data.
WORLDCOVER: Mapping[int, str] = {
    10: "tree_cover",
    20: "shrubland",
    30: "grassland",
    40: "cropland",
    50: "built_up",
    60: "bare",
    70: "snow_ice",
    80: "water",
    90: "wetland",
    95: "mangroves",
    100: "moss_lichen",
}

LEGENDS: Mapping[str, Mapping[int, str]] = {"igbp": IGBP, "worldcover": WORLDCOVER}
