"""What a dataset's files hold, compared with what plan and ledgers say."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Iterator, Sized
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pwcat.building.coordinates import sample_columns
from pwcat.building.ledger import digest_of
from pwcat.cube import Cube, CubeSpec, band_columns, unreadable_metadata
from pwcat.doctor.described import description_faults, listing_fault
from pwcat.doctor.findings import Finding
from pwcat.doctor.mending import Mending
from pwcat.plan import FrozenPlan
from pwcat.recovery import noted_digest, scenes_named
from pwcat.sensors.meaning import sensor_bands

__all__ = ["look_at_description", "look_at_metadata", "look_at_notes", "look_at_scenes"]


def look_at_scenes(plan: FrozenPlan, mending: Mending) -> Iterator[Finding]:
    """Whether the scenes that a plan names are there; reads every byte of them."""
    path, again = plan.folder / "scenes.parquet", "a build asks its source for them again, by their ids"
    if not path.is_file():
        mend = mending.rm(path) if path.exists() else mending.build
        yield Finding(kind="scenes", what=f"scenes.parquet is {_absent(path)}; {again}", mend=mend)
        return
    if noted_digest(path) not in (None, digest_of(path)):
        yield Finding(kind="scenes", what=f"scenes.parquet is not as it was written; {again}", mend=mending.build)
        return
    found: set[str] = set()
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            for batch in file.iter_batches(use_threads=False):
                found.update(batch["id"].to_pylist())
    except (pa.ArrowException, OSError, KeyError) as exc:
        yield Finding(kind="scenes", what=f"scenes.parquet cannot be read ({exc}); {again}", mend=mending.rm(path))
        return
    if lost := scenes_named(plan.table, plan.reserve) - found:
        what = f"scenes.parquet lacks {len(lost):,} of the scenes that the plan names, such as {min(lost)}; {again}"
        yield Finding(kind="scenes", what=what, mend=mending.build)


def look_at_metadata(folder: Path, mending: Mending) -> Iterator[Finding]:
    """Whether the cube says what it is."""
    cube = folder / "cube.zarr"
    if bad := [*unreadable_metadata(cube), *([] if (cube / "zarr.json").exists() else [cube / "zarr.json"])]:
        names, them = _and([str(path.relative_to(folder)) for path in bad]), "it" if len(bad) == 1 else "them"
        what = f"{names} cannot be read, or {_is(bad)} missing; a build writes {them} again"
        yield Finding(kind="metadata", what=what, mend=mending.build)


def look_at_notes(folder: Path) -> Iterator[Finding]:
    """Whether what is kept beside the ledgers can be read; it is not missed where it is not there."""
    kept = [folder / "ledger" / name for name in ("_costs.json", "_recipe.json", "_scenes.json")]
    kept += sorted((folder / "ledger" / "_fallback").glob("*.json"))
    bad = [path for path in kept if path.is_file() and not _is_json(path)]
    if bad:
        names = _and([str(path.relative_to(folder)) for path in bad[:3]], more=len(bad) - 3)
        what = f"{names} cannot be read; a build does without, or makes anew what it needs"
        yield Finding(kind="notes", what=what, mend=shlex.join(["rm", *map(str, bad)]))


def look_at_description(plan: FrozenPlan, spec: CubeSpec, ledger: pa.Table, mending: Mending) -> Iterator[Finding]:
    """Whether samples are described as they are, in the cube and beside it, and listed in the catalog.

    Args:
        plan: of the dataset.
        spec: of its cube.
        ledger: of all its shards, which are whole.
        mending: its commands.
    """
    folder, recipe = plan.folder, plan.recipe
    expected = {**sample_columns(folder, ledger["id"])[0], **band_columns(spec, sensor_bands(recipe))}
    wrong = list(_wrong_arrays(folder, expected))
    written = ledger["id"].filter(pc.equal(ledger["status"], "written")).to_pylist()
    faults = description_faults(folder, name=recipe.name, recipe_hash=recipe.hash, ids=written) if written else ()
    beside = dict(faults)
    if set(beside.values()) == {"is missing"} and len(beside) == 3:
        yield Finding(
            kind="undescribed", what="the samples are not described yet: a build ended early", mend=mending.build
        )
        return
    if wrong:
        what = f"cube.zarr: {_and(wrong)} {_is(wrong)} missing, or not what plan and ledgers say"
        yield Finding(kind="coordinates", what=what, mend=mending.build)
    for path, fault in beside.items():
        yield Finding(kind="undescribed", what=f"{path.name} {fault}", mend=_again(path, mending))
    if written and (listing := listing_fault(folder, recipe.name)) is not None:
        path, fault = listing
        yield Finding(kind="unlisted", what=f"the catalog's {path.name} {fault}", mend=_again(path, mending))


def _again(path: Path, mending: Mending) -> str:
    return mending.rm(path) if path.exists() and not path.is_file() else mending.build


def _wrong_arrays(folder: Path, expected: dict[str, NDArray[Any]]) -> Iterator[str]:
    """Names of arrays that cannot be read, or have other values."""
    cube = Cube(folder / "cube.zarr")
    for name, values in expected.items():
        there = cube.stored(name)
        if there is None or not _same(there, values):
            yield name


def _same(there: NDArray[Any], values: NDArray[Any]) -> bool:
    if there.shape != values.shape or (there.dtype == object) != (values.dtype == object):
        return False
    return bool(np.array_equal(there, values, equal_nan=values.dtype.kind == "f"))


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return True


def _absent(path: Path) -> str:
    return "no file" if path.exists() else "missing"


def _is(things: Sized) -> str:
    return "is" if len(things) == 1 else "are"


def _and(names: Iterable[str], *, more: int = 0) -> str:
    told = [*names, *([f"{more:,} more"] if more > 0 else [])]
    return " and ".join([", ".join(told[:-1]), told[-1]]) if len(told) > 1 else told[0]
