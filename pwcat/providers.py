"""Who serves scenes, and what is peculiar about each: one small record a provider.

A new provider is one more :class:`Provider` in :data:`PROVIDERS`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pystac_client
from pystac import STACError
from pystac_client.exceptions import APIError

from pwcat.errors import SourceError
from pwcat.gdal import forget_files

if TYPE_CHECKING:
    from pwcat.recipe import Source

__all__ = ["PROVIDERS", "OpenSource", "Provider", "ask", "open_source", "require_collection"]

# Common names of Sentinel-2's bands as Earth Search uses them for asset keys (STAC eo extension, common_name).
SENTINEL2_COMMON_NAMES: Mapping[str, str] = {
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


@dataclass(frozen=True, kw_only=True)
class Provider:
    """What is known of a provider before it is asked.

    Attributes:
        url: the STAC API's root, where it has a fixed one.
        band_assets: asset key of each band, where the key is not the band's own name.
        offset_applied_property: item property that is true where the +1000 offset was already removed by the provider.
    """

    url: str | None = None
    band_assets: Mapping[str, str] = field(default_factory=dict)
    offset_applied_property: str | None = None


PROVIDERS: dict[str, Provider] = {
    "archive": Provider(),
    "stac": Provider(),
    "earth-search": Provider(
        url="https://earth-search.aws.element84.com/v1",
        band_assets=SENTINEL2_COMMON_NAMES,
        offset_applied_property="earthsearch:boa_offset_applied",
    ),
}

ARCHIVE_SCHEME = "archive:"

# Collections that a message lists.
MOST_LISTED = 40


@dataclass(frozen=True, kw_only=True)
class OpenSource:
    """A source that answers now. Small and picklable: workers get a copy.

    Attributes:
        provider: name in :data:`PROVIDERS`.
        url: root of the STAC API, without a trailing slash.
        collection: the collection that the recipe names.
    """

    provider: str
    url: str
    collection: str

    def freeze(self, href: str) -> str:
        """The href as a plan keeps it: an archive's own files lose the address they were served at for the moment."""
        root = f"{self.url}/assets/"
        if self.provider == "archive" and href.startswith(root):
            return ARCHIVE_SCHEME + href.removeprefix(root)
        return href

    def sign(self, href: str) -> str:
        """The href as it can be read right now; the inverse of :meth:`freeze`."""
        if href.startswith(ARCHIVE_SCHEME):
            return f"{self.url}/assets/{href.removeprefix(ARCHIVE_SCHEME)}"
        return href

    def unsign(self, text: str) -> str:
        """A message without the address of the moment, so that the same fault reads the same in every run."""
        return text.replace(f"{self.url}/assets/", ARCHIVE_SCHEME) if self.provider == "archive" else text

    def band_asset(self, band: str, assets: Mapping[str, Any]) -> str:
        """The key of the asset that holds a band.

        Raises:
            SourceError: the item has no such asset; lists those it has.
        """
        aliased = PROVIDERS[self.provider].band_assets.get(band, band)
        for key in (aliased, band):
            if key in assets:
                return key
        raise SourceError(f"no asset for band {band!r} (looked for {aliased!r}); there are {', '.join(sorted(assets))}")

    def boa_offset(self, properties: Mapping[str, Any]) -> int:
        """DN to subtract so that reflectance is DN / 10000: 1000 from Sentinel-2 baseline 04.00 on, else 0.

        The rule is ESA's: products of processing baseline 04.00 and later carry ``BOA_ADD_OFFSET = -1000``. A scene
        without a baseline is left as it is.
        """
        flag = PROVIDERS[self.provider].offset_applied_property
        if flag is not None and properties.get(flag) is True:
            return 0
        baseline = properties.get("s2:processing_baseline")
        try:
            return 1000 if baseline is not None and float(str(baseline)) >= 4.0 else 0
        except ValueError:
            return 0


@contextmanager
def open_source(source: Source, *, base_dir: Path) -> Iterator[OpenSource]:
    """The source, ready to answer; an archive given as a folder is served on loopback for as long as this is open.

    Args:
        source: the recipe's.
        base_dir: the folder that a relative ``path`` starts from.

    Raises:
        SourceError: the archive's folder does not exist.
    """
    if source.path is None:
        url = source.url or PROVIDERS[source.provider].url
        assert url is not None, "the recipe's validator saw to it"
        yield OpenSource(provider=source.provider, url=url.rstrip("/"), collection=source.collection)
        return
    from pwcat.archive import serve_archive

    folder = (base_dir / source.path).resolve()
    if not (folder / "catalog.json").is_file():
        raise SourceError(
            f"{folder}: no archive there; make one with `pwcat archive synth {source.path}` or `archive add`"
        )
    with serve_archive(folder) as url:
        forget_files(url)  # a port is used again, by other archives, too
        yield OpenSource(provider=source.provider, url=url.rstrip("/"), collection=source.collection)


def ask(source: OpenSource, *, collection: str | None = None, **query: Any) -> Iterator[dict[str, Any]]:
    """Items of a collection as dicts, page by page.

    Raises:
        SourceError: the API does not answer, or refuses; so where it has no such collection, and says so.
    """
    try:
        client = pystac_client.Client.open(source.url)
        search = client.search(collections=[collection or source.collection], limit=250, **query)
        yield from search.items_as_dicts()
    except (APIError, OSError) as exc:
        if isinstance(exc, APIError):  # some refuse an unknown collection, others answer that they found nothing
            require_collection(source, collection)
        raise SourceError(f"{source.provider} ({source.url}) did not answer a search: {exc}") from exc


def require_collection(source: OpenSource, collection: str | None = None) -> None:
    """See that the source has the collection; by default its own. What cannot be asked counts as had.

    Raises:
        SourceError: it has not; names the close matches and all there are.
    """
    wanted, known = collection or source.collection, _collections(source)
    if known is None or wanted in known:
        return
    where = "the archive" if source.provider == "archive" else f"{source.provider} ({source.url})"
    folded = {name.casefold(): name for name in known}
    parts = [name for name in folded if wanted.casefold() in name]
    close = dict.fromkeys([*parts, *difflib.get_close_matches(wanted.casefold(), folded, n=3, cutoff=0.5)])
    hint = f"did you mean {' or '.join(repr(folded[name]) for name in [*close][:3])}? " if close else ""
    more = f", and {len(known) - MOST_LISTED:,} more" if len(known) > MOST_LISTED else ""
    listed = ", ".join(known[:MOST_LISTED]) + more if known else "none at all"
    raise SourceError(f"{where} has no collection {wanted!r}: {hint}It has {listed}")


def _collections(source: OpenSource) -> Sequence[str] | None:
    """Names of the source's collections, sorted; ``None`` where it does not list them."""
    try:
        client = pystac_client.Client.open(source.url)
        if not client.conforms_to("COLLECTIONS"):
            return None
        return sorted({collection.id for collection in client.get_collections()})
    except (APIError, OSError, STACError, KeyError):
        return None
