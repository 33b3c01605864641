"""Sentinel-2's offset of 1000: which scenes carry it by their metadata, and whether their pixels agree.

From processing baseline 04.00 on, ESA adds 1000 to every number (``BOA_ADD_OFFSET = -1000`` in the product's metadata), so
that reflectance is ``(DN - 1000) / 10000``. Some providers have removed it and not said so, others say so and have not:
Element84/earth-search issues 9, 24, 66 and 71. A wrong belief shifts every reflectance by 0.1.

What pixels can tell, and what not:

- **Something dark shows that there is no offset.** With it, a number below 1000 is a negative reflectance, which atmospheric
  correction leaves to few pixels. Deep shade, water and, in the short-wave infrared, snow are dark almost everywhere.
- **Plants show that there is one.** The difference of near infrared and red knows nothing of an offset, and where it is large
  there are plants, which are dark in red: their red above 0.1 is not plants' but the offset's.
- **A bright scene without plants shows nothing**: desert without the offset looks like desert with it, and so does snow where
  no short-wave infrared is read.

The thresholds are from the twelve tiles of S2-100K in the tests' kit. Without the offset, the second percentile of the
darkest band is at most 460 in all but the desert (1295), and the tenth percentile of plants' red at most 577; with it they
are at least 1008 and 1039.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["OFFSET", "OffsetCheck", "boa_offset", "check_offset"]

# DN that ESA adds (BOA_ADD_OFFSET of the products' metadata, with its sign turned).
OFFSET = 1000
FIRST_BASELINE = 4.0

# The darkest band is judged by this percentile, not by its least: a few pixels may be anything.
DARK_PERCENTILE = 2.0
# Between the 460 of tiles without the offset and the 1008 of tiles with it; nearer to the latter, since correction leaves
# slightly negative reflectances over water and in shade.
DARK_BELOW = 800
# Pixels whose near infrared exceeds their red by 0.2 are plants; so many of them are needed.
PLANT_CONTRAST, PLANT_FRACTION, PLANT_PIXELS = 2000, 0.005, 50
PLANT_PERCENTILE = 10.0
# Between the 577 of plants without the offset and the 1039 of plants with it.
PLANT_ABOVE = 800
# Numbers up to this are no data (0), or were cut off there (1).
CUT_OFF = 1
FEWEST_PIXELS = 500


@dataclass(frozen=True, kw_only=True)
class OffsetCheck:
    """What the pixels of a scene say of its offset.

    Attributes:
        found: ``present`` or ``absent``; ``unknown`` where the pixels do not tell.
        expected_offset: DN that the metadata says were added.
        dark: DN at the second percentile of the darkest band; NaN without enough pixels.
        plants: DN at the tenth percentile of plants' red; NaN where no plants were seen.
    """

    found: Literal["present", "absent", "unknown"]
    expected_offset: int
    dark: float
    plants: float

    @property
    def suspect(self) -> bool:
        """Whether the pixels contradict the metadata. Nothing is corrected for that: a person is to look."""
        return self.found == ("absent" if self.expected_offset else "present")

    def __str__(self) -> str:
        said = f"metadata says an offset of {self.expected_offset}"
        if self.found == "absent":
            return f"{said}; pixels as dark as {self.dark:.0f} have none"
        if self.found == "present":
            return f"{said}; plants with a red of {self.plants:.0f} have one of {OFFSET}"
        return f"{said}; nothing dark and no plants were seen that could tell"


def boa_offset(properties: Mapping[str, Any], *, baseline: str, applied: str | None = None) -> int:
    """DN to subtract so that reflectance is DN / 10000: 1000 from Sentinel-2 baseline 04.00 on, else 0.

    A scene without a baseline is left as it is.

    Args:
        properties: of the item.
        baseline: name of the property with the processing baseline.
        applied: name of a property that is true where the provider has removed the offset.
    """
    if applied is not None and properties.get(applied) is True:
        return 0
    try:
        return OFFSET if float(str(properties.get(baseline))) >= FIRST_BASELINE else 0
    except ValueError:
        return 0


def check_offset(dn: NDArray[np.uint16], *, bands: Sequence[str], expected_offset: int) -> OffsetCheck:
    """Whether a scene's pixels carry the offset that its metadata says.

    Args:
        dn: ``(n, band, y, x)`` numbers as stored, of several chips of one scene; 0 is no data. The more, the surer.
        bands: Sentinel-2's names of the bands; without B04 and B08 an offset cannot be seen, only its absence.
        expected_offset: that the metadata says, 0 or 1000.

    Raises:
        ValueError: the array has not the bands that are named.
    """
    if dn.ndim != 4 or dn.shape[1] != len(bands):
        raise ValueError(f"dn is {dn.shape}, needs (n, {len(bands)}, y, x)")
    pixels = np.moveaxis(dn, 1, 0).reshape(len(bands), -1)
    dark = _darkest(pixels)
    plants = _red_of_plants(pixels, bands)
    found: Literal["present", "absent", "unknown"] = "unknown"
    if dark < DARK_BELOW:
        found = "absent"
    elif plants >= PLANT_ABOVE:
        found = "present"
    return OffsetCheck(found=found, expected_offset=expected_offset, dark=dark, plants=plants)


def _darkest(pixels: NDArray[np.uint16]) -> float:
    """Low percentile of the band that is darkest in it; NaN where no band has enough pixels."""
    valid = (band[band > CUT_OFF] for band in pixels)
    return min(
        (float(np.percentile(band, DARK_PERCENTILE)) for band in valid if band.size >= FEWEST_PIXELS), default=np.nan
    )


def _red_of_plants(pixels: NDArray[np.uint16], bands: Sequence[str]) -> float:
    """Low percentile of red where near infrared exceeds it by far; NaN where that is nowhere."""
    if not {"B04", "B08"} <= set(bands):
        return np.nan
    red, nir = (pixels[bands.index(name)].astype(np.int32) for name in ("B04", "B08"))
    valid = (red > CUT_OFF) & (nir > CUT_OFF)
    plants = red[valid & (nir - red >= PLANT_CONTRAST)]
    if plants.size < max(PLANT_PIXELS, PLANT_FRACTION * valid.sum()):
        return np.nan
    return float(np.percentile(plants, PLANT_PERCENTILE))
