"""The card of a model, from its run, its scores and what its architecture says of itself; no number is typed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from huggingface_hub import ModelCardData

from publish.describing.cards import HUB_LICENSES, render
from publish.manifest import FileRecord
from publish.models.evaluations import eval_results, regions_of
from publish.models.links import DataLink
from publish.models.origin import Origin
from training.evaluate import Scores
from training.models import Model
from training.run import Run
from training.scores import METRIC_WORDS, Measure

__all__ = ["CardInput", "example_of", "license_fields", "load_line", "render_weights_card", "weights_front_matter"]

TAGS = ("geospatial", "earth-observation", "remote-sensing", "pretraining", "safetensors")


@dataclass(frozen=True, kw_only=True)
class CardInput:
    """What a card is made of.

    Attributes:
        name: of the model.
        repo: ``organisation/name``; ``None`` of a folder.
        release: its name, if it has one: the example loads that.
        model: for what it takes and gives.
        origin: where its weights come from.
        scores: of these very weights; controls are left out.
        weights: the file of weights.
        license: SPDX identifier of the weights; ``None`` where none was given.
        notes: Markdown sentences on what the model is part of, such as a study.
    """

    name: str
    repo: str | None
    model: Model
    origin: Origin
    scores: Sequence[Scores]
    weights: FileRecord
    license: str | None
    notes: Sequence[str] = ()
    release: str | None = None


def render_weights_card(told: CardInput) -> str:
    """The card, front matter included."""
    model, run = told.model, told.origin.run
    scores = [each for each in told.scores if not each.control]
    normalization = None if model.scales_itself else model.normalization
    read = tuple(band for one in model.inputs() for band in one.bands)
    tables = [regions_of(each) for each in scores]
    scaled = normalization is not None and normalization.bands == read
    return render(
        "model.md.j2",
        front_matter=weights_front_matter(
            told.name, license=told.license, model=model, links=told.origin.links, scores=scores
        ),
        name=told.name,
        notes=told.notes,
        example=example_of(model, told.repo or "path/to/this/folder", release=told.release if told.repo else None),
        model=model,
        facts=model.facts(),
        inputs=model.inputs(),
        run=run,
        origin=told.origin,
        released=told.origin.released,
        bands=list(zip(read, normalization.mean, normalization.std, strict=True)) if normalization and scaled else [],
        exact=bool(run and normalization and normalization.data_hash == run.data["hash"]),
        seen=_bands_seen(run, read) if run else "",
        unit=normalization.unit if normalization else "",
        num_parameters=sum(parameter.numel() for parameter in model.parameters()),
        weights=told.weights,
        megabytes=f"{told.weights.bytes / 1e6:,.1f}",
        gpu_hours=_gpu_hours(run) if run else "",
        hardware=_hardware(run.hardware) if run else "",
        scores=scores,
        regions=tables,
        words=METRIC_WORDS,
        has_points=any(
            _is_point(each) for task in tables for table in task for row in table.rows for each in row.measures
        ),
        license=told.license,
    )


def example_of(model: Model, source: str, *, release: str | None = None) -> str:
    """Python that loads a model and embeds something with it: chips, places or samples of a catalog, as it can."""
    load = f"import pwcat\n\n# eval mode; checks the weights against their checksum\nmodel = {load_line(source, release)}\n"
    dim = model.embedding_dim
    if hasattr(model, "embed"):
        use = f"embeddings = model.embed(chips)  # chips: uint16 tensor (batch, band, y, x) → (batch, {dim})"
    elif hasattr(model, "encode_locations"):
        use = f"embeddings = model.encode_locations([[8.55, 47.37]])  # longitude, latitude, degrees → (places, {dim})"
    else:
        use = (
            'samples = pwcat.open_catalog("path/to/a/catalog").search()\n'
            f"embeddings = pwcat.embed_subset(model, samples)  # → (samples, {dim})"
        )
    return load + use


def load_line(source: str, release: str | None) -> str:
    """Python that loads a model, of its release where it has one: what stands on the main branch may change."""
    revision = f', revision="{release}"' if release else ""
    return f'pwcat.load_model("{source}"{revision})'


def weights_front_matter(
    name: str, *, license: str | None, model: Model, links: Sequence[DataLink] = (), scores: Sequence[Scores] = ()
) -> str:
    """The YAML that heads a model's card: what the Hub indexes, its results among them."""
    results, arxiv = eval_results(scores), model.facts().arxiv
    data = ModelCardData(
        model_name=name,
        **license_fields(license),
        library_name="pwcat",
        pipeline_tag="image-feature-extraction" if hasattr(model, "embed") else "feature-extraction",
        tags=[*TAGS, model.architecture, *([f"arxiv:{arxiv}"] if arxiv else [])],
        datasets=list(dict.fromkeys(link.repo for link in links)) or None,
        metrics=list(dict.fromkeys(result.metric_type for result in results)) or None,
        eval_results=results or None,
    )
    return str(data.to_yaml()) + "\n"


def license_fields(license: str | None) -> dict[str, Any]:
    """The licence fields, in whatever case it is written; of one unknown to the Hub, the card tells."""
    if license is None:
        return {}
    known = {spdx.lower(): name for spdx, name in HUB_LICENSES.items()}
    if license.lower() in known:
        return {"license": known[license.lower()]}
    return {"license": "other", "license_name": license, "license_link": "README.md"}


def _bands_seen(run: Run, read: Sequence[str]) -> str:
    """The bands that a run's data had, where they are fewer than those that the model can read."""
    seen = [band for band in read if band in run.normalization["bands"]]
    return ", ".join(seen) if 0 < len(seen) < len(read) else ""


def _is_point(measure: Measure | None) -> bool:
    return measure is not None and measure.ci_low == measure.ci_high


def _gpu_hours(run: Run) -> str:
    if run.gpu_hours > 0:
        devices = f"{run.world_size} of {run.device}" if run.world_size > 1 else run.device
        return f"{run.gpu_hours:,.4g} ({devices})"
    return f"none: it was trained without a GPU, for {_duration(run.seconds)}"


def _duration(seconds: float) -> str:
    for unit, length in (("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.1f} {unit}"
    return f"{seconds:.3g} seconds"


def _hardware(told: Mapping[str, Any]) -> str:
    """A machine in a line, as far as it is known."""
    gpus = [str(name) for name in told.get("gpus") or ()]
    named = [f"{gpus.count(name)} × {name}" for name in dict.fromkeys(gpus)]
    parts = [
        *named,
        str(told.get("processor") or ""),
        f"{told['cores']} cores" if told.get("cores") else "",
        f"{told['memory_gb']:g} GB of memory" if told.get("memory_gb") else "",
    ]
    return ", ".join(part for part in parts if part)
