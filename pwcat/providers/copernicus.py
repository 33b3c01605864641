"""The Copernicus Data Space Ecosystem.

Sources: documentation.dataspace.copernicus.eu (the STAC catalogue at ``stac.dataspace.copernicus.eu/v1``; object store
``eodata`` at ``eodata.dataspace.copernicus.eu``, with keys of one's own); assets as recorded in public code
(``B04_10m``, ``SCL_20m``; ``s3://eodata/…_B04_10m.jp2``); the extension `processing`, whose ``processing:version`` is the
baseline there; e-sensing/sits issue 1560 (five requests a second, ``Retry-After: 2``) and Open-EO/openeo-geopyspark-driver
issue 1150 (ten); "Quotas and Limitations" there (2,000 requests a minute to the object store).

Files are JPEG 2000, and are read through GDAL's S3 with what stands in the environment: ``AWS_ACCESS_KEY_ID``,
``AWS_SECRET_ACCESS_KEY``, ``AWS_S3_ENDPOINT=eodata.dataspace.copernicus.eu`` and ``AWS_VIRTUAL_HOSTING=FALSE``.
"""

from __future__ import annotations

from pwcat.providers import sentinel2
from pwcat.providers.records import Offset, Provider

__all__ = ["COPERNICUS"]

_S2 = sentinel2.collection(
    id="sentinel-2-l2a",
    asset=lambda name: f"{name}_{sentinel2.GSD_M[name]}m",
    quality="SCL_20m",
    offset=Offset(baseline="processing:version"),
    files="jp2",
    quirks="bands stand at several samplings, `B02_20m` beside `B02_10m`: the native one is read unless the key is given",
)

COPERNICUS = Provider(
    url="https://stac.dataspace.copernicus.eu/v1",
    collections={_S2.id: _S2},
    requests_per_s=4,
    files_per_s=30,
    page_size=100,
)
