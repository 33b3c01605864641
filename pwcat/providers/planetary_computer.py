"""The Planetary Computer, of Microsoft, on Azure. Hrefs are signed.

Sources: the recorded collections, items and pages that rustac, odc-stac and stac-geoparquet ship (keys, grids,
``geoparquet-items`` with its storage account, ``s2:processing_baseline``); the `planetary-computer` package 1.0.0 (the
token's endpoint, which hosts are signed); microsoft/PlanetaryComputer issues 163 (items repeated across pages), 191
(egress over the account's limit), 427 (a user banned for load), 457 and 476 (429 and failing searches). Bands, units and nodata
of ``sentinel-1-rtc``, ``landsat-c2-l2``, ``cop-dem-glo-30`` and ``esa-worldcover`` are those of the collections' pages and
of their products' handbooks (USGS LSDS-1619 for Landsat's scale, offset and QA_PIXEL). A storage account is made for 20,000
requests a second in all, and one file for 500 (Microsoft's "Scalability and performance targets for Blob storage").
"""

from __future__ import annotations

from pwcat.providers import sentinel2
from pwcat.providers.records import Band, Bits, Collection, Encoding, Offset, Provider
from pwcat.providers.signing import Signing

__all__ = ["PLANETARY_COMPUTER", "SAS"]

SAS = Signing(
    endpoint="https://planetarycomputer.microsoft.com/api/sas/v1/token",
    hosts=(".blob.core.windows.net",),
    public=("ai4edatasetspublicassets",),
)
ITEMS = "geoparquet-items"

# From -50 dB, below the noise of the instrument (-22 dB or so), to 15.5 dB, above all but the brightest corners of cities.
_BACKSCATTER = Encoding(scale=0.001, offset=-50.001, unit="dB", transform="decibel")
# From -1000 m, below every shore and mine, to 15,383 m, by a quarter of a metre: the model's own error is metres.
_ELEVATION = Encoding(scale=0.25, offset=-1000.25, unit="m")

_S2 = sentinel2.collection(
    id="sentinel-2-l2a",
    asset=str,
    quality="SCL",
    offset=Offset(),
    quirks="reprocessed products stand beside the old ones: one acquisition may be two items",
    geoparquet=ITEMS,
)
_S1 = Collection(
    id="sentinel-1-rtc",
    bands=tuple(
        Band(name=name.upper(), asset=name, gsd_m=10, alias=name, encoding=_BACKSCATTER)
        for name in ("vv", "vh", "hh", "hv")
    ),
    dtype="float32",
    unit="linear gamma nought",
    nodata=-32768,
    footprint="tile",
    quirks="scenes are as long as an orbit's slice, each on a grid of its own; not every scene has both polarisations",
    geoparquet=ITEMS,
)
_LANDSAT = Collection(
    id="landsat-c2-l2",
    bands=tuple(
        Band(name=name, asset=name, gsd_m=30)
        for name in ("coastal", "blue", "green", "red", "nir08", "swir16", "swir22")
    ),
    dtype="uint16",
    scale=2.75e-5,
    shift=-0.2,
    nodata=0,
    quality=Bits(asset="qa_pixel", nodata=(0,), cloud=(1, 2, 3), shadow=(4,), snow=(5,)),
    footprint="tile",
    quirks="Landsat 4 to 7 have no `coastal`; the surface temperature has a scale of its own and is not listed",
    geoparquet=ITEMS,
)
_DEM = Collection(
    id="cop-dem-glo-30",
    bands=(Band(name="data", asset="data", gsd_m=30, alias="elevation", encoding=_ELEVATION),),
    dtype="float32",
    unit="m",
    footprint="tile",
    quirks="grids are in degrees, coarser in longitude beyond 50°; no tile over open sea",
    geoparquet=ITEMS,
)
_WORLDCOVER = Collection(
    id="esa-worldcover",
    bands=(Band(name="map", asset="map", gsd_m=10, alias="landcover"),),
    dtype="uint8",
    unit="class",
    nodata=0,
    footprint="tile",
    quirks="grids are in degrees, tiles of 3°",
    geoparquet=ITEMS,
)
_NAIP = Collection(
    id="naip",
    bands=tuple(
        Band(name=name, asset="image", gsd_m=None, index=index)
        for index, name in enumerate(("red", "green", "blue", "nir"), start=1)
    ),
    dtype="uint8",
    footprint="tile",
    quirks="four bands in one file, at 0.3 to 1 m by state and year; tiles overlap; zones are those of NAD83",
    geoparquet=ITEMS,
)

PLANETARY_COMPUTER = Provider(
    url="https://planetarycomputer.microsoft.com/api/stac/v1",
    collections={record.id: record for record in (_S2, _S1, _LANDSAT, _DEM, _WORLDCOVER, _NAIP)},
    other=Collection(geoparquet=ITEMS),
    hosts=SAS.hosts,
    signing=SAS,
    requests_per_s=4,
    files_per_s=500,
    page_size=250,
    snapshot_first=True,
)
