"""Continents by land, not by sovereign: what Natural Earth's countries are made into, and every place where it matters.

Natural Earth gives each country one ``CONTINENT``: that of its capital. The rules below say where that is not the continent of
the land itself. Countries that lie on two continents are cut along :mod:`pwcat.regions.lines`, islands and exclaves go by
where they lie, and territories of the open ocean by their region in the UN's standard M49. Where no convention is settled the
attribute stands: the Caucasus follows the state borders (Armenia, Azerbaijan and Georgia are Asia), Cyprus is Asia, and
Madeira, Lampedusa and the islands of the eastern Aegean stay with Europe.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import geopandas as gpd
import numpy as np
import shapely
from numpy.typing import NDArray

from pwcat.errors import RegionError
from pwcat.regions.areas import polygons_km2
from pwcat.regions.lines import AFRICA_ASIA_SUEZ, ASIA_OCEANIA_LYDEKKER, EUROPE_ASIA_STRAITS, EUROPE_ASIA_URALS, Line
from pwcat.regions.vector import VectorLayer, vector_layer

__all__ = ["CONTINENTS", "Deviation", "Rule", "continents_by_land"]

CONTINENTS: Final = ("Africa", "Antarctica", "Asia", "Europe", "North America", "Oceania", "South America")

M49 = "UN M49"
FACTBOOK = "CIA World Factbook"

# Fields of Natural Earth's countries that are read, at any scale.
CODE, NAME, CONTINENT = "ADM0_A3", "NAME", "CONTINENT"


@dataclass(frozen=True, kw_only=True)
class Rule:
    """Land of one country that lies on another continent than its capital.

    Attributes:
        place: for people.
        continent: that it lies on.
        reason: the convention, and whose it is.
        area: where it is, EPSG:4326.
        cuts: whether land that crosses the area's edge is cut there; else an island or exclave goes as a whole, to where most
            of it lies.
    """

    place: str
    continent: str
    reason: str
    area: shapely.Geometry
    cuts: bool = False


@dataclass(frozen=True, kw_only=True)
class Deviation:
    """One place whose continent is not its country's attribute."""

    country: str
    place: str
    attribute: str
    continent: str
    area_km2: float
    reason: str


@dataclass
class _Piece:
    """A polygon on its way to its continent."""

    polygon: shapely.Polygon
    continent: str
    rule: Rule | None = field(default=None)


def _side(line: Line, *corners: tuple[float, float]) -> shapely.Polygon:
    """What lies between a line and the corners that lead back to its start."""
    return shapely.Polygon([*line, *corners])


def _box(west: float, south: float, east: float, north: float) -> shapely.Polygon:
    return shapely.box(west, south, east, north)


WORLD = _box(-180, -90, 180, 90)
EAST_OF_URALS = WORLD.difference(_side(EUROPE_ASIA_URALS, (10, 40), (10, 90)))
WEST_OF_URALS = _side(EUROPE_ASIA_URALS, (46, 40), (46, 52), (46, 90))
THRACE = _side(EUROPE_ASIA_STRAITS, (25, 42.5), (29.2, 42.5))
SINAI = _side(AFRICA_ASIA_SUEZ, (35.5, 28.5), (35.5, 31.8))
SAHUL = _side(ASIA_OCEANIA_LYDEKKER, (142, -11.5), (142, 4))

URALS = f"watershed of the Urals, Ural river, Caspian: National Geographic; {FACTBOOK}"

