"""A source that answers now: what of a provider a build carries along, small and picklable."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pwcat.errors import SourceError
from pwcat.pixels.harmonise import boa_offset
from pwcat.providers.addresses import check_address
from pwcat.providers.document import Source
from pwcat.providers.guard import trust, watch
from pwcat.providers.naming import name_source
from pwcat.providers.records import Collection, Provider, asset_of_item
from pwcat.providers.redaction import strip_signature, unsign
from pwcat.providers.register import PROVIDERS
from pwcat.providers.reuse import forget_address
from pwcat.providers.signing import Signing, tokens_of

__all__ = ["OpenSource", "open_fallback", "open_source"]

ARCHIVE_SCHEME = "archive:"


@dataclass(frozen=True, kw_only=True)
class OpenSource:
    """A source that answers now. Small and picklable: workers get a copy, and have tokens of their own.

    Attributes:
        provider: name in :data:`PROVIDERS`.
        url: root of the STAC API, without a trailing slash.
        collection: the collection that the recipe names.
        allow_private: whether hrefs may lead to files of this computer and to addresses that are not public.
        search: how scenes are looked for; see :func:`pwcat.search.find_items`.
        signing: another way of signing than the provider's.
        files_per_s: requests a second that its files are asked for, of all workers together; ``None`` for no limit.
        path: of an archive's folder, as the recipe has it.
    """

    provider: str
    url: str
    collection: str
    allow_private: bool = False
    search: Literal["auto", "api", "snapshot"] = "auto"
    signing: Signing | None = None
    files_per_s: float | None = None
    path: str | None = None

    @property
    def name(self) -> str:
        """What it is called in ledgers and reasons; see :func:`pwcat.providers.naming.name_source`."""
        return name_source(self.provider, self.collection, url=self.url, path=self.path)

    @property
    def profile(self) -> Provider:
        """What is known of the provider."""
        return PROVIDERS[self.provider]

    @property
    def record(self) -> Collection:
        """What is known of the collection."""
        return self.profile.collection(self.collection)

    def freeze(self, href: str) -> str:
        """The href as a plan keeps it: unsigned, and an archive's own files without the address of the moment."""
        root = f"{self.url}/assets/"
        if self.provider == "archive" and href.startswith(root):
            return ARCHIVE_SCHEME + href.removeprefix(root)
        return strip_signature(href)

    def check(self, href: str, *, resolve: bool = True) -> None:
        """Refuse an href that leads to this computer or its network, unless it is an archive's own or that is allowed.

        Raises:
            SourceError: it is refused; says why.
        """
        if not self._trusts(href):
            check_address(href, resolve=resolve)

    def _trusts(self, href: str) -> bool:
        """Whether an href may lead anywhere."""
        own = self.provider == "archive" and href.startswith((ARCHIVE_SCHEME, f"{self.url}/"))
        return own or self.allow_private

    def sign(self, href: str) -> str:
        """The href as it can be read right now, with a token of this process where it needs one. Not to be kept.

        Connections for it are watched, unless it may lead anywhere or is on a host of the provider's own.

        Raises:
            SourceError: the address is refused, or no token can be had.
        """
        self.check(href)
        located, signing = self.locate(href), self._signing
        self.watch(located)
        return located if signing is None or located != href else tokens_of(signing).sign(href)

    def watch(self, href: str) -> None:
        """Have connections for a file of the web watched, or not; see :mod:`pwcat.providers.guard`."""
        if not href.startswith(("http://", "https://")):
            return
        if self._trusts(href) or self.profile.owns(href):
            trust(href)
        else:
            watch(href)

    def locate(self, href: str) -> str:
        """Where an href leads, without a token."""
        if self.provider == "archive" and href.startswith(ARCHIVE_SCHEME):
            return f"{self.url}/assets/{href.removeprefix(ARCHIVE_SCHEME)}"
        return href

    def forget(self, href: str) -> None:
        """Drop the token of an href that was refused, best given as it was signed; the next one is signed anew."""
        if self._signing is not None:
            tokens_of(self._signing).forget(href)

    def refused(self, href: str) -> str:
        """What to say of a file that a server refused to the end."""
        signing = self._signing
        signed = signing is not None and signing.container_of(self.locate(href)) is not None
        return f"{href}: the server refuses it (403)" + (", signed anew as well" if signed else "")

    @property
    def _signing(self) -> Signing | None:
        return self.signing or self.profile.signing

    def unsign(self, text: str) -> str:
        """A message without signatures and without the address of the moment: the same fault reads the same in every run."""
        if self.provider == "archive":
            text = text.replace(f"{self.url}/assets/", ARCHIVE_SCHEME)
        return unsign(text)

    def band_asset(self, band: str, assets: Mapping[str, Any]) -> str:
        """The key of the asset that holds a band, called by its name, its common name or that key.

        Raises:
            SourceError: the item has no such asset; lists those it has.
        """
        aliased = self.record.asset_of(band)
        for key in (aliased, band, asset_of_item(band, assets)):
            if key is not None and key in assets:
                return key
        raise SourceError(f"no asset for band {band!r} (looked for {aliased!r}); there are {', '.join(sorted(assets))}")

    def quality_asset(self, assets: Mapping[str, Any]) -> str:
        """The key of the asset that says what each pixel is.

        Raises:
            SourceError: none is known of the collection, or the item has no such asset.
        """
        quality = self.record.quality
        if quality is None:
            raise SourceError(f"no quality band is known of {self.collection} at {self.provider}")
        if quality.asset not in assets:
            raise SourceError(f"it has no quality band {quality.asset!r}; there are {', '.join(sorted(assets))}")
        return quality.asset

    def boa_offset(self, properties: Mapping[str, Any]) -> int:
        """DN to subtract so that reflectance is DN / 10000; see :func:`pwcat.pixels.harmonise.boa_offset`."""
        rule = self.record.offset
        return 0 if rule is None else boa_offset(properties, baseline=rule.baseline, applied=rule.applied)


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
        yield _opened(source, url)
        return
    from pwcat.archive import serve_archive

    folder = (base_dir / source.path).resolve()
    if not (folder / "catalog.json").is_file():
        raise SourceError(
            f"{folder}: no archive there; make one with `pwcat archive synth {source.path}` or `archive add`"
        )
    with serve_archive(folder) as url:
        forget_address(url)
        yield _opened(source, url)


@contextmanager
def open_fallback(source: Source, *, base_dir: Path) -> Iterator[tuple[OpenSource, ...]]:
    """The sources that a source falls back on, all ready to answer, in the recipe's order.

    Raises:
        SourceError: an archive's folder does not exist.
    """
    with ExitStack() as stack:
        yield tuple(stack.enter_context(open_source(other, base_dir=base_dir)) for other in source.fallback)


def _opened(source: Source, url: str) -> OpenSource:
    return OpenSource(
        provider=source.provider,
        url=url.rstrip("/"),
        collection=source.collection,
        allow_private=source.allow_private,
        search=source.search,
        files_per_s=source.requests_per_s or PROVIDERS[source.provider].files_per_s,
        path=source.path,
    )
