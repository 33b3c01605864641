"""What lies where shards and their ledgers belong, and is none of them: builds neither read nor remove it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from pwcat.building.ledger import ledger_path
from pwcat.cube import CubeSpec, shard_path
from pwcat.errors import CubeError

__all__ = ["find_strays", "require_no_strays"]

_LEDGER = re.compile(r"shard-(\d{6,})\.parquet")


def find_strays(folder: Path, spec: CubeSpec) -> list[Path]:
    """Files and folders of a collection that are in the way of its shards, or are of shards that its plan has not."""
    return [*_among_ledgers(folder, spec), *_among_shards(folder / "cube.zarr", spec)]


def require_no_strays(folder: Path, spec: CubeSpec) -> None:
    """See that nothing is in the way of a build.

    Raises:
        CubeError: something is; names it.
    """
    if strays := find_strays(folder, spec):
        more = f" and {len(strays) - 3:,} more" if len(strays) > 3 else ""
        raise CubeError(
            f"{', '.join(map(str, strays[:3]))}{more}: no shard or ledger of this plan, and in their way; remove it and build "
            f"again (`pwcat doctor {folder}` says how)"
        )


def _among_ledgers(folder: Path, spec: CubeSpec) -> Iterator[Path]:
    for path in sorted((folder / "ledger").glob("shard-*.parquet")):
        number = _LEDGER.fullmatch(path.name)
        is_one = number is not None and int(number[1]) < spec.num_shards and path == ledger_path(folder, int(number[1]))
        if not is_one or not path.is_file():
            yield path


def _among_shards(cube: Path, spec: CubeSpec) -> Iterator[Path]:
    top = cube / "chips" / "c"
    if top.exists() and not top.is_dir():
        yield top
        return
    for path in sorted(top.glob("[!.]*")):
        if not path.name.isdecimal() or path.name != str(int(path.name)) or int(path.name) >= spec.num_shards:
            yield path
        elif (shard := shard_path(cube, int(path.name))).exists() or not path.is_dir():
            if not shard.is_file():
                yield shard if shard.exists() else path
        else:
            yield from _on_the_way(path, shard)


def _on_the_way(top: Path, shard: Path) -> Iterator[Path]:
    """What is no folder though a shard's file is to lie in it."""
    for folder in reversed(shard.parents[: len(shard.parents) - len(top.parents) - 1]):
        if folder.exists() and not folder.is_dir():
            yield folder
            return
