"""What coming shards want again, and what not: of the files of other scenes a process lets go, so that it does not grow."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

import pyarrow.compute as pc

from pwcat.cube import CubeSpec
from pwcat.pixels.composites import scenes_by_row
from pwcat.plan import FrozenPlan
from pwcat.readers.kept import let_go

__all__ = ["forget_scenes", "last_shards", "made_of"]

# Scenes that are remembered to be wanted again; of older ones the tiles make room for others' in any case.
REMEMBERED = 4096


def last_shards(plan: FrozenPlan, shards: Sequence[int], spec: CubeSpec) -> dict[str, int]:
    """The last shard that names each scene, by the scene's id.

    Args:
        plan: replacements put in.
        shards: those that are made, in the order in which they are begun.
        spec: of the cube.
    """
    last: dict[str, int] = {}
    for shard in shards:
        rows = plan.table.slice(shard * spec.shard_size, spec.shard_size)
        names = pc.unique(scenes_by_row(rows)[0])
        last.update(dict.fromkeys(names.to_pylist(), shard))
    return last


@contextmanager
def made_of(folder: Path, shard: int, scenes: Mapping[str, tuple[int, list[str]]]) -> Iterator[None]:
    """Around the making of a shard; afterwards, what is kept of scenes that neither it nor a coming one wants is let go.

    Shards are begun in their order, so that those after the earliest one in the making are all that may come.

    Args:
        folder: of the collection.
        shard: its number.
        scenes: that it is made of, by id: the last shard that wants them, and where their files are.
    """
    _SCENES.begin(folder, shard, scenes)
    try:
        yield
    finally:
        let_go(_SCENES.end(folder, shard))


def forget_scenes(folder: Path) -> None:
    """Let go of all that this process keeps of the files of a build that has ended."""
    let_go(_SCENES.end_all(folder))


class _Scenes:
    """Scenes that this process has read, with the last shard that wants them and their files, by collection and id."""

    def __init__(self) -> None:
        self._wanted: OrderedDict[tuple[Path, str], tuple[int, list[str]]] = OrderedDict()
        self._making: set[tuple[Path, int]] = set()
        self._lock = Lock()

    def begin(self, folder: Path, shard: int, scenes: Mapping[str, tuple[int, list[str]]]) -> None:
        with self._lock:
            self._making.add((folder, shard))
            for name, wanted in scenes.items():
                self._wanted[folder, name] = wanted
                self._wanted.move_to_end((folder, name))
            while len(self._wanted) > REMEMBERED:
                self._wanted.popitem(last=False)

    def end(self, folder: Path, shard: int) -> list[str]:
        """The files that nobody will want."""
        with self._lock:
            self._making.discard((folder, shard))
            first = min((number for where, number in self._making if where == folder), default=shard + 1)
            return self._take(folder, first)

    def end_all(self, folder: Path) -> list[str]:
        """The files of all its scenes."""
        with self._lock:
            return self._take(folder, None)

    def _take(self, folder: Path, before: int | None) -> list[str]:
        gone = [
            key for key, (last, _) in self._wanted.items() if key[0] == folder and (before is None or last < before)
        ]
        return [href for key in gone for href in self._wanted.pop(key)[1]]


_SCENES = _Scenes()
