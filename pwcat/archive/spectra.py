"""What land looks like from Sentinel-2: reflectance of each land cover at rest and in full leaf, and its seasons.

Every land cover is a mixture of two spectra, one bare or dormant and one green; how green it is on a day depends on the
biome, the hemisphere and the date. Units are Sentinel-2 DN, reflectance times 10,000, without offset.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from pwcat.archive import world

__all__ = [
    "BANDS",
    "CLOUD_DN",
    "COVERS",
    "COVER_INDEX",
    "SNOW_DN",
    "Band",
    "Cover",
    "Spectra",
    "greenness_at",
    "season_wave",
    "snow_at",
    "spectra_of",
]


@dataclass(frozen=True, kw_only=True)
class Band:
    """A band of the Sentinel-2 MSI: ground sampling in metres, centre and width in micrometres."""

    name: str
    gsd_m: int
    centre_um: float
    width_um: float
    common_name: str


# Centres and widths of Sentinel-2A (ESA, Sentinel-2 MSI spectral responses), rounded to nm; common names of STAC eo v2.
BANDS: Mapping[str, Band] = MappingProxyType({
    name: Band(name=name, gsd_m=gsd, centre_um=centre, width_um=width, common_name=common)
    for name, gsd, centre, width, common in (
        ("B01", 60, 0.443, 0.021, "coastal"), ("B02", 10, 0.492, 0.066, "blue"), ("B03", 10, 0.560, 0.036, "green"),
        ("B04", 10, 0.665, 0.031, "red"), ("B05", 20, 0.704, 0.015, "rededge071"), ("B06", 20, 0.741, 0.015, "rededge075"),
        ("B07", 20, 0.783, 0.020, "rededge078"), ("B08", 10, 0.833, 0.106, "nir"), ("B8A", 20, 0.865, 0.021, "nir08"),
        ("B09", 60, 0.945, 0.020, "nir09"), ("B11", 20, 1.614, 0.091, "swir16"), ("B12", 20, 2.202, 0.175, "swir22"),
    )
})  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Cover:
    """A land cover: its WorldCover code, name, title and map colour."""

    code: int
    name: str
    title: str
    colour: str


# Codes and titles of ESA WorldCover 2021 v200 (Product User Manual, table of classes).
COVERS: tuple[Cover, ...] = tuple(
    Cover(code=code, name=name, title=title, colour=colour)
    for code, name, title, colour in (
        (10, "tree_cover", "Tree cover", "006400"), (20, "shrubland", "Shrubland", "FFBB22"),
        (30, "grassland", "Grassland", "FFFF4C"), (40, "cropland", "Cropland", "F096FF"),
        (50, "built_up", "Built-up", "FA0000"), (60, "bare", "Bare / sparse vegetation", "B4B4B4"),
        (70, "snow_ice", "Snow and ice", "F0F0F0"), (80, "water", "Permanent water bodies", "0064C8"),
        (90, "wetland", "Herbaceous wetland", "0096A0"), (95, "mangroves", "Mangroves", "00CF75"),
        (100, "moss_lichen", "Moss and lichen", "FAE6A0"),
    )
)  # fmt: skip
COVER_INDEX: Mapping[str, int] = MappingProxyType({cover.name: i for i, cover in enumerate(COVERS)})

# Spectra in DN in the order of BANDS. "S2-100K <tile>" is the median over a real tile of S2-100K (Klemmer et al. 2023,
# SatCLIP; MIT; contains modified Copernicus Sentinel data 2021-2023), "greenest" and "barest" over the 15 % of its
# pixels of highest and lowest NDVI, offset removed. "Ours" is our own approximation of typical reflectance, not measured.
_CLOSED_FOREST = (243, 243, 427, 281, 732, 1695, 1973, 2098, 2235, 2215, 1413, 657)  # S2-100K 502692 (Zambia), greenest
_LEAFLESS_FOREST = (330, 400, 580, 720, 1050, 1350, 1500, 1650, 1800, 1850, 2050, 1350)  # ours
_NEEDLE_FOREST = (200, 215, 360, 250, 560, 1250, 1480, 1560, 1660, 1700, 980, 470)  # ours
_DRY_SHRUB = (631, 1040, 1792, 2730, 3041, 3253, 3405, 3584, 3658, 3683, 4340, 3694)  # S2-100K 33188 (Arizona)
_GREEN_SHRUB = (
    354,
    443,
    672,
    670,
    1174,
    2046,
    2332,
    2458,
    2601,
    2615,
    2283,
    1407,
)  # S2-100K 766272 (Australia), greenest
_DRY_GRASS = (336, 599, 939, 1474, 1835, 2263, 2461, 2736, 2720, 2744, 3774, 3001)  # S2-100K 275979 (Australia)
_GREEN_GRASS = (346, 356, 582, 379, 922, 2867, 3405, 3506, 3560, 3478, 1773, 858)  # S2-100K 61808 (China), greenest
_FALLOW = (525, 698, 1002, 1556, 1987, 2525, 2756, 2708, 2851, 2857, 3560, 3261)  # S2-100K 57755 (Brazil), barest
_GREEN_CROP = (359, 303, 709, 556, 1356, 3514, 4185, 4388, 4430, 4358, 2326, 1353)  # S2-100K 70975 (Tunisia), greenest
_BUILT_UP = (950, 1150, 1330, 1480, 1620, 1780, 1900, 2000, 2080, 2150, 2350, 2050)  # ours
_SAND = (1500, 1924, 2898, 3964, 4416, 4462, 4582, 4708, 4733, 4810, 6302, 5831)  # S2-100K 759128 (Libya)
_ROCK = (680, 860, 1100, 1290, 1430, 1560, 1660, 1760, 1850, 1900, 2500, 2250)  # ours
_SNOW = (9743, 9544, 9408, 9080, 9374, 8828, 8105, 7616, 7457, 7541, 183, 208)  # S2-100K 25630 (Greenland)
_WATER = (420, 400, 430, 290, 260, 200, 190, 170, 150, 160, 90, 70)  # ours: inland, slightly turbid
_MARSH = (330, 380, 560, 540, 860, 1350, 1560, 1640, 1720, 1750, 1350, 750)  # ours
_GREEN_MARSH = (300, 320, 540, 400, 860, 1950, 2300, 2400, 2500, 2500, 1400, 700)  # ours
_MANGROVE = (260, 270, 440, 300, 720, 1750, 2100, 2220, 2330, 2330, 950, 420)  # ours
_LICHEN = (560, 700, 960, 1150, 1420, 1700, 1850, 1980, 2080, 2120, 2500, 1850)  # ours
_GREEN_MOSS = (380, 430, 680, 640, 1080, 1850, 2150, 2260, 2380, 2380, 1900, 1050)  # ours

_PAIRS: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]] = MappingProxyType({
    "tree_cover": (_LEAFLESS_FOREST, _CLOSED_FOREST), "shrubland": (_DRY_SHRUB, _GREEN_SHRUB),
    "grassland": (_DRY_GRASS, _GREEN_GRASS), "cropland": (_FALLOW, _GREEN_CROP), "built_up": (_BUILT_UP, _GREEN_SHRUB),
    "bare": (_ROCK, _ROCK), "snow_ice": (_SNOW, _SNOW), "water": (_WATER, _WATER), "wetland": (_MARSH, _GREEN_MARSH),
    "mangroves": (_MANGROVE, _MANGROVE), "moss_lichen": (_LICHEN, _GREEN_MOSS),
})  # fmt: skip

SNOW_DN = np.array(_SNOW, np.float32)
# Ours: thick cloud is bright and nearly grey, darker in the short-wave infrared and in the water-vapour band B09.
CLOUD_DN = np.array((7600, 7500, 7300, 7400, 7500, 7500, 7500, 7450, 7400, 5600, 4600, 3600), np.float32)

# Ours: the tint of bare ground by continent (factor at 443 nm, factor at 2200 nm, linear in log wavelength between).
_SOIL_TINT: Mapping[str, tuple[float, float]] = MappingProxyType({
    "Africa": (0.78, 1.12), "Asia": (1.10, 1.00), "Europe": (0.90, 0.80),
    "North America": (1.05, 0.92), "Oceania": (0.62, 1.10), "South America": (0.72, 0.95),
})  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Spectra:
    """End members of each land cover: ``dormant`` and ``green``, both (cover, band) float32 DN."""

    dormant: NDArray[np.float32]
    green: NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Season:
    """Ours: the year of a biome: mean greenness, swing, day of the northern peak, snow in winter or not."""

    level: float
    swing: float
    peak_day: int
    snow: bool = False


_SEASONS: Mapping[str, Season] = MappingProxyType(
    {
        world.MOIST: Season(level=0.90, swing=0.12, peak_day=250),
        world.DRY: Season(level=0.55, swing=0.65, peak_day=245),
        world.PINE: Season(level=0.65, swing=0.30, peak_day=240),
        world.BROADLEAF: Season(level=0.58, swing=0.75, peak_day=195),
        world.CONIFER: Season(level=0.60, swing=0.45, peak_day=195, snow=True),
        world.BOREAL: Season(level=0.50, swing=0.65, peak_day=198, snow=True),
        world.SAVANNA: Season(level=0.48, swing=0.70, peak_day=245),
        world.STEPPE: Season(level=0.42, swing=0.70, peak_day=165),
        world.FLOODED: Season(level=0.60, swing=0.45, peak_day=255),
        world.MONTANE: Season(level=0.35, swing=0.50, peak_day=215),
        world.TUNDRA: Season(level=0.32, swing=0.60, peak_day=205, snow=True),
        world.MEDITERRANEAN: Season(level=0.42, swing=0.50, peak_day=105),
        world.DESERT: Season(level=0.14, swing=0.14, peak_day=75),
        world.MANGROVE: Season(level=0.85, swing=0.10, peak_day=240),
    }
)
# Ours: (share of the biome's level, share of its swing) that a land cover follows.
_RESPONSE: Mapping[str, tuple[float, float]] = MappingProxyType({
    "tree_cover": (1.15, 0.65), "shrubland": (0.85, 0.6), "grassland": (1.0, 1.0), "cropland": (0.95, 1.15),
    "built_up": (0.35, 0.3), "wetland": (1.1, 0.7), "moss_lichen": (1.0, 0.9), "mangroves": (1.0, 0.5),
})  # fmt: skip


def spectra_of(*, continent: str, biome: str) -> Spectra:
    """The end members of the land covers at a place: forests by biome, bare ground tinted by continent."""
    dormant = np.array([_PAIRS[cover.name][0] for cover in COVERS], np.float32)
    green = np.array([_PAIRS[cover.name][1] for cover in COVERS], np.float32)
    if biome in (world.BOREAL, world.CONIFER, world.PINE):
        green[COVER_INDEX["tree_cover"]] = _NEEDLE_FOREST
        dormant[COVER_INDEX["tree_cover"]] = np.multiply(_NEEDLE_FOREST, 0.9)
    if biome in (world.BOREAL, world.CONIFER, world.TUNDRA, world.MONTANE):
        dormant[COVER_INDEX["shrubland"]], green[COVER_INDEX["shrubland"]] = _LICHEN, _GREEN_MOSS
    if biome in (world.DESERT, world.SAVANNA):
        dormant[COVER_INDEX["bare"]] = green[COVER_INDEX["bare"]] = _SAND
    tint = _soil_tint(continent)
    for name in ("bare", "shrubland", "grassland", "cropland"):
        dormant[COVER_INDEX[name]] *= tint
    return Spectra(dormant=dormant, green=green)


def greenness_at(*, biome: str, lat: float, day_of_year: int) -> NDArray[np.float32]:
    """How green each land cover is on that day, (cover,) within 0 (dormant) to 1 (full leaf)."""
    season = _SEASONS[biome]
    wave = season_wave(biome=biome, lat=lat, day_of_year=day_of_year) - 0.5
    green = [
        season.level * level + season.swing * swing * wave
        for level, swing in (_RESPONSE.get(cover.name, (0.0, 0.0)) for cover in COVERS)
    ]
    return np.clip(np.array(green, np.float32), 0, 1)


def season_wave(*, biome: str, lat: float, day_of_year: int) -> float:
    """The season of a biome, 0 at its low and 1 at its peak; half a year later in the southern hemisphere."""
    peak = _SEASONS[biome].peak_day + (0 if lat >= 0 else 182.5)
    return 0.5 * (1 + math.cos(2 * math.pi * (day_of_year - peak) / 365))


def snow_at(*, biome: str, lat: float, day_of_year: int) -> float:
    """Share of land under snow on that day, 0 to 0.9: winters of cold biomes, and of anywhere beyond 50 degrees."""
    if not (_SEASONS[biome].snow or abs(lat) > 50):
        return 0.0
    deepest = 0.45 if _SEASONS[biome].snow else 0.12
    wave = season_wave(biome=biome, lat=lat, day_of_year=day_of_year)
    return float(np.clip((deepest - wave) / deepest, 0, 0.9))


def _soil_tint(continent: str) -> NDArray[np.float32]:
    """Factor on bare ground by band, (band,)."""
    blue, infrared = _SOIL_TINT[continent]
    wavelength = np.log([band.centre_um for band in BANDS.values()])
    return np.interp(wavelength, wavelength[[0, -1]], [blue, infrared]).astype(np.float32)
