"""Earth Search v1, of Element 84, on AWS.

Sources: the collection and ten items of ``sentinel-2-c1-l2a`` that rustac ships (keys, ``raster:bands`` with offset -0.1,
``proj:epsg``); element84/earth-search issues 9, 24, 66 and 71 (metadata of ``sentinel-2-l2a`` that is wrong about the
offset, both ways) and 17 (an opaque 502 on large pages). Files are on S3, which answers at least 5,500 GETs a second under
one prefix (Amazon's "Best practices design patterns: optimizing Amazon S3 performance").
"""

from __future__ import annotations

from pwcat.providers import sentinel2
from pwcat.providers.records import Offset, Provider

__all__ = ["EARTH_SEARCH"]

_L2A = sentinel2.collection(
    id="sentinel-2-l2a",
    asset=sentinel2.ALIASES.__getitem__,
    quality="scl",
    offset=Offset(applied="earthsearch:boa_offset_applied"),
    quirks="some items are wrong about the offset, both ways; `sentinel-2-c1-l2a` is to be preferred",
)
_C1 = sentinel2.collection(
    id="sentinel-2-c1-l2a",
    asset=sentinel2.ALIASES.__getitem__,
    quality="scl",
    offset=Offset(applied="earthsearch:boa_offset_applied"),
    quirks="items say no `earthsearch:boa_offset_applied`: their numbers are as ESA made them",
)

EARTH_SEARCH = Provider(
    url="https://earth-search.aws.element84.com/v1",
    collections={record.id: record for record in (_C1, _L2A)},
    other=_L2A,
    hosts=("sentinel-cogs.s3.us-west-2.amazonaws.com", "e84-earth-search-sentinel-data.s3.us-west-2.amazonaws.com"),
    requests_per_s=5,
    files_per_s=1000,
    page_size=100,
)
