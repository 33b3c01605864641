"""Which biomes are on which continents: the pairs that a dataset could cover."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

__all__ = ["ON_EARTH", "pairs_on_earth"]

# Biomes of RESOLVE Ecoregions 2017 by continents of Natural Earth, by land (pwcat.regions.continents): pairs of 5,000
# km² or more, found by labelling 1.5 million points uniform on the sphere. Rock and ice has no biome, so that
# Antarctica has none.
ON_EARTH: Final[Mapping[str, tuple[str, ...]]] = {
    "Boreal Forests/Taiga": (
        "Asia",
        "Europe",
        "North America",
    ),
    "Deserts & Xeric Shrublands": (
        "Africa",
        "Asia",
        "Europe",
        "North America",
        "Oceania",
        "South America",
    ),
    "Flooded Grasslands & Savannas": (
        "Africa",
        "Asia",
        "North America",
        "South America",
    ),
    "Mangroves": (
        "Africa",
        "Asia",
        "North America",
        "Oceania",
        "South America",
    ),
    "Mediterranean Forests, Woodlands & Scrub": (
        "Africa",
        "Asia",
        "Europe",
        "North America",
        "Oceania",
        "South America",
    ),
    "Montane Grasslands & Shrublands": (
        "Africa",
        "Asia",
        "Oceania",
        "South America",
    ),
    "Temperate Broadleaf & Mixed Forests": (
        "Asia",
        "Europe",
        "North America",
        "Oceania",
        "South America",
    ),
    "Temperate Conifer Forests": (
        "Africa",
        "Asia",
        "Europe",
        "North America",
    ),
    "Temperate Grasslands, Savannas & Shrublands": (
        "Asia",
        "Europe",
        "North America",
        "Oceania",
        "South America",
    ),
    "Tropical & Subtropical Coniferous Forests": (
        "Asia",
        "North America",
    ),
    "Tropical & Subtropical Dry Broadleaf Forests": (
        "Africa",
        "Asia",
        "North America",
        "Oceania",
        "South America",
    ),
    "Tropical & Subtropical Grasslands, Savannas & Shrublands": (
        "Africa",
        "Asia",
        "North America",
        "Oceania",
        "South America",
    ),
    "Tropical & Subtropical Moist Broadleaf Forests": (
        "Africa",
        "Asia",
        "North America",
        "Oceania",
        "South America",
    ),
    "Tundra": (
        "Asia",
        "Europe",
        "North America",
    ),
}

_BIOME_LAYERS = frozenset({"resolve-2017"})
_CONTINENT_LAYERS = frozenset({"natural-earth", "natural-earth-110m"})


def pairs_on_earth(layers: Mapping[str, str | None]) -> frozenset[tuple[str, str]] | None:
    """Pairs of biome and continent that are on Earth; ``None`` for layers other than those that they are known of.

    Args:
        layers: source of each region layer; several are separated by commas.
    """
    sources = {name: {part.strip() for part in (layers.get(name) or "").split(",")} for name in ("biome", "continent")}
    if not (sources["biome"] <= _BIOME_LAYERS and sources["continent"] <= _CONTINENT_LAYERS):
        return None
    return frozenset((biome, continent) for biome, continents in ON_EARTH.items() for continent in continents)
