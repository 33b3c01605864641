"""A pretrained model as a folder or repository of safetensors, and the one line that loads it back."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from publish.cards import example_of, render, weights_front_matter
from publish.hub import check_repo_name, fetch_folder
from publish.manifest import MANIFEST, check_hashes, read_manifest, write_manifest
from publish.mlm import mlm_item
from publish.origin import Origin, origin_of
from publish.publication import Destination, Publication, building, deliver
from publish.pushing.progress import PushProgress, silent
from pwcat.errors import PublishError
from training.checkpoint import load_model_folder
from training.evaluate import SCORES, Scores, load_scores, save_scores
from training.models import Model
from training.models.folder import CONFIG, PICKLES, WEIGHTS, weights_hash
from training.run import RUN
from training.scores import METRIC_WORDS
from training.weights.importing import ORIGIN

__all__ = ["build_model_folder", "load_model", "publish_model"]

log = logging.getLogger(__name__)

PREPROCESSING = "preprocessing.json"
MANIFEST_VERSION = 1


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
        progress: Told how far the push is.

    Raises:
        PublishError: Neither ``repo`` nor ``to`` is given, the folder is taken, or the push failed.
        TrainingError: The folder is neither a run nor a model, or has no checkpoint.
    """
    origin = origin_of(run_dir)
    run, architecture = origin.run, load_model_folder(origin.folder).architecture
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
        lambda folder: build_model_folder(run_dir, folder, repo_id=repo, release=tag, license=license),
        destination,
        kind="model",
        message=f"{architecture} after step {run.steps} of {run.total_steps}"
        if run
        else f"{architecture}: {origin.source}",
        load=lambda source: f'pwcat.load_model("{source}")',
    )


def build_model_folder(
    run_dir: str | Path,
    out: str | Path,
    *,
    repo_id: str | None = None,
    release: str | None = None,
    license: str | None = None,
) -> Path:
    """The folder of a model: weights, configuration, preprocessing, STAC item, scores, card, manifest.

    Raises:
        PublishError: The folder holds something else.
        TrainingError: ``run_dir`` is no run, or has no checkpoint.
    """
    origin, out = origin_of(run_dir), Path(out)
    model = load_model_folder(origin.folder)
    name = repo_id.rpartition("/")[2] if repo_id else origin.name
    with building(out) as folder:
        for file in (WEIGHTS, CONFIG, ORIGIN):
            if file != ORIGIN or origin.released is not None:
                shutil.copyfile(origin.folder / file, folder / file)
        if origin.run is not None:
            shutil.copyfile(origin.run.path / RUN, folder / RUN)
        scores = _copy_scores(Path(run_dir), folder, weights=weights_hash(model))
        _write_json(folder / PREPROCESSING, _preprocessing(model))
        _write_json(folder / "mlm-item.json", mlm_item(name, model, origin, weights=folder / WEIGHTS))
        card = _card(name, model, origin, scores, repo=repo_id, license=license)
        (folder / "README.md").write_text(card, encoding="utf-8")
        header = {
            "manifest_version": MANIFEST_VERSION,
            "kind": "model",
            "name": name,
            "repository": repo_id,
            "release": release,
            **origin.hashes,
            "versions": origin.versions,
        }
        write_manifest(folder, header=header, known={})
    return out


def load_model(repo_or_path: str | Path, *, revision: str | None = None) -> Model:
    """A pretrained model in eval mode on the CPU, with its preprocessing: ``model.embed`` takes chips as they are stored.

    Weights are read from safetensors by this package's own code: nothing that came with them is run. Where a manifest
    lies beside them, as in everything this package published, their checksums are compared with it.

    Args:
        repo_or_path: A folder (of :func:`publish_model`, or a run), or ``organisation/name`` on the Hub.
        revision: Tag, branch or commit, for the Hub.

    Raises:
        PublishError: There is no such model, its files are not those of its manifest, or it is a pickle.
        TrainingError: The configuration is not one of this package's.
    """
    path = Path(repo_or_path)
    if path.exists():
        if revision is not None:
            raise PublishError(f"{path} is a folder, and a folder has no revision {revision!r}: leave it out")
        return _load(path)
    _require_name(str(repo_or_path))
    wanted = [MANIFEST, WEIGHTS, CONFIG, PREPROCESSING]
    return _load(
        fetch_folder(str(repo_or_path), kind="model", revision=revision, patterns=wanted), repo=str(repo_or_path)
    )


