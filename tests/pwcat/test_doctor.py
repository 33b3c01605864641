"""The doctor: every fault is made for real, told, and mended by the very command that it says."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess

import pyarrow.parquet as pq
import pytest
import yaml
from click.testing import CliRunner

from pwcat.building.ledger import ledger_path, write_ledger
from pwcat.cli import cli
from pwcat.cube import shard_path
from pwcat.doctor import examine
from pwcat.doctor.commands import doctor
from pwcat.errors import CubeError, PwcatError, SourceError
from pwcat.lock import locked
from pwcat.recovery import note_digest, recover_scenes
from pwcat.search.journal import Journal
from pwcat.search.paging import Page


@pytest.fixture
def dataset(built, tmp_path):
    """A dataset that is whole, in a catalog of its own."""
    from catalog.store import write_catalog

    folder = shutil.copytree(built, tmp_path / "catalog" / "small")
    write_catalog(folder.parent)
    note_digest(folder / "scenes.parquet")
    return folder


def follow(commands):
    """Do as the doctor says; pwcat's own commands in this process, for starting one takes longer than most of them."""
    for command in commands.split(" && "):
        name, *arguments = shlex.split(command)
        if name == "pwcat":
            cli(arguments, standalone_mode=False)
        else:
            subprocess.run([name, *arguments], check=True)


def only(diagnosis):
    (finding,) = diagnosis.findings
    return finding


def test_a_dataset_that_is_whole_is_well(dataset):
    diagnosis = examine(dataset)
    assert diagnosis.is_well
    assert (diagnosis.counts, diagnosis.shards) == ({"written": 16}, 8)


def test_ledgers_of_an_older_pwcat_are_read_as_they_were_written(dataset):
    for path in (dataset / "ledger").glob("shard-*.parquet"):
        table = pq.read_table(path)
        pq.write_table(
            table.drop_columns(["cause", "retries", "source", "item", "cloud_fraction", "offset_flag"]), path
        )
    assert examine(dataset).is_well


def lose_shard(folder):
    shard_path(folder / "cube.zarr", 3).unlink()


def spoil_shard(folder):
    path = shard_path(folder / "cube.zarr", 3)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def spoil_ledger(folder):
    ledger_path(folder, 5).write_bytes(b"PAR1 of no use")


def lose_cube(folder):
    shutil.rmtree(folder / "cube.zarr")


def age_ledger(folder):
    path = ledger_path(folder, 2)
    payload = shard_path(folder / "cube.zarr", 2).read_bytes()
    write_ledger(path, pq.read_table(path).to_pylist(), plan_hash="0" * 64, shard=payload)


def swap_samples(folder):
    path = ledger_path(folder, 2)
    rows, payload = pq.read_table(path).to_pylist(), shard_path(folder / "cube.zarr", 2).read_bytes()
    plan = pq.read_schema(path).metadata[b"pwcat:plan"].decode()
    write_ledger(path, [rows[0] | {"id": "before"}, rows[1]], plan_hash=plan, shard=payload)


def leave_half_written(folder):
    (folder / "cube.zarr" / ".4.999999999.abcdef01.partial").write_text("half")


def end_early(folder):
    for name in ("lon", "lat", "id"):
        shutil.rmtree(folder / "cube.zarr" / name)
    for name in ("items.parquet", "stats.json", "collection.json"):
        (folder / name).unlink()


def lose_array(folder):
    shutil.rmtree(folder / "cube.zarr" / "scene_id")


def lose_chunk(folder):
    (folder / "cube.zarr" / "lon" / "c" / "0").unlink()


def flip_arrays(folder):
    for name in ("lon", "band", "datetime"):
        for path in (folder / "cube.zarr" / name / "c").rglob("*"):
            if path.is_file():
                flip(path)


def spoil_metadata(folder):
    (folder / "cube.zarr" / "zarr.json").write_text("{")
    (folder / "cube.zarr" / "chips" / "zarr.json").write_text("[]")