# By ADM0_A3. A rule that comes first is asked first.
RULES: Final[Mapping[str, tuple[Rule, ...]]] = {
    "RUS": (Rule(place="east of the Urals", continent="Asia", reason=URALS, area=EAST_OF_URALS, cuts=True),),
    "KAZ": (Rule(place="west of the Ural river", continent="Europe", reason=URALS, area=WEST_OF_URALS, cuts=True),),
    "TUR": (
        Rule(
            place="Eastern Thrace",
            continent="Europe",
            reason=f"west of the Bosporus and the Dardanelles: {FACTBOOK}",
            area=THRACE,
        ),
    ),
    "EGY": (
        Rule(
            place="Sinai",
            continent="Asia",
            reason=f"east of the Suez canal and gulf: {FACTBOOK}",
            area=SINAI,
            cuts=True,
        ),
    ),
    "IDN": (
        Rule(
            place="New Guinea, Raja Ampat, Aru",
            continent="Oceania",
            reason="east of Lydekker's line, on the Sahul shelf",
            area=SAHUL,
        ),
    ),
    "FRA": (
        Rule(
            place="French Guiana",
            continent="South America",
            reason=f"{M49}: South America",
            area=_box(-55.5, 1.5, -51, 6.5),
        ),
        Rule(
            place="Guadeloupe, Martinique",
            continent="North America",
            reason=f"{M49}: Caribbean",
            area=_box(-64, 13.5, -60, 18.5),
        ),
        Rule(
            place="Mayotte, Réunion",
            continent="Africa",
            reason=f"{M49}: Eastern Africa",
            area=_box(44, -23, 57, -11),
        ),
    ),
    "USA": (
        Rule(
            place="Hawaii",
            continent="Oceania",
            reason="Polynesia, as M49 counts its neighbours",
            area=_box(-180, 18, -154, 29),
        ),
    ),
    "UMI": (
        Rule(
            place="Navassa",
            continent="North America",
            reason="an island of the Caribbean",
            area=_box(-76, 18, -74.5, 19),
        ),
        Rule(place="islands of the Pacific", continent="Oceania", reason=f"{M49}: Micronesia", area=WORLD),
    ),
    "CHL": (
        Rule(
            place="Easter Island, Salas y Gómez",
            continent="Oceania",
            reason=f"Polynesia: {FACTBOOK}",
            area=_box(-110.5, -28, -104.5, -25.5),
        ),
    ),
    "ESP": (
        Rule(
            place="Canary Islands",
            continent="Africa",
            reason="on Africa's shelf, off its coast",
            area=_box(-19, 27, -13, 30),
        ),
        Rule(
            place="Ceuta, Melilla, the islets before them",
            continent="Africa",
            reason="on the coast of Africa",
            area=shapely.union_all([_box(-5.45, 35.8, -5.2, 35.95), _box(-4.4, 35.1, -2.3, 35.4)]),
        ),
    ),
    "NLD": (
        Rule(
            place="Bonaire, Saba, Sint Eustatius",
            continent="North America",
            reason=f"{M49}: Caribbean",
            area=_box(-69, 11.5, -62.5, 18),
        ),
    ),
    "COL": (
        Rule(
            place="San Andrés, Providencia",
            continent="North America",
            reason="islands of the western Caribbean, before Nicaragua",
            area=_box(-83, 11.5, -78, 16.5),
        ),
    ),
    "VEN": (
        Rule(
            place="Isla de Aves",
            continent="North America",
            reason="an island of the Lesser Antilles",
            area=_box(-64, 15.3, -63, 16),
        ),
    ),
    "NOR": (
        Rule(
            place="Bouvet Island",
            continent="South America",
            reason=f"{M49}: South America",
            area=_box(2.5, -55, 4.5, -53.5),
        ),
    ),
    "ATF": (Rule(place="the whole territory", continent="Africa", reason=f"{M49}: Eastern Africa", area=WORLD),),
    "IOT": (Rule(place="the whole territory", continent="Africa", reason=f"{M49}: Eastern Africa", area=WORLD),),
    "MUS": (Rule(place="the whole country", continent="Africa", reason=f"{M49}: Eastern Africa", area=WORLD),),
    "SYC": (Rule(place="the whole country", continent="Africa", reason=f"{M49}: Eastern Africa", area=WORLD),),
    "SHN": (Rule(place="the whole territory", continent="Africa", reason=f"{M49}: Western Africa", area=WORLD),),
    "MDV": (Rule(place="the whole country", continent="Asia", reason=f"{M49}: Southern Asia", area=WORLD),),
    "HMD": (
        Rule(place="the whole territory", continent="Oceania", reason=f"{M49}: Australia and New Zealand", area=WORLD),
    ),
    "SGS": (Rule(place="the whole territory", continent="South America", reason=f"{M49}: South America", area=WORLD),),
    "CLP": (
        Rule(
            place="the whole territory",
            continent="North America",
            reason=f"not in M49; before Mexico: {FACTBOOK}",
            area=WORLD,
        ),
    ),
}


