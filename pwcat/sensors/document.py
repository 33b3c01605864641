"""What a recipe says of a sensor beside the main source."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from pwcat.document import Document
from pwcat.providers.document import Source
from pwcat.providers.records import Collection, Encoding
from pwcat.providers.register import PROVIDERS

__all__ = ["ELEVATION", "SENSOR_NAME", "SLOPE", "Encode", "Sensor", "encoding_of", "no_mean", "sensor_faults"]

SENSOR_NAME = r"^[a-z][a-z0-9_]{0,30}$"

# The band that is computed, and the one that it is computed of.
SLOPE, ELEVATION = "slope", "elevation"
# From 0 to 90 degrees, by 0.002.
_SLOPE = Encoding(scale=0.002, offset=-0.002, unit="degree")


class Encode(Document):
    """How a band's numbers become the cube's: stored = round((value - offset) / scale), from 1 to 65535; 0 is no data."""

    scale: float = Field(gt=0, allow_inf_nan=False, description="of one step")
    offset: float = Field(allow_inf_nan=False, description="the value one `scale` below the least that can be kept")
    unit: str = Field("1", min_length=1, description="of the value")
    transform: Literal["linear", "decibel"] = Field(
        "linear", description="`decibel`: ten times the decimal logarithm is kept, of numbers above 0"
    )


class Sensor(Document):
    """A source beside the main one: its bands on the pixels of the main one's chips, from its scenes near each date."""

    source: Source
    bands: list[str] = Field(
        min_length=1, description=f"names, aliases or keys of assets; `{SLOPE}` where there is `{ELEVATION}`"
    )
    within_days: int | None = Field(
        None, ge=0, le=36_600, description="from a sample's date to a scene of it; any date where not given"
    )
    resampling: Literal["nearest", "bilinear"] = Field("bilinear", description="onto the chip's pixels")
    required: bool = Field(False, description="whether a sample that the sensor has nothing for is given up")
    encode: dict[str, Encode] = Field(
        default_factory=dict, description="by band, where nothing is known of the collection's, or another is wanted"
    )

    @field_validator("source")
    @classmethod
    def _alone(cls, source: Source) -> Source:
        if source.fallback:
            raise ValueError("the source of a sensor has no `fallback`: leave it out")
        return source

    @field_validator("bands")
    @classmethod
    def _distinct(cls, bands: list[str]) -> list[str]:
        if repeated := [band for band, count in Counter(bands).items() if count > 1]:
            raise ValueError(f"`bands` repeats {', '.join(repeated)}")
        return bands

    @field_validator("resampling")
    @classmethod
    def _of_its_numbers(cls, resampling: str, info: ValidationInfo) -> str:
        planned = (info.context or {}).get("planned", False)
        if resampling == "nearest" or planned or not {"source", "bands"} <= info.data.keys():
            return resampling
        record = _record(info.data["source"])
        if classes := [band for band in info.data["bands"] if _holds_classes(record, band)]:
            raise ValueError(no_mean(classes))
        return resampling

    @field_validator("encode")
    @classmethod
    def _of_its_bands(cls, encode: dict[str, Encode], info: ValidationInfo) -> dict[str, Encode]:
        if not {"source", "bands"} <= info.data.keys():
            return encode
        bands: list[str] = info.data["bands"]
        record = _record(info.data["source"])
        faults = [f"{band} is not among its bands, {', '.join(bands)}" for band in encode if band not in bands]
        for band in bands:
            if band == SLOPE and record.bands and not (record.band(SLOPE) or record.band(ELEVATION)):
                faults.append(f"`{SLOPE}` is computed of `{ELEVATION}`, which {record.id} does not have")
            elif record.dtype in ("float32", "float64") and band not in encode and _known(record, band) is None:
                faults.append(f"say how {band} becomes whole numbers: `{band}: {{scale: ..., offset: ...}}`")
        if faults:
            raise ValueError("; ".join(faults))
        return encode

    @property
    def static(self) -> bool:
        """Whether it is the same at every date."""
        return self.within_days is None


def encoding_of(sensor: Sensor, band: str) -> Encoding | None:
    """How numbers of a sensor's band become the cube's: as the recipe says, else as is known of the collection.

    ``None`` where neither says: whole numbers from 0 to 65535 then stay as they are.
    """
    said = sensor.encode.get(band)
    return _known(_record(sensor.source), band) if said is None else Encoding(**said.model_dump())


def no_mean(bands: Sequence[str]) -> str:
    """What is wrong with classes that would be interpolated."""
    hold = "holds" if len(bands) == 1 else "hold"
    return (
        f"{', '.join(bands)} {hold} classes or flags, and there is nothing between two of them: say `resampling: nearest`; "
        "bands to be interpolated are another sensor"
    )


def _holds_classes(record: Collection, band: str) -> bool:
    quality = {record.quality.asset} if record.quality is not None else set()
    return record.unit == "class" or bool(quality & {band, record.asset_of(band)})


def _record(source: Source) -> Collection:
    return PROVIDERS[source.provider].collection(source.collection)


def _known(record: Collection, band: str) -> Encoding | None:
    known = record.band(band)
    if known is None and band == SLOPE:
        return _SLOPE
    return None if known is None else known.encoding


def sensor_faults(document: Mapping[str, Any]) -> list[str]:
    """Bands of sensors that have the name of another of the cube; from a raw recipe, which may have other faults."""
    chip, sensors = document.get("chip"), document.get("sensors")
    if not isinstance(sensors, Mapping):
        return []
    owner = dict.fromkeys(_bands(chip), "chip.bands")
    faults = []
    for name, sensor in sensors.items():
        where = f"sensors.{name}.bands"
        for band in dict.fromkeys(_bands(sensor)):
            if band in owner:
                faults.append(f"{where}: {band} is in {owner[band]} already; a name stands for one band of the cube")
            else:
                owner[band] = where
    return faults


def _bands(part: Any) -> list[str]:
    bands = part.get("bands") if isinstance(part, Mapping) else None
    return [band for band in bands if isinstance(band, str)] if isinstance(bands, list) else []
