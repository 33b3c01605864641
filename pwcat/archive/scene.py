"""One synthetic Sentinel-2 scene: a landscape on a day, with its season, snow, clouds, haze and nodata strip.

Every band comes at its own ground sampling; the scene classification (SCL, 20 m) tells the truth about the clouds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from shapely.geometry import Polygon, box

from pwcat.archive.landscape import Landscape, fractal_field
from pwcat.archive.spectra import BANDS, CLOUD_DN, COVER_INDEX, SNOW_DN, Spectra

__all__ = ["CLOUD_CLASSES", "Scene", "Weather", "draw_weather", "render_scene"]

# Classes of the Sentinel-2 scene classification (Sen2Cor, L2A Algorithm Theoretical Basis Document).
SCL_NODATA, SCL_SHADOW, SCL_VEGETATION, SCL_BARE, SCL_WATER = 0, 3, 4, 5, 6
SCL_CLOUD_MEDIUM, SCL_CLOUD_HIGH, SCL_CIRRUS, SCL_SNOW = 8, 9, 10, 11
CLOUD_CLASSES = (SCL_CLOUD_MEDIUM, SCL_CLOUD_HIGH, SCL_CIRRUS)


@dataclass(frozen=True, kw_only=True)
class Weather:
    """What a day does to a scene: cloud and snow shares (0 to 1), haze (DN at 443 nm), light (factor), nodata corner.

    ``strip`` is None or the (nx, ny, d) of the half-plane ``nx * x + ny * y > d`` without data, x right and y down in
    shares of the scene's side.
    """

    cloud: float
    snow: float
    haze: float
    light: float
    strip: tuple[float, float, float] | None


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Pixels of a scene: DN uint16 by band, (y, x) at the band's ground sampling, ``scl`` uint8 at 20 m; 0 is nodata.

    ``cloud_cover`` is the percentage of valid SCL pixels in a cloud class; ``footprint`` is the valid part of the scene
    in shares of its side, x right and y down.
    """

    bands: Mapping[str, NDArray[np.uint16]]
    scl: NDArray[np.uint8]
    cloud_cover: float
    nodata_percentage: float
    footprint: Polygon


def draw_weather(rng: np.random.Generator, *, cloudy: bool, snow: float) -> Weather:
    """The weather of a day: mostly clear, or (``cloudy``) 30 to 95 % of cloud; one scene in eight has a nodata corner."""
    cloud = (
        rng.uniform(0.3, 0.95) if cloudy else float(rng.choice([0.0, rng.uniform(0, 0.04), rng.uniform(0.02, 0.14)]))
    )
    strip = None
    if rng.random() < 1 / 8:
        angle = rng.uniform(0.1, 0.4) * math.pi + rng.integers(4) * math.pi / 2
        nx, ny = math.cos(angle), math.sin(angle)
        reach = max(nx * x + ny * y for x in (0, 1) for y in (0, 1))
        strip = (nx, ny, reach - rng.uniform(0.15, 0.4))
    return Weather(cloud=cloud, snow=snow, haze=rng.uniform(0, 120), light=rng.uniform(0.95, 1.05), strip=strip)


