"""How towns are built, named and seen on each continent; ours, after general knowledge, for the synthetic towns alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

__all__ = ["MANNERS", "Manner"]

Colour = tuple[float, float, float]  # of 255: red, green, blue


@dataclass(frozen=True, kw_only=True)
class Manner:
    """The manner of a continent.

    Attributes:
        block_m: usual distance of streets, metres.
        bend: how far streets leave the straight, metres.
        speeds: speed limits by ``highway``, as their tags say them.
        stems: words that streets are named after.
        streets: how a street's name is made of one.
        roofs: colours of small roofs.
        soil: colour of bare ground.
        green: colour of grass.
    """

    block_m: float
    bend: float
    speeds: Mapping[str, str]
    stems: tuple[str, ...]
    streets: tuple[str, ...]
    roofs: tuple[Colour, ...]
    soil: Colour
    green: Colour

    def name(self, rng: np.random.Generator) -> str:
        """A name of a street."""
        return str(rng.choice(self.streets)).format(rng.choice(self.stems))


def _speeds(motorway: str, trunk: str, secondary: str, tertiary: str, residential: str) -> Mapping[str, str]:
    classes = ("motorway", "primary", "secondary", "tertiary", "residential")
    return MappingProxyType(dict(zip(classes, (motorway, trunk, secondary, tertiary, residential), strict=True)))


MANNERS: Mapping[str, Manner] = MappingProxyType({
    "Africa": Manner(
        block_m=105, bend=26,
        speeds=_speeds("110", "80", "60", "50", "40"),
        stems=("السوق", "النيل", "du Marché", "de l'École", "Kenyatta", "Mandela", "Uhuru", "de l'Été", "Àṣà", "Ọ̀yọ́"),
        streets=("Rue {}", "Avenue {}", "شارع {}", "{} Road"),
        roofs=((178, 172, 160), (150, 92, 66), (196, 196, 190), (120, 110, 100)),
        soil=(176, 138, 102), green=(112, 118, 70),
    ),
    "Asia": Manner(
        block_m=95, bend=20,
        speeds=_speeds("100", "60", "50", "40", "30"),
        stems=("桜", "中央", "本町", "さくら", "बुद्ध", "शान्ति", "विश्व", "长江", "人民", "หลัก"),
        streets=("{}通り", "{} मार्ग", "{}路", "{} Road"),
        roofs=((92, 98, 112), (120, 120, 122), (150, 96, 80), (70, 92, 128)),
        soil=(158, 142, 118), green=(84, 112, 62),
    ),
    "Europe": Manner(
        block_m=120, bend=24,
        speeds=_speeds("130", "100", "70", "50", "30"),
        stems=("Linden", "Bahnhof", "Mühlen", "Kirch", "Gärtner", "Höhen", "Süd", "Wiesen", "Brücken", "Žižka"),
        streets=("{}straße", "{}weg", "{}allee", "Ulice {}"),
        roofs=((158, 86, 62), (140, 74, 56), (104, 92, 86), (84, 84, 90)),
        soil=(150, 132, 106), green=(90, 116, 64),
    ),
    "North America": Manner(
        block_m=130, bend=8,
        speeds=_speeds("65 mph", "50 mph", "40 mph", "35 mph", "25 mph"),
        stems=("Oak", "Maple", "Washington", "Peña", "Cañon", "Lincoln", "2nd", "5th", "Lake", "José"),
        streets=("{} Street", "{} Avenue", "{} Drive", "{} Lane"),
        roofs=((110, 106, 102), (86, 84, 84), (138, 124, 110), (168, 164, 158)),
        soil=(168, 150, 122), green=(96, 118, 68),
    ),
    "Oceania": Manner(
        block_m=140, bend=16,
        speeds=_speeds("110", "80", "60", "50", "40"),
        stems=("Kōwhai", "Mānuka", "Pōhutukawa", "Queen", "King", "Rātā", "Wattle", "Station"),
        streets=("{} Street", "{} Road", "{} Terrace", "{} Crescent"),
        roofs=((176, 180, 182), (146, 84, 66), (96, 100, 104), (120, 134, 120)),
        soil=(182, 132, 92), green=(116, 124, 76),
    ),
    "South America": Manner(
        block_m=108, bend=6,
        speeds=_speeds("110", "80", "60", "50", "40"),
        stems=("São João", "Açaí", "Bolívar", "da Conceição", "Ipê", "Ñandú", "Tupã", "San Martín", "Córdoba"),
        streets=("Rua {}", "Avenida {}", "Calle {}", "Travessa {}"),
        roofs=((172, 98, 68), (160, 84, 58), (140, 132, 124), (188, 184, 176)),
        soil=(170, 112, 76), green=(88, 122, 60),
    ),
})  # fmt: skip
