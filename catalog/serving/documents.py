"""What is answered: items, collections and pages with the addresses of this server in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode

from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response

from catalog.stac.features import Whereabouts

__all__ = ["GEOJSON", "JSON", "SCHEMA", "Addresses", "document", "link", "next_link"]

JSON, GEOJSON, SCHEMA = "application/json", "application/geo+json", "application/schema+json"


@dataclass(frozen=True, kw_only=True)
class Addresses:
    """Addresses of this server, as the client that asks knows it.

    Attributes:
        root: the landing page, without a slash at the end.
        elsewhere: folders of collections whose files are not served here, by name.
    """

    root: str
    elsewhere: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, request: Request, elsewhere: Mapping[str, str]) -> Addresses:
        """Those of the server that a request reached."""
        return cls(root=str(request.base_url).rstrip("/"), elsewhere=elsewhere)

    def collection(self, name: str) -> str:
        """A collection's document."""
        return f"{self.root}/collections/{quote(name, safe='')}"

    def item(self, name: str, item: str) -> str:
        """An item's document."""
        return f"{self.collection(name)}/items/{quote(item, safe='')}"

    def files(self, name: str) -> str:
        """The folder of a collection's files."""
        return self.elsewhere.get(name) or f"{self.collection(name)}/files"

    def whereabouts(self, name: str) -> Whereabouts:
        """Where items of a collection say that things are."""
        return Whereabouts(
            document=self.collection(name),
            folder=self.files(name),
            links=lambda item: [
                link("self", self.item(name, item), GEOJSON),
                link("parent", self.collection(name), JSON),
                link("root", f"{self.root}/", JSON),
            ],
        )

    def within_reach(self, item: dict[str, Any]) -> dict[str, Any]:
        """An item without the assets above its collection's folder, as of datasets added in place: they are not served here."""
        files = f"{self.files(item['collection'])}/"
        item["assets"] = {
            key: asset
            for key, asset in item["assets"].items()
            if asset["href"].startswith(files) or not asset["href"].startswith(f"{self.root}/")
        }
        return item

    def described(self, name: str, told: Mapping[str, Any]) -> dict[str, Any]:
        """A collection's document, with links and assets of this server."""
        here = self.collection(name)
        links = [
            link("self", here, JSON),
            link("root", f"{self.root}/", JSON),
            link("parent", f"{self.root}/", JSON),
            link("items", f"{here}/items", GEOJSON),
            link("http://www.opengis.net/def/rel/ogc/1.0/queryables", f"{here}/queryables", SCHEMA),
            link("http://www.opengis.net/def/rel/ogc/1.0/sortables", f"{here}/sortables", SCHEMA),
            *(one for one in told.get("links", ()) if "://" in one["href"]),
        ]
        assets = {
            key: {**asset, "href": self._found(name, asset["href"])} for key, asset in told.get("assets", {}).items()
        }
        return {**told, "id": name, "links": links, "assets": assets}

    def _found(self, name: str, href: str) -> str:
        return f"{self.files(name)}/{quote(href[2:])}" if href.startswith("./") else href


def link(rel: str, href: str, media_type: str, **more: Any) -> dict[str, Any]:
    """A link of STAC."""
    return {"rel": rel, "href": href, "type": media_type, **more}


def next_link(request: Request, token: str, media_type: str) -> dict[str, Any]:
    """The link to the next page: the same question with another token."""
    here = str(request.url.replace(query=""))
    if request.method == "POST":
        return link("next", here, media_type, method="POST", merge=True, body={"token": token})
    asked = [(name, value) for name, value in request.query_params.multi_items() if name != "token"]
    return link("next", f"{here}?{urlencode([*asked, ('token', token)])}", media_type, method="GET")


def document(content: Mapping[str, Any], media_type: str = JSON) -> Response:
    """A document as it goes out; what is no number is null in it, for JSON has no word for that."""
    return Response(to_json(content, inf_nan_mode="null"), media_type=media_type)
