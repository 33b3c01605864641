"""The embeddings that a run gives to the entities of maps: a file that tells of each what it is, and where."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from catalog.entities import NOTES, VECTOR, entity_schema
from pwcat.atomic import replacing
from pwcat.errors import TrainingError
from pwcat.osm.entities import read_entities
from training.checkpoint import load_model_folder
from training.embed import embed_entities
from training.embeddings import CACHE, LARGEST_HALF, Dtype
from training.losses import told_of_training
from training.models.folder import weights_hash
from training.osm.reading import EntityReader
from training.pretrain import pick_device
from training.run import software_versions

if TYPE_CHECKING:
    from catalog.subset import Subset

__all__ = ["EntityEmbeddings", "embed_run_entities", "require_own"]

ROWS = 8_192  # written at once, about


@dataclass(frozen=True, kw_only=True)
class EntityEmbeddings:
    """Embeddings of the map entities of a subset's tiles.

    Attributes:
        subset: the tiles.
        values: of each entity, (E, D) float32, tile by tile; of many, read from the run's folder as they are used.
        meaning: what they are, in a few words.
        made: how they were made.
    """

    subset: Subset
    values: NDArray[np.float32]
    meaning: str
    made: Mapping[str, Any]

    def save(self, path: str | Path, *, dtype: Dtype = "float32") -> Path:
        """Write a Parquet file of a row an entity: collection, tile, type and number, part, kind, tags and vector; its path.

        Args:
            path: of the file, ``.parquet``; one of such embeddings that is there is replaced.
            dtype: of the vectors.

        Raises:
            TrainingError: the file is to be of another kind, or something else lies there, or float16 cannot tell the numbers.
        """
        import pyarrow.parquet as pq

        path = Path(path)
        if path.suffix != ".parquet":
            raise TrainingError(f"{path}: embeddings of entities are written to FILE.parquet")
        require_own(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        notes = {"meaning": self.meaning, "made": {"date": now, **self.made, "dtype": dtype}}
        schema = entity_schema(pa.from_numpy_dtype(dtype)).with_metadata({NOTES: json.dumps(notes, default=str)})
        with replacing(path) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
            for table, values in self._parts():
                vectors = _of_type(values, dtype)
                lists = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), self.values.shape[1])
                writer.write_table(table.append_column(VECTOR, lists.cast(schema.field(VECTOR).type)).cast(schema))
        return path

    def to_json(self) -> dict[str, Any]:
        """How many there are, and how they were made, as JSON values."""
        entities, numbers = self.values.shape
        return {
            "meaning": self.meaning,
            "tiles": len(self.subset),
            "entities": entities,
            "numbers": numbers,
            "made": dict(self.made),
        }

    def first_name(self) -> str:
        """The name of one of the entities, such as ``way/123``: the first with an outline, or the first."""
        one: dict[str, Any] = {}
        for table, _ in self._parts():
            for row in table.select(["osm_type", "osm_id", "kind"]).to_pylist():
                one = one or row
                if row["kind"] != "point":
                    return f"{row['osm_type']}/{row['osm_id']}"
        return f"{one['osm_type']}/{one['osm_id']}"

    def _parts(self) -> Iterator[tuple[pa.Table, NDArray[np.float32]]]:
        """What entities are, and their vectors, some tiles at a time."""
        counts = EntityReader(self.subset).counts(np.arange(len(self.subset)))
        starts = np.concatenate([[0], np.cumsum(counts)])
        for collection, rows in self.subset.parts():
            first = rows.start
            while first < rows.stop:
                enough = int(np.searchsorted(starts, starts[first] + ROWS, side="right")) - 1
                last = min(max(enough, first + 1), rows.stop)
                if starts[first] < starts[last]:
                    table = _about(collection.name, collection.path, self.subset.index[first:last])
                    yield table, np.ascontiguousarray(self.values[starts[first] : starts[last]])
                first = last


def embed_run_entities(
    run: str | Path,
    subset: Subset,
    *,
    device: str | None = None,
    other_units: bool = False,
    cache: bool = True,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> EntityEmbeddings:
    """The embeddings that the model of a run, or of a model's folder, gives to the map entities of a subset's tiles.

    They are kept in the folder, as :func:`training.embeddings.embed_run` does it; a killed process is gone on with.

    Args:
        run: the folder.
        subset: map tiles; they need not be those that it was trained on.
        device: torch device; the best there is where none is given.
        other_units: let images of another unit than in pretraining pass.
        cache: keep them.
        progress: told how many are done, and of how many.

    Raises:
        TrainingError: there is no model, or one that embeds no entities; or there are no entities.
    """
    folder = Path(run)
    model, target = load_model_folder(folder), str(device or pick_device())
    made: dict[str, Any] = {  # before the work
        "by": "pwcat embed --entities",
        "run": folder.resolve().name,
        "architecture": model.architecture,
        "weights_hash": weights_hash(model),
        "data_hash": subset.hash,
        "numbers": model.entity_dim,
        "device": target,
        **told_of_training(folder),
        "versions": software_versions(),
    }
    values = embed_entities(
        model,
        subset,
        cache_dir=folder / CACHE if cache else None,
        device=target,
        other_units=other_units,
        progress=progress,
    )
    if not len(values):
        raise TrainingError(f"there are no entities on these {len(subset):,} tiles to embed")
    return EntityEmbeddings(subset=subset, values=values, meaning=f"entities by {model.facts().name}", made=made)


def _about(name: str, folder: Path, index: NDArray[np.int64]) -> pa.Table:
    """What the entities of some tiles of a collection are, in the order of these."""
    table = read_entities(folder, index, ["index", "tile", "osm_type", "osm_id", "part", "kind", "tags"])
    place = np.empty(int(index.max()) + 1, dtype=np.int64)
    place[index] = np.arange(len(index))
    order = np.argsort(place[table["index"].to_numpy()], kind="stable")
    table = table.take(pa.array(order)).drop_columns(["index"])
    return table.add_column(0, "collection", pa.array([name] * len(table), pa.string()))


def _of_type(values: NDArray[np.float32], dtype: Dtype) -> NDArray[Any]:
    if dtype == "float16" and np.any(np.abs(values) > LARGEST_HALF):
        raise TrainingError(
            f"embeddings go up to {np.nanmax(np.abs(values)):.3g}, and float16 to {LARGEST_HALF:g}: keep them as float32"
        )
    return values.astype(dtype)


def require_own(path: Path) -> None:
    """That a file of embeddings of entities takes no other file's place.

    Raises:
        TrainingError: something else lies there.
    """
    import pyarrow.parquet as pq

    if not path.exists():
        return
    try:
        own = NOTES in (pq.read_schema(path).metadata or {})
    except (OSError, pa.ArrowException):
        own = False
    if not own:
        raise TrainingError(f"{path}: is there already and holds no embeddings of entities; take another name")
