from __future__ import annotations

import json
import urllib.error
import urllib.request

import pytest

from pwcat.filters import filter_faults

HOSTILE = {
    "parentheses": ("(" * 20_000 + "gsd = 10" + ")" * 20_000, "its nesting of parentheses is 20000, at most 16"),
    "open parentheses": ("gsd = " + "(" * 40, "its nesting of parentheses is 40"),
    "parentheses after as many closed ones": (")" * 50 + "(" * 40, "its nesting of parentheses is"),
    "nots": ("NOT " * 2_000 + "gsd = 10", "its number of NOTs is 2000, at most 64"),
    "signs": ("gsd = " + "-" * 9_000 + "1", "its number of signs is 9000, at most 500"),
    "length": ("gsd IN (" + "1, " * 50_000 + "1)", "its length is 150010, at most 10000"),
}


def test_what_a_person_writes_is_fine():
    classes = ", ".join(f"'Tropical & Subtropical Grasslands, Savannas & Shrublands ({k})'" for k in range(100))
    assert filter_faults(f"NOT (biome IN ({classes}) OR ((lon - 3) > -10 AND datetime > DATE('2021-01-01')))") == []


@pytest.mark.parametrize("name", HOSTILE)
def test_a_served_archive_refuses_what_would_end_it_and_lives_on(source, name):
    text, message = HOSTILE[name]
    body = json.dumps({"filter-lang": "cql2-text", "filter": text}).encode()
    request = urllib.request.Request(f"{source.url}/search", body, {"content-type": "application/json"})
    with pytest.raises(urllib.error.HTTPError, match="400") as caught:
        urllib.request.urlopen(request, timeout=20)
    with caught.value as answer:
        assert message in json.loads(answer.read())["description"]
    with urllib.request.urlopen(source.url, timeout=20) as landing:
        assert landing.status == 200
