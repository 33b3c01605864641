"""What is frozen of sensors comes back as it was, and nothing else in its place."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pwcat.errors import PwcatError
from pwcat.sensors.frozen import (
    EVERY_DATE,
    SENSORS_SCHEMA,
    check_sensors,
    read_sensors,
    read_tallies,
    remove_sensors,
    write_sensors,
)

IDS = [f"s-{number}" for number in (3, 1, 2, 0)]  # as a plan has them, not by name
TALLIES = {"s1": {"dates": 8, "whole": 5, "part": 0, "items": 3}}


def item(name: str, month: int) -> dict:
    """An item of a month, as a reanalysis has it: without a moment, with a grid of degrees."""
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [],
        "id": name,
        "collection": "c",
        "geometry": {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]]},
        "bbox": [0.0, 0.0, 1.0, 1.0],
        "properties": {
            "datetime": None,
            "start_datetime": f"2021-{month:02d}-01T00:00:00Z",
            "end_datetime": f"2021-{month:02d}-28T23:59:59Z",
            "proj:code": "EPSG:4326",
            "proj:transform": [0.25, 0.0, 0.0, 0.0, -0.25, 1.0],
            "proj:shape": [4, 4],
        },
        "assets": {"t": {"href": f"archive:c/{name}.tif", "bands": [{"name": "t", "data_type": "float32"}]}},
        "links": [],
    }


ITEMS = {"s1": [item(name, month) for month, name in enumerate("abc", 1)], "dem": [item("d", 1)], "none": []}


def rows_of(ids) -> pa.Table:
    """Two dates of s1, of which some have none and some several items; dem at every date; a sensor that has nothing."""
    rows = []
    for number, name in enumerate(ids):
        named = [(0, ["c", "a"][: number % 3]), (1, ["b"])]
        rows += [{"id": name, "sensor": "s1", "time": time, "item_ids": items} for time, items in named]
        rows.append({"id": name, "sensor": "dem", "time": EVERY_DATE, "item_ids": ["d"]})
        rows.append({"id": name, "sensor": "none", "time": EVERY_DATE, "item_ids": []})
    return pa.Table.from_pylist(rows, schema=SENSORS_SCHEMA)


def freeze(folder: Path, table=None) -> Path:
    folder.mkdir(exist_ok=True)
    digest = write_sensors(folder, rows_of(IDS) if table is None else table, ITEMS, tallies=TALLIES)
    plan = pa.table({"id": IDS}).replace_schema_metadata({"pwcat:sensors": digest})
    pq.write_table(plan, folder / "plan.parquet")
    return folder


@pytest.fixture
def folder(tmp_path) -> Path:
    return freeze(tmp_path / "collection")


def test_what_was_written_comes_back(folder):
    sensors = read_sensors(folder)
    assert sensors.sensors == ["s1", "dem", "none"]
    expected = {(row["id"], row["sensor"], row["time"]): row["item_ids"] for row in rows_of(IDS).to_pylist()}
    assert sensors.names_of(IDS) == expected
    assert sensors.names_of(["s-2"]) == {key: names for key, names in expected.items() if key[0] == "s-2"}
    found = sensors.of(["s-0", "s-2"])
    assert {key: [one["id"] for one in items] for key, items in found.items()} == sensors.names_of(["s-0", "s-2"])
    assert found[("s-2", "s1", 0)][0] is not found[("s-2", "s1", 1)][0]
    assert found[("s-0", "dem", -1)][0] is found[("s-2", "dem", -1)][0]  # a task that is sent on holds it once
    assert sensors.names_of([]) == sensors.of([]) == {}


def test_items_keep_what_reading_needs(folder):
    (got,) = read_sensors(folder).of(["s-1"])[("s-1", "s1", 1)]
    wanted = item("b", 2)
    assert got["assets"] == wanted["assets"]
    times = ("start_datetime", "end_datetime")
    assert {key: value for key, value in got["properties"].items() if key not in times and value is not None} == {
        key: value for key, value in wanted["properties"].items() if key.startswith("proj:")
    }
    assert [got["properties"][key][:19] for key in times] == ["2021-02-01T00:00:00", "2021-02-28T23:59:59"]


def test_the_same_is_written_as_the_same_bytes_whole_or_in_parts(folder, tmp_path):
    again = freeze(tmp_path / "again")
    for name in ("sensors.parquet", "sensors/s1.parquet", "sensors/dem.parquet"):
        assert (again / name).read_bytes() == (folder / name).read_bytes()
    parts = freeze(tmp_path / "parts", (rows_of(IDS).slice(start, 4) for start in range(0, 16, 4)))
    assert pq.ParquetFile(parts / "sensors.parquet").num_row_groups == len(IDS)
    assert read_sensors(parts).names_of(IDS) == read_sensors(folder).names_of(IDS)


def test_counts_are_kept_beside(folder, tmp_path):
    assert read_tallies(folder) == TALLIES
    assert read_tallies(tmp_path) == {}


def test_a_plan_without_sensors_has_none(tmp_path):
    pq.write_table(pa.table({"id": IDS}), tmp_path / "plan.parquet")
    assert read_sensors(tmp_path) is None
    check_sensors(tmp_path)


def test_what_an_earlier_plan_had_goes(folder):
    remove_sensors(folder)
    assert [path.name for path in folder.iterdir()] == ["plan.parquet"]
    remove_sensors(folder)


@pytest.mark.parametrize("name", ["sensors.parquet", "sensors/s1.parquet", "sensors/dem.parquet"])
@pytest.mark.parametrize("look", [read_sensors, check_sensors])
def test_a_file_that_is_missing_or_another_is_told(folder, name, look):
    path = folder / name
    check_sensors(folder)
    with path.open("ab") as file:
        file.write(b"0")
    with pytest.raises(PwcatError, match=rf"{re.escape(name)}: not the file that the plan was written with; remove"):
        look(folder)
    path.unlink()
    with pytest.raises(PwcatError, match=rf"{re.escape(name)}: not there, though the plan was written with it; remove"):
        look(folder)


def test_samples_and_items_that_are_not_there_are_told(folder):
    sensors = read_sensors(folder)
    with pytest.raises(PwcatError, match=r"sensors\.parquet knows nothing of s-9; remove the folder and plan again"):
        sensors.of(["s-1", "s-9"])
    with pytest.raises(PwcatError, match=r"names z, which is not among the items of s1; remove"):
        sensors.items("s1", ["z"])


def test_rows_that_differ_from_sample_to_sample_are_refused(tmp_path):
    folder = freeze(tmp_path / "collection", rows_of(IDS).slice(0, 15))
    with pytest.raises(PwcatError, match=r"samples do not have the same rows each"):
        read_sensors(folder)
