"""Tags that say nothing of what stands on the ground: a list of patterns, which a recipe replaces."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import translate
from functools import cached_property
from typing import Final

__all__ = ["DEFAULT_PATTERNS", "Exclusion"]

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
    _keys: dict[str, bool] = field(default_factory=dict, compare=False, repr=False)

    def keep(self, tags: Mapping[str, str] | Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
        """What is left of an entity's tags, by key; of none without a value."""
        pairs = tags.items() if isinstance(tags, Mapping) else tags
        return sorted((key, value) for key, value in pairs if value and not self.excludes(key, value))

    def excludes(self, key: str, value: str) -> bool:
        """Whether a tag is left out."""
        known = self._keys.get(key)
        if known is None:
            if len(self._keys) > 1_000_000:  # keys are thousands; a file that makes them up must not fill the memory
                self._keys.clear()
            known = self._keys[key] = self._of_keys.match(key) is not None
        return known or (self._of_pairs is not None and self._of_pairs.match(f"{key}={value}") is not None)

    @cached_property
    def _of_keys(self) -> re.Pattern[str]:
        return _union([each for each in self.patterns if "=" not in each])

    @cached_property
    def _of_pairs(self) -> re.Pattern[str] | None:
        pairs = [each for each in self.patterns if "=" in each]
        return _union(pairs) if pairs else None


def _union(patterns: Sequence[str]) -> re.Pattern[str]:
    return re.compile("|".join(map(translate, patterns)) or r"(?!)")
