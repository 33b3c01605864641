"""The tables and the report of a study as a dataset repository: what its models' and datasets' cards point to."""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from publish.describing.cards import as_yaml, render
from publish.manifest import MANIFEST_VERSION, write_manifest
from publish.models.links import DataLink
from publish.models.weights_card import license_fields
from publish.publication import building
from publish.studies.studied import Studied, StudiedModel
from training.run import software_versions
from training.studying.results import COSTS, DATASETS, LADDER, RESULTS, RUNGS

__all__ = ["PublishedModel", "StudyLinks", "build_tables_folder"]

REPORT = "report"
STUDY = "study.yaml"
EMBEDDINGS = "embeddings.csv"
# Tables that people load: name of the configuration, the file.
CONFIGS = {"results": RESULTS, "datasets": DATASETS, "costs": COSTS, "embeddings": EMBEDDINGS, "ladder": LADDER}
LOCAL = {"path"}  # columns that name folders of the computer it ran on
TAGS = ("geospatial", "earth-observation", "remote-sensing", "pretraining", "benchmark")


@dataclass(frozen=True, kw_only=True)
class PublishedModel:
    """A model of a study on the Hub."""

    model: StudiedModel
    repo: str
    commit: str

    @property
    def url(self) -> str:
        """Its files, as they were then."""
        return f"https://huggingface.co/{self.repo}/tree/{self.commit}"


@dataclass(frozen=True, kw_only=True)
class StudyLinks:
    """Where the parts of a study were published to; empty of one that only made folders.

    Attributes:
        datasets: by the name of the job that brought them.
        models: those that were published.
    """

    datasets: Mapping[str, DataLink]
    models: Sequence[PublishedModel]


def build_tables_folder(
    studied: Studied, out: Path, *, links: StudyLinks, repo_id: str | None, release: str | None, license: str | None
) -> Path:
    """The folder of a study's tables: results, datasets, costs, the study itself, its report where there is one.

    Args:
        studied: the study.
        out: folder; it appears whole or not at all.
        links: what its card points to.
        repo_id: ``organisation/name``, if it will go to the Hub.
        release: name of the release, if it has one.
        license: of the tables; the card says where none was given.

    Raises:
        PublishError: the folder holds something else.
    """
    with building(out) as folder:
        rows = _copy_tables(studied.folder, folder)
        document = _without_places(studied.document.model_dump(mode="json"))
        (folder / STUDY).write_text(as_yaml(document), encoding="utf-8")
        if (studied.folder / REPORT).is_dir():
            shutil.copytree(studied.folder / REPORT, folder / REPORT)
        card = render(
            "study.md.j2",
            front_matter=_front_matter(studied, rows, license=license),
            studied=studied,
            document=studied.document,
            rows=rows,
            configs={name: file for name, file in CONFIGS.items() if file in rows},
            links=links,
            has_report=(folder / REPORT / "report.html").is_file(),
            source=repo_id or "path/to/this/folder",
            license=license,
        )
        (folder / "README.md").write_text(card, encoding="utf-8")
        header = {
            "manifest_version": MANIFEST_VERSION,
            "kind": "study",
            "name": studied.name,
            "repository": repo_id,
            "release": release,
            "versions": software_versions(),
        }
        write_manifest(folder, header=header, known={})
    return out


def _copy_tables(source: Path, folder: Path) -> dict[str, int]:
    """Copy all tables that there are, without columns of local places; rows of each, by path."""
    paths = [*(source / file for file in CONFIGS.values()), *sorted((source / RUNGS).glob("*.csv"))]
    rows = {}
    for path in paths:
        if path.is_file():
            name = path.relative_to(source).as_posix()
            (folder / name).parent.mkdir(exist_ok=True)
            rows[name] = _copy_table(path, folder / name)
    return {name: count for name, count in rows.items() if count or _drop(folder / name)}


def _drop(path: Path) -> bool:
    """Remove a table without rows: no types can be found in it, and it cannot be loaded."""
    path.unlink()
    return False


def _copy_table(source: Path, target: Path) -> int:
    with source.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        columns = [name for name in reader.fieldnames or () if name not in LOCAL]
        rows = list(reader)
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    target.write_text(text.getvalue(), encoding="utf-8")
    return len(rows)


def _without_places(value: Any) -> Any:
    """A document without folders of this computer: of an absolute path its last name alone."""
    if isinstance(value, Mapping):
        return {key: _without_places(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_without_places(each) for each in value]
    is_local = isinstance(value, str) and (PurePath(value).is_absolute() or value.startswith("~"))
    return PurePath(value).name if is_local else value


def _front_matter(studied: Studied, rows: Mapping[str, int], *, license: str | None) -> str:
    configs = [
        {"config_name": name, **({"default": True} if name == "results" else {}), "data_files": file}
        for name, file in CONFIGS.items()
        if file in rows
    ]
    return as_yaml(
        {
            "pretty_name": f"{studied.title}: tables of the study",
            **license_fields(license),
            "tags": [*TAGS, *([f"arxiv:{studied.arxiv}"] if studied.arxiv else [])],
            "configs": configs,
        }
    )
