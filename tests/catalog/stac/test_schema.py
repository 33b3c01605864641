"""The schema of the diversity extension beside what is written: every member of the statistics is described by it."""

from __future__ import annotations

import json
import re

import jsonschema
import pyarrow as pa
import pytest

from catalog.extension import diversity_schema, statistics_of
from catalog.items import ITEM_SCHEMA
from catalog.stac.mirror import read_items
from catalog.stac.validation import DocumentCheck

SCHEMA = diversity_schema()
MEMBERS = SCHEMA["definitions"]["statistics"]["properties"]


def described(schema):
    """The members that a schema describes, those of the schemas that it is made of included."""
    if "$ref" in schema:
        return described(SCHEMA["definitions"][schema["$ref"].rpartition("/")[2]])
    found = dict(schema.get("properties", {}))
    for part in schema.get("allOf", []):
        found = described(part) | found
    return found


def resolved(schema):
    return SCHEMA["definitions"][schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema


@pytest.fixture(scope="module")
def document(tiny_catalog):
    return json.loads((tiny_catalog / "everywhere" / "collection.json").read_text())


def faults(document, **statistics):
    changed = {name: {**document["div:statistics"][name], **told} for name, told in statistics.items()}
    return list(DocumentCheck().faults({**document, "div:statistics": {**document["div:statistics"], **changed}}))


def test_the_schema_is_one_and_describes_every_member_that_is_written(document, rows):
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    wide = pa.concat_tables([rows] * 3)  # enough to be rarefied
    assert statistics_of(wide, layers={})["continent"]["rarefied"]
    for statistics in (document["div:statistics"], statistics_of(wide, layers={})):
        for name, measured in statistics.items():
            assert set(measured) <= set(described(MEMBERS[name])), name
            for inner, value in measured.items():
                if isinstance(value, dict) and (told := resolved(described(MEMBERS[name])[inner])).get("properties"):
                    assert set(value) <= set(told["properties"]), (name, inner)


@pytest.fixture(scope="module")
def rows(tiny_catalog):
    return read_items(tiny_catalog / "everywhere" / "items.parquet")


@pytest.mark.parametrize("count", [1, 2, 48])
def test_statistics_of_few_samples_and_of_none_labelled_are_valid(document, rows, count):
    few = rows.slice(0, count)
    unlabelled = few.select(["id", "collection", "proj:centroid"])
    mixed = statistics_of(few, layers={}, codebooks={})
    for statistics in (statistics_of(few, layers={}), statistics_of(unlabelled, layers={}), mixed):
        assert list(DocumentCheck().faults({**document, "div:statistics": statistics})) == []
    assert set(unlabelled.column_names) < set(ITEM_SCHEMA.names)


@pytest.mark.parametrize(
    ("member", "change", "message"),
    [
        ("dispersion", {"unit": "m"}, "div:statistics/dispersion/unit: 'km' was expected"),
        ("dispersion", {"mean_km": -1}, "dispersion/mean_km: -1 is less than the minimum of 0"),
        ("coverage", {"share": 1.2}, "coverage/share: 1.2 is greater than the maximum of 1"),
        ("coverage", {"counts": {"tundra": 3}}, "coverage/counts/tundra: 3 is not of type 'object'"),
        ("landcover_area", {"shares": {"trees": 1.5}}, "landcover_area/shares/trees: 1.5 is greater than"),
        ("landcover_area", {"unit": "km"}, "landcover_area/unit: 'nat' was expected"),
        ("continent", {"rarefied": [{"num_samples": 100}]}, "continent/rarefied/0: 'shannon' is a required property"),
        ("biome", {"intervals": {"shannon": [1.0]}}, r"biome/intervals/shannon: \[1.0\] is too short"),
        ("spectral", {"distribution": {"counts": [1]}}, "spectral/distribution: 'start' is a required property"),
        ("spectral_codebook", {"codebook": 3}, "spectral_codebook/codebook: 3 is not of type 'string', 'null'"),
        ("spectral_covariance", {"standard_deviation": "x"}, "spectral_covariance/standard_deviation: 'x' is not of"),
    ],
)
def test_what_is_not_as_described_is_refused(document, member, change, message):
    assert faults(document) == []
    (fault,) = faults(document, **{member: change})
    assert re.search(message, fault)
