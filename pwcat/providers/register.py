"""All providers by name. A new one is one more record here."""

from __future__ import annotations

from pwcat.providers.copernicus import COPERNICUS
from pwcat.providers.earth_search import EARTH_SEARCH
from pwcat.providers.planetary_computer import PLANETARY_COMPUTER
from pwcat.providers.records import Collection, Offset, Provider
from pwcat.providers.sentinel2 import scl

__all__ = ["PROVIDERS"]

# Of a STAC API that nothing is known of: assets are named after their bands or say which they hold.
_PLAIN = Collection(offset=Offset(), quality=scl("SCL"), geoparquet="geoparquet-items")

PROVIDERS: dict[str, Provider] = {
    "archive": Provider(other=_PLAIN, page_size=500),
    "stac": Provider(other=_PLAIN),
    "earth-search": EARTH_SEARCH,
    "planetary-computer": PLANETARY_COMPUTER,
    "copernicus": COPERNICUS,
}
