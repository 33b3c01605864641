"""Where published weights come from: a pretraining of ours, weights that others released, or nobody knows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from publish.models.links import DataLink, link_to, links_of
from pwcat.errors import PublishError
from training.models import Model, config_of
from training.models.folder import CONFIG
from training.run import RUN, Run, load_run, software_versions
from training.weights.importing import FAMILIES, ORIGIN

__all__ = ["Origin", "Released", "origin_of"]

# What of a training recipe an item of STAC tells as hyperparameters.
TOLD = ("epochs", "batch_size", "accumulate", "optimizer", "augment", "seed", "precision")


@dataclass(frozen=True, kw_only=True)
class Released:
    """Weights that others released, as ``pwcat weights import`` noted them.

    Attributes:
        file: name of the file that was imported.
        sha256: of it.
        notes: what to know of the conversion, a sentence each.
        license: SPDX identifier under which its authors released it; empty where that is not known here.
    """

    file: str
    sha256: str
    notes: tuple[str, ...]
    license: str


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where weights come from.

    Attributes:
        folder: that holds weights and config.
        name: of the run's folder, or of the model's.
        run: the pretraining, where it was one of ours.
        released: the weights of others, where they were imported.
        links: the published datasets that they were trained on, as far as that is known.
    """

    folder: Path
    name: str
    run: Run | None
    released: Released | None
    links: tuple[DataLink, ...] = ()

    @property
    def license(self) -> str | None:
        """Licence that the weights have of those who released them."""
        return (self.released.license or None) if self.released else None

    @property
    def source(self) -> str:
        """In a line."""
        if self.links:
            return "; ".join(f"{link.url} ({link.extent})" for link in self.links)
        if self.run is not None:
            return f"pwcat subset {self.run.data['hash']} of {', '.join(self.run.data['collections'])}"
        if self.released is not None:
            return f"released weights {self.released.file}, SHA-256 {self.released.sha256}"
        return "not known"

    @property
    def versions(self) -> dict[str, str]:
        """Of the software that made the weights, or, of others' weights, that reads them."""
        return self.run.versions if self.run is not None else software_versions()

    @property
    def hashes(self) -> dict[str, str | None]:
        """Of samples and training recipe, as a manifest has them."""
        run = self.run
        return {"subset_hash": run.data["hash"] if run else None, "recipe_hash": run.recipe_hash if run else None}

    def hyperparameters(self, model: Model) -> dict[str, Any]:
        """Of the training, as far as they are known, and of the model."""
        recipe: Mapping[str, Any] = self.run.recipe if self.run is not None else {}
        return {**{key: recipe[key] for key in TOLD if key in recipe}, "model": config_of(model)}


def origin_of(path: str | Path, *, data: str | DataLink | None = None) -> Origin:
    """Where the weights of a run's folder, or of a model's, come from.

    Args:
        path: the folder.
        data: the published dataset of its samples: ``organisation/name[@revision]``, which is checked, or a link that was
            made with it; without it what the run recorded, where its samples were pulled from a published one.

    Raises:
        TrainingError: it is neither, or a run without a checkpoint.
        PublishError: what ``pwcat weights import`` noted cannot be read, or the run was trained on other samples.
    """
    folder = Path(path)
    if (folder / RUN).is_file() or not (folder / CONFIG).is_file():
        run = load_run(folder)
        links = links_of(run) if data is None else (link_to(data, run) if isinstance(data, str) else data,)
        return Origin(folder=run.checkpoint, name=folder.resolve().name, run=run, released=None, links=links)
    if data is not None:
        raise PublishError(
            f"{folder} holds a model and no record of its training, so that nothing says whether it was trained on {data}: "
            "leave the dataset out, or give the folder that `pwcat pretrain` wrote"
        )
    return Origin(folder=folder, name=folder.resolve().name, run=None, released=_released(folder))


def _released(folder: Path) -> Released | None:
    if not (folder / ORIGIN).is_file():
        return None
    try:
        noted = json.loads((folder / ORIGIN).read_text(encoding="utf-8"))
        architecture = json.loads((folder / CONFIG).read_text(encoding="utf-8"))["architecture"]
        return Released(
            file=str(noted["file"]),
            sha256=str(noted["sha256"]),
            notes=tuple(map(str, noted.get("notes", ()))),
            license=FAMILIES[architecture].license if architecture in FAMILIES else "",
        )
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise PublishError(f"{folder / ORIGIN} is not what `pwcat weights import` writes: {exc}; import again") from exc
