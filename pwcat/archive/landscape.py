"""Fractal landscapes: patches of land cover, fields, and the texture within them, from spectral synthesis.

Fractal fields are white noise filtered to a power spectrum ``1 / f ** beta`` (Saupe 1988, "Algorithms for random
fractals", in The Science of Fractal Images): the larger beta, the larger and smoother the patches.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from pwcat.archive import world
from pwcat.archive.spectra import COVER_INDEX

__all__ = ["Character", "Landscape", "character_of", "draw_landscape", "fractal_field", "smallest_fast_length"]


@dataclass(frozen=True, kw_only=True)
class Character:
    """Ours: how land is laid out on a continent.

    ``roughness`` is beta of the patches, ``field_px`` the width of a field in pixels and ``field_ratio`` its length over
    its width, ``richness`` scales how much spectra differ within a land cover, ``farmed`` and ``built`` scale those
    land covers' shares, ``rivers`` is the share of land that is river.
    """

    roughness: float
    field_px: float
    field_ratio: float
    richness: float
    farmed: float
    built: float
    rivers: float


_CHARACTERS: Mapping[str, Character] = MappingProxyType(
    {
        "Africa": Character(
            roughness=2.5, field_px=9, field_ratio=1.2, richness=0.8, farmed=0.7, built=0.6, rivers=0.004
        ),
        "Asia": Character(
            roughness=2.1, field_px=11, field_ratio=1.8, richness=1.2, farmed=1.3, built=1.5, rivers=0.010
        ),
        "Europe": Character(
            roughness=1.9, field_px=17, field_ratio=2.6, richness=1.5, farmed=2.0, built=1.9, rivers=0.008
        ),
        "North America": Character(
            roughness=2.3, field_px=42, field_ratio=1.0, richness=1.0, farmed=1.2, built=1.1, rivers=0.008
        ),
        "Oceania": Character(
            roughness=3.1, field_px=60, field_ratio=1.4, richness=0.5, farmed=0.4, built=0.5, rivers=0.003
        ),
        "South America": Character(
            roughness=2.7, field_px=30, field_ratio=1.6, richness=0.7, farmed=1.0, built=0.8, rivers=0.015
        ),
    }
)

# Ours: shares of land covers by biome before the continent bends them; they need not add to one.
_MIXES: Mapping[str, Mapping[str, float]] = MappingProxyType({
    world.MOIST: {
        "tree_cover": 0.72, "grassland": 0.10, "cropland": 0.10, "water": 0.04, "built_up": 0.02, "wetland": 0.02,
    },
    world.DRY: {
        "tree_cover": 0.35, "shrubland": 0.20, "grassland": 0.15, "cropland": 0.25, "built_up": 0.03, "water": 0.02,
    },
    world.PINE: {"tree_cover": 0.55, "grassland": 0.15, "cropland": 0.15, "shrubland": 0.12, "built_up": 0.03},
    world.BROADLEAF: {"tree_cover": 0.38, "cropland": 0.32, "grassland": 0.18, "built_up": 0.07, "water": 0.05},
    world.CONIFER: {
        "tree_cover": 0.62, "grassland": 0.18, "bare": 0.09, "water": 0.04, "cropland": 0.04, "snow_ice": 0.03,
    },
    world.BOREAL: {"tree_cover": 0.60, "wetland": 0.13, "water": 0.12, "grassland": 0.10, "shrubland": 0.05},
    world.SAVANNA: {
        "grassland": 0.40, "shrubland": 0.22, "tree_cover": 0.18, "cropland": 0.16, "water": 0.02, "built_up": 0.02,
    },
    world.STEPPE: {
        "grassland": 0.50, "cropland": 0.36, "shrubland": 0.06, "built_up": 0.03, "water": 0.03, "tree_cover": 0.02,
    },
    world.FLOODED: {"wetland": 0.42, "grassland": 0.28, "water": 0.17, "tree_cover": 0.11, "cropland": 0.02},
    world.MONTANE: {
        "grassland": 0.52, "bare": 0.22, "shrubland": 0.13, "cropland": 0.06, "snow_ice": 0.04, "water": 0.03,
    },
    world.TUNDRA: {
        "moss_lichen": 0.46, "grassland": 0.17, "water": 0.12, "wetland": 0.11, "bare": 0.11, "snow_ice": 0.03,
    },
    world.MEDITERRANEAN: {
        "shrubland": 0.30, "cropland": 0.32, "tree_cover": 0.20, "built_up": 0.07, "grassland": 0.09, "water": 0.02,
    },
    world.DESERT: {"bare": 0.72, "shrubland": 0.20, "grassland": 0.06, "cropland": 0.02},
    world.MANGROVE: {"mangroves": 0.48, "water": 0.27, "tree_cover": 0.10, "wetland": 0.10, "cropland": 0.05},
})  # fmt: skip
# Water lies in the smooth lows, then towns and fields take their ground, then the rest; the largest is what is left.
_ORDER = (
    "water", "snow_ice", "built_up", "cropland", "mangroves", "wetland", "bare", "shrubland", "moss_lichen",
    "grassland", "tree_cover",
)  # fmt: skip
_ROUGHER = MappingProxyType({"water": 0.5, "snow_ice": 0.3, "built_up": -0.2})


@dataclass(frozen=True, kw_only=True)
class Landscape:
    """The ground of one place on a square 10 m grid of ``n`` pixels; every field is (y, x), fields of zero mean.

    ``cover`` indexes :data:`pwcat.archive.spectra.COVERS`; ``brightness`` (log factor), ``greenness`` (added to that of
    the season), ``hue`` (log factor per unit of log wavelength) and ``relief`` vary within a land cover.
    """

    cover: NDArray[np.uint8]
    brightness: NDArray[np.float32]
    greenness: NDArray[np.float32]
    hue: NDArray[np.float32]
    relief: NDArray[np.float32]


def character_of(continent: str) -> Character:
    """How land is laid out on that continent."""
    return _CHARACTERS[continent]


def draw_landscape(rng: np.random.Generator, *, size_px: int, biome: str, character: Character) -> Landscape:
    """A landscape of that biome, laid out in that manner, on a grid of ``size_px`` pixels of 10 m."""
    relief = fractal_field(rng, size_px=size_px, beta=2.9)
    parcels = _parcels(rng, size_px, character)
    cover = _draw_cover(rng, relief, parcels, biome=biome, character=character)
    # each field has a crop and a soil of its own
    parcel_green, parcel_bright = rng.standard_normal((2, int(parcels.max()) + 1), dtype=np.float32)[:, parcels]
    farmed, built = cover == COVER_INDEX["cropland"], cover == COVER_INDEX["built_up"]
    calm = np.isin(cover, [COVER_INDEX["water"], COVER_INDEX["snow_ice"]])
    fine, middle = (fractal_field(rng, size_px=size_px, beta=beta) for beta in (0.9, 1.8))
    roofs = rng.standard_normal(cover.shape, dtype=np.float32)
    rich = character.richness
    brightness = 0.05 * fine + 0.07 * rich * middle + np.where(farmed, 0.10 * rich * parcel_bright, 0)
    brightness += np.where(built, 0.22 * roofs, 0)
    greenness = 0.03 * fine + 0.08 * rich * fractal_field(rng, size_px=size_px, beta=2.0)
    greenness = np.where(farmed, 0.03 * fine + 0.26 * parcel_green, greenness)
    hue = 0.10 * rich * fractal_field(rng, size_px=size_px, beta=2.4)
    return Landscape(
        cover=cover,
        brightness=np.where(calm, 0.25 * brightness, brightness).astype(np.float32),
        greenness=greenness.astype(np.float32),
        hue=np.where(calm, 0.3 * hue, hue).astype(np.float32),
        relief=relief,
    )


def fractal_field(rng: np.random.Generator, *, size_px: int, beta: float) -> NDArray[np.float32]:
    """A (size_px, size_px) fractal field of zero mean and unit variance with power spectrum ``1 / f ** beta``."""
    n = smallest_fast_length(size_px)
    frequency = np.hypot(np.fft.fftfreq(n)[:, None], np.fft.rfftfreq(n)[None, :]).astype(np.float32)
    frequency[0, 0] = np.inf  # no mean
    # In two dimensions the power in a ring grows with f, so that a 1/f**beta profile needs 1/f**(beta + 1) a cell.
    spectrum = np.fft.rfft2(rng.standard_normal((n, n), dtype=np.float32)) * frequency ** (-(beta + 1) / 2)
    field = np.fft.irfft2(spectrum, s=(n, n))[:size_px, :size_px].astype(np.float32)
    return (field - field.mean()) / field.std()


def smallest_fast_length(size_px: int) -> int:
    """The smallest length of at least ``size_px`` with no prime factor over 5, which FFTs like."""
    n = size_px
    while True:
        rest = n
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return n
        n += 1


def _draw_cover(
    rng: np.random.Generator,
    relief: NDArray[np.float32],
    parcels: NDArray[np.int64],
    *,
    biome: str,
    character: Character,
) -> NDArray[np.uint8]:
    """Land cover indices, (y, x): each cover in turn takes the top of its own fractal field, as much as its share."""
    n = relief.shape[0]
    shares = _shares(rng, biome, character)
    rest = max(shares, key=lambda name: shares[name])
    cover = np.full((n, n), COVER_INDEX[rest], np.uint8)
    free = np.ones((n, n), bool)
    for name in (name for name in _ORDER if name in shares and name != rest):
        field = fractal_field(rng, size_px=n, beta=character.roughness + _ROUGHER.get(name, 0.0))
        if name == "water":
            field = 0.6 * field - 0.8 * relief
        if name == "cropland":
            field = _by_parcel(field, parcels)
        count = min(int(shares[name] * n * n), int(free.sum()))
        if count:
            threshold = np.partition(field[free], -count)[-count]
            taken = free & (field >= threshold)
            cover[taken] = COVER_INDEX[name]
            free &= ~taken
    if biome not in (world.DESERT, world.MONTANE):
        river = np.abs(fractal_field(rng, size_px=n, beta=2.9))
        cover[river < np.quantile(river, character.rivers)] = COVER_INDEX["water"]
    return cover


def _shares(rng: np.random.Generator, biome: str, character: Character) -> dict[str, float]:
    """Shares of the land covers at one place, adding to one: the biome's, bent by the continent and by chance."""
    bent = {
        name: share
        * {"cropland": character.farmed, "built_up": character.built}.get(name, 1.0)
        * float(np.exp(0.35 * rng.standard_normal()))
        for name, share in _MIXES[biome].items()
    }
    total = sum(bent.values())
    return {name: share / total for name, share in bent.items()}


