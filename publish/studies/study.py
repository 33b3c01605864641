"""A finished study on the Hub: its datasets first, then its models, which name them, then its tables, then a collection.

Each repository is pushed by :func:`publish.hub.push_folder`, whole or not at all; the same call, after a kill too, sends
what is missing.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from publish.dataset import publish_dataset
from publish.hub import Kind, Push, check_repo_name, push_folder
from publish.manifest import read_manifest
from publish.models.links import HUB, WHOLE, DataLink, extent_of
from publish.studies.collections import (
    MAX_DESCRIPTION,
    MAX_TITLE,
    CollectionEntry,
    PublishedCollection,
    publish_collection,
)
from publish.studies.studied import ModelChoice, Studied, StudiedDataset, StudiedModel, read_study
from publish.studies.study_tables import PublishedModel, StudyLinks, build_tables_folder
from publish.weights import build_model_folder
from pwcat.errors import PublishError
from training.run import load_run

__all__ = ["PublishedStudy", "publish_study"]

Tell = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class PublishedStudy:
    """What was published of a study.

    Attributes:
        title: of the study.
        names: of all repositories, or folders, in the order in which they were made.
        pushes: what each push did; empty where only folders were made.
        collection: that lists all; ``None`` without an owner.
        left_out: what was not published, and why.
    """

    title: str
    names: tuple[str, ...]
    pushes: tuple[Push, ...]
    collection: PublishedCollection | None
    left_out: tuple[str, ...]


def publish_study(
    folder: str | Path,
    *,
    owner: str | None = None,
    to: str | Path | None = None,
    private: bool = False,
    public: bool = False,
    tag: str | None = None,
    models: ModelChoice = "all",
    license: str | None = None,
    tell: Tell = lambda line: None,
) -> PublishedStudy:
    """What was published of a finished study: folders, repositories of an owner and a collection of them, or both.

    Args:
        folder: of the study.
        owner: organisation or user on the Hub; without one, folders are made in ``to`` alone.
        to: folder to keep what is built in: ``datasets/NAME``, ``models/NAME`` and ``tables``.
        private: make new repositories and the collection private.
        public: make each repository private, and public once it is verified; the collection comes last.
        tag: release of every repository.
        models: which are published; see :func:`publish.studies.studied.read_study`.
        license: SPDX identifier of the weights and tables; datasets have their own.
        tell: told of each part that is done.

    Raises:
        PublishError: the study is not finished, it is not said where to, or a push failed; what was pushed before stays, and
            the same call goes on.
        RecipeError: the folder holds no study.
    """
    place = Path(to) if to is not None else None
    _check(owner, place, private=private, public=public, tag=tag)
    work = _Work(
        studied=read_study(folder, models=models),
        owner=owner,
        to=place,
        private=private,
        public=public,
        tag=tag,
        license=license,
        tell=tell,
    )
    return work.publish()


def _check(owner: str | None, to: Path | None, *, private: bool, public: bool, tag: str | None) -> None:
    faults = []
    if owner is None and to is None:
        faults.append("it is not said where to: give an owner on the Hub, a folder, or both")
    if owner is None and (private or public or tag is not None):
        faults.append("private, public and tags are for repositories, and no owner is given")
    if private and public:
        faults.append("private and public exclude each other")
    if faults:
        raise PublishError(f"cannot publish the study: {'; '.join(faults)}")
    if owner is not None:
        check_repo_name(f"{owner}/name")


@dataclass(frozen=True, kw_only=True)
class _Work:
    studied: Studied
    owner: str | None
    to: Path | None
    private: bool
    public: bool
    tag: str | None
    license: str | None
    tell: Tell

    def publish(self) -> PublishedStudy:
        """All of it, in order: each part names what was pushed before it."""
        studied, names, pushes = self.studied, list[str](), list[Push]()
        links: dict[str, DataLink] = {}
        headers = dict[str, dict[str, Any]]()

        def done(name: str, push: Push | None) -> None:
            names.append(name)
            pushes.extend([push] if push else [])
            self._tell(name, push)

        for dataset in studied.datasets:
            if dataset.published is not None:
                links[dataset.job] = dataset.published
                continue
            push, headers[dataset.job] = self._dataset(dataset)
            done(dataset.name, push)
            if push is not None:
                links[dataset.job] = DataLink(repo=push.repo, commit=push.commit, tag=self.tag, extent=WHOLE)
        published = []
        for model in studied.models:
            link = self._link(model, links.get(model.data_job), headers.get(model.data_job))
            push = self._model(model, link)
            done(model.name, push)
            if push is not None:
                published.append(PublishedModel(model=model, repo=push.repo, commit=push.commit))
        together = StudyLinks(datasets=links if self.owner else {}, models=published)
        done(studied.name, self._tables(together))
        collection, left_out = self._collect(together) if self.owner else (None, ())
        return PublishedStudy(
            title=studied.title,
            names=tuple(names),
            pushes=tuple(pushes),
            collection=collection,
            left_out=(*studied.left_out, *left_out),
        )

    def _tell(self, name: str, push: Push | None) -> None:
        if push is None:
            self.tell(f"built {name}")
        elif push.unchanged:
            self.tell(f"{push.url} already had exactly this: commit {push.commit[:12]}")
        else:
            self.tell(f"{push.url} sent {push.files_sent} files; verified at commit {push.commit[:12]}")

    def _repo(self, name: str) -> str | None:
        return f"{self.owner}/{name}" if self.owner else None

    @contextmanager
    def _place(self, *parts: str) -> Iterator[Path]:
        """Where a folder is built: where it is to be kept, or a temporary place."""
        if self.to is not None:
            yield self.to.joinpath(*parts)
            return
        with tempfile.TemporaryDirectory(prefix="pwcat-publish-") as scratch:
            yield Path(scratch) / "folder"

    def _push(self, folder: Path, name: str, *, kind: Kind, message: str) -> Push | None:
        repo = self._repo(name)
        if repo is None:
            return None
        return push_folder(
            folder, repo=repo, kind=kind, message=message, private=self.private, public=self.public, tag=self.tag
        )

    def _dataset(self, dataset: StudiedDataset) -> tuple[Push | None, dict[str, Any]]:
        """What its push did, and the head of its manifest."""
        with self._place("datasets", dataset.name) as folder:
            done = publish_dataset(
                dataset.load(),
                repo=self._repo(dataset.name),
                to=folder,
                private=self.private,
                public=self.public,
                tag=self.tag,
            )
            return done.push, read_manifest(folder)[0]

    def _link(self, model: StudiedModel, link: DataLink | None, header: dict[str, Any] | None) -> DataLink | None:
        """The link from a model to its dataset, with what of it the model has seen; those of pulled ones are in its run."""
        if link is None or header is None:
            return None
        run = load_run(model.run)
        return replace(link, extent=extent_of(header, run) or f"{run.data['num_samples']:,} of its samples")

    def _model(self, model: StudiedModel, link: DataLink | None) -> Push | None:
        with self._place("models", model.name) as folder:
            build_model_folder(
                model.run,
                folder,
                name=model.name,
                repo_id=self._repo(model.name),
                release=self.tag,
                license=self.license,
                data=link,
                scores=model.scores,
                notes=[self._note(model)],
            )
            return self._push(folder, model.name, kind="model", message=model.words)

    def _note(self, model: StudiedModel) -> str:
        """What a model's card says of the study."""
        studied = self.studied
        named = f"[{studied.title}]({HUB}/datasets/{self._repo(studied.name)})" if self.owner else f"*{studied.title}*"
        if model.chosen and model.among > 1:
            return (
                f"Of {model.among} pretrainings of `{model.model}` in the study {named} it is the one of the best mean rank, "
                f"on {model.dataset} by seed {model.seed}. It was chosen by the very scores that are shown below, which are "
                "a little too good for that."
            )
        beside = " and beside random weights" if studied.document.control else ""
        among = f", one of {model.among} pretrainings of it" if model.among > 1 else ""
        return (
            f"It is `{model.model}` pretrained on {model.dataset} by seed {model.seed}{among}, in the study {named}, whose "
            f"tables have it beside the others{beside}."
        )

    def _tables(self, links: StudyLinks) -> Push | None:
        studied = self.studied
        with self._place("tables") as folder:
            build_tables_folder(
                studied,
                folder,
                links=links,
                repo_id=self._repo(studied.name),
                release=self.tag,
                license=self.license,
            )
            return self._push(folder, studied.name, kind="dataset", message=f"Tables of {studied.title}")

    def _collect(self, links: StudyLinks) -> tuple[PublishedCollection, tuple[str, ...]]:
        """The collection; a paper that the Hub does not know is left out of it."""
        studied, owner = self.studied, str(self.owner)
        first, *others = self._entries(links)

        def collect(entries: Sequence[CollectionEntry]) -> PublishedCollection:
            return publish_collection(
                _cut(studied.title, MAX_TITLE),
                owner=owner,
                entries=entries,
                description=_cut(studied.document.lead or f"Datasets and models of {studied.title}", MAX_DESCRIPTION),
                private=self.private,
                public=self.public,
            )

        made, left_out = collect([first, *others]), ()
        if studied.arxiv is not None:
            paper = CollectionEntry(kind="paper", id=studied.arxiv, note="The paper that the study follows.")
            try:
                with_paper = collect([first, paper, *others])
            except PublishError as exc:
                return made, (f"paper {studied.arxiv} in the collection: {exc}",)
            made = replace(made, added=(*made.added, *with_paper.added), changed=made.changed or with_paper.changed)
        return made, left_out

    def _entries(self, links: StudyLinks) -> list[CollectionEntry]:
        studied = self.studied
        found = [CollectionEntry(kind="dataset", id=f"{self.owner}/{studied.name}", note="The tables of the study.")]
        for each in studied.datasets:
            note = f"{each.title}: {each.num_samples:,} samples."
            found.append(CollectionEntry(kind="dataset", id=links.datasets[each.job].repo, note=note))
        return [
            *found,
            *(CollectionEntry(kind="model", id=each.repo, note=f"{each.model.words}.") for each in links.models),
        ]


def _cut(text: str, limit: int) -> str:
    """A text of at most so many characters, cut between words."""
    if len(text) <= limit:
        return text
    return text[: limit - 1].rpartition(" ")[0].rstrip(" ,;:") + "…"
