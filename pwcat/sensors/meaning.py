"""What the cube's numbers of a sensor's band mean."""

from __future__ import annotations

import math

from pwcat.cube import SensorBand
from pwcat.providers.records import Collection
from pwcat.providers.register import PROVIDERS
from pwcat.recipe import Recipe
from pwcat.sensors.document import ELEVATION, SLOPE, Sensor, encoding_of

__all__ = ["sensor_bands"]


# What a provider's unlisted collections have in common is said of main sources; a sensor is anything.
_UNLISTED = Collection()


def sensor_bands(recipe: Recipe) -> list[SensorBand]:
    """The bands of all sensors of a recipe, in the cube's order."""
    return [_meaning(name, sensor, band) for name, sensor in recipe.sensors.items() for band in sensor.bands]


def _meaning(name: str, sensor: Sensor, band: str) -> SensorBand:
    """By the encoding; numbers that stay as they are mean what is known of the collection."""
    record = PROVIDERS[sensor.source.provider].collections.get(sensor.source.collection, _UNLISTED)
    known = record.band(band) or (record.band(ELEVATION) if band == SLOPE else None)
    gsd_m = known.gsd_m if known is not None and known.gsd_m else math.nan
    encoding = encoding_of(sensor, band)
    if encoding is None:
        return SensorBand(sensor=name, scale=record.scale, offset=record.shift, unit=record.unit, gsd_m=gsd_m)
    return SensorBand(sensor=name, scale=encoding.scale, offset=encoding.offset, unit=encoding.unit, gsd_m=gsd_m)
