"""Population of MOSAIKS' places, on chips that pwcat built there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from catalog.subset import load_subset
from pwcat.errors import TrainingError
from training.embed import embed_task
from training.loader import in_order
from training.models import build_model
from training.tasks import open_task

NAME = "outcomes_sampled_population_WORLD_16_640_UAR_1000000_0.csv"
HEADER = '"","ID","lon","lat","population"\n'  # as R writes it


def make_table(folder: Path, places: np.ndarray, population: list[object], *, shift: float = 0.0) -> Path:
    """The official layout: row names, IDs of the grid, and -999 or NA where there is no number."""
    rows = [
        f'"{k + 1}","{k},{7 * k}",{lon},{lat + shift},{people}\n'
        for k, ((lon, lat), people) in enumerate(zip(places.tolist(), population, strict=True))
    ]
    path = folder / NAME
    path.write_text(HEADER + "".join(rows), encoding="utf-8")
    return path


@pytest.fixture
def folder(tmp_path: Path, tiny_catalog: Path) -> Path:
    (tmp_path / "chips").symlink_to(tiny_catalog / "everywhere")
    return tmp_path


def test_chips_have_the_log_of_the_population_of_their_place(folder: Path, tiny_catalog: Path) -> None:
    subset = load_subset(tiny_catalog / "everywhere")
    people: list[object] = [10.0 * k for k in range(len(subset))]
    people[3], people[5], people[7] = -999, "NA", ""
    order = np.random.default_rng(0).permutation(len(subset))  # the table is in an order of its own
    make_table(folder, subset.lonlat[order], [people[k] for k in order], shift=0.0003)
    data = open_task("mosaiks-population", folder)

    kept = [k for k in range(len(subset)) if k not in (3, 5, 7)]
    np.testing.assert_allclose(data.targets, np.log(1 + 10.0 * np.array(kept)))
    np.testing.assert_array_equal(data.lonlat, subset.lonlat[kept])
    places = {int(k): place for place, k in enumerate(order)}
    assert data.ids.tolist() == [f"{places[k]},{7 * places[k]}" for k in kept]
    assert data.left_out == {"no population": 3}
    assert set(data.splits) == {"train", "test"}
    assert data.groups["continent"].tolist() == [subset.column("div:continent")[k] for k in kept]
    batch = next(data.batches(np.array([4, 0]), bands=("B04", "B02")))
    (expected,) = in_order(subset.only(np.array([kept[0], kept[4]])), bands=("B04", "B02"))
    assert batch.chips is not None
    assert expected.chips is not None
    np.testing.assert_array_equal(batch.chips.numpy(), expected.chips.numpy()[::-1])
    np.testing.assert_array_equal(batch.lonlat.numpy(), data.lonlat[[4, 0]])


def test_a_model_embeds_the_chips(folder: Path, tiny_catalog: Path) -> None:
    subset = load_subset(tiny_catalog / "everywhere")
    make_table(folder, subset.lonlat, [1.0] * len(subset))
    data = open_task("mosaiks-population", folder)
    model = build_model("presto", {"dim": 16, "heads": 2, "depth": 1})
    assert embed_task(model, data).shape == (len(subset), 16)


def test_chips_elsewhere_are_left_out_and_counted(folder: Path, tiny_catalog: Path) -> None:
    subset = load_subset(tiny_catalog / "everywhere")
    places = subset.lonlat.copy()
    places[:10, 1] += 0.01  # about a kilometre
    make_table(folder, places, [5.0] * len(places))
    data = open_task("mosaiks-population", folder)
    assert len(data) == len(subset) - 10
    assert data.left_out == {"no place of the table within 100 m": 10}


def test_hash_is_of_chips_and_labels(folder: Path, tiny_catalog: Path) -> None:
    subset = load_subset(tiny_catalog / "everywhere")
    make_table(folder, subset.lonlat, [5.0] * len(subset))
    first = open_task("mosaiks-population", folder).hash
    assert open_task("mosaiks-population", folder).hash == first
    make_table(folder, subset.lonlat, [5.0] * (len(subset) - 1) + [6.0])
    assert open_task("mosaiks-population", folder).hash != first


def test_what_is_missing_is_told_together_with_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(
        TrainingError,
        match=r"population_\*\.csv is missing; get it from https://files\.codeocean\.com.*chips is missing: make it",
    ):
        open_task("mosaiks-population", tmp_path)


def test_a_table_cut_short_is_told(folder: Path, tiny_catalog: Path) -> None:
    subset = load_subset(tiny_catalog / "everywhere")
    path = make_table(folder, subset.lonlat, [5.0] * len(subset))
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(TrainingError, match="is not downloaded to its end: its last line is cut off"):
        open_task("mosaiks-population", folder)


def test_other_tables_are_told(folder: Path) -> None:
    (folder / NAME).write_text("a,b\n1,2\n")
    with pytest.raises(TrainingError, match="has no column ID, lon, lat, population; it has a, b"):
        open_task("mosaiks-population", folder)
    (folder / NAME).write_text("")
    with pytest.raises(TrainingError, match="is no table, or damaged"):
        open_task("mosaiks-population", folder)
    (folder / NAME.replace("WORLD", "CONTUS")).write_text(HEADER)
    with pytest.raises(TrainingError, match="there are several tables"):
        open_task("mosaiks-population", folder)


def test_chips_of_no_place_of_the_table_are_told(folder: Path) -> None:
    make_table(folder, np.array([[0.0, -89.0], [1.0, -89.0]]), [1.0, 2.0])
    with pytest.raises(TrainingError, match=r"0 of 48 chips of .* lie within 100 m of a place"):
        open_task("mosaiks-population", folder)


def test_chips_that_are_no_collection_are_told(tmp_path: Path) -> None:
    make_table(tmp_path, np.array([[0.0, 0.0]]), [1.0])
    (tmp_path / "chips").mkdir()
    with pytest.raises(TrainingError, match="is no collection of chips"):
        open_task("mosaiks-population", tmp_path)