def _parcels(rng: np.random.Generator, n: int, character: Character) -> NDArray[np.int64]:
    """Numbers of fields, (y, x): a rotated grid whose rows are shifted against each other and whose lines waver."""
    angle = rng.uniform(0, np.pi / 2)
    y, x = np.mgrid[:n, :n].astype(np.float32)
    waver = 0.15 * character.field_px * fractal_field(rng, size_px=n, beta=2.8)
    u = x * np.cos(angle) + y * np.sin(angle) + 4 * n + waver
    v = y * np.cos(angle) - x * np.sin(angle) + 4 * n + waver
    row = (v / (character.field_px * character.field_ratio)).astype(np.int64)
    shift = rng.random(int(row.max()) + 1) * character.field_px
    column = ((u + shift[row]) / character.field_px).astype(np.int64)
    return np.unique(row * (column.max() + 1) + column, return_inverse=True)[1].reshape(n, n)


def _by_parcel(field: NDArray[np.float32], parcels: NDArray[np.int64]) -> NDArray[np.float32]:
    """The mean of a field over each parcel, (y, x), so that a parcel is of one kind."""
    sums = np.bincount(parcels.ravel(), weights=field.ravel())
    means = sums / np.bincount(parcels.ravel())
    return means[parcels].astype(np.float32)
