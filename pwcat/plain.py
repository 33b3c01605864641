"""Rasters of strangers, opened through GDAL: files of plain formats alone, which name no other files.

GDAL takes a file for what its first bytes say, whatever it is called: a VRT named ``.tif`` has it read any file of this
computer, or ask any server of its network. So may formats beside it (catalogues, services, HDF5 with its external data), and
the metadata of a GeoTIFF.
"""

from __future__ import annotations

from collections.abc import Sequence

import rasterio
from rasterio.errors import RasterioIOError

__all__ = ["DRIVERS", "PICTURES", "is_placed", "open_plain"]

# GDAL's names; those that are not there do not matter.
DRIVERS = ("GTiff", "JP2OpenJPEG", "JP2KAK", "JP2ECW", "JP2MrSID")

# Likewise plain, of pictures, which a file beside them may place.
PICTURES = ("PNG", "JPEG", "WEBP")

# Where metadata of a file name others: its overviews, and where its pixels lie.
_NAMING = {
    "OVERVIEWS": ("OVERVIEW_FILE",),
    "GEOLOCATION": ("X_DATASET", "Y_DATASET"),
}


def open_plain(href: str, *, drivers: Sequence[str] = DRIVERS) -> rasterio.DatasetReader:
    """A raster opened for reading, by the options of GDAL that hold.

    Args:
        href: as it can be read now.
        drivers: GDAL's names of formats that it may be of, plain ones.

    Raises:
        RasterioIOError: it cannot be opened, is of another format, or names other files.
    """
    raster = rasterio.DatasetReader(href, driver=list(drivers), sharing=False)
    for domain, keys in _NAMING.items():
        if named := [key for key in keys if key in raster.tags(ns=domain)]:
            raster.close()
            raise RasterioIOError(f"{href!r} is damaged: it names other files ({', '.join(named)}), which are not read")
    return raster


def is_placed(raster: rasterio.DatasetReader) -> bool:
    """Whether a raster's CRS is of the Earth: GDAL cannot warp from none, nor from that of a drawing."""
    return raster.crs is not None and (raster.crs.is_geographic or raster.crs.is_projected)