def flip(path, at=None):
    data = bytearray(path.read_bytes())
    data[len(data) // 2 if at is None else at] ^= 0x10
    path.write_bytes(data)


def lose_scenes(folder):
    (folder / "scenes.parquet").unlink()


def cut_scenes(folder):
    path = folder / "scenes.parquet"
    path.write_bytes(path.read_bytes()[:1000])


def flip_scenes(folder):
    flip(folder / "scenes.parquet")


def flip_scenes_of_no_note(folder):
    (folder / "ledger" / "_scenes.json").unlink()
    path = folder / "scenes.parquet"
    column = pq.read_metadata(path).row_group(0).column(0)
    flip(path, at=(column.dictionary_page_offset or column.data_page_offset) + column.total_compressed_size // 2)


def lose_a_scene(folder):
    path = folder / "scenes.parquet"
    (folder / "ledger" / "_scenes.json").unlink()
    table = pq.read_table(path)
    pq.write_table(table.slice(1), path)


def lose_items(folder):
    (folder / "items.parquet").unlink()


def cut_items(folder):
    path = folder / "items.parquet"
    path.write_bytes(path.read_bytes()[:-100])


def lose_an_item(folder):
    path = folder / "items.parquet"
    pq.write_table(pq.read_table(path).slice(1), path)


def lose_stats(folder):
    (folder / "stats.json").unlink()


def spoil_collection(folder):
    (folder / "collection.json").write_text("{")


def lay_a_folder_there(folder):
    (folder / "stats.json").unlink()
    (folder / "stats.json").mkdir()


def lose_catalog(folder):
    (folder.parent / "catalog.json").unlink()


def leave_ledger(folder):
    (folder / "ledger" / "shard-000099.parquet").write_bytes(b"PAR1 of no use")


def make_shard_a_folder(folder):
    path = shard_path(folder / "cube.zarr", 3)
    path.unlink()
    (path / "junk").mkdir(parents=True)


def leave_shards(folder):
    (folder / "cube.zarr" / "chips" / "c" / "99").mkdir()
    (folder / "cube.zarr" / "chips" / "c" / "junk").touch()


def spoil_answers(folder):
    for path in (folder / "ledger" / "_fallback" / "0123.json", folder / "ledger" / "_costs.json"):
        path.parent.mkdir(exist_ok=True)
        path.write_text("{")


def spoil_replacements(folder):
    (folder / "replacements.parquet").write_bytes(b"PAR1 of no use")


def fail_sample(folder):
    path = ledger_path(folder, 6)
    rows, payload = pq.read_table(path).to_pylist(), shard_path(folder / "cube.zarr", 6).read_bytes()
    plan = pq.read_schema(path).metadata[b"pwcat:plan"].decode()
    lost = {"status": "failed", "cause": "not found", "reason": "scene: B02.tif answers 404"}
    write_ledger(path, [rows[0], rows[1] | lost], plan_hash=plan, shard=payload)


FAULTS = {
    lose_shard: ("missing", "1 of 8 shards is missing or not finished: 3"),
    spoil_shard: ("damaged", "1 of 8 shards is damaged: its bytes are not those that its ledger names: 3"),
    spoil_ledger: ("bad ledger", "1 of 8 shards has a ledger that cannot be read: 5"),
    age_ledger: ("older plan", "1 of 8 shards is of an older plan: 2"),
    swap_samples: ("older samples", "1 of 8 shards holds samples that were replaced since: 2"),
    leave_half_written: ("leftovers", "1 half-written file of killed writers"),
    end_early: ("undescribed", "the samples are not described yet"),
    lose_array: ("coordinates", "cube.zarr: scene_id is missing, or not what plan and ledgers say"),
    lose_chunk: ("coordinates", "cube.zarr: lon is missing, or not what plan and ledgers say"),
    flip_arrays: ("coordinates", "cube.zarr: lon, datetime and band are missing, or not what plan and ledgers say"),
    spoil_metadata: ("metadata", "cube.zarr/zarr.json and cube.zarr/chips/zarr.json cannot be read"),
    lose_scenes: ("scenes", "scenes.parquet is missing; a build asks its source for them again, by their ids"),
    cut_scenes: ("scenes", "scenes.parquet is not as it was written; a build asks its source for them again"),
    flip_scenes: ("scenes", "scenes.parquet is not as it was written"),
    flip_scenes_of_no_note: ("scenes", "scenes.parquet cannot be read"),
    lose_a_scene: ("scenes", "scenes.parquet lacks 1 of the scenes that the plan names"),
    lose_items: ("undescribed", "items.parquet is missing"),
    cut_items: ("undescribed", "items.parquet cannot be read"),
    lose_an_item: ("undescribed", "items.parquet has 15 samples, not 16"),
    lose_stats: ("undescribed", "stats.json is missing"),
    spoil_collection: ("undescribed", "collection.json cannot be read"),
    lay_a_folder_there: ("undescribed", "stats.json is no file"),
    lose_catalog: ("unlisted", "the catalog's catalog.json is missing"),
    leave_ledger: ("strays", "no shard or ledger of this plan, and in their way: ledger/shard-000099.parquet"),
    leave_shards: ("strays", "in their way: cube.zarr/chips/c/99, cube.zarr/chips/c/junk"),
    spoil_answers: ("notes", "ledger/_costs.json and ledger/_fallback/0123.json cannot be read"),
    spoil_replacements: ("plan", "replacements.parquet: cannot be read"),
    fail_sample: ("failed", "1 failed, not found: scene: B02.tif answers 404; a build tries them again"),
}


@pytest.mark.parametrize("damage", FAULTS)
def test_what_is_wrong_is_told_and_mended_by_the_command(damage, dataset, built, bytes_of):
    damage(dataset)
    kind, told = FAULTS[damage]
    finding, *more = (found for found in examine(dataset).findings if found.kind == kind or damage is not fail_sample)
    assert (finding.kind, more) == (kind, [])
    assert told in finding.what
    follow(finding.mend)
    assert examine(dataset).is_well
    assert bytes_of(dataset) == bytes_of(built)


def test_a_folder_in_the_place_of_a_shard_is_told_and_removed(dataset, built, bytes_of):
    make_shard_a_folder(dataset)
    strays, missing = examine(dataset).findings
    assert (strays.kind, missing.kind) == ("strays", "missing")
    with pytest.raises(CubeError, match=r"c/3/0/0/0/0: no shard or ledger of this plan, and in their way; remove it"):
        follow(missing.mend)
    follow(strays.mend)
    assert examine(dataset).is_well
    assert bytes_of(dataset) == bytes_of(built)


def test_a_plan_without_a_cube(dataset):
    lose_cube(dataset)
    assert {finding.kind for finding in examine(dataset).findings} == {"no cube", "missing"}


def test_the_command_says_it_all_and_ends_with_one(dataset):
    lose_shard(dataset)
    told = CliRunner().invoke(doctor, [str(dataset)])
    assert told.exit_code == 1
    command = f"pwcat build {dataset}/recipe.yaml --catalog {dataset.parent}"
    assert told.output == (
        f"{dataset}: 14 written, 2 missing; 8 shards\n- 1 of 8 shards is missing or not finished: 3\n    {command}\n"
    )
    told = CliRunner().invoke(doctor, [str(dataset), "--json"])
    assert told.exit_code == 1
    assert json.loads(told.output)["findings"] == [
        {"kind": "missing", "what": "1 of 8 shards is missing or not finished: 3", "mend": command}
    ]


def test_all_is_well_ends_with_nought(dataset):
    told = CliRunner().invoke(doctor, [str(dataset)])
    assert told.exit_code == 0
    assert told.output.endswith("that its ledger names, and all that describes the samples is there\n")
    assert json.loads(CliRunner().invoke(doctor, [str(dataset), "--json"]).output)["well"] is True


def test_folders_that_are_none_are_told_apart(dataset, tmp_path):
    with pytest.raises(PwcatError, match=r"a catalog, not a dataset; look at one of those in it: small$"):
        examine(dataset.parent)
    with pytest.raises(PwcatError, match=r"nowhere: no such folder$"):
        examine(tmp_path / "nowhere")
    with pytest.raises(
        PwcatError, match=r"ledger: no dataset there \(looked for plan.parquet, .*; `pwcat build RECIPE`"
    ):
        examine(dataset / "ledger")


def test_a_recipe_that_was_changed_since_is_told(dataset, small, tmp_path):
    changed = tmp_path / "small.yaml"
    changed.write_text(yaml.safe_dump({**yaml.safe_load(small.read_text()), "seed": 7}))
    finding = only(examine(dataset, recipe=changed))
    assert finding.what.startswith(f"{changed} has changed since the plan was made (")
    assert finding.what.endswith("), in seed")
    assert finding.mend == f"rm -r {dataset} && pwcat build {changed} --catalog {dataset.parent}"
    shutil.copy(changed, dataset / "recipe.yaml")  # the copy in the folder is edited instead
    finding = only(examine(dataset, recipe=small))
    assert "recipe.yaml is not the recipe that plan.parquet was made from" in finding.what
    follow(finding.mend)
    assert examine(dataset, recipe=small).is_well


def test_a_folder_that_was_renamed_is_told(dataset):
    moved = dataset.rename(dataset.with_name("other"))
    finding = only(examine(moved))
    assert "its recipe calls it 'small'" in finding.what
    follow(finding.mend)
    assert examine(dataset).is_well


def test_a_copy_beside_the_dataset_is_not_moved_into_it(dataset):
    copy = shutil.copytree(dataset, dataset.with_name("copy"))
    finding = only(examine(copy))
    assert (
        finding.what
        == "this is a copy, or another dataset under its name: its recipe calls it 'small', and that is there"
    )
    assert finding.mend is None


def test_a_recipe_within_the_folder_is_not_removed_with_it(dataset):
    """Where the copy in the folder was edited, and is said to be the recipe, there may be no other one."""
    copy = dataset / "recipe.yaml"
    copy.write_text(copy.read_text().replace("seed: 0", "seed: 1"))
    assert "recipe.yaml" in only(examine(dataset)).what
    for given in (copy, dataset / ".." / "small" / "recipe.yaml"):
        diagnosis = examine(dataset, recipe=given)
        assert only(diagnosis).mend.startswith("test -f RECIPE && rm -r ")
        assert str(given) not in only(diagnosis).mend
        assert "RECIPE stands for" in diagnosis.notes[0]


def test_a_build_at_work_is_told(dataset):
    with locked(dataset / "ledger" / "_lock", doing="a build"):
        finding = only(examine(dataset))
    assert finding.what.startswith(f"a build is at work (process {os.getpid()} on ")
    assert finding.mend is None
    assert examine(dataset).is_well


def test_a_search_that_was_left_half_way_is_told(tmp_path, small):
    folder = tmp_path / "small"
    Journal(folder / "search", {"url": "https://example.org"}).add(0, Page(items=[], next=None))
    finding = only(examine(folder, recipe=small))
    assert finding.what == "a search for scenes was left half-way; 1 page of it is kept for a day"
    assert finding.mend == f"pwcat plan {small} --catalog {tmp_path}"


@pytest.fixture
def relative(dataset, small, archive_dir, tmp_path):
    """The file of the dataset's recipe, its archive by a relative path; planned and built from there."""
    (tmp_path / "recipes").mkdir()
    path = tmp_path / "recipes" / "small.yaml"
    document = yaml.safe_load(small.read_text())
    document["source"]["path"] = os.path.relpath(archive_dir, path.parent)
    path.write_text(yaml.safe_dump(document))
    shutil.rmtree(dataset)
    cli(["build", str(path), "--catalog", str(dataset.parent)], standalone_mode=False)
    return path


def test_commands_name_the_recipe_that_was_built_while_it_is_there(dataset, relative):
    spoil_shard(dataset)
    shard = shard_path(dataset / "cube.zarr", 3)
    build = f"pwcat build {relative} --catalog {dataset.parent}"
    assert only(examine(dataset)).mend == f"rm -r {shard} && {build}"
    relative.write_text(relative.read_text().replace("seed: 0", "seed: 1"))
    diagnosis = examine(dataset)
    mend = only(diagnosis).mend
    assert mend == f"test -f RECIPE && rm -r {shard} && pwcat build RECIPE --catalog {dataset.parent}"
    (note,) = diagnosis.notes
    assert note.startswith("RECIPE stands for the recipe's file, which is not where it lay")
    assert subprocess.run(mend, shell=True, check=False).returncode != 0
    assert shard.is_file()
    relative.write_text(
        relative.read_text().replace("seed: 1", "seed: 0").replace("\nsource:", "\nsource:\n  search: api")
    )
    follow(only(examine(dataset)).mend)
    diagnosis = examine(dataset, recipe=relative)
    assert (diagnosis.is_well, diagnosis.notes) == (True, [])


def test_scenes_that_their_source_has_no_more_are_told_and_what_is_made_stays(dataset, source):
    path = dataset / "scenes.parquet"
    names, before = set(pq.read_table(path)["id"].to_pylist()), path.read_bytes()
    recover_scenes(path, names, source=source, bands=["B02"])
    assert path.read_bytes() == before
    path.unlink()
    recover_scenes(path, names, source=source, bands=["B02"])
    assert path.read_bytes() == before
    with pytest.raises(
        SourceError, match=r"1 of \d+ scenes that the plan names are neither there nor .* more: S2X\. Put"
    ):
        recover_scenes(path, {*names, "S2X"}, source=source, bands=["B02"])
    assert path.read_bytes() == before


def test_scenes_whose_offset_is_doubted_are_a_note(dataset):
    path = ledger_path(dataset, 6)
    rows, payload = pq.read_table(path).to_pylist(), shard_path(dataset / "cube.zarr", 6).read_bytes()
    plan = pq.read_schema(path).metadata[b"pwcat:plan"].decode()
    write_ledger(path, [rows[0] | {"offset_flag": ["dark at 0"]}, rows[1]], plan_hash=plan, shard=payload)
    diagnosis = examine(dataset)
    name = rows[0]["item"][0]
    told = f"{name} contradicts the offset that it states: dark at 0; its pixels are left as its metadata has them"
    assert (diagnosis.is_well, diagnosis.notes) == (True, [told])
    assert f"Note: {told}\n" in CliRunner().invoke(doctor, [str(dataset)]).output


def test_a_dataset_of_no_pixels_is_not_said_to_lack_a_description(dataset):
    for name in ("items.parquet", "stats.json", "collection.json"):
        (dataset / name).unlink()
    for shard in range(8):
        path, payload = ledger_path(dataset, shard), shard_path(dataset / "cube.zarr", shard).read_bytes()
        plan = pq.read_schema(path).metadata[b"pwcat:plan"].decode()
        rows = [row | {"status": "failed", "cause": "not found"} for row in pq.read_table(path).to_pylist()]
        write_ledger(path, rows, plan_hash=plan, shard=payload)
    assert only(examine(dataset)).kind == "failed"
