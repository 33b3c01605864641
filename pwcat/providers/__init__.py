"""Who serves scenes, and what is peculiar about each: one small record a provider and collection."""

from pwcat.providers.records import Band, Bits, Classes, Collection, Encoding, Offset, Provider
from pwcat.providers.register import PROVIDERS
from pwcat.providers.signing import Signing
from pwcat.providers.source import OpenSource, open_fallback, open_source

__all__ = [
    "PROVIDERS",
    "Band",
    "Bits",
    "Classes",
    "Collection",
    "Encoding",
    "Offset",
    "OpenSource",
    "Provider",
    "Signing",
    "open_fallback",
    "open_source",
]
