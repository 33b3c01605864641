"""Tags that say nothing of what stands on the ground: a list of patterns, which a recipe replaces."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import translate
from functools import cached_property
from typing import Final

__all__ = ["DEFAULT_PATTERNS", "Exclusion"]

MOST_KEYS: Final = 1_000_000

# By their reason. Patterns are of keys; with "=" of key and value. "*" stands for anything.
DEFAULT_PATTERNS: Final[Mapping[str, tuple[str, ...]]] = {
    "where the data come from, not what is there": (
        *("source", "source:*", "source_*", "*:source", "attribution", "license", "created_by", "import", "import:*"),
        *("import_uuid", "survey:date", "check_date*", "*:check_date", "lastcheck", "last_checked", "mapillary*"),
    ),
    "mappers' notes to each other and to readers": (
        *("note", "note:*", "note_*", "*:note", "fixme", "FIXME", "fixme:*", "todo", "comment", "comment:*"),
        *("description", "description:*", "inscription*"),
    ),
    "names and their translations: nearly each is met once": (
        *("name", "name:*", "name_*", "*:name", "*_name", "*_name:*", "*_name_*", "sorting_name*", "operator", "operator:*"),
    ),
    "numbers, codes and addresses: nearly each is met once": (
        *("addr:*", "ref", "ref:*", "*:ref", "*_ref", "*_ref:*", "ref_*", "postal_code", "uuid", "*:uuid", "*:id", "*_id"),
    ),
    "links, contacts and hours": (
        *("wikidata", "*:wikidata", "wikipedia", "wikipedia:*", "*:wikipedia", "wikimedia_commons*", "*:wikimedia_commons"),
        *("image", "image:*", "website", "website:*", "url", "url:*", "contact:*", "phone", "fax", "email"),
        *("opening_hours*", "start_date*", "end_date*"),
    ),
    "left by imports of official data, under their makers' keys": (
        *("tiger:*", "gnis:*", "NHD:*", "nhd:*", "massgis:*", "lacounty:*", "canvec:*", "geobase:*", "naptan:*", "CLC:*"),
        *("KSJ2:*", "yh:*", "osak:*", "kms:*", "LINZ:*", "linz:*", "TMC:*", "AND_*", "AND:*", "openGeoDB:*", "osmarender:*"),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Exclusion:
    """Patterns of tags that are left out. Upper and lower case differ.

    Attributes:
        patterns: of keys (``name:*``), or of key and value with ``=`` between (``building=no``); ``*`` is anything, ``?`` one
            character.
    """

    patterns: Sequence[str] = tuple(dict.fromkeys(each for some in DEFAULT_PATTERNS.values() for each in some))

    def keep(self, tags: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
        """What is left of an entity's tags, by key; those without a value are not."""
        excluded, of_pairs = self._keys, self._of_pairs
        kept = sorted(tag for tag in tags if tag[1] and not excluded[tag[0]])
        if of_pairs is None:
            return kept
        return [(key, value) for key, value in kept if not of_pairs.match(f"{key}={value}")]

    @cached_property
    def _keys(self) -> _KnownKeys:
        return _KnownKeys(_union([each for each in self.patterns if "=" not in each]))

    @cached_property
    def _of_pairs(self) -> re.Pattern[str] | None:
        pairs = [each for each in self.patterns if "=" in each]
        return _union(pairs) if pairs else None


class _KnownKeys(dict[str, bool]):
    """Whether a key is excluded, looked at once."""

    def __init__(self, pattern: re.Pattern[str]) -> None:
        super().__init__()
        self._pattern = pattern

    def __missing__(self, key: str) -> bool:
        if len(self) >= MOST_KEYS:  # keys are thousands; a file that makes them up must not fill the memory
            self.clear()
        self[key] = excluded = self._pattern.match(key) is not None
        return excluded


def _union(patterns: Sequence[str]) -> re.Pattern[str]:
    return re.compile("|".join(map(translate, patterns)) or r"(?!)")
