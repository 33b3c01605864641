"""Vocabularies hold the most frequent tags and keys; what they lack falls back as GeoJEPA's indexer does."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow.parquet as pq
import pytest

from pwcat.errors import TrainingError
from training.osm.entities import TagList
from training.osm.reading import EntityReader
from training.osm.tags import TagNumbers, TagPairs, columns_of
from training.osm.vocabulary import TagIndex, fit_vocabulary


def counted(subset):
    """How many entities of a subset's tiles have each tag, and each key."""
    counts = Counter()
    for collection, rows in subset.parts():
        table = pq.read_table(collection.path / "entities.parquet", columns=["index", "tags"])
        tiles = set(subset.index[rows].tolist())
        for row in table.to_pylist():
            if row["index"] in tiles:
                counts.update(f"{key}={value}" for key, value in row["tags"])
                counts.update(key for key, _ in row["tags"])
    return counts


def test_the_most_frequent_tags_and_keys_of_the_tiles_come_first(maps):
    for subset in (maps, maps.only(np.array([0, 1, 3, 60, 61]))):
        counts = counted(subset)
        expected = sorted(counts, key=lambda text: (-counts[text], text.encode()))
        assert fit_vocabulary(subset, most=1000, least_count=1).rows == tuple(expected)
        assert fit_vocabulary(subset, most=5, least_count=1).rows == tuple(expected[:5])
        least = counts[expected[3]]
        assert fit_vocabulary(subset, most=1000, least_count=least).rows == tuple(
            text for text in expected if counts[text] >= least
        )


def test_a_key_is_there_before_its_values(maps):
    rows = fit_vocabulary(maps, most=1000, least_count=1).rows
    for text in rows:
        assert rows.index(text.partition("=")[0]) <= rows.index(text)


def test_counts_of_tags_are_those_of_the_tiles(maps):
    reader = EntityReader(maps)
    counts = counted(maps)
    assert reader.tag_counts().tolist() == [counts[f"{key}={value}"] for key, value in reader.tag_list.pairs]


def test_what_is_not_known_falls_back_to_its_key_and_to_shorter_keys():
    index = TagIndex(rows=("highway", "highway=residential", "turn", "turn:lanes=left", "name:ja"))
    pairs = (
        ("highway", "residential"),
        ("highway", "track"),
        ("turn:lanes", "left"),
        ("turn:lanes", "right"),
        ("turn:lanes:forward", "left"),
        ("highway:x:y:z", "residential"),
        ("name:ja", "東京"),
        ("name", "東京"),
        ("", "x"),
        (":", "x"),
    )
    assert index.places(TagList(pairs=pairs)).tolist() == [1, 0, 3, 2, 2, 0, 4, -1, -1, -1]


def test_a_list_of_nothing_has_no_places():
    assert TagIndex(rows=("a",)).places(TagList(pairs=())).tolist() == []
    assert TagIndex(rows=()).places(TagList(pairs=(("a", "b"),))).tolist() == [-1]


def test_a_vocabulary_that_cannot_be_is_refused(maps):
    with pytest.raises(TrainingError, match="tags a stand twice in a vocabulary"):
        TagIndex(rows=("a", "b", "a"))
    with pytest.raises(TrainingError, match="no tag of these 80 tiles is on 10000 entities or more: lower least_count"):
        fit_vocabulary(maps, most=5, least_count=10000)
    with pytest.raises(TrainingError, match="a vocabulary of 0 tags of 1 entities at least cannot be"):
        fit_vocabulary(maps, most=0, least_count=1)


def test_tags_have_numbers_by_key_and_value_and_not_by_their_text_together():
    pairs = (("a", "bc"), ("ab", "c"), ("é", "日本"), ("", ""), ("a", "b"))
    keys, values = columns_of(TagList(pairs=pairs))
    numbers = TagNumbers(TagList(pairs=TagPairs(keys, values)))
    assert numbers.of(keys[1:], values[1:]).tolist() == [1, 2, 3, 4]  # a slice of the texts, from their midst
    assert numbers.of(values, keys).tolist() == [-1, -1, -1, 3, -1]
    assert list(TagPairs(keys, values)[1:3]) == list(pairs[1:3])
    with pytest.raises(TrainingError, match="has some of them twice"):
        TagNumbers(TagList(pairs=(("a", "b"), ("a", "b"))))
