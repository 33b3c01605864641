"""The embeddings that a run gives to samples, for others to use: a column of the catalog, or a file."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pwcat.atomic import replacing
from pwcat.errors import TrainingError
from training.checkpoint import load_model_folder
from training.embed import embed_subset, embed_task
from training.losses import column_name, told_of_training
from training.models.folder import weights_hash
from training.pretrain import pick_device
from training.run import software_versions
from training.tasks.base import TaskData

if TYPE_CHECKING:
    from catalog.subset import Subset

__all__ = ["CACHE", "Dtype", "Embeddings", "embed_run", "embedding_name"]

CACHE = "embeddings"  # folder in a run's
NOTES = b"pwcat:embeddings"
WRITE_ROWS = 8_192
LARGEST_HALF = 65_504.0  # that float16 can tell

Dtype = Literal["float16", "float32"]


@dataclass(frozen=True, kw_only=True)
class Embeddings:
    """Embeddings of the samples of a subset or a task.

    Attributes:
        data: the samples.
        values: of each, (N, D); of many, read from the run's folder as they are used.
        meaning: what they are, in a few words.
        made: how they were made, as a column's notes have it.
    """

    data: Subset | TaskData
    values: NDArray[np.float32] | NDArray[np.float16]
    meaning: str
    made: Mapping[str, Any]

    def of_type(self, dtype: Dtype) -> Embeddings:
        """The same in another type: float16 takes half the space, and moves a cosine by some 1e-5.

        Raises:
            TrainingError: float16 cannot tell numbers so large.
        """
        if self.values.dtype == dtype:
            return self
        half = np.empty(self.values.shape, dtype=dtype)
        for rows in _slices(len(half)):
            part = self.values[rows]
            if dtype == "float16" and np.any(np.abs(part) > LARGEST_HALF):
                raise TrainingError(
                    f"embeddings go up to {np.nanmax(np.abs(part)):.3g}, and float16 to {LARGEST_HALF:g}: keep them as float32"
                )
            half[rows] = part
        return replace(self, values=half, made={**self.made, "dtype": dtype})

    def keep(self, name: str, *, overwrite: bool = False) -> list[Path]:
        """Keep them as a column of their collections; see :func:`catalog.columns.add_column`.

        Raises:
            TrainingError: they are of a task, whose samples are no catalog's.
            CatalogError: they cannot be kept there.
        """
        from catalog.columns import add_column

        return add_column(self._subset(), name, self.values, meaning=self.meaning, made=self.made, overwrite=overwrite)

    def save(self, path: Path, name: str) -> list[Path]:
        """Write them to a file: ``.npy``, the matrix alone, with a table of its rows beside it; or ``.parquet``.

        The Parquet file of a subset is a column, that ``pwcat catalog columns --add`` reads; of a task, it has the samples'
        ids, splits, places and targets.

        Args:
            path: of the file.
            name: of the column.

        Raises:
            TrainingError: the file is to be of another kind.
            CatalogError: something else lies there.
        """
        if path.suffix not in {".npy", ".parquet"}:
            raise TrainingError(f"{path}: embeddings are written to FILE.parquet or FILE.npy")
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".npy":
            _require_own_rows(path.with_suffix(".csv"))
            return self._save_matrix(path)
        if isinstance(self.data, TaskData):
            return [self._save_table(path, self.data)]
        from catalog.columns import save_column

        return [save_column(self.data, path, name, self.values, meaning=self.meaning, made=self.made)]

    def to_json(self) -> dict[str, Any]:
        """How many there are, and how they were made, as JSON values."""
        samples, numbers = self.values.shape
        return {"meaning": self.meaning, "samples": samples, "numbers": numbers, "made": dict(self.made)}

    def _subset(self) -> Subset:
        if isinstance(self.data, TaskData):
            raise TrainingError(
                f"samples of task {self.data.info.name} are no catalog's, so there is no column to add: write a file (-o FILE)"
            )
        return self.data

    def _save_matrix(self, path: Path) -> list[Path]:
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.save(file, self.values)
        rows = path.with_suffix(".csv")
        samples = _samples_of(self.data)
        with replacing(rows) as temporary, temporary.open("w", newline="", encoding="utf-8") as text:
            writer = csv.writer(text)
            writer.writerow(["row", *samples])
            writer.writerows(
                zip(range(len(self.values)), *(column.to_pylist() for column in samples.values()), strict=True)
            )
        return [path, rows]

    def _save_table(self, path: Path, data: TaskData) -> Path:
        import pyarrow.parquet as pq

        notes = {"meaning": self.meaning, "task": data.info.name, "task_hash": data.hash,
                 "made": {"date": datetime.now(UTC).isoformat(timespec="seconds"), **self.made}}  # fmt: skip
        samples = pa.table({**_samples_of(data), **_targets_of(data)})
        kind = pa.list_(pa.from_numpy_dtype(self.values.dtype))
        schema = samples.schema.append(pa.field("embedding", kind)).with_metadata(
            {NOTES: json.dumps(notes, default=str)}
        )
        with replacing(path) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
            for rows in _slices(len(self.values)):
                part = np.ascontiguousarray(self.values[rows])
                lists = pa.FixedSizeListArray.from_arrays(pa.array(part.ravel()), part.shape[1]).cast(kind)
                beside = samples.slice(rows.start, rows.stop - rows.start)
                writer.write_table(beside.append_column("embedding", lists).cast(schema))
        return path


def embed_run(
    run: str | Path,
    data: Subset | TaskData,
    *,
    device: str | None = None,
    other_units: bool = False,
    cache: bool = True,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Embeddings:
    """The embeddings that the model of a run, or of a model's folder, gives to samples.

    They are kept in the folder, by hashes of all that they hang on, so that they are computed once; a killed process is gone
    on with. `pwcat evaluate` reads the same.

    Args:
        run: the folder.
        data: the samples; they need not be those that it was trained on.
        device: torch device; the best there is where none is given.
        other_units: let values of another unit than in pretraining pass.
        cache: keep them.
        progress: told how many are done, and of how many.

    Raises:
        TrainingError: there is no model, or no sample, or the data do not fit it.
    """
    folder = Path(run)
    if not len(data):
        raise TrainingError("there are no samples to embed")
    model = load_model_folder(folder)
    target = str(device or pick_device())
    made: dict[str, Any] = {  # before the work
        "by": "pwcat embed",
        "run": folder.resolve().name,
        "architecture": model.architecture,
        "weights_hash": weights_hash(model),
        "pooling": model.facts().pooling,
        "numbers": model.embedding_dim,
        "dtype": "float32",
        "device": target,
        **told_of_training(folder),
        "versions": software_versions(),
    }
    place = folder / CACHE if cache else None
    values = (
        embed_task(model, data, cache_dir=place, device=target, other_units=other_units, progress=progress)
        if isinstance(data, TaskData)
        else embed_subset(model, data, cache_dir=place, device=target, other_units=other_units, progress=progress)
    )
    return Embeddings(data=data, values=values, meaning=f"embedding by {model.facts().name}", made=made)


def embedding_name(run: str | Path) -> str:
    """The name of a run's column of embeddings, ``emb:`` and the name of its folder in lower case."""
    return f"emb:{column_name(run).partition(':')[2]}"


