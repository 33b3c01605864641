"""Collections: lists of repositories and papers with a title, a description and notes."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from loopback_hub.repositories import need_write
from loopback_hub.serving import Answer, not_found, route
from loopback_hub.storage import date

SLUG = r"(?P<slug>[^/]+/[^/]+)"
MAX_TITLE, MAX_DESCRIPTION, MAX_NOTE = 60, 150, 500
LISTED_ITEMS = 4  # a listing of collections shows no more of each


@dataclass
class Collection:
    slug: str
    title: str
    owner: str
    description: str | None
    private: bool
    items: list[dict[str, Any]] = field(default_factory=list)
    changes: int = 0
    theme: str = "orange"
    position: int = 0

    def shown(self):
        items = [{**item, "position": place} for place, item in enumerate(self.items)]
        out = {"slug": self.slug, "title": self.title, "owner": {"name": self.owner, "type": "org"}, "items": items}
        out |= {"private": self.private, "theme": self.theme, "upvotes": 0, "lastUpdated": date(self.changes)}
        return {**out, "position": self.position, "description": self.description}


def _checked(title, description):
    if not title or len(title) > MAX_TITLE:
        raise Answer(400, {"error": f"a title has 1 to {MAX_TITLE} characters"})
    if description is not None and len(description) > MAX_DESCRIPTION:
        raise Answer(400, {"error": f"a description has at most {MAX_DESCRIPTION} characters, not {len(description)}"})


def _find(request, slug):
    collection = request.hub.collections.get(slug)
    if collection is None or (collection.private and request.token not in request.hub.tokens):
        raise Answer(404, {"error": "Collection not found"})
    return collection


@route("POST", r"/api/collections")
def create(request):
    need_write(request)
    body = request.json()
    title, owner, description = body["title"], body["namespace"], body.get("description")
    _checked(title, description)
    words = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
    for slug, known in request.hub.collections.items():
        if (known.owner, known.title) == (owner, title):
            raise Answer(409, {"error": "This collection already exists", "slug": slug})
    slug = f"{owner}/{words}-{len(request.hub.collections) + 1:024x}"
    made = Collection(slug, title, owner, description, private=body.get("private", False))
    request.hub.collections[slug] = made
    return Answer(200, made.shown())


@route("GET", r"/api/collections")
def listing(request):
    owners, items = request.queries("owner"), request.queries("item")
    rows = []
    for collection in request.hub.collections.values():
        held = {f"{item['type']}s/{item['id']}" for item in collection.items}
        seen = not collection.private or request.token in request.hub.tokens
        if seen and (not owners or collection.owner in owners) and (not items or held & set(items)):
            shown = collection.shown()
            shown["items"] = shown["items"][:LISTED_ITEMS]
            del shown["position"]  # the client numbers them itself
            rows.append(shown)
    return request.page(rows, int(request.query.get("limit", "100")))


@route("GET", rf"/api/collections/{SLUG}")
def show(request, slug):
    return Answer(200, _find(request, slug).shown())


@route("PATCH", rf"/api/collections/{SLUG}")
def update(request, slug):
    need_write(request)
    collection, body = _find(request, slug), request.json()
    _checked(body.get("title", collection.title), body.get("description"))
    for key in ("title", "description", "private", "theme", "position"):
        if key in body:
            setattr(collection, key, body[key])
    collection.changes += 1
    return Answer(200, {"success": True, "data": collection.shown()})


@route("DELETE", rf"/api/collections/{SLUG}")
def delete(request, slug):
    need_write(request)
    _find(request, slug)
    del request.hub.collections[slug]
    return Answer(200, {"success": True})


@route("POST", rf"/api/collections/{SLUG}/items")
def add_item(request, slug):
    need_write(request)
    collection, body = _find(request, slug), request.json()
    item = {"id": body["item"]["id"], "type": body["item"]["type"]}
    repos = {"dataset": "datasets", "model": "models"}
    if item["type"] in repos and (repos[item["type"]], item["id"]) not in request.hub.repos:
        raise Answer(404, {"error": f"there is no {item['type']} {item['id']}"})
    if item["type"] == "paper" and not re.fullmatch(r"\d{4}\.\d{4,5}", item["id"]):
        raise Answer(404, {"error": f"there is no paper {item['id']}"})
    if any((known["id"], known["type"]) == (item["id"], item["type"]) for known in collection.items):
        raise Answer(409, {"error": "the item is in the collection already"})
    collection.changes += 1
    item["_id"] = f"{collection.changes:024x}"
    collection.items.append(_noted(item, body.get("note")))
    return Answer(200, collection.shown())


def _noted(item, note):
    if note is not None and len(note) > MAX_NOTE:
        raise Answer(400, {"error": f"a note has at most {MAX_NOTE} characters, not {len(note)}"})
    return {**item, "note": {"html": note, "text": note}} if note is not None else item


def _place(collection, item):
    for place, known in enumerate(collection.items):
        if known["_id"] == item:
            return place
    raise not_found("ItemNotFound")


@route("PATCH", rf"/api/collections/{SLUG}/items/(?P<item>[0-9a-f]+)")
def update_item(request, slug, item):
    need_write(request)
    collection, body = _find(request, slug), request.json()
    known = collection.items.pop(_place(collection, item))
    known = _noted(known, body.get("note"))
    collection.items.insert(body.get("position", len(collection.items)), known)
    collection.changes += 1
    return Answer(200, {"success": True})


@route("DELETE", rf"/api/collections/{SLUG}/items/(?P<item>[0-9a-f]+)")
def delete_item(request, slug, item):
    need_write(request)
    collection = _find(request, slug)
    del collection.items[_place(collection, item)]
    collection.changes += 1
    return Answer(200, {"success": True})
