"""What all collections of Sentinel-2's level 2A have in common.

Sources: names, sampling and classes of the Sentinel-2 Products Specification Document (ESA, level 2A, SCL in table 3);
the reflectance's factor and ``BOA_ADD_OFFSET`` of the products' own metadata (``MTD_MSIL2A.xml``).
"""

from __future__ import annotations

from collections.abc import Callable

from pwcat.providers.records import Band, Classes, Collection

__all__ = ["ALIASES", "GSD_M", "SCALE", "collection", "scl"]

# Names of the bands in the STAC eo extension, made distinct as Earth Search makes them: there are three red edges.
ALIASES = {
    "B01": "coastal",
    "B02": "blue",
    "B03": "green",
    "B04": "red",
    "B05": "rededge1",
    "B06": "rededge2",
    "B07": "rededge3",
    "B08": "nir",
    "B8A": "nir08",
    "B09": "nir09",
    "B11": "swir16",
    "B12": "swir22",
}
GSD_M = {name: 10 if name in ("B02", "B03", "B04", "B08") else 60 if name in ("B01", "B09") else 20 for name in ALIASES}
SCALE = 1e-4


def scl(asset: str) -> Classes:
    """The scene classification; saturated pixels (1) count as no data, cirrus (10) as cloud."""
    return Classes(asset=asset, nodata=(0, 1), cloud=(8, 9, 10), shadow=(3,), snow=(11,))


def collection(*, asset: Callable[[str], str], quality: str, **more: object) -> Collection:
    """A collection of level 2A.

    Args:
        asset: key of a band's asset, from the band's name.
        quality: key of the scene classification's.
        more: of :class:`Collection`.
    """
    bands = tuple(Band(name=name, asset=asset(name), gsd_m=GSD_M[name], alias=alias) for name, alias in ALIASES.items())
    return Collection(bands=bands, dtype="uint16", scale=SCALE, nodata=0, quality=scl(quality), **more)  # type: ignore[arg-type]