def _require_own_rows(path: Path) -> None:
    """That the table of rows takes no other table's place, which nobody named."""
    if path.is_file() and not path.read_bytes()[:4].startswith(b"row,"):
        raise TrainingError(
            f"{path}: is there already and is no table of rows, which lies beside a matrix; take another name"
        )


def _samples_of(data: Subset | TaskData) -> dict[str, pa.Array]:
    if not isinstance(data, TaskData):
        table = data.columns(["collection", "id"])
        return {name: table[name] for name in table.column_names}
    return {
        "id": pa.array(data.ids.tolist(), pa.string()),
        "split": pa.array(data.splits.tolist(), pa.string()),
        "lon": pa.array(data.lonlat[:, 0], from_pandas=True),
        "lat": pa.array(data.lonlat[:, 1], from_pandas=True),
    }


def _targets_of(data: TaskData) -> dict[str, pa.Array]:
    """What is to be predicted: a number; of classes and labels, their names too; nothing of a segmentation."""
    names = np.array(data.info.classes, dtype=object)
    if data.targets.ndim == 1 and data.targets.dtype.kind in "iu":
        return {"target": pa.array(data.targets), "label": pa.array(names[data.targets].tolist(), pa.string())}
    if data.targets.ndim == 1:
        return {"target": pa.array(data.targets)}
    if data.targets.shape[1]:
        return {"labels": pa.array([names[row].tolist() for row in data.targets.astype(bool)], pa.list_(pa.string()))}
    return {}


def _slices(count: int) -> Iterator[slice]:
    return (slice(start, min(start + WRITE_ROWS, count)) for start in range(0, count, WRITE_ROWS))
