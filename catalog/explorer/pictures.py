"""Chips as pictures: true and false colour as PNG, stretched alike so that they compare, and the spectrum of a chip."""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pwcat.cube import Cube

__all__ = ["COMPOSITES", "Composite", "composites_of", "encode_png", "render", "scaling_of", "spectrum"]

NODATA = 0
GAMMA = 0.6  # brightens what is dark: forest and water reflect a tenth of what bare ground does
PICTURE_SCALE = 1 / 255  # of images of 8 bits
TOLERANCE_NM = 60.0  # how far a band may lie from the wavelength that stands for a colour
PERCENTILES = (10, 50, 90)


@dataclass(frozen=True, kw_only=True)
class Composite:
    """Three bands as red, green and blue.

    Attributes:
        name: in addresses.
        title: for people.
        wavelengths_nm: wanted of red, green and blue.
        bands: names of Sentinel-2's, and common names, in order of preference, for cubes that give no wavelengths.
        brightest: reflectance shown at full brightness, of each: where the usual pictures of Sentinel-2 end.
    """

    name: str
    title: str
    wavelengths_nm: tuple[float, float, float]
    bands: tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]
    brightest: tuple[float, float, float]


_BLUE, _GREEN, _RED = ("B02", "blue", "b"), ("B03", "green", "g"), ("B04", "red", "r")
_NIR, _SWIR = ("B08", "B8A", "nir", "nir08"), ("B11", "swir16", "swir1")
COMPOSITES = (
    Composite(
        name="true",
        title="True colour",
        wavelengths_nm=(665, 560, 490),
        bands=(_RED, _GREEN, _BLUE),
        brightest=(0.3, 0.3, 0.3),
    ),
    Composite(
        name="infrared",
        title="False colour: near infrared, red, green",
        wavelengths_nm=(840, 665, 560),
        bands=(_NIR, _RED, _GREEN),
        brightest=(0.4, 0.4, 0.4),
    ),
    Composite(
        name="shortwave",
        title="False colour: shortwave infrared, near infrared, red",
        wavelengths_nm=(1610, 840, 665),
        bands=(_SWIR, _NIR, _RED),
        brightest=(0.5, 0.5, 0.5),
    ),
)


def composites_of(cube: Cube) -> dict[str, tuple[int, int, int]]:
    """Which composites a cube has the bands for, and which bands they are, by number."""
    names = [name.lower() for name in cube.bands][cube.main]
    stored = cube.stored("wavelength_nm")
    waves = np.full(len(names), np.nan) if stored is None else np.asarray(stored, dtype=np.float64)[cube.main]
    found = {}
    for composite in COMPOSITES:
        bands = [_find(names, waves, *wanted) for wanted in zip(composite.bands, composite.wavelengths_nm, strict=True)]
        if None not in bands:
            found[composite.name] = (bands[0], bands[1], bands[2])
    return found  # type: ignore[return-value]


def _find(
    names: Sequence[str], waves_nm: NDArray[np.float64], known: Sequence[str], wavelength_nm: float
) -> int | None:
    for name in known:
        if name.lower() in names:
            return names.index(name.lower())
    distance = np.abs(np.nan_to_num(waves_nm, nan=np.inf) - wavelength_nm)
    nearest = int(np.argmin(distance)) if len(distance) else -1
    return nearest if nearest >= 0 and distance[nearest] <= TOLERANCE_NM else None


def render(
    chip_BHW: NDArray[np.uint16],
    *,
    composite: Composite,
    bands: Sequence[int],
    scale: float,
    offset: float = 0.0,
    step: int = 1,
) -> NDArray[np.uint8]:
    """A chip as red, green, blue and opacity, ``(H, W, 4)``: pixels without data are clear.

    Every chip is stretched alike, from reflectance 0 to the composite's brightest, with one gamma. Images of 8 bits are
    pictures already, and shown as they are.

    Args:
        chip_BHW: all bands of one date.
        composite: which one.
        bands: numbers of its three bands.
        scale: reflectance is ``DN * scale + offset``.
        offset: see ``scale``.
        step: every so many pixels alone.
    """
    shown = chip_BHW[list(bands), ::step, ::step]
    reflectance = shown * np.float32(scale) + np.float32(offset)
    is_picture = math.isclose(scale, PICTURE_SCALE, rel_tol=1e-6)
    top = np.array((1, 1, 1) if is_picture else composite.brightest, dtype=np.float32)[:, None, None]
    levels = np.clip(reflectance / top, 0, 1) ** (1.0 if is_picture else GAMMA) * 255
    opaque = np.where((shown != NODATA).all(axis=0), 255, 0)
    return np.concatenate([levels.round(), opaque[None]]).astype(np.uint8).transpose(1, 2, 0)


def encode_png(pixels_HWC: NDArray[np.uint8]) -> bytes:
    """A PNG of ``(H, W, 3)`` or ``(H, W, 4)``: W3C, Portable Network Graphics (third edition), sections 5 and 11.

    Each row is filtered by the row above (filter 2), which suits chips; pictures without clear pixels are kept without opacity.
    """
    if pixels_HWC.shape[2] == 4 and bool((pixels_HWC[..., 3] == 255).all()):
        pixels_HWC = pixels_HWC[..., :3]
    height, width, channels = pixels_HWC.shape
    rows = np.ascontiguousarray(pixels_HWC).reshape(height, width * channels)
    above = np.vstack([np.zeros_like(rows[:1]), rows[:-1]])
    filtered = np.column_stack([np.full(height, 2, np.uint8), rows - above])
    header = struct.pack(">IIBBBBB", width, height, 8, 6 if channels == 4 else 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(filtered.tobytes(), 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def spectrum(chip_TBHW: NDArray[np.uint16], cube: Cube) -> list[list[dict[str, Any]]]:
    """For each date, for each band of the main source: its name, wavelength (nm), and percentiles of its reflectance.

    No-data pixels are not counted; a band without any data has ``None``.
    """
    stored = cube.stored("wavelength_nm")
    waves = [None] * len(cube.bands) if stored is None else [None if np.isnan(w) else float(w) for w in stored]
    scale, offset = scaling_of(cube)
    count = len(cube.bands[cube.main])
    return [
        [
            {"band": cube.bands[band], "wavelength_nm": waves[band], **_percentiles(date[band], scale, offset)}
            for band in range(count)
        ]
        for date in chip_TBHW
    ]


def scaling_of(cube: Cube) -> tuple[float, float]:
    """Scale and offset that make reflectance of a cube's numbers; Sentinel-2's where it tells none."""
    return float(cube.attrs.get("scale", 1e-4)), float(cube.attrs.get("offset", 0.0))


def _percentiles(band_HW: NDArray[np.uint16], scale: float, offset: float) -> dict[str, float | None]:
    valid = band_HW[band_HW != NODATA]
    if not len(valid):
        return {f"p{p}": None for p in PERCENTILES}
    values = np.percentile(valid, PERCENTILES) * scale + offset
    return {f"p{p}": round(float(value), 4) for p, value in zip(PERCENTILES, values, strict=True)}