def _require_name(source: str) -> None:
    try:
        check_repo_name(source)
    except PublishError as exc:
        raise PublishError(f"no model at {source}: there is no such folder, and as a repository: {exc}") from exc


def _load(path: Path, *, repo: str | None = None) -> Model:
    source = repo or str(path)
    if repo is not None and not (path / MANIFEST).is_file():
        raise PublishError(
            f"{repo} has no {MANIFEST}: it was not published by pwcat, and its weights cannot be checked"
        )
    _refuse_pickles(path, source)
    if (path / MANIFEST).is_file():
        _check(path, source)
    return load_model_folder(path)


def _refuse_pickles(path: Path, source: str) -> None:
    if path.suffix in PICKLES or path.is_file():
        raise PublishError(
            f"{source} is a file: give the folder that holds {WEIGHTS}; pickles can run code and are not read"
        )
    pickles = sorted(file.name for file in path.iterdir() if file.suffix in PICKLES)
    if pickles and not (path / WEIGHTS).is_file():
        raise PublishError(
            f"{source} has its weights in {', '.join(pickles)}: pickles can run code when they are opened and are not "
            f"read; ask for {WEIGHTS}"
        )


def _check(path: Path, source: str) -> None:
    """Compare what is needed to load with the manifest; the rest of the folder may be absent."""
    _, records = read_manifest(path)
    needed = {name: records[name] for name in (WEIGHTS, CONFIG, PREPROCESSING) if name in records}
    faults = [f"{name} is not in the manifest" for name in (WEIGHTS, CONFIG) if name not in records]
    faults += [f"{name} is missing" for name in needed if not (path / name).is_file()]
    if faults := faults + check_hashes(path, needed):
        raise PublishError(f"{source} is not what its manifest says: {'; '.join(faults)}; fetch it again")


def _preprocessing(model: Model) -> dict[str, Any]:
    """What becomes of the inputs; with the statistics of the pretraining's data, where they are known."""
    facts, normalization = model.facts(), model.normalization
    told: dict[str, Any] = {"scaling": facts.scaling, "pooling": facts.pooling}
    if model.image_size:
        told["image_size_px"] = model.image_size
    told["inputs"] = [asdict(one) for one in model.inputs()]
    return told | (normalization.to_json() if normalization is not None else {})


def _copy_scores(source: Path, folder: Path, *, weights: str) -> list[Scores]:
    """The scores of these very weights, which are written to the folder too; a run may have been trained on since others."""
    found = load_scores(source)
    own = [scores for scores in found if scores.weights_hash == weights]
    if others := len(found) - len(own):
        log.warning(
            "%d of %d scores in %s are of other weights than those that are published, and left out: evaluate the run again",
            others, len(found), source / SCORES,
        )  # fmt: skip
    if own:
        save_scores(own, folder)
    return [scores for scores in own if not scores.control]


def _card(
    name: str, model: Model, origin: Origin, scores: list[Scores], *, repo: str | None, license: str | None
) -> str:
    normalization = None if model.scales_itself else model.normalization
    source = repo or "path/to/this/folder"
    license = license or origin.license
    read = tuple(band for one in model.inputs() for band in one.bands)
    scaled = normalization is not None and normalization.bands == read
    return render(
        "model.md.j2",
        front_matter=weights_front_matter(name, license=license, model=model),
        name=name,
        example=example_of(model, source),
        model=model,
        facts=model.facts(),
        inputs=model.inputs(),
        run=origin.run,
        released=origin.released,
        bands=list(zip(read, normalization.mean, normalization.std, strict=True)) if normalization and scaled else [],
        unit=normalization.unit if normalization else "",
        num_parameters=sum(parameter.numel() for parameter in model.parameters()),
        scores=scores,
        words=METRIC_WORDS,
        license=license,
    )


def _write_json(path: Path, document: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