def continents_by_land(
    frame: gpd.GeoDataFrame, *, name: str, source: str, path: Path
) -> tuple[VectorLayer, list[Deviation]]:
    """Natural Earth's countries as a layer of the seven continents, and every place that is not what its country says.

    Args:
        frame: admin-0 countries of any scale, EPSG:4326.
        name: of the layer.
        source: for the record.
        path: of the file, for messages.

    Raises:
        RegionError: it is not Natural Earth's table of countries.
    """
    frame = frame.rename(columns={column: column.upper() for column in frame.columns if column != frame.geometry.name})
    lacking = [column for column in (CODE, NAME, CONTINENT) if column not in frame.columns]
    if lacking:
        raise RegionError(
            f"regions.{name}: {path} is no table of Natural Earth's countries: it has no {', '.join(lacking)}"
        )
    frame = frame.assign(ROW=np.arange(len(frame)).astype(str))
    parts = vector_layer(frame, name=name, source=source, field="ROW", path=path)
    rows = parts.class_of.astype(np.int64)
    codes, attributes = (frame[column].to_numpy(dtype=object)[rows] for column in (CODE, CONTINENT))
    pieces = [
        [*_pieces(polygon, continent=attribute, rules=RULES.get(code, ()))]
        for polygon, code, attribute in zip(parts.polygons, codes, attributes, strict=True)
    ]
    _settle([piece for group in pieces for piece in group])
    layer = VectorLayer(
        name=name,
        source=source,
        class_of=_objects([piece.continent for group in pieces for piece in group]),
        polygons=_objects([piece.polygon for group in pieces for piece in group]),
    )
    countries = frame[NAME].to_numpy(dtype=object)[rows]
    return layer, _deviations(pieces, countries=countries, attributes=attributes)


def _pieces(polygon: shapely.Polygon, *, continent: str, rules: tuple[Rule, ...]) -> list[_Piece]:
    """A polygon of a country, cut or told by the first rule that applies to it."""
    for rule in rules:
        if not rule.area.intersects(polygon):
            continue
        inside = rule.area.intersection(polygon)
        if rule.cuts and not rule.area.contains(polygon):
            outside = polygon.difference(rule.area)
            moved = [_Piece(part, rule.continent, rule) for part in _polygons(inside)]
            return moved + [_Piece(part, continent) for part in _polygons(outside)]
        if inside.area > polygon.area / 2:
            return [_Piece(polygon, rule.continent, rule)]
    return [_Piece(polygon, continent)]


def _polygons(geometry: shapely.Geometry) -> list[shapely.Polygon]:
    """The polygons of what a cut left; lines and points where it only touches are nothing."""
    return [part for part in shapely.get_parts(shapely.get_parts([geometry])) if isinstance(part, shapely.Polygon)]


def _settle(pieces: list[_Piece]) -> None:
    """Give the pieces of territories without a continent, and of no rule, that of the nearest land."""
    lost = [piece for piece in pieces if piece.continent not in CONTINENTS]
    known = [piece for piece in pieces if piece.continent in CONTINENTS]
    if not lost or not known:
        return
    tree = shapely.STRtree([piece.polygon for piece in known])
    for piece in lost:
        piece.continent = known[int(tree.nearest(piece.polygon))].continent
        piece.rule = Rule(
            place="the whole territory", continent=piece.continent, reason="no rule: as the nearest land", area=WORLD
        )


def _deviations(
    pieces: list[list[_Piece]], *, countries: NDArray[np.object_], attributes: NDArray[np.object_]
) -> list[Deviation]:
    areas: dict[tuple[str, str, str, str, str], float] = {}
    for group, country, attribute in zip(pieces, countries, attributes, strict=True):
        for piece in group:
            if piece.rule is not None and piece.continent != attribute:
                key = (country, piece.rule.place, attribute, piece.continent, piece.rule.reason)
                areas[key] = areas.get(key, 0.0) + float(polygons_km2(_objects([piece.polygon]))[0])
    rows = [
        Deviation(country=key[0], place=key[1], attribute=key[2], continent=key[3], reason=key[4], area_km2=area)
        for key, area in areas.items()
    ]
    return sorted(rows, key=lambda row: (-row.area_km2, row.country, row.place))


def _objects(values: list[object]) -> NDArray[np.object_]:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array
