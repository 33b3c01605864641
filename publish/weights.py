"""A pretrained model as a folder or repository of safetensors; :mod:`publish.models.loading` loads it back."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from publish.manifest import MANIFEST_VERSION, describe_file, write_manifest
from publish.models.evaluations import merged
from publish.models.links import DataLink
from publish.models.loading import PREPROCESSING, load_model
from publish.models.mlm import mlm_item
from publish.models.origin import origin_of
from publish.models.weights_card import CardInput, load_line, render_weights_card
from publish.publication import Destination, Publication, building, deliver
from publish.pushing.progress import PushProgress, silent
from training.checkpoint import load_model_folder
from training.evaluate import SCORES, Scores, load_scores, save_scores
from training.models import Model
from training.models.folder import CONFIG, WEIGHTS, weights_hash
from training.run import RUN
from training.weights.importing import ORIGIN

__all__ = ["build_model_folder", "load_model", "publish_model"]

log = logging.getLogger(__name__)


def publish_model(
    run_dir: str | Path,
    *,
    repo: str | None = None,
    to: str | Path | None = None,
    private: bool = False,
    public: bool = False,
    tag: str | None = None,
    dry_run: bool = False,
    license: str | None = None,
    data: str | None = None,
    progress: PushProgress = silent,
) -> Publication:
    """What was published of a model: a folder, a repository on the Hub, or both.

    Args:
        run_dir: Folder of its pretraining, or of the model alone, such as ``pwcat weights import`` makes.
        repo: ``organisation/name`` on the Hub. The token comes from ``HF_TOKEN`` or the Hub's login.
        to: Folder to build and keep.
        private: Make a new repository private.
        public: Make a new repository private, and public once the release is verified and tagged.
        tag: Name of the release, set once the pushed files are verified.
        dry_run: Send and keep nothing; say what the push would do.
        license: SPDX identifier of the weights; without it that of released weights, or the card says that none was given.
        data: The published dataset that it was trained on, ``organisation/name`` or ``organisation/name@revision``: linked
            by its commit, once its manifest was seen to list the run's very samples. A run on a pulled collection knows it.
        progress: Told how far the push is.

    Raises:
        PublishError: Neither ``repo`` nor ``to`` is given, the folder is taken, the data are others, or the push failed.
        TrainingError: The folder is neither a run nor a model, or has no checkpoint.
    """
    origin = origin_of(run_dir, data=data)
    run, architecture = origin.run, load_model_folder(origin.folder).architecture
    link = origin.links[0] if data is not None else None
    destination = Destination(
        repo=repo,
        to=Path(to) if to is not None else None,
        private=private,
        public=public,
        tag=tag,
        dry_run=dry_run,
        progress=progress,
    )
    return deliver(
        lambda folder: build_model_folder(run_dir, folder, repo_id=repo, release=tag, license=license, data=link),
        destination,
        kind="model",
        message=f"{architecture} after step {run.steps} of {run.total_steps}"
        if run
        else f"{architecture}: {origin.source}",
        load=lambda source: load_line(source, tag),
    )


def build_model_folder(
    run_dir: str | Path,
    out: str | Path,
    *,
    name: str | None = None,
    repo_id: str | None = None,
    release: str | None = None,
    license: str | None = None,
    data: str | DataLink | None = None,
    scores: Sequence[Scores] | None = None,
    notes: Sequence[str] = (),
) -> Path:
    """The folder of a model: weights, configuration, preprocessing, STAC item, scores, card, manifest.

    Args:
        run_dir: See :func:`publish_model`, as ``license``.
        out: Folder; it appears whole or not at all, and replaces an earlier publication there.
        name: Of the model; by default that of the repository, or of the run's folder.
        repo_id: ``organisation/name``, if it will go to the Hub: the card then shows that name.
        release: Name of the release, if it has one.
        license: Of the weights.
        data: The published dataset that it was trained on; see :func:`publish.models.origin.origin_of`.
        scores: Of these weights; those in ``run_dir`` by default.
        notes: Markdown sentences on what the model is part of, for the card.

    Raises:
        PublishError: The folder holds something else, or the data are others.
        TrainingError: ``run_dir`` is no run, or has no checkpoint.
    """
    origin, out = origin_of(run_dir, data=data), Path(out)
    model = load_model_folder(origin.folder)
    name = name or (repo_id.rpartition("/")[2] if repo_id else origin.name)
    with building(out) as folder:
        for file in (WEIGHTS, CONFIG, ORIGIN):
            if file != ORIGIN or origin.released is not None:
                shutil.copyfile(origin.folder / file, folder / file)
        if origin.run is not None:
            shutil.copyfile(origin.run.path / RUN, folder / RUN)
        told = _own_scores(load_scores(run_dir) if scores is None else scores, run_dir, weights=weights_hash(model))
        if told:
            save_scores(told, folder)
        _write_json(folder / PREPROCESSING, _preprocessing(model))
        _write_json(folder / "mlm-item.json", mlm_item(name, model, origin, weights=folder / WEIGHTS))
        card = CardInput(
            name=name,
            repo=repo_id,
            model=model,
            origin=origin,
            scores=told,
            weights=describe_file(folder / WEIGHTS),
            license=license or origin.license,
            notes=notes,
            release=release,
        )
        (folder / "README.md").write_text(render_weights_card(card), encoding="utf-8")
        header = {
            "manifest_version": MANIFEST_VERSION,
            "kind": "model",
            "name": name,
            "repository": repo_id,
            "release": release,
            **origin.hashes,
            "data": [asdict(link) for link in origin.links],
            "versions": origin.versions,
        }
        write_manifest(folder, header=header, known={})
    return out


def _preprocessing(model: Model) -> dict[str, Any]:
    """What becomes of the inputs; with the statistics of the pretraining's data, where they are known."""
    facts, normalization = model.facts(), model.normalization
    told: dict[str, Any] = {"scaling": facts.scaling, "pooling": facts.pooling}
    if model.image_size:
        told["image_size_px"] = model.image_size
    told["inputs"] = [asdict(one) for one in model.inputs()]
    return told | (normalization.to_json() if normalization is not None else {})


def _own_scores(found: Sequence[Scores], source: str | Path, *, weights: str) -> list[Scores]:
    """The scores of these very weights; a run may have been trained on since others were made."""
    own = [scores for scores in found if scores.weights_hash == weights]
    if others := len(found) - len(own):
        log.warning(
            "%d of %d scores in %s are of other weights than those that are published, and left out: evaluate the run again",
            others, len(found), Path(source) / SCORES,
        )  # fmt: skip
    return merged(own)


def _write_json(path: Path, document: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