def render_scene(
    rng: np.random.Generator,
    *,
    landscape: Landscape,
    spectra: Spectra,
    green: NDArray[np.float32],
    weather: Weather,
    size_px: int,
    offset: int,
) -> Scene:
    """The scene of a landscape on a day.

    Args:
        rng: Draws clouds and noise.
        landscape: The ground, on a grid of a multiple of 6 pixels of at least ``size_px``.
        spectra: End members of the land covers.
        green: Greenness of each land cover on that day, (cover,).
        weather: Clouds, snow, haze, light and nodata.
        size_px: Side of the scene in pixels of 10 m; coarser bands have ``ceil(size_px * 10 / gsd)``.
        offset: DN added to valid pixels: 1000 for processing baselines from 04.00 on, else 0.
    """
    n = landscape.cover.shape[0]
    cloud, shadow = _draw_clouds(rng, n // 2, weather.cloud)
    snow = _draw_snow(rng, landscape, weather.snow)
    mixture = np.clip(green[landscape.cover] + landscape.greenness * (green > 0.02)[landscape.cover], 0, 1)
    nodata = _nodata(n, size_px, weather.strip)
    gain = landscape.brightness + math.log(weather.light) + np.log1p(-0.55 * _enlarge(shadow, 2))
    alpha, snow_alpha = _enlarge(cloud, 2), snow * np.float32(0.92)
    reflectance: dict[str, NDArray[np.float32]] = {}
    bands: dict[str, NDArray[np.uint16]] = {}
    for i, band in enumerate(BANDS.values()):
        dormant, leafy = spectra.dormant[:, i][landscape.cover], spectra.green[:, i][landscape.cover]
        dn = dormant + (leafy - dormant) * mixture
        dn *= np.exp(gain + landscape.hue * np.float32(math.log(band.centre_um / 0.842)))
        dn += snow_alpha * (SNOW_DN[i] - dn)
        dn += np.float32(weather.haze * (0.443 / band.centre_um) ** 4)
        dn += alpha * (CLOUD_DN[i] * (1 + np.float32(0.12) * landscape.brightness) - dn)
        reflectance[band.name] = _shrink(dn, band.gsd_m // 10)
        bands[band.name] = _to_dn(rng, reflectance[band.name], nodata, band.gsd_m // 10, size_px, offset)
    scl = _classify(landscape, reflectance, cloud=cloud, shadow=shadow, snow=snow)
    half = math.ceil(size_px / 2)
    scl = np.where(_any_block(nodata, 2), SCL_NODATA, scl)[:half, :half].astype(np.uint8)
    valid = max(int((scl != SCL_NODATA).sum()), 1)
    return Scene(
        bands=bands,
        scl=scl,
        cloud_cover=round(100 * int(np.isin(scl, CLOUD_CLASSES).sum()) / valid, 6),
        nodata_percentage=round(100 * float(nodata[:size_px, :size_px].mean()), 6),
        footprint=_footprint(weather.strip),
    )


def _draw_clouds(rng: np.random.Generator, n: int, share: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Opacity of clouds and of their shadows at 20 m, two of (n, n) within 0 to 1; ``share`` of pixels have cloud."""
    if share <= 0:
        return np.zeros((n, n), np.float32), np.zeros((n, n), np.float32)
    field = fractal_field(rng, size_px=n, beta=2.3)
    edge = np.quantile(field, 1 - share)
    depth = np.clip((field - edge) / 0.9, 0, 1)
    opacity = np.where(field > edge, 0.25 + 0.75 * np.sqrt(depth), 0).astype(np.float32)
    shadow = np.roll(opacity, (-9, 14), (0, 1)) * (opacity == 0)
    return opacity, shadow.astype(np.float32)


def _draw_snow(rng: np.random.Generator, landscape: Landscape, share: float) -> NDArray[np.float32]:
    """Cover of snow at 10 m, (y, x) within 0 to 1: high and bare ground first, half as dense under trees, none on water."""
    if share <= 0:
        return np.zeros(landscape.cover.shape, np.float32)
    field = 0.8 * landscape.relief + 0.6 * fractal_field(rng, size_px=landscape.cover.shape[0], beta=1.8)
    snow = np.clip((field - np.quantile(field, 1 - share)) / 0.3, 0, 1)
    snow[landscape.cover == COVER_INDEX["water"]] = 0
    snow[landscape.cover == COVER_INDEX["tree_cover"]] *= 0.45
    return snow.astype(np.float32)


def _classify(
    landscape: Landscape,
    reflectance: Mapping[str, NDArray[np.float32]],
    *,
    cloud: NDArray[np.float32],
    shadow: NDArray[np.float32],
    snow: NDArray[np.float32],
) -> NDArray[np.uint8]:
    """Scene classification at 20 m of the whole grid, before nodata: clouds over shadow over what lies on the ground."""
    red, infrared = (_shrink(reflectance[name], 2) for name in ("B04", "B08"))
    ndvi = (infrared - red) / np.maximum(infrared + red, 1)
    frozen = np.maximum(_shrink(snow, 2), _shrink((landscape.cover == COVER_INDEX["snow_ice"]).astype(np.float32), 2))
    water = _shrink((landscape.cover == COVER_INDEX["water"]).astype(np.float32), 2)
    choices = [
        (cloud > 0.7, SCL_CLOUD_HIGH),
        (cloud > 0.4, SCL_CLOUD_MEDIUM),
        (cloud > 0, SCL_CIRRUS),
        (shadow > 0.3, SCL_SHADOW),
        (frozen > 0.4, SCL_SNOW),
        (water >= 0.5, SCL_WATER),
        (ndvi > 0.4, SCL_VEGETATION),
    ]
    return np.select([where for where, _ in choices], [value for _, value in choices], SCL_BARE).astype(np.uint8)


def _to_dn(
    rng: np.random.Generator,
    reflectance: NDArray[np.float32],
    nodata: NDArray[np.bool_],
    factor: int,
    size_px: int,
    offset: int,
) -> NDArray[np.uint16]:
    """DN as delivered, cropped to the scene: sensor noise, offset, at least 1, and 0 where there is no data."""
    side = math.ceil(size_px / factor)
    signal = reflectance[:side, :side]
    noise = rng.standard_normal(signal.shape, dtype=np.float32) * (
        4 + np.sqrt(np.maximum(signal, 0)) * np.float32(0.15)
    )
    dn = np.clip(np.rint(signal + noise), 1, 20_000).astype(np.uint16) + np.uint16(offset)
    dn[_any_block(nodata, factor)[:side, :side]] = 0
    return dn


def _nodata(n: int, size_px: int, strip: tuple[float, float, float] | None) -> NDArray[np.bool_]:
    """Where pixels of the 10 m grid have their centre beyond the strip's line, (n, n)."""
    if strip is None:
        return np.zeros((n, n), bool)
    nx, ny, d = strip
    centre = (np.arange(n) + 0.5) / size_px
    beyond: NDArray[np.bool_] = np.greater(nx * centre[None, :] + ny * centre[:, None], d)
    return beyond


def _footprint(strip: tuple[float, float, float] | None) -> Polygon:
    """The valid part of the unit square, x right and y down."""
    if strip is None:
        return box(0, 0, 1, 1)
    nx, ny, d = strip
    # a half-plane as a large rectangle: from the line, 4 sides inward and 4 along it to either side
    along, on_line = (-ny, nx), (nx * d, ny * d)
    ends = [(on_line[0] + s * 4 * along[0], on_line[1] + s * 4 * along[1]) for s in (-1, 1)]
    back = [(x - 4 * nx, y - 4 * ny) for x, y in reversed(ends)]
    return box(0, 0, 1, 1).intersection(Polygon([*ends, *back]))


def _shrink(field: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    """Means of blocks of ``factor`` by ``factor``, (y // factor, x // factor)."""
    if factor == 1:
        return field
    n = field.shape[0] // factor
    rows = field.reshape(n, factor, -1).sum(1)  # one axis at a time is several times faster than both
    return rows.reshape(n, n, factor).sum(2) / np.float32(factor * factor)


def _enlarge(field: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    """Each pixel repeated ``factor`` times along y and x."""
    return np.repeat(np.repeat(field, factor, 0), factor, 1)


def _any_block(mask: NDArray[np.bool_], factor: int) -> NDArray[np.bool_]:
    """Whether any pixel of a block of ``factor`` by ``factor`` is set."""
    if factor == 1:
        return mask
    n = mask.shape[0] // factor
    rows: NDArray[np.bool_] = np.any(mask.reshape(n, factor, -1), axis=1)
    blocks: NDArray[np.bool_] = np.any(rows.reshape(n, n, factor), axis=2)
    return blocks
