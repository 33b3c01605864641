"""Collections on the Hub: a list of datasets, models and papers that belong together, made once and kept in order."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from huggingface_hub import Collection, CollectionItem

from publish.hub import check_repo_name
from publish.pushing.retrying import call
from publish.pushing.target import hub_api
from publish.pushing.tokens import require_token
from pwcat.errors import PublishError

__all__ = ["CollectionEntry", "PublishedCollection", "check_collection", "parse_entry", "publish_collection"]

# Of the Hub (hub-docs, collections; huggingface_hub 2.4, create_collection and add_collection_item).
MAX_TITLE, MAX_DESCRIPTION, MAX_NOTE = 60, 150, 500
ARXIV = re.compile(r"\d{4}\.\d{4,5}")
PREFIXES = {"datasets": "dataset", "models": "model", "papers": "paper"}

ItemKind = Literal["dataset", "model", "paper"]


@dataclass(frozen=True, kw_only=True)
class CollectionEntry:
    """Something that a collection lists.

    Attributes:
        kind: ``"dataset"``, ``"model"`` or ``"paper"``.
        id: ``organisation/name``, or the paper's number on arXiv.
        note: what it is, shown beside it; at most 500 characters.
    """

    kind: ItemKind
    id: str
    note: str = ""

    @property
    def label(self) -> str:
        """As it is written on a command line."""
        return f"{self.kind}s/{self.id}"


@dataclass(frozen=True, kw_only=True)
class PublishedCollection:
    """A collection, and what was done to it.

    Attributes:
        slug: its name on the Hub.
        url: address of its page.
        created: whether it was made.
        added: entries that were not in it.
        changed: whether its description, notes, order or visibility were other than asked for.
    """

    slug: str
    url: str
    created: bool
    added: tuple[str, ...]
    changed: bool


def parse_entry(text: str, *, note: str = "") -> CollectionEntry:
    """An entry as it is written: ``datasets/org/name``, ``org/name`` or ``models/org/name``, ``papers/2604.21104``.

    Raises:
        PublishError: it is none of these.
    """
    prefix, _, rest = text.partition("/")
    kind = PREFIXES.get(prefix)
    if kind == "paper" and ARXIV.fullmatch(rest):
        return CollectionEntry(kind="paper", id=rest, note=note)
    if kind in ("dataset", "model") and rest.count("/") == 1:
        check_repo_name(rest)
        return CollectionEntry(kind="dataset" if kind == "dataset" else "model", id=rest, note=note)
    if kind is None and text.count("/") == 1:
        check_repo_name(text)
        return CollectionEntry(kind="model", id=text, note=note)
    raise PublishError(
        f"{text!r} is nothing that a collection lists: give datasets/ORG/NAME, ORG/NAME of a model, or papers/NUMBER of arXiv, "
        "as in papers/2604.21104"
    )


def check_collection(title: str, *, entries: Sequence[CollectionEntry], description: str) -> None:
    """Refuse what the Hub would refuse, before anything is asked of it.

    Raises:
        PublishError: says every fault.
    """
    faults = []
    if not title.strip() or len(title) > MAX_TITLE:
        faults.append(f"its title has {len(title.strip())} characters, and 1 to {MAX_TITLE} are allowed")
    if len(description) > MAX_DESCRIPTION:
        faults.append(f"its description has {len(description)} characters, and at most {MAX_DESCRIPTION} are allowed")
    faults += [f"the note of {each.label} has {len(each.note)}" for each in entries if len(each.note) > MAX_NOTE]
    labels = [each.label for each in entries]
    faults += [f"{label} is named twice" for label in sorted({each for each in labels if labels.count(each) > 1})]
    if faults:
        raise PublishError(f"cannot make the collection {title[:80]!r}: {'; '.join(faults)}")


def publish_collection(
    title: str,
    *,
    owner: str,
    entries: Sequence[CollectionEntry],
    description: str = "",
    private: bool = False,
    public: bool = False,
) -> PublishedCollection:
    """Make a collection list these entries, in this order: one that is there, found by title and owner, is completed.

    Nothing is listed twice, and nothing that others added is removed; it comes after. The same call changes nothing.

    Args:
        title: at most 60 characters.
        owner: organisation or user.
        entries: what it lists; they must be on the Hub.
        description: at most 150 characters; one that is there stays where none is given.
        private: make a new one private; an existing public one is refused.
        public: make an existing private one public.

    Raises:
        PublishError: a text is too long, an entry does not exist, or the token may not do this.
    """
    check_collection(title, entries=entries, description=description)
    if private and public:
        raise PublishError("private and public exclude each other")
    check_repo_name(f"{owner}/name")
    require_token()
    found = _find(title, owner)
    _require_entries(title, entries, listed=found.items if found else [])
    made = found or _create(title, owner, description=description, private=private)
    if private and not made.private:
        raise PublishError(f"the collection {title!r} of {owner} exists and is public, but a private one was asked for")
    work = _Work(slug=made.slug, title=title)
    work.describe(made, description=description, public=public)
    added = work.complete(made.items, entries)
    work.arrange(entries)
    return PublishedCollection(
        slug=made.slug, url=made.url, created=found is None, added=added, changed=bool(work.changes)
    )


def _find(title: str, owner: str) -> Collection | None:
    """The collection of that title and owner, with all its items; listings have only some."""

    def ask() -> str | None:
        listed = hub_api().list_collections(owner=owner)
        return next((each.slug for each in listed if each.title == title), None)

    slug = call(f"list the collections of {owner}", ask)
    return None if slug is None else _read(slug, title)


def _read(slug: str, title: str) -> Collection:
    return call(f"read the collection {title!r}", lambda: hub_api().get_collection(slug))


def _require_entries(title: str, entries: Sequence[CollectionEntry], *, listed: Sequence[CollectionItem]) -> None:
    """Find what is to be added, before a collection is made that would lack it; of papers the Hub says when they are added."""
    there = {_label(item) for item in listed}
    for entry in entries:
        if entry.kind != "paper" and entry.label not in there:
            call(
                f"find {entry.label}, which the collection {title!r} is to list",
                lambda entry=entry: hub_api().repo_info(entry.id, repo_type=entry.kind),  # type: ignore[misc]
            )


def _create(title: str, owner: str, *, description: str, private: bool) -> Collection:
    return call(
        f"make the collection {title!r} of {owner}",
        lambda: hub_api().create_collection(
            title, namespace=owner, description=description or None, private=private, exists_ok=True
        ),
    )


@dataclass(frozen=True, kw_only=True)
class _Work:
    """What is done to one collection; ``changes`` notes it."""

    slug: str
    title: str
    changes: list[str] = field(default_factory=list)

    def describe(self, made: Collection, *, description: str, public: bool) -> None:
        wanted: dict[str, str | bool] = {}
        if description and (made.description or "") != description:
            wanted["description"] = description
        if public and made.private:
            wanted["private"] = False
        if wanted:
            call(
                f"describe the collection {self.title!r}",
                lambda: hub_api().update_collection_metadata(self.slug, **wanted),  # type: ignore[arg-type]
            )
            self.changes.extend(wanted)

    def complete(self, items: Sequence[CollectionItem], entries: Sequence[CollectionEntry]) -> tuple[str, ...]:
        """Add what is missing, and write notes that differ; what was added."""
        there, added = {_label(item): item for item in items}, []
        for entry in entries:
            known = there.get(entry.label)
            if known is None:
                self._add(entry)
                added.append(entry.label)
            elif entry.note and (known.note or "") != entry.note:
                self._update(known, entry, note=entry.note)
        return tuple(added)

    def arrange(self, entries: Sequence[CollectionEntry]) -> None:
        """Put the entries into their order, before all others, where they are in another; only what is out of place moves."""
        there = {_label(item): item for item in _read(self.slug, self.title).items}
        order = list(there)
        if [label for label in order if label in {entry.label for entry in entries}] == [e.label for e in entries]:
            return
        for position, entry in enumerate(entries):
            if order[position] != entry.label:
                self._update(there[entry.label], entry, position=position)
                order.remove(entry.label)
                order.insert(position, entry.label)

    def _add(self, entry: CollectionEntry) -> None:
        call(
            f"add {entry.label} to the collection {self.title!r}",
            lambda: hub_api().add_collection_item(
                self.slug, entry.id, entry.kind, note=entry.note or None, exists_ok=True
            ),
        )

    def _update(
        self, item: CollectionItem, entry: CollectionEntry, *, note: str | None = None, position: int | None = None
    ) -> None:
        call(
            f"change {entry.label} in the collection {self.title!r}",
            lambda: hub_api().update_collection_item(self.slug, item.item_object_id, note=note, position=position),
        )
        self.changes.append(entry.label)


def _label(item: CollectionItem) -> str:
    return f"{item.item_type}s/{item.item_id}"
