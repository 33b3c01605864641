"""What is to be predicted of a tile's map: the labels, and which tags have to go so that inputs do not tell them.

The five targets of GeoJEPA's tasks. A tag can *tell* a target (``building=yes``), or merely give it away (``layer=1`` goes
with bridges): both are dropped from masked inputs. Only what tells counts for the label, and of that neither ``building=no``
nor what is not there any more, or not yet (``demolished:building=yes``).

Source: the task generator of GeoJEPA (data/task_generator/generator.cpp at 675ce0b), which matches substrings. What is
otherwise here: see ``docs/map-tasks.md``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pwcat.osm.speeds import speed_limit

__all__ = ["TARGETS", "TARGET_COLUMNS", "Inputs", "TagRule", "Target", "tile_labels"]

Inputs = Literal["masked", "removed", "leaky"]
Tag = tuple[str, str]

# Prefixes of keys of what is not there ("Lifecycle prefix" of the OpenStreetMap wiki); what is disused still stands.
_GONE: Final = frozenset(
    {"demolished", "razed", "removed", "destroyed", "dismantled", "obliterated", "was", "proposed", "planned"}
)
# Keys under whose value "bridge" is one: with any other, such as sport, it may be a game of cards.
_MAKES_A_BRIDGE: Final = frozenset({"man_made", "type", "railway", "highway", "historic", "building", "footway"})
# The source has neither trunk nor residential roads nor living streets, which cars do use.
_CAR_ROADS: Final = frozenset(
    {"motorway", "trunk", "primary", "secondary", "tertiary", "unclassified", "residential", "living_street", "service"}
)
_CANDIDATES: Final = "building|bridge|signals|maxspeed|highway"  # what a tag of any target has in its key or value


@dataclass(frozen=True, kw_only=True)
class Target:
    """Something that is counted, measured or looked for on a tile.

    Attributes:
        name: as in the names of tasks.
        title: for people.
        unit: of the number; empty of what is there or not.
        kind: "number", or "binary": 1 where it is there, 0 where it is not.
        column: of the items.
        zeros_kept: share of the tiles with label 0 that the source keeps, as there are so many of them.
        tells: whether a tag makes its entity one that counts.
        removes: whether a tag has to go from masked inputs; every one that tells has to.
    """

    name: str
    title: str
    unit: str
    kind: Literal["number", "binary"]
    column: str
    zeros_kept: float
    tells: Callable[[str, str], bool]
    removes: Callable[[str, str], bool]


@dataclass(frozen=True, kw_only=True)
class TagRule:
    """Which tags, and which entities, inputs of a target lack; entities that are left without a tag go too.

    Attributes:
        target: name of it, of :data:`TARGETS`.
        inputs: "masked" drops tags alone; "removed" drops these, and takes entities with a tag that tells the target.
    """

    target: str
    inputs: Inputs = "masked"

    def __post_init__(self) -> None:
        if self.target not in TARGETS or self.inputs not in get_args(Inputs):
            raise ValueError(f"no rule of {self.target!r}, {self.inputs!r}: {', '.join(TARGETS)}; {get_args(Inputs)}")

    def drops(self, key: str, value: str) -> bool:
        """Whether this tag goes."""
        return self.inputs != "leaky" and TARGETS[self.target].removes(key, value)

    def takes(self, key: str, value: str) -> bool:
        """Whether an entity with this tag goes, with all of its tags."""
        return self.inputs == "removed" and TARGETS[self.target].tells(key, value)

    def dropped(self, tags: Sequence[Tag]) -> NDArray[np.bool_]:
        """:meth:`drops` of each tag."""
        return np.fromiter((self.drops(*tag) for tag in tags), dtype=bool, count=len(tags))

    def taken(self, tags: Sequence[Tag]) -> NDArray[np.bool_]:
        """:meth:`takes` of each tag."""
        return np.fromiter((self.takes(*tag) for tag in tags), dtype=bool, count=len(tags))


def tile_labels(entities: pa.Table, num_tiles: int) -> dict[str, NDArray[np.float64]]:
    """The label of each target of each tile, (num_tiles,), by column of the items.

    An entity that the tile's edge cuts counts once in every tile that holds a piece of it. Counts are of entities, traffic
    signals of points alone; ``max_speed`` is the highest limit on the tile, km/h, NaN where none is told; bridges are 0 or 1. A
    tile without entities has counts of 0.

    Args:
        entities: columns ``index``, ``part``, ``kind`` and ``tags`` of :data:`pwcat.osm.schema.ENTITY_SCHEMA`, in any order of
            rows; further columns do not matter.
        num_tiles: tiles there are; their numbers are those of ``index``.

    Raises:
        ValueError: an entity is on a tile with a number beyond.
    """
    index_E = _column(entities, "index", np.int64)
    if len(index_E) and not 0 <= index_E.min() <= index_E.max() < num_tiles:
        raise ValueError(f"entities lie on tiles {index_E.min()} to {index_E.max()}, and there are {num_tiles}")
    first_E = _column(entities, "part", np.int64) == 0
    point_E = np.asarray(pc.equal(entities["kind"], "point").to_numpy(), dtype=bool)
    tags = _Tags.of(entities["tags"])
    bridges_E = tags.have(_bridge)

    def count(of_E: NDArray[np.bool_]) -> NDArray[np.float64]:
        return np.bincount(index_E[of_E & first_E], minlength=num_tiles).astype(np.float64)

    found = {
        "building-count": count(tags.have(_building)),
        "traffic-signals": count(tags.have(_signals) & point_E),
        "max-speed": _highest(index_E, tags.highest(_speed), num_tiles),
        "bridge": np.minimum(count(bridges_E), 1),
        "car-bridge": np.minimum(count(bridges_E & tags.have(_car_road)), 1),
    }
    return {TARGETS[name].column: labels for name, labels in found.items()}


@dataclass(frozen=True, kw_only=True)
class _Tags:
    """The tags of E entities that could tell a target: U that differ.

    Attributes:
        entity_A: whose each is.
        which_A: place among ``unique``.
        unique: keys and values.
        entities: E.
    """

    entity_A: NDArray[np.int64]
    which_A: NDArray[np.int64]
    unique: tuple[Tag, ...]
    entities: int

    @classmethod
    def of(cls, column: pa.ChunkedArray) -> _Tags:
        chunks = column.chunks
        starts = np.cumsum([0, *(len(chunk) for chunk in chunks)])
        entity_A = np.concatenate(
            [np.empty(0, dtype=np.int64), *(s + _entity_of(c) for s, c in zip(starts, chunks, strict=False))]
        )
        keys, values = (
            pc.dictionary_encode(pa.chunked_array([_children(chunk, name) for chunk in chunks], pa.string()))
            for name in ("keys", "items")
        )
        (key_A, key_words), (value_A, value_words) = _codes(keys), _codes(values)
        here_A = _matches(key_words)[key_A] | _matches(value_words)[value_A] if len(key_A) else np.zeros(0, dtype=bool)
        pair_A = key_A[here_A] * max(1, len(value_words)) + value_A[here_A]
        pairs_U, which_A = np.unique(pair_A, return_inverse=True)
        unique = [divmod(int(pair), max(1, len(value_words))) for pair in pairs_U]
        return cls(
            entity_A=entity_A[here_A],
            which_A=which_A.astype(np.int64),
            unique=tuple((key_words[key].as_py(), value_words[value].as_py()) for key, value in unique),
            entities=int(starts[-1]),
        )

    def have(self, test: Callable[[str, str], bool]) -> NDArray[np.bool_]:
        """Entities with a tag that passes, (E,)."""
        passed_U = np.fromiter((test(*tag) for tag in self.unique), dtype=bool, count=len(self.unique))
        found_E = np.zeros(self.entities, dtype=bool)
        found_E[self.entity_A[passed_U[self.which_A]]] = True
        return found_E

    def highest(self, number: Callable[[str, str], float]) -> NDArray[np.float64]:
        """The highest number among the tags of each entity, (E,); NaN where none tells one."""
        numbers_U = np.fromiter((number(*tag) for tag in self.unique), dtype=np.float64, count=len(self.unique))
        return _highest(self.entity_A, numbers_U[self.which_A], self.entities)


def _highest(place_A: NDArray[np.int64], number_A: NDArray[np.float64], places: int) -> NDArray[np.float64]:
    """The highest number at each place, NaN where there is none."""
    found = np.full(places, np.nan)
    np.fmax.at(found, place_A, number_A)
    return found


def _column(table: pa.Table, name: str, kind: type) -> NDArray[np.int64]:
    return table[name].to_numpy().astype(kind)


def _entity_of(chunk: pa.MapArray) -> NDArray[np.int64]:
    """The entity of each tag of a chunk."""
    return np.repeat(np.arange(len(chunk)), np.diff(chunk.offsets.to_numpy()))


def _children(chunk: pa.MapArray, name: str) -> pa.Array:
    """Keys or items of a chunk, which may be a slice of a longer one."""
    offsets = chunk.offsets.to_numpy()
    return getattr(chunk, name).slice(offsets[0], offsets[-1] - offsets[0])


def _codes(encoded: pa.ChunkedArray) -> tuple[NDArray[np.int64], pa.Array]:
    """Codes of words, and the words; chunks of one encoding share them."""
    whole = encoded.combine_chunks()
    whole = whole if isinstance(whole, pa.DictionaryArray) else pa.concat_arrays(whole.chunks)
    return whole.indices.to_numpy().astype(np.int64), whole.dictionary


def _matches(words: pa.Array) -> NDArray[np.bool_]:
    return np.asarray(pc.match_substring_regex(words, _CANDIDATES).to_numpy(zero_copy_only=False), dtype=bool)


def _is(key: str, value: str) -> bool:
    """Whether a tag speaks of what is there."""
    return value != "no" and key.split(":", 1)[0] not in _GONE


def _building(key: str, value: str) -> bool:
    return "building" in key and _is(key, value)


def _signals(key: str, value: str) -> bool:
    return ("traffic_signals" in key or "traffic_signals" in value or "crossing:signals" in key) and _is(key, value)


def _bridge(key: str, value: str) -> bool:
    named = "bridge" in _words(key) or (key in _MAKES_A_BRIDGE and "bridge" in _words(value))
    return named and _is(key, value)


def _car_road(key: str, value: str) -> bool:
    return key == "highway" and value.removesuffix("_link") in _CAR_ROADS


def _speed(key: str, value: str) -> float:
    return speed_limit(value) if "maxspeed" in key and _is(key, value) else float("nan")


def _limits(key: str, value: str) -> bool:
    return not np.isnan(_speed(key, value))


def _words(text: str) -> list[str]:
    return re.split(r"[^a-z]+", text)


def _naming(*words: str) -> Callable[[str, str], bool]:
    """Tags with one of these words anywhere in key or value, in capitals or not: more than tell, as nothing may be left."""

    def removes(key: str, value: str) -> bool:
        text = f"{key}\n{value}".casefold()
        return any(word in text for word in words)

    return removes


def _bridging(key: str, value: str) -> bool:
    return _naming("bridge")(key, value) or "layer" in _words(key.casefold())


def _limiting(key: str, value: str) -> bool:
    """Besides, signs as ``DE:274-50`` and ``FR:B14[50]``, and zones as ``DE:urban``: they say the limit in codes."""
    named = key.casefold()
    return _naming("maxspeed")(key, value) or named.split(":", 1)[0] == "traffic_sign" or named == "zone:traffic"


def _of(
    name: str,
    title: str,
    tells: Callable[[str, str], bool],
    removes: Callable[[str, str], bool],
    zeros: float,
    unit: str = "",
) -> Target:
    kind: Literal["number", "binary"] = "number" if unit else "binary"
    column = f"map:{name.replace('-', '_')}"
    return Target(
        name=name, title=title, unit=unit, kind=kind, column=column, zeros_kept=zeros, tells=tells, removes=removes
    )


_signalling = _naming("traffic_signals", "crossing:signals")
TARGETS: Final[Mapping[str, Target]] = MappingProxyType(
    {
        target.name: target
        for target in (
            _of("building-count", "Buildings on the tile", _building, _naming("building"), 0.10, "buildings"),
            _of("traffic-signals", "Traffic signals on the tile", _signals, _signalling, 0.05, "signals"),
            _of("max-speed", "Highest speed limit on the tile", _limits, _limiting, 0.0, "km/h"),
            _of("bridge", "Whether there is a bridge", _bridge, _bridging, 0.25),
            _of("car-bridge", "Whether there is a bridge for cars", _bridge, _bridging, 0.10),
        )
    }
)
TARGET_COLUMNS: Final = tuple(target.column for target in TARGETS.values())
