"""What Presto reads: seventeen numbers and a land cover class a month, in groups of which each is a token.

Source: Tseng et al. (2023), "Lightweight, Pre-trained Transformers for Remote Sensing Timeseries", section 3; shifts,
divisors and the order of the channels are those of its released code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pwcat.errors import TrainingError
from training.batch import Bands

__all__ = [
    "BANDS",
    "CHANNELS",
    "DYNAMIC_WORLD",
    "GROUND",
    "GROUND_GROUP",
    "GROUND_ROW",
    "NUM_CLASSES",
    "STEP_CHANNELS",
    "STEP_GROUPS",
    "Channel",
    "scalings",
]

Affine = tuple[float, float]

# From a unit of the data to that of a channel: value * factor + shift. A unit that is not here is refused.
REFLECTANCE: Mapping[str, Affine] = {"1": (1e4, 0.0)}
DECIBELS: Mapping[str, Affine] = {"dB": (1.0, 0.0)}
KELVIN: Mapping[str, Affine] = {"K": (1.0, 0.0), "°C": (1.0, 273.15), "degC": (1.0, 273.15)}
RAIN_M: Mapping[str, Affine] = {"m": (1.0, 0.0), "mm": (1e-3, 0.0), "cm": (1e-2, 0.0), "kg m-2": (1e-3, 0.0)}
METRES: Mapping[str, Affine] = {"m": (1.0, 0.0), "km": (1e3, 0.0), "cm": (1e-2, 0.0)}
DEGREES: Mapping[str, Affine] = dict.fromkeys(("degree", "degrees", "deg", "°"), (1.0, 0.0))

# A whole number that stands for a reflectance has a small scale; of an image without one, values would be in the thousands.
COARSEST_REFLECTANCE = 0.01


@dataclass(frozen=True, kw_only=True)
class Channel:
    """One of the numbers: ``(value + shift) / divisor`` of a band.

    Attributes:
        band: of the cube.
        shift: added to the value in the channel's unit.
        divisor: that the sum is divided by.
        units: those that a value may come in, and how it becomes the channel's.
    """

    band: str
    shift: float
    divisor: float
    units: Mapping[str, Affine]

    def scaling(self, *, scale: float, offset: float, unit: str) -> Affine:
        """Factor and summand that make a digital number this channel."""
        factor, summand = self.units[unit]
        return scale * factor / self.divisor, (offset * factor + summand + self.shift) / self.divisor


def _reflectance(*bands: str) -> list[Channel]:
    return [Channel(band=band, shift=0.0, divisor=1e4, units=REFLECTANCE) for band in bands]


# In the order of the released inputs; NDVI, the last of all, is computed.
CHANNELS: tuple[Channel, ...] = (
    Channel(band="VV", shift=25.0, divisor=25.0, units=DECIBELS),
    Channel(band="VH", shift=25.0, divisor=25.0, units=DECIBELS),
    *_reflectance("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12"),
    Channel(band="temperature_2m", shift=-272.15, divisor=35.0, units=KELVIN),
    Channel(band="total_precipitation", shift=0.0, divisor=0.03, units=RAIN_M),
    Channel(band="elevation", shift=0.0, divisor=2000.0, units=METRES),
    Channel(band="slope", shift=0.0, divisor=50.0, units=DEGREES),
)
DYNAMIC_WORLD = "dynamic_world"
NUM_CLASSES = 9  # of Dynamic World, 0 (water) to 8 (snow and ice); 9 stands for none
BANDS: tuple[str, ...] = (*(channel.band for channel in CHANNELS), DYNAMIC_WORLD)

# What the ground is has one token in all; everything else one a month.
GROUND: tuple[str, ...] = ("elevation", "slope")
STEP_CHANNELS: tuple[str, ...] = (*(c.band for c in CHANNELS if c.band not in GROUND), "NDVI")

# Channels of a month by group, under their names in the released weights, in the order of STEP_CHANNELS; Dynamic World's
# classes come behind them.
STEP_GROUPS: Mapping[str, tuple[str, ...]] = {
    "S1": ("VV", "VH"),
    "S2_RGB": ("B02", "B03", "B04"),
    "S2_Red_Edge": ("B05", "B06", "B07"),
    "S2_NIR_10m": ("B08",),
    "S2_NIR_20m": ("B8A",),
    "S2_SWIR": ("B11", "B12"),
    "ERA5": ("temperature_2m", "total_precipitation"),
    "NDVI": ("NDVI",),
}
GROUND_GROUP = "SRTM"
# Its row in the table of channel codes; before and behind it come the other groups, in the order above, Dynamic World the last.
GROUND_ROW = 7


def scalings(bands: Bands, *, only: Sequence[str] = BANDS) -> dict[str, Affine]:
    """How the digital numbers of each of these bands that is a channel become it: factor and summand.

    Raises:
        TrainingError: a band comes in a unit that cannot be converted; every such band is told.
    """
    known = {channel.band: channel for channel in CHANNELS if channel.band in only}
    told = {
        name: (scale, offset, unit)
        for name, scale, offset, unit in zip(bands.names, bands.scale, bands.offset, bands.unit, strict=True)
        if name in known
    }
    if faults := [fault for name, said in told.items() if (fault := _fault(known[name], *said))]:
        raise TrainingError(
            "Presto reads physical values and cannot convert these: "
            + "; ".join(faults)
            + ". Say scale, offset and unit in the recipe's `encode` (docs/sensors.md), or leave the band out (model.bands)"
        )
    return {
        name: known[name].scaling(scale=scale, offset=offset, unit=unit) for name, (scale, offset, unit) in told.items()
    }


def _fault(channel: Channel, scale: float, offset: float, unit: str) -> str:
    if unit not in channel.units:
        return f"{channel.band} is in {unit!r}, allowed is {' or '.join(map(repr, channel.units))}"
    if channel.units is REFLECTANCE and scale > COARSEST_REFLECTANCE:
        return f"{channel.band} is told as reflectance in steps of {scale:g}, where at most {COARSEST_REFLECTANCE:g} is one"
    return ""
