"""Which test samples a model has all but seen in its pretraining: by place, and by embedding.

By place, a test sample leaks where its centre is nearer than some kilometres to that of a pretraining chip, or where the two
chips share ground (:mod:`training.footprints`). By embedding, where its cosine with a pretraining sample, under some model, is
at or above a bound, that is given or chosen against a null (:mod:`training.likeness`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pwcat.atomic import replacing
from pwcat.errors import TrainingError
from training.checkpoint import load_model_folder
from training.embeddings import embed_run
from training.evaluating.leaks import AUDIT
from training.footprints import Footprints, Nearness, compare_places, footprints_of
from training.likeness import Bound, Likeness, Vectors, choose_bound, compare_vectors
from training.models.folder import weights_hash
from training.tasks.base import TaskData

if TYPE_CHECKING:
    from catalog.subset import Subset

__all__ = ["LEAKS", "Against", "Audit", "Overlap", "audit"]

KM = 1.0
PERCENTILES = (0, 1, 5, 25, 50)

Against = Literal["pretraining", "train"]

# What is written of each test sample that leaks.
LEAKS = pa.schema(
    [
        ("task", pa.string()),
        ("task_hash", pa.string()),
        ("id", pa.string()),
        ("against", pa.string()),  # "pretraining", or "train": the task's own
        ("reason", pa.string()),  # "place", "embedding" or "both"
        ("km", pa.float64()),  # from the nearest, centre to centre
        ("similarity", pa.float64()),  # with the most similar; null below the bound
        ("nearest", pa.string()),  # id of the nearest by place; of the most similar, where it leaks by embedding alone
        ("nearest_collection", pa.string()),
        ("most_similar", pa.string()),  # id; null below the bound
    ]
)


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """How much of a split of a task leaks.

    Attributes:
        task: its name.
        task_hash: identifies its samples.
        split: of the task.
        against: what it is compared with: the pretraining subset, or the task's own samples to train and validate on.
        samples: in the split.
        without_place: of these, with no coordinates: nothing is known of them by place.
        without_embedding: of these, with none, or one of zeros; 0 where no model was asked.
        by_place: samples that leak by place.
        by_embedding: samples that leak by embedding; ``None`` where no model was asked.
        by_both: by place and by embedding.
        leaking: by either.
        nearest_km: percentiles of the distance from the nearest, by per cent; of distances beyond ``km`` too large by a
            thousandth at most.
        above: the bound of similarity; more than 1 where even samples far apart are the same.
        bound: where it comes from: "given", "null", or "" where no model was asked.
        null_samples: that the null is made of.
    """

    task: str
    task_hash: str
    split: str
    against: Against
    samples: int
    without_place: int
    without_embedding: int
    by_place: int
    by_embedding: int | None
    by_both: int | None
    leaking: int
    nearest_km: dict[str, float]
    above: float | None
    bound: str
    null_samples: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Audit:
    """What leaks.

    Attributes:
        overlaps: of each task and split.
        leaks: samples of the test splits that leak, :data:`LEAKS`.
        subset: what was pretrained on; ``None`` where tasks were compared with themselves alone.
        touched: samples of the subset that a test sample leaks from, (N,).
        facts: how it was made: JSON values.
    """

    overlaps: list[Overlap]
    leaks: pa.Table
    subset: Subset | None
    touched: NDArray[np.bool_]
    facts: dict[str, Any]

    def save(self, path: Path) -> Path:
        """Write the leaks as Parquet, which :func:`training.evaluate.evaluate` takes as ``without``."""
        import pyarrow.parquet as pq

        path.parent.mkdir(parents=True, exist_ok=True)
        notes = {AUDIT: json.dumps(self.to_json(), default=str).encode()}
        with replacing(path) as temporary:
            pq.write_table(self.leaks.replace_schema_metadata(notes), temporary, compression="zstd")
        return path

    def remaining(self) -> Subset:
        """The pretraining subset without the samples that tests leak from.

        Raises:
            TrainingError: there is no such subset.
        """
        if self.subset is None:
            raise TrainingError(
                "tasks were compared with themselves: there is no pretraining subset to take samples from"
            )
        told = {**self.facts, "left_out": int(self.touched.sum())}
        return replace(self.subset.only(~self.touched), query={**self.subset.query, "audit": told})

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {**self.facts, "leaks": len(self.leaks), "overlaps": [asdict(one) for one in self.overlaps]}


def audit(
    subset: Subset | None,
    tasks: Sequence[TaskData],
    *,
    km: float = KM,
    run: str | Path | None = None,
    above: float | None = None,
    column: str | None = None,
    within: bool = False,
    seed: int = 0,
    device: str | None = None,
    other_units: bool = False,
    progress: Callable[[str], None] = lambda what: None,
) -> Audit:
    """Which samples of tasks leak from a pretraining subset, or from the tasks' own training samples.

    Args:
        subset: what was pretrained on; ``None`` to compare tasks with themselves alone.
        tasks: opened ones.
        km: samples whose centres are nearer leak by place, and so do those whose chips share ground.
        run: a run's or a model's folder, by whose embeddings samples leak too; they are kept in it.
        above: cosine from which samples leak by embedding; chosen for each task against a null where none is given.
        column: of the subset, that has its embeddings by the same model, so that its chips need not be read.
        within: compare the "test" samples of each task with its "train" and "val" samples, too.
        seed: fixes which samples a null is made of.
        device: torch device; the best there is where none is given.
        other_units: let values of another unit than in pretraining pass.
        progress: told what is done next.

    Raises:
        TrainingError: there is nothing to compare, a distance or similarity is none, or a bound cannot be chosen.
    """
    _require_sense(subset, tasks, km=km, run=run, above=above, column=column, within=within)

    def embedded(data: Subset | TaskData, what: str) -> Vectors | None:
        if run is None:
            return None
        progress(f"embeddings of {what}")
        return Vectors(values=embed_run(run, data, device=device, other_units=other_units).values)

    facts: dict[str, Any] = {"km": km}
    if run is not None:
        facts |= {"run": Path(run).resolve().name, "weights_hash": weights_hash(load_model_folder(run)), "above": above}
    whole = None
    if subset is not None:
        facts["data_hash"] = subset.hash
        vectors = (
            embedded(subset, "the pretraining samples")
            if column is None
            else _of_column(subset, column, str(facts["weights_hash"]))
        )
        whole = _Side.of_subset(subset, vectors)
    overlaps: list[Overlap] = []
    leaks = [LEAKS.empty_table()]
    touched = np.zeros(0 if subset is None else len(subset), dtype=bool)
    for data in tasks:
        mine = _Side(ids=data.ids, places=footprints_of(data), vectors=embedded(data, data.info.name))
        if whole is not None:
            progress(f"{data.info.name} beside the pretraining samples")
            for found in _compare(data, mine, whole, "pretraining", km=km, above=above, seed=seed):
                overlaps.append(found.overlap)
                if found.overlap.split == "test":
                    leaks.append(found.leaks)
                    touched |= found.others
        if within:
            progress(f"{data.info.name}: test samples beside its own others")
            own = mine.only(np.flatnonzero(data.splits != "test"))
            if not len(own.ids):
                raise TrainingError(f"task {data.info.name}: has no samples to train on, that tests could leak from")
            found = next(_compare(data, mine, own, "train", km=km, above=above, seed=seed))
            overlaps.append(found.overlap)
            leaks.append(found.leaks)
    return Audit(overlaps=overlaps, leaks=pa.concat_tables(leaks), subset=subset, touched=touched, facts=facts)


def _require_sense(
    subset: Subset | None,
    tasks: Sequence[TaskData],
    *,
    km: float,
    run: str | Path | None,
    above: float | None,
    column: str | None,
    within: bool,
) -> None:
    if not tasks or (subset is None and not within):
        raise TrainingError("nothing to audit: give tasks, and a pretraining subset or `within`, or both")
    if subset is not None and not len(subset):
        raise TrainingError("the pretraining subset holds no samples, so that nothing can leak from it")
    named = [(data.info.name, data.hash) for data in tasks]
    if twice := sorted({name for name, one in named if named.count((name, one)) > 1}):
        raise TrainingError(f"task {', '.join(twice)}: given twice with the same samples; once is enough")
    if untested := [data.info.name for data in tasks if not (data.splits == "test").any()]:
        raise TrainingError(f"task {', '.join(untested)}: no sample is to be tested on, so that none can leak")
    if not 0 <= km < float("inf"):
        raise TrainingError(f"km={km:g}: a distance of 0 km or more is wanted; at 0 those chips leak that share ground")
    if above is not None and not -1 <= above <= 1:
        raise TrainingError(f"above={above:.7g}: a cosine similarity of -1 to 1 is wanted, as in .95")
    if run is None and (above is not None or column is not None):
        raise TrainingError(
            "a similarity, or a column of embeddings, needs the model that embeds the tasks: give its run"
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Side:
    """Samples of one side of a comparison.

    Attributes:
        ids: (N,).
        places: where they are.
        vectors: their embeddings; ``None`` where no model was asked.
        collections: of each, (N,); ``None`` of a task's.
    """

    ids: NDArray[np.object_]
    places: Footprints
    vectors: Vectors | None
    collections: NDArray[np.object_] | None = None

    @classmethod
    def of_subset(cls, subset: Subset, vectors: Vectors | None) -> _Side:
        keys = subset.columns(["collection", "id"])
        ids, collections = (np.array(keys[name].to_pylist(), dtype=object) for name in ("id", "collection"))
        return cls(ids=ids, collections=collections, places=footprints_of(subset), vectors=vectors)

    def only(self, rows: NDArray[np.int64]) -> _Side:
        vectors = None if self.vectors is None else self.vectors.only(rows)
        return _Side(ids=self.ids[rows], places=self.places.only(rows), vectors=vectors)

    def named(self, rows: NDArray[np.int64]) -> list[str | None]:
        """Ids of some rows, ``None`` where the row is -1."""
        return [str(self.ids[row]) if row >= 0 else None for row in rows.tolist()]


def _of_column(subset: Subset, column: str, model: str) -> Vectors:
    """Vectors of a column, NaN where there is none.

    Raises:
        TrainingError: they are of another model than that of the tasks, or there are none.
        CatalogError: there is no such column.
    """
    from catalog.querying.beside import column_at
    from catalog.vectors import vector_blocks

    for member in subset.collections:
        told = column_at(member.place, column)
        if told is not None and told.made.get("weights_hash") != model:
            raise TrainingError(
                f"column {column!r} of {member.name} is of model {str(told.made.get('weights_hash'))[:12]}, and the tasks are "
                f"embedded by {model[:12]}, so that they cannot be compared: take the run that made the column"
            )
    found: NDArray[np.floating] | None = None
    for rows, vectors in vector_blocks(subset, column):
        if found is None:
            found = np.full((len(subset), vectors.shape[1]), np.nan, dtype=vectors.dtype)
        found[rows] = vectors
    if found is None:
        raise TrainingError(f"no sample of the pretraining subset has a vector in column {column!r}")
    return Vectors(values=found)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Found:
    """Of a split: how much leaks, what, and which of the others it leaks from, (M,)."""

    overlap: Overlap
    leaks: pa.Table
    others: NDArray[np.bool_]


def _compare(
    data: TaskData, mine: _Side, others: _Side, against: Against, *, km: float, above: float | None, seed: int
) -> Iterator[_Found]:
    """What each split of a task shares with others, "test" first; of one bound."""
    bound: Bound | None = None
    for split in ("test", "val", "train"):
        part = mine.only(np.flatnonzero(data.splits == split))
        if not len(part.ids):
            continue
        if mine.vectors is not None and bound is None:
            bound = _bound(data, part, others, above=above, seed=seed)
        places = compare_places(part.places, others.places, km=km)
        alike = _alike(part, others, bound)
        yield _Found(
            overlap=_overlap(data, split, against, part, places, alike, bound),
            leaks=_table(data, against, part, others, places, alike),
            others=places.others | alike.others,
        )


def _bound(data: TaskData, part: _Side, others: _Side, *, above: float | None, seed: int) -> Bound:
    if above is not None:
        return Bound(above=above, chosen="given")
    assert part.vectors is not None
    assert others.vectors is not None
    try:
        return choose_bound(part.vectors, part.places, others.vectors, others.places, seed=seed)
    except TrainingError as exc:
        raise TrainingError(f"task {data.info.name}: {exc}") from exc


def _alike(part: _Side, others: _Side, bound: Bound | None) -> Likeness:
    if bound is None or part.vectors is None or others.vectors is None:
        nothing = np.zeros(len(part.ids), dtype=bool)
        return Likeness(
            near=nothing,
            similarity=np.full(len(nothing), np.nan),
            nearest=np.full(len(nothing), -1, dtype=np.int64),
            others=np.zeros(len(others.ids), dtype=bool),
        )
    return compare_vectors(part.vectors, others.vectors, above=bound.above)


def _overlap(
    data: TaskData, split: str, against: Against, part: _Side, places: Nearness, alike: Likeness, bound: Bound | None
) -> Overlap:
    away = places.km[np.isfinite(places.km)]
    asked = part.vectors is not None
    return Overlap(
        task=data.info.name,
        task_hash=data.hash,
        split=split,
        against=against,
        samples=len(part.ids),
        without_place=len(part.ids) - len(part.places.known),
        without_embedding=0 if part.vectors is None else int((~part.vectors.known).sum()),
        by_place=int(places.near.sum()),
        by_embedding=int(alike.near.sum()) if asked else None,
        by_both=int((places.near & alike.near).sum()) if asked else None,
        leaking=int((places.near | alike.near).sum()),
        nearest_km={str(p): float(q) for p, q in zip(PERCENTILES, np.percentile(away, PERCENTILES), strict=True)}
        if len(away)
        else {},
        above=None if bound is None else bound.above,
        bound="" if bound is None else bound.chosen,
        null_samples=0 if bound is None else bound.samples,
    )


def _table(data: TaskData, against: Against, part: _Side, others: _Side, places: Nearness, alike: Likeness) -> pa.Table:
    """The samples of a split that leak, :data:`LEAKS`."""
    rows = np.flatnonzero(places.near | alike.near)
    by_place, by_embedding = places.near[rows], alike.near[rows]
    nearest = np.where(by_place, places.nearest[rows], alike.nearest[rows])
    reason = np.where(by_place & by_embedding, "both", np.where(by_place, "place", "embedding"))
    collections = [None] * len(rows) if others.collections is None else others.collections[nearest].tolist()
    columns = {
        "task": [data.info.name] * len(rows),
        "task_hash": [data.hash] * len(rows),
        "id": [str(name) for name in part.ids[rows]],
        "against": [against] * len(rows),
        "reason": reason.tolist(),
        "km": pa.array(places.km[rows], from_pandas=True),
        "similarity": pa.array(alike.similarity[rows], from_pandas=True),
        "nearest": others.named(nearest),
        "nearest_collection": collections,
        "most_similar": others.named(alike.nearest[rows]),
    }
    return pa.table(columns, schema=LEAKS)
