"""Images of tiles: from a provider's collection, from local rasters, or from a folder of tiles."""

from pwcat.osm.imagery.offers import Imagery, Offer
from pwcat.osm.imagery.opening import open_imagery

__all__ = ["Imagery", "Offer", "open_imagery"]
