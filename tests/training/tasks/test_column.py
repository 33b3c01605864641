from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from pwcat.errors import TrainingError
from training.tasks import CATALOG_TASKS, open_task
from training.tasks.column import ColumnTask

OWN = "own:value"


@pytest.fixture
def with_column(everything):
    """The subset with a column of its own."""

    def of(values):
        return replace(everything, own={OWN: pa.chunked_array([pa.array(values)])}, _kept={})

    return of


def opened(subset, **settings):
    return ColumnTask(name="own", column=OWN, **settings).open(subset)


def test_classes_are_words_and_the_catalogs_validation_is_tested_on(everything):
    data = replace(CATALOG_TASKS["continent"], min_samples=8).open(everything)
    names = everything.column("div:continent")
    assert [data.info.classes[code] for code in data.targets] == [name for name in names if name in data.info.classes]
    kept = np.array([name in data.info.classes for name in names])
    assert data.ids.tolist() == everything.column("id")[kept].tolist()
    assert set(data.splits) <= {"train", "test"}
    np.testing.assert_array_equal(data.splits == "test", everything.column("pwcat:split")[kept] == "val")
    np.testing.assert_array_equal(data.groups["continent"], names[kept])


def test_rows_of_a_task_are_rows_of_its_chips(everything):
    data = ColumnTask(name="landcover", column="div:landcover", min_samples=12).open(everything)
    assert 0 < len(data) < len(everything)
    rows = np.array([3, 0, 7])
    (batch,) = data.batches(rows, bands=["B04"])
    np.testing.assert_allclose(batch.lonlat.numpy(), data.lonlat[rows])
    np.testing.assert_array_equal(batch.rows, rows)


def test_numbers_are_numbers_and_what_has_none_is_left_out(with_column):
    values = [None if i % 10 == 0 else float("nan") if i % 10 == 1 else i / 2 for i in range(80)]
    data = opened(with_column(values), kind="regression")
    assert (data.info.kind, data.info.metric, data.num_classes) == ("regression", "r2", 0)
    np.testing.assert_array_equal(data.targets, [v for v in values if v is not None and v == v])
    assert data.left_out == {"no value": 16}
    with pytest.raises(
        TrainingError, match=r"80 of 80 samples have a number in own:value, and two that differ are needed"
    ):
        opened(with_column([1.5] * 80), kind="regression")


def test_whole_numbers_are_classes_where_classes_are_asked_for(with_column):
    data = opened(with_column([i % 3 if i < 60 else None for i in range(80)]))
    assert data.info.classes == ("0", "1", "2")
    assert data.targets.tolist() == [i % 3 for i in range(60)]
    assert data.left_out == {"no label": 20}


def test_numbers_that_are_no_classes_are_told_without_end(with_column):
    with pytest.raises(TrainingError) as raised:
        opened(with_column([i / 7 for i in range(80)]))
    assert "0 classes of own:value have at least 10 samples" in str(raised.value)
    assert "and 68 more" in str(raised.value)
    assert "numbers are a regression (number:NAME)" in str(raised.value)
    with pytest.raises(TrainingError, match="there are none"):
        opened(with_column(pa.array([None] * 80, type=pa.string())))


def test_the_hash_is_of_samples_and_what_is_asked_of_them(with_column, everything):
    words = ["a", "b"] * 40
    one = opened(with_column(words))
    assert opened(with_column(words)).hash == one.hash
    assert opened(with_column(["b", "a"] * 40)).hash != one.hash
    assert opened(with_column(words), min_samples=11).hash != one.hash
    assert opened(with_column(words).select(np.arange(80) < 60)).hash != one.hash


def test_any_column_is_a_task_by_name(tiny_catalog):
    data = open_task("column:div:landcover", tiny_catalog, min_samples=4)
    assert data.info.name == "column:div:landcover"
    numbers = open_task("number:div:spectral_entropy", tiny_catalog)
    assert numbers.info.kind == "regression"
    for name in ("column:crop", "number:loss:run", "column:div:crop"):
        with pytest.raises(TrainingError, match=f"task {name}: "):
            open_task(name, tiny_catalog)
