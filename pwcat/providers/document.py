"""What a recipe says of a source."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from pwcat.document import Document
from pwcat.providers.naming import name_source
from pwcat.providers.redaction import bare
from pwcat.providers.register import PROVIDERS

__all__ = ["Source", "public_url"]


def public_url(url: str, info: ValidationInfo) -> str:
    """An address of a recipe that may be shown to anybody; where the recipe is of a plan made before, as it was written.

    Raises:
        ValueError: it has a login, a query or a fragment.
    """
    kept = (info.context or {}).get("planned", False)
    if not kept and bare(url) != url:
        raise ValueError(
            "a recipe is published, so that its addresses have no user, password, query or fragment; "
            "a user and password can stand in ~/.netrc"
        )
    return url


class Source(Document):
    """Where scenes come from: a provider by name, and one collection of it."""

    provider: str = Field(description=f"one of {', '.join(PROVIDERS)}")
    collection: str = Field(min_length=1)
    url: str | None = Field(None, description="the STAC API; needed for `stac`, known for the others")
    path: str | None = Field(
        None, description="`archive` only: the folder, relative to the recipe; it is served while needed"
    )
    search: Literal["auto", "api", "snapshot"] = Field(
        "auto",
        description="where scenes are looked for: the API, the collection's GeoParquet, or what the provider prefers",
    )
    allow_private: bool = Field(
        False, description="whether its files may be on this computer or its network, as no public source's are"
    )
    requests_per_s: float | None = Field(
        None,
        gt=0,
        description="that its files are asked for, by all workers together; what is known to be borne otherwise",
    )
    fallback: list[Source] = Field(
        default_factory=list,
        description="sources of the same acquisitions, tried in this order where it cannot serve one",
    )

    @property
    def name(self) -> str:
        """What it is called in ledgers and reasons; see :func:`pwcat.providers.naming.name_source`."""
        return name_source(self.provider, self.collection, url=self.url, path=self.path)

    @field_validator("url")
    @classmethod
    def _public(cls, url: str | None, info: ValidationInfo) -> str | None:
        return None if url is None else public_url(url, info)

    @field_validator("fallback")
    @classmethod
    def _side_by_side(cls, fallback: list[Source]) -> list[Source]:
        if any(other.fallback for other in fallback):
            raise ValueError("a source of `fallback` has a `fallback` of its own: list them all side by side")
        return fallback

    @field_validator("provider")
    @classmethod
    def _known(cls, provider: str) -> str:
        if provider not in PROVIDERS:
            raise ValueError(f"unknown provider {provider!r}: choose one of {', '.join(PROVIDERS)}")
        return provider

    @field_validator("path")
    @classmethod
    def _found_somewhere(cls, path: str | None, info: ValidationInfo) -> str | None:
        if not {"provider", "url"} <= info.data.keys():
            return path
        provider, url = info.data["provider"], info.data["url"]
        if provider == "archive" and (url is None) == (path is None):
            raise ValueError("an archive needs either `path` (a folder) or `url` (where it is served)")
        if provider != "archive" and path is not None:
            raise ValueError("`path` is for the provider `archive`")
        if url is None and path is None and PROVIDERS[provider].url is None:
            raise ValueError(f"provider {provider!r} needs a `url`")
        return path
