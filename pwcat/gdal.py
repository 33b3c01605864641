"""GDAL: its configuration for reading Cloud Optimized GeoTIFFs over HTTP, and the library itself, for what rasterio hides."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from typing import Any

__all__ = ["GDAL_OPTIONS", "forget_files", "loaded_gdal"]

# Twice as fast as GDAL's defaults: no listing of folders, no search for side files, the header in one request.
# Transient answers (429, 500, 503) are asked again by GDAL itself. A server that does not answer or hardly sends is given up.
GDAL_OPTIONS: Mapping[str, Any] = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_HTTP_MULTIRANGE": "YES",
    "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES",
    "GDAL_HTTP_MAX_RETRY": 4,
    "GDAL_HTTP_RETRY_DELAY": 0.5,
    "GDAL_HTTP_CONNECTTIMEOUT": 10,
    "GDAL_HTTP_TIMEOUT": 120,
    "GDAL_HTTP_LOW_SPEED_TIME": 20,
    "GDAL_HTTP_LOW_SPEED_LIMIT": 1000,
    "GDAL_INGESTED_BYTES_AT_OPEN": 32768,
    "CPL_VSIL_CURL_ALLOWED_EXTENSIONS": ".tif,.tiff,.TIF,.TIFF,.jp2,.j2k,.JP2,.J2K",
    "VSI_CACHE": True,
    # GDAL's 16 MB are fewer than the tiles that threads have under way: it would ask again for what it had
    "CPL_VSIL_CURL_CACHE_SIZE": 64 * 2**20,
}


def loaded_gdal() -> ctypes.CDLL | None:
    """The GDAL that rasterio has loaded, found through a library that is linked to it; ``None`` where that cannot be."""
    import rasterio._base

    return open_library(rasterio._base.__file__)


def open_library(path: str) -> ctypes.CDLL | None:
    """A shared library; ``None`` where it cannot be opened, as a Python module on Windows."""
    try:
        return ctypes.CDLL(path)
    except OSError:
        return None


def forget_files(url: str) -> None:
    """Make GDAL forget what it keeps of the files under an address: another server may answer there now.

    That goes for addresses of the web and of S3. With others nothing is done.
    """
    scheme, _, rest = url.partition("://")
    path = {"http": f"/vsicurl/{url}", "https": f"/vsicurl/{url}", "s3": f"/vsis3/{rest}"}.get(scheme)
    gdal = loaded_gdal() if path else None
    if gdal is None or path is None:
        return
    import rasterio

    # Where a bucket is hangs on no credentials: they are not to be looked for, at this machine's cloud, say
    unsigned = rasterio.Env(AWS_NO_SIGN_REQUEST="YES") if scheme == "s3" else nullcontext()
    with suppress(AttributeError), unsigned:
        gdal.VSICurlPartialClearCache(path.encode())
