"""The synthetic archive's earth: six continents, the 14 biomes, and the places where scenes lie.

The outlines are ours, drawn by hand from general geography, coarse (an error of one or two degrees is usual) and meant
for the synthetic archive only. The biomes carry the names of RESOLVE Ecoregions 2017 (Dinerstein et al. 2017), but their
outlines are our own simple boxes and bands of latitude. Real work uses real layers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

import numpy as np
import shapely
from shapely.geometry import MultiPolygon, Point, Polygon, box

__all__ = [
    "BIOMES",
    "CONTINENTS",
    "Place",
    "biome_shapes",
    "choose_places",
    "continent_shapes",
    "mgrs_square",
    "utm_epsg",
]

CONTINENTS = ("Africa", "Asia", "Europe", "North America", "Oceania", "South America")

MOIST = "Tropical & Subtropical Moist Broadleaf Forests"
DRY = "Tropical & Subtropical Dry Broadleaf Forests"
PINE = "Tropical & Subtropical Coniferous Forests"
BROADLEAF = "Temperate Broadleaf & Mixed Forests"
CONIFER = "Temperate Conifer Forests"
BOREAL = "Boreal Forests/Taiga"
SAVANNA = "Tropical & Subtropical Grasslands, Savannas & Shrublands"
STEPPE = "Temperate Grasslands, Savannas & Shrublands"
FLOODED = "Flooded Grasslands & Savannas"
MONTANE = "Montane Grasslands & Shrublands"
TUNDRA = "Tundra"
MEDITERRANEAN = "Mediterranean Forests, Woodlands & Scrub"
DESERT = "Deserts & Xeric Shrublands"
MANGROVE = "Mangroves"
BIOMES = (
    MOIST, DRY, PINE, BROADLEAF, CONIFER, BOREAL, SAVANNA, STEPPE, FLOODED, MONTANE, TUNDRA, MEDITERRANEAN, DESERT, MANGROVE
)  # fmt: skip

# Outlines as "lon lat" pairs, EPSG:4326, hand-drawn on the landward side of the coasts.
_OUTLINES: Mapping[str, tuple[str, ...]] = MappingProxyType({
    "Africa": (
        "-16.5 21,-16.6 14.7,-13 9.3,-8 5,-2 5.4,4 6.6,9 4.6,9.9 1,9.8 -2,12.6 -6,13.8 -11,12.2 -17,14.8 -23,16.8 -29,"
        "18.6 -33.8,22 -33.8,27 -33.2,30.5 -29.8,32.4 -26,34.8 -23.5,34.5 -20,39.5 -16,40 -10.5,38.8 -6.5,40.2 -2.8,"
        "44.5 1.9,50 11,44 10.4,42.6 12,39 15.5,36.8 19,35 24,32.2 29.6,31.5 31,25 31.3,20 30.5,15.3 31.8,10.2 34,"
        "9.8 36.8,0 35.6,-5.4 35.2,-9.2 31.5,-12.6 27.8",
        "44 -22,44.6 -17,48 -14.2,49.6 -15.8,47.2 -24.3,45.2 -25.1",
    ),
    "Asia": (
        "61 68.3,67 68.3,74 71,86 73.2,104 76,113 73.2,128 71.8,140 71.8,159 69.4,177 68.6,177 65,175 62.2,168 60.5,163 61,"
        "156 60,142 59.5,136 55.2,139.5 52.5,138.8 48,135.2 45,131 43.4,127.2 40.2,128.8 36.2,126.8 35,127 37.8,122 40.2,"
        "118.6 39.6,118.4 37.4,120.5 36.6,118.8 35,120.5 32,119.4 27.2,116.3 23.8,110.3 21.9,105.8 20.2,106.8 16.9,108.6 13,"
        "106.6 11,105 10.8,103 12.6,100.6 14.2,99.2 11,100 8.2,102.8 4.8,103.2 2,101.6 3.4,98.9 9,98.2 15,95.2 17.2,92.6 21.8,"
        "89.5 22.4,86.2 21,81.6 17.2,79.8 13.5,78.6 9.6,77.4 8.8,75 13.5,73.4 19,73.3 21.6,70.2 21.6,69.6 23.6,67.2 25.6,"
        "61.5 25.8,57.4 27.4,54 27.2,51.4 28.8,48.6 30.8,47.6 29.4,49 27,51 24.2,54.5 23.8,56 24.8,58.2 23.2,57 19,52 16.4,"
        "45 13.4,43.6 13.6,43 16.5,39.6 21.5,35.6 28,34.8 31.3,36.3 35.5,36.5 37.1,31 37.1,28 37.4,27 39.5,30 40.7,36 41,"
        "41.5 41,44.5 42,47 41.8,48.6 40.6,48.4 38.6,51.5 36.3,54.2 36.8,54.4 40,54.8 42.5,53.6 45.8,53.2 48.4,"
        "58.4 50.8,60.6 55",
        "109.8 1,110.6 -2.6,114.4 -3.4,116 -2,117.4 1,117.2 5.6,115.4 4.6,113.4 2.8",
        "97 4.4,100.6 1.6,103.4 -1,105.4 -4.8,103.6 -4.6,101.6 -2.4,99 1.6",
        "136.2 36,139.2 37.6,140.2 40.2,141.4 39.6,140.6 37,139.4 35.8,137 35.2,132.4 34.5,133 35.2",
    ),
    "Europe": (
        "-8.6 37.4,-8.3 42.8,-1.6 43.1,-0.9 46,-3.6 48.2,1.8 50,4.9 52.3,9 53.4,8.8 56.4,9.9 56,10.2 54,14.2 53.5,18.6 54,"
        "21.6 55.5,22 57.1,24.7 57.3,24.8 59,29.5 59.4,34 61.2,35.4 63.2,39 63.8,45 65.6,53 67.6,60 68.2,60 55,57.6 51.2,"
        "52 49.2,47.4 46.6,46.6 44.4,47 42.9,44.5 43,39.6 44.4,39 46.8,35 46.8,31 46.9,28.4 44.4,27.3 42.5,26.6 41.4,"
        "23.2 41,22.4 39,22.2 37.5,21.6 38.9,20 41.5,16.4 44,14 45.6,11.9 44.2,15.8 41.4,17.3 40.6,16 39.8,12.8 42,9.4 44.7,"
        "5 43.8,2.9 42.6,-0.4 40,-0.9 38.2,-2.2 37.2,-5.4 36.6",
        "6.6 58.9,6 61.5,10.6 63.6,15 67.2,20 69.2,27.8 70,32.4 68.8,38.5 67.2,32.6 66.6,33.4 64.6,31.4 62.8,29.4 61.4,26 60.8,"
        "22.8 60.8,22 62.4,25.4 64.6,22.2 66,17.6 62.8,16.8 60.8,17.2 59.4,16 57,14.2 56.2,13 56.3,12 58.6,9.6 59.3,8 58.6",
        "-4.6 50.5,0.6 51.2,1.1 52.6,-0.5 54,-2 55.5,-2.8 57.3,-4.8 58,-5 56.4,-3 55,-3.8 53,-4.2 51.9,-2.8 51.8",
    ),
    "North America": (
        "-163 62.4,-160 69.6,-150 69.9,-136 68.4,-125 68.8,-115 67.6,-100 67.2,-94 67.8,-94.6 61,-94.2 58.2,-86 54.8,-83 52.6,"
        "-79.8 51,-77.6 54,-76.2 57,-76.6 61.6,-70.6 60.4,-66 58.2,-62.4 56,-57.5 52.2,-60.6 50.8,-67 50.4,-70.2 48,-66 47.6,"
        "-67.6 45.4,-71 43.4,-72 42.2,-75 40.4,-77.6 37,-78.8 35,-81.8 31.8,-81.8 28.8,-80.9 26.2,-81.6 26.8,-82.2 29.2,"
        "-85 30.8,-89.5 30.9,-91.6 30.2,-94.6 30,-98 27.5,-98.2 22.5,-96.2 18.8,-92 17.8,-90.1 20.6,-88 20.6,-89 17.2,-86 15.3,"
        "-84.4 14.6,-84.4 11,-82.8 9.2,-85.2 10.6,-87 13.2,-92 15,-96 16.5,-101.6 18.6,-104.8 20.6,-106.4 24.2,-108.8 26.8,"
        "-112 30.6,-114.6 32.4,-116.6 32.9,-120 35.2,-123 39,-123.6 43,-123.4 46.6,-121.8 49,-126.4 52,-130 56,-136 60,"
        "-145 61.4,-151 62,-156.4 60,-161 60.8",
    ),
    "Oceania": (
        "114.4 -23,115 -28,116.2 -32,118.5 -34.3,123.5 -33.3,131 -31.1,135.4 -34,138.2 -32.4,139.6 -35.6,143.4 -38,147 -37.6,"
        "149.6 -36.8,151.8 -32.5,152.6 -27,149 -22,145.6 -18.6,144.4 -15.2,142.6 -12.4,142.2 -14.4,140.6 -18,135.8 -16,"
        "135.6 -12.8,132 -12.4,130.2 -14.6,126.2 -15,123.4 -18,119.4 -20.6",
        "137 -2.4,141 -3.2,144.6 -4.6,146.6 -6.8,148.6 -9.8,146 -8.2,143 -8.2,139.2 -7.6,138.8 -5.6,136.4 -4.2",
        "167.6 -45.6,170.8 -43.2,172.4 -41.6,172.2 -43.2,170.2 -45.6,168.6 -46.2",
        "174.6 -39.2,175.2 -37.8,177.6 -38.2,176.2 -39.6,175.4 -40.8",
    ),
    "South America": (
        "-76.6 7.8,-72 11,-68.5 10.4,-62.4 10,-58 5.9,-52 3.6,-51 0,-48 -1.6,-44 -3.4,-38.8 -4.6,-35.7 -6,-35.9 -9,-39 -13,"
        "-39.8 -17.5,-41.6 -21.4,-45.4 -22.9,-49.2 -26,-50 -28.8,-53.4 -32.4,-57.6 -33.2,-58.2 -37.4,-62.2 -38.2,-65.6 -42,"
        "-67.6 -45,-69.2 -49.5,-70.4 -51.6,-72.2 -51,-72.4 -47,-72.6 -41.5,-72.6 -38,-71 -32,-70 -25,-69.8 -18.4,-74.6 -14.8,"
        "-78 -9,-80.2 -5.2,-79.4 -2.4,-79.4 0.5,-77.1 3.5",
    ),
})  # fmt: skip

# Biomes as boxes "west south east north"; the first that covers a point wins, what none covers goes by latitude.
_BIOME_BOXES: tuple[tuple[str, str], ...] = (
    (MANGROVE, "88 21.5 92.5 22.6,4.5 4.2 8.5 5.6,-51.5 -1.2 -46 0.6,"
               "-81.6 25 -80 26.4,141 -13.4 144 -11,130.5 -13.2 136 -11.8"),
    (FLOODED, "-59 -20.5 -55 -16,29 6 32.5 10,21.5 -20.5 24 -18,-62 -36 -59 -33"),
    (MONTANE, "78 28.5 102 38,-72 -23 -65.5 -11,36.5 6.5 40.5 13.5,27 -31 30 -28,84 48 95 52,141 -6.6 146 -5"),
    (MEDITERRANEAN, "-10 36 3.5 41.5,10.5 36 18 43,19 36 28 41,-10 31 11 37.5,-123 32.5 -117 40,-73 -38 -70 -31,"
                    "114 -35.5 122 -30,17.5 -35 22 -31.5,34 31 37 37.5,135 -35.5 140 -33.5"),
    (PINE, "-109 22 -103.5 29,-100 16.5 -96 18.5,-88 13.5 -84 15.5"),
    (DRY, "73 14 83 25,-64 -20 -58 -14,-106 18 -99 22,97 15 104 20,43 -25 46.4 -14,-41 -16 -38 -8"),
    (MOIST, "-80 -14 -50 9,-50 -7 -44 1,-50 -30 -39 -13,8 -6 31 5.5,-14 4 4 8,92 5 110 28,73 8 77 16,109 -5 119 8,95 -6 107 6,"
            "47 -25 50 -12,132 -11 152 0,-97 8 -82 20,103 20 121 28,144 -20 147 -15,76 8 78 13"),
    (CONIFER, "-131 40 -113 57,-113 36 -105 46,98 26 104 32,5.5 44.5 14 47.6,88 50 98 55"),
    (DESERT, "-18 16 36 36,34 12 61 34,56 24 72 46,74 36 112 46,118 -32 142 -20,12 -31 21 -16,-118 24 -103 42,-72 -31 -68 -17,"
             "42 2 52 12,-42 -10 -37 -6,68 22 73 30"),
    (SAVANNA, "-18 4 42 16,10 -30 42 4,-60 -24 -40 -5,-70 3 -60 10,118 -21 150 -11,-63 -28 -57 -20"),
    (STEPPE, "-112 30 -96 54,28 44 95 53,112 41 126 50,-69 -40 -56 -30,-74 -52 -64 -40,142 -36 150 -28,25 -32 30 -27"),
    (BROADLEAF, "-97 30 -60 47.5,-12 43 60 58,108 27 147 46,140 -45 153 -24,165 -48 179 -34,-75 -52 -70 -38"),
)  # fmt: skip
# (south, north, biome) for what no box covers
_BIOME_BANDS = (
    (66.0, 90.0, TUNDRA),
    (50.0, 66.0, BOREAL),
    (35.0, 50.0, BROADLEAF),
    (-60.0, -35.0, BROADLEAF),
    (22.0, 35.0, DESERT),
    (-35.0, 22.0, SAVANNA),
)


@dataclass(frozen=True, kw_only=True)
class Place:
    """One place of the archive: where its scenes lie and what grows there (lon, lat in EPSG:4326)."""

    number: int
    lon: float
    lat: float
    continent: str
    biome: str
    held_out: bool

    @property
    def name(self) -> str:
        """A name that sorts, as ``p007``."""
        return f"p{self.number:03d}"


@cache
def continent_shapes() -> Mapping[str, MultiPolygon]:
    """Outlines of the six continents, EPSG:4326, coarse and ours."""
    return MappingProxyType(
        {
            name: MultiPolygon(
                [Polygon([tuple(map(float, pair.split())) for pair in ring.split(",")]) for ring in rings]
            )
            for name, rings in _OUTLINES.items()
        }
    )


@cache
def biome_shapes() -> Mapping[str, shapely.Geometry]:
    """Outlines of the 14 biomes, EPSG:4326, without overlap, covering the continents; coarse and ours."""
    land = shapely.union_all(list(continent_shapes().values()))
    parts: dict[str, list[shapely.Geometry]] = {name: [] for name in BIOMES}
    for name, boxes in _BIOME_BOXES:
        area = shapely.union_all([box(*map(float, one.split())) for one in boxes.split(",")])
        parts[name].append(_polygons(shapely.intersection(area, land)))
        land = shapely.difference(land, area)
    for south, north, name in _BIOME_BANDS:
        parts[name].append(_polygons(shapely.intersection(land, box(-180, south, 180, north))))
    return MappingProxyType({name: _polygons(shapely.union_all(shapes)) for name, shapes in parts.items()})


def choose_places(rng: np.random.Generator, *, per_continent: int, held_out: int) -> list[Place]:
    """Places on every continent, at least a degree apart: first ``per_continent`` to train on, then ``held_out``.

    Biomes are drawn by the root of their area on the continent, each once before one comes twice (the held-out places
    count apart), so that a handful of places spans them.
    """
    places: list[Place] = []
    for continent in CONTINENTS:
        for i in range(per_continent + held_out):
            test = i >= per_continent
            used = [place.biome for place in places if (place.continent, place.held_out) == (continent, test)]
            place = _draw_place(rng, continent, places, used, held_out=test)
            places.append(place)
    return places


def utm_epsg(*, lon: float, lat: float) -> int:
    """EPSG code of the WGS 84 / UTM zone of a point (326zz north, 327zz south)."""
    zone = min(int((lon + 180) // 6) + 1, 60)
    return (32600 if lat >= 0 else 32700) + zone


def mgrs_square(*, epsg: int, lat: float, easting: float, northing: float) -> str:
    """MGRS 100 km square of a UTM point, as ``33UUP``: the tile name of Sentinel-2.

    Letters after the military grid reference system (NGA.STND.0037), WGS 84 lettering.
    """
    zone = epsg % 100
    band = "CDEFGHJKLMNPQRSTUVWX"[min(max(math.floor((lat + 80) / 8), 0), 19)]
    column = ("STUVWXYZ", "ABCDEFGH", "JKLMNPQR")[zone % 3][int(easting // 100_000) - 1]
    row = "ABCDEFGHJKLMNPQRSTUV"[(int(northing // 100_000) + (0 if zone % 2 else 5)) % 20]
    return f"{zone:02d}{band}{column}{row}"


@cache
def _inland(continent: str, biome: str) -> shapely.Geometry:
    """The inner part of a biome on a continent, well off our outlines' coasts; empty where the biome is not there."""
    continental = shapely.buffer(continent_shapes()[continent], -0.5)
    return shapely.buffer(shapely.intersection(biome_shapes()[biome], continental), -0.1)


