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
from pwcat.errors import PwcatError
from pwcat.lock import locked
from pwcat.search.journal import Journal
from pwcat.search.paging import Page


@pytest.fixture
def dataset(built, tmp_path):
    """A dataset that is whole, in a catalog of its own."""
    return shutil.copytree(built, tmp_path / "catalog" / "small")


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
    shutil.rmtree(folder / "cube.zarr" / "lon")


def spoil_replacements(folder):
    (folder / "replacements.parquet").write_bytes(b"PAR1 of no use")


def fail_sample(folder):
    path = ledger_path(folder, 6)
    rows, payload = pq.read_table(path).to_pylist(), shard_path(folder / "cube.zarr", 6).read_bytes()
    plan = pq.read_schema(path).metadata[b"pwcat:plan"].decode()
    lost = {"status": "failed", "cause": "not found", "reason": "scene: B02.tif answers 404"}
    write_ledger(path, [rows[0], rows[1] | lost], plan_hash=plan, shard=payload)


FAULTS = {
    lose_shard: ("missing", "1 of 8 shards are missing or not finished: 3"),
    spoil_shard: ("damaged", "1 of 8 shards are damaged: their bytes are not those that their ledger names: 3"),
    spoil_ledger: ("bad ledger", "1 of 8 shards have a ledger that cannot be read: 5"),
    age_ledger: ("older plan", "1 of 8 shards are of an older plan: 2"),
    swap_samples: ("older samples", "1 of 8 shards hold samples that were replaced since: 2"),
    leave_half_written: ("leftovers", "1 half-written files of killed writers"),
    end_early: ("undescribed", "the samples are not described yet"),
    spoil_replacements: ("plan", "replacements.parquet: cannot be read"),
    fail_sample: ("failed", "1 failed, not found: scene: B02.tif answers 404; a build tries them again"),
}


@pytest.mark.parametrize("damage", FAULTS)
def test_what_is_wrong_is_told_and_mended_by_the_command(damage, dataset, built, bytes_of):
    damage(dataset)
    finding = only(examine(dataset))
    kind, told = FAULTS[damage]
    assert finding.kind == kind
    assert told in finding.what
    follow(finding.mend)
    assert examine(dataset).is_well
    assert bytes_of(dataset / "cube.zarr") == bytes_of(built / "cube.zarr")


def test_a_plan_without_a_cube(dataset):
    lose_cube(dataset)
    assert {finding.kind for finding in examine(dataset).findings} == {"no cube", "missing"}


def test_the_command_says_it_all_and_ends_with_one(dataset):
    lose_shard(dataset)
    told = CliRunner().invoke(doctor, [str(dataset)])
    assert told.exit_code == 1
    command = f"pwcat build {dataset}/recipe.yaml --catalog {dataset.parent}"
    assert told.output == (
        f"{dataset}: 14 written, 2 missing; 8 shards\n- 1 of 8 shards are missing or not finished: 3\n    {command}\n"
    )
    told = CliRunner().invoke(doctor, [str(dataset), "--json"])
    assert told.exit_code == 1
    assert json.loads(told.output)["findings"] == [
        {"kind": "missing", "what": "1 of 8 shards are missing or not finished: 3", "mend": command}
    ]


def test_all_is_well_ends_with_nought(dataset):
    told = CliRunner().invoke(doctor, [str(dataset)])
    assert told.exit_code == 0
    assert told.output.endswith("All is well: every shard has the bytes that its ledger names\n")
    assert json.loads(CliRunner().invoke(doctor, [str(dataset), "--json"]).output)["well"] is True


def test_folders_that_are_none_are_told_apart(dataset, tmp_path):
    with pytest.raises(PwcatError, match=r"a catalog, not a dataset; ask after one of its datasets: small$"):
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
    assert finding.what == "a search for scenes was left half-way; its 1 pages are kept for a day"
    assert finding.mend == f"pwcat plan {small} --catalog {tmp_path}"
