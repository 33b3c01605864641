"""Two that plan one dataset at once: one plans, the other waits and takes its plan."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import yaml

from pwcat.errors import RegionError
from pwcat.lock import locked_in_turn
from pwcat.plan import freeze_plan, make_plan, read_plan, write_plan
from pwcat.recipe import load_recipe

NAMES = ("plan.parquet", "recipe.yaml", "reserve.parquet", "scenes.parquet")


@pytest.fixture(scope="module")
def with_reserve(tmp_path_factory, write_recipe, small):
    """The path of the small recipe, with eight sites in reserve."""
    document = yaml.safe_load(small.read_text())
    changes = {key: document[key] for key in ("name", "num_samples", "chip", "when")}
    return write_recipe(tmp_path_factory.mktemp("at_once"), **changes, constraints={"reserve_fraction": 0.5})


@pytest.fixture(scope="module")
def plan(with_reserve, source):
    return make_plan(load_recipe(with_reserve), base_dir=with_reserve.parent, source=source)


def test_two_processes_that_start_at_once_make_one_plan(with_reserve, plan, tmp_path, pwcat):
    command = ("-v", "plan", with_reserve, "--catalog", "new/catalog", "--json")
    processes = [pwcat(*command, wait=False) for _ in range(2)]
    ends = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert [json.loads(out)["folder"] for out, _ in ends] == ["new/catalog/small"] * 2
    assert sum("scenes in" in line for _, err in ends for line in err.splitlines()) == 1  # one of them asked
    write_plan(plan, tmp_path / "undisturbed")
    catalog = tmp_path / "new" / "catalog"
    assert [path.name for path in catalog.iterdir()] == ["small"]
    assert sorted(path.name for path in (catalog / "small").iterdir()) == sorted([*NAMES, "ledger"])
    for name in NAMES:
        assert (catalog / "small" / name).read_bytes() == (tmp_path / "undisturbed" / name).read_bytes()


WAIT = """
import sys
from pathlib import Path
from pwcat.plan import freeze_plan
from pwcat.providers import OpenSource
from pwcat.recipe import load_recipe
path = Path(sys.argv[1])
nowhere = OpenSource(provider="stac", url="http://127.0.0.1:1", collection="none")  # who asks it, fails
print("ready", flush=True)
print(freeze_plan(load_recipe(path), catalog=Path(sys.argv[2]), base_dir=path.parent, source=nowhere))
"""


def test_who_waits_says_so_and_leaves_alone_what_the_first_has_written_and_used(with_reserve, plan, tmp_path):
    folder = tmp_path / "small"
    with locked_in_turn(tmp_path / ".small.planning", doing="it"):
        command = [sys.executable, "-c", WAIT, str(with_reserve), str(tmp_path)]
        second = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert second.stdout is not None
        assert second.stderr is not None
        assert second.stdout.readline() == "ready\n"
        told = second.stderr.readline()
        write_plan(plan, folder)
        (folder / "replacements.parquet").write_bytes(b"of the build that goes on")
    out, err = second.communicate(timeout=60)
    assert told == (
        f"{folder}: another planning is at work (process {os.getpid()} on {os.uname().nodename}); waiting for its end\n"
    )
    assert "replacements.parquet: cannot be read" in err  # it was left
    assert out == ""
    (folder / "replacements.parquet").unlink()
    assert len(read_plan(folder).reserve) == 8


def test_a_plan_that_cannot_be_made_leaves_nothing(with_reserve, source, tmp_path):
    recipe = load_recipe(with_reserve)
    crowded = recipe.model_copy(update={"constraints": recipe.constraints.model_copy(update={"min_spacing_km": 5000})})
    with pytest.raises(RegionError, match="sites could be placed"):
        freeze_plan(crowded, catalog=tmp_path / "new" / "catalog", base_dir=with_reserve.parent, source=source)
    assert list(tmp_path.iterdir()) == []