def _draw_place(
    rng: np.random.Generator, continent: str, places: list[Place], used: list[str], *, held_out: bool
) -> Place:
    areas = {name: float(_inland(continent, name).area) for name in BIOMES}
    least = min(used.count(name) for name, area in areas.items() if area > 0.2)
    weights = np.array([math.sqrt(areas[n]) if areas[n] > 0.2 and used.count(n) == least else 0.0 for n in BIOMES])
    for _ in range(1000):
        biome = BIOMES[int(rng.choice(len(BIOMES), p=weights / weights.sum()))]
        point = _draw_point(rng, _inland(continent, biome))
        if all(math.dist((point.x, point.y), (other.lon, other.lat)) > 1 for other in places):
            lon, lat = round(point.x, 4), round(point.y, 4)
            return Place(number=len(places), lon=lon, lat=lat, continent=continent, biome=biome, held_out=held_out)
    raise AssertionError(f"no room for another place in {continent}")


def _draw_point(rng: np.random.Generator, area: shapely.Geometry) -> Point:
    """A point of the area, uniform on the sphere."""
    west, south, east, north = area.bounds
    while True:
        lat = math.degrees(math.asin(rng.uniform(math.sin(math.radians(south)), math.sin(math.radians(north)))))
        point = Point(rng.uniform(west, east), lat)
        if area.contains(point):
            return point


def _polygons(geometry: shapely.Geometry) -> MultiPolygon:
    """The polygons of a geometry alone, without the lines and points that clipping leaves."""
    parts = [part for part in shapely.get_parts(geometry) if part.geom_type == "Polygon" and part.area > 0]
    flat = [piece for part in shapely.get_parts(geometry) for piece in shapely.get_parts(part)]
    return MultiPolygon(parts or [p for p in flat if p.geom_type == "Polygon"])
