"""Copies of subsets: equal to what they were copied from, whole or not there, gone on with where they were broken off."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from catalog.copying import copy_subset, copy_there, unfinished
from catalog.query import open_catalog
from catalog.stac.validation import validate_catalog
from catalog.store import build, describe
from catalog.subset import Subset
from pwcat.cube import open_cube, shard_path
from pwcat.doctor.commands import doctor
from pwcat.doctor.examination import examine
from pwcat.errors import CatalogError, PwcatError

FROM = {"repository": "org/name", "revision": "0123456789abcdef", "command": ["pwcat", "pull", "org/name"]}


def chips_of(subset: Subset) -> np.ndarray:
    return subset.read(np.arange(len(subset)))


def require_equal(copy: Path, subset: Subset) -> None:
    """Chips, items, statistics and hash: of the whole, and of each collection."""
    found = open_catalog(copy).search()
    assert found.hash == subset.hash
    assert found.stats() == subset.stats()
    for member, rows in subset.parts():
        part = subset.only(np.arange(rows.start, rows.stop))
        own = open_catalog(copy).search(collections=member.name)
        np.testing.assert_array_equal(chips_of(own), chips_of(part))
        names = [name for name in member.items.columns if name not in ("pwcat:index", "assets", "links")]
        assert own.columns(names).equals(part.columns(names))
        assert json.loads((copy / member.name / "stats.json").read_text())["statistics"] == part.stats()
        assert sorted(own.index) == list(range(len(part)))
        there, original = own.collections[0].cube, member.cube
        assert there.attrs == {**there.attrs, **original.attrs}
        assert repr(there.meanings) == repr(original.meanings)
        np.testing.assert_array_equal(there.dates(own.index), original.dates(part.index))


@pytest.fixture(scope="module")
def both(tiny_catalog) -> Subset:
    return open_catalog(tiny_catalog).search()


def test_a_copy_of_whole_collections_equals_them(both, tiny_catalog, tmp_path):
    told: list[tuple[int, int]] = []
    folders = copy_subset(both, tmp_path / "copy", origin=FROM, progress=lambda done, total: told.append((done, total)))
    assert [folder.name for folder in folders] == ["europe", "everywhere"]
    assert told[0] == (0, 80)
    assert told[-1] == (80, 80)
    require_equal(tmp_path / "copy", both)
    for name in ("europe", "everywhere"):
        copied, original = (tmp_path / "copy" / name, tiny_catalog / name)
        assert json.loads((copied / "tally.json").read_text()) == json.loads((original / "tally.json").read_text())
        one, other = (open_cube(folder / "cube.zarr").to_xarray() for folder in (copied, original))
        assert one.sizes == other.sizes
        assert set(one.variables) == set(other.variables)
        assert one.chips.attrs == other.chips.attrs
        by_id = np.argsort(one["id"].values), np.argsort(other["id"].values)
        for variable in set(one.variables) - {"chips"}:
            if "sample" in one[variable].dims:
                np.testing.assert_array_equal(one[variable].values[by_id[0]], other[variable].values[by_id[1]])
            else:
                np.testing.assert_array_equal(one[variable].values, other[variable].values)
    assert validate_catalog(tmp_path / "copy").faults == []


def test_a_copy_of_some_samples_equals_the_subset(both, tmp_path):
    chosen = both.sample(17, seed=3)
    copy_subset(chosen, tmp_path / "Küste 1", origin=FROM)
    require_equal(tmp_path / "Küste 1", chosen)
    one = both.select(np.array([40]))
    copy_subset(one, tmp_path / "one", origin=FROM)
    require_equal(tmp_path / "one", one)


def test_a_split_of_its_own_goes_along(both, tmp_path):
    """What makes the hash of such a subset another is kept: searches of the copy find the same subset."""
    chosen = both.sample(12, seed=4)
    split = np.array(["train", "val"] * 6, dtype=object)
    own = chosen.with_split(split, split_by="hand")
    assert own.hash != chosen.hash
    copy_subset(own, tmp_path / "copy", origin=FROM)
    require_equal(tmp_path / "copy", own)
    assert open_catalog(tmp_path / "copy").search().column("pwcat:split").tolist() == split.tolist()
    assert open_catalog(tmp_path / "copy").search(split="val").hash == own.split("val").hash


def test_a_copy_of_a_copy_is_the_same(both, tmp_path):
    chosen = both.sample(9, seed=1)
    copy_subset(chosen, tmp_path / "first", origin=FROM)
    copy_subset(open_catalog(tmp_path / "first").search(), tmp_path / "second", origin=FROM)
    require_equal(tmp_path / "second", chosen)


def test_a_second_copy_does_nothing_and_another_is_refused(both, tmp_path):
    chosen, copy = both.sample(5, seed=0), tmp_path / "copy"
    copy_subset(chosen, copy, origin=FROM)
    before = {path: path.stat().st_mtime_ns for path in copy.rglob("*")}
    copy_subset(chosen, copy, origin=FROM)
    assert {path: path.stat().st_mtime_ns for path in copy.rglob("*")} == before
    with pytest.raises(
        CatalogError, match=r"holds 5 samples of org/name at 0123456789ab.*and not 6 samples.*another folder"
    ):
        copy_subset(both.sample(6, seed=0), copy, origin=FROM)
    with pytest.raises(CatalogError, match=r"holds 5 samples of org/name at 0123456789ab.*not 5 samples of org/other"):
        copy_subset(chosen, copy, origin={"repository": "org/other"})
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    with pytest.raises(CatalogError, match="holds something else, and is left as it is"):
        copy_subset(chosen, tmp_path / "mine", origin=FROM)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]
    with pytest.raises(CatalogError, match=r"no samples.*widen the search"):
        copy_subset(both.only(np.empty(0, dtype=np.int64)), tmp_path / "none", origin=FROM)


class Killed(BaseException):
    """What ends a copy at some point."""


def test_a_copy_that_was_broken_off_goes_on_from_its_shards(both, tmp_path):
    copy = tmp_path / "copy"
    (copy).mkdir()  # an empty folder is taken

    def end_at(samples: int):
        def tell(done: int, total: int) -> None:
            if done >= samples:
                raise Killed

        return tell

    with pytest.raises(Killed):
        copy_subset(both, copy, origin=FROM, progress=end_at(60))
    with pytest.raises(CatalogError, match="no catalog there"):  # nothing of it is taken for whole
        open_catalog(copy)
    assert copy_there(copy)["repository"] == "org/name"
    partial = unfinished(copy)
    shards = {path: path.stat().st_mtime_ns for path in partial.glob("*/cube.zarr/chips/c/*/0/0/0/0")}
    assert 0 < len(shards) < 20
    half = next(iter(shards))
    half.write_bytes(half.read_bytes()[:-1])
    with pytest.raises(CatalogError, match=r"is what is there of 80 samples.*and not of 3 samples.*finish that"):
        copy_subset(both.sample(3), copy, origin=FROM)
    copy_subset(both, copy, origin=FROM)
    require_equal(copy, both)
    assert not partial.exists()
    kept = [path for path in shards if (copy / path.relative_to(partial)).stat().st_mtime_ns == shards[path]]
    assert set(kept) == set(shards) - {half}
    copy_subset(both, tmp_path / "at once", origin=FROM)  # its bytes do not hang on how it came about
    one, other = (
        {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
        for root in (copy, tmp_path / "at once")
    )
    assert one == other


def test_the_doctor_finds_lost_and_damaged_shards_and_the_copy_mends_them(both, tmp_path):
    chosen, copy = both.sample(20, seed=2), tmp_path / "copy"
    copy_subset(chosen, copy, origin=FROM)
    folder = copy / "everywhere"
    assert examine(folder).is_well
    answer = CliRunner().invoke(doctor, [str(folder)])
    assert "All is well" in answer.output
    assert "copied from org/name at 0123456789ab" in answer.output
    first, second = (shard_path(folder / "cube.zarr", shard) for shard in (0, 1))
    content = bytearray(first.read_bytes())
    content[-1] ^= 1
    first.write_bytes(content)
    second.unlink()
    found = {finding.kind: finding for finding in examine(folder).findings}
    assert set(found) == {"damaged", "missing"}
    assert found["missing"].mend == f"pwcat pull org/name -o {copy}"
    assert found["damaged"].mend == f"rm {first} && pwcat pull org/name -o {copy}"
    first.unlink()
    copy_subset(chosen, copy, origin=FROM)
    assert examine(folder).is_well
    require_equal(copy, chosen)


def test_what_needs_a_plan_refuses_a_copy(both, write_recipe, tmp_path):
    copy = tmp_path / "copy"
    copy_subset(both, copy, origin=FROM)
    with pytest.raises(
        PwcatError, match=r"is a copy from org/name at 0123456789ab and has no plan.*in another catalog"
    ):
        build(write_recipe(tmp_path), catalog=copy)
    with pytest.raises(PwcatError, match="nothing to describe"):
        describe(copy / "everywhere")
    with pytest.raises(PwcatError, match="a catalog, not a dataset; look at one of those in it: europe, everywhere"):
        examine(copy)


def test_pixels_that_are_not_those_of_their_items_are_not_copied(tiny_catalog, tmp_path):
    root = tmp_path / "catalog"
    shutil.copytree(tiny_catalog, root)
    items = root / "europe" / "items.parquet"
    table = pq.read_table(items)
    entropy = table["div:spectral_entropy"].to_numpy().copy()
    entropy[0] += 0.01
    number = table.column_names.index("div:spectral_entropy")
    pq.write_table(table.set_column(number, "div:spectral_entropy", pa.array(entropy)), items)
    with pytest.raises(CatalogError, match=r"pixels of 1 samples .* are not those that their items tell of"):
        copy_subset(open_catalog(root).search(collections="europe"), tmp_path / "copy", origin=FROM)
    assert not (tmp_path / "copy").exists()


def test_a_copy_of_a_map_has_its_entities_and_tags(map_catalog, tmp_path):
    whole = open_catalog(map_catalog).search()
    copy_subset(whole, tmp_path / "whole", origin=FROM)
    require_equal(tmp_path / "whole", whole)
    copied, original = tmp_path / "whole" / "hamlet", map_catalog / "hamlet"
    tags = [pq.read_table(folder / "tags.parquet") for folder in (copied, original)]
    assert tags[0].equals(tags[1])
    rows = [pq.read_table(folder / "entities.parquet").drop_columns("index") for folder in (copied, original)]
    assert rows[0].equals(rows[1])
    assert examine(copied).is_well
    tile = pq.read_table(copied / "entities.parquet")["tile"].to_pylist()[0]
    some = open_catalog(map_catalog).search(filter=f"\"map:tile\" = '{tile}'")
    copy_subset(some, tmp_path / "some", origin=FROM)
    require_equal(tmp_path / "some", some)
    part = pq.read_table(tmp_path / "some" / "hamlet" / "entities.parquet")
    assert set(part["tile"].to_pylist()) == {tile}
    assert set(part["index"].to_pylist()) == {0}
    counts = {
        (row["key"], row["value"]): row["tiles"]
        for row in pq.read_table(tmp_path / "some" / "hamlet" / "tags.parquet").to_pylist()
    }
    assert set(counts.values()) == {1}
