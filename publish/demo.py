"""``pwcat demo``: the whole road in miniature on the embedded archive, from places to a published dataset.

*Pretrain Where?* (Kaur et al., 2026) in small: six one-hot continents and a global dataset, one tiny SatMAE each, scores on
held-out places, and the rank correlation of each diversity with the scores. It shows that the road works; at this size the
order of the datasets says nothing about the Earth, the less so as the scenes are synthetic.
"""

from __future__ import annotations

import csv
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import geopandas as gpd
import numpy as np
import yaml
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from catalog.query import Catalog, open_catalog
from catalog.store import build
from publish.dataset import publish_dataset
from publish.stages import Stages
from publish.weights import load_model, publish_model
from pwcat.archive import SynthOptions, synthesise_archive
from pwcat.atomic import replacing
from pwcat.cube import SENTINEL2_BANDS
from training.correlation import Correlation
from training.evaluate import Scores, evaluate
from training.pretrain import pretrain
from training.recipe import TrainRecipe, load_train_recipe
from training.report import MEASURES, Study, cells_of, describe_dataset, mean_dense_ranks, relate, render_report

__all__ = ["DATASETS", "DemoOptions", "demo", "held_out_places", "write_recipes"]

# name: the continent it is drawn from, or None for all of them
DATASETS: Mapping[str, str | None] = {
    "africa": "Africa",
    "asia": "Asia",
    "europe": "Europe",
    "north-america": "North America",
    "oceania": "Oceania",
    "south-america": "South America",
    "global": None,
}
HELD_OUT = "held-out"
PUBLISHED = "europe"
MODEL = "satmae-tiny"
NOTES = (
    "After Kaur et al. (2026), Pretrain Where?, arXiv 2604.21104, whose seven datasets of 700,000 Sentinel-2 chips and "
    "SatMAE-B this plays in small. Scenes, land cover and the outlines of continents and biomes are synthetic.",
    "Whole places are on one side of the probes' training and test, and none of them was pretrained on.",
)


@dataclass(frozen=True, kw_only=True)
class DemoOptions:
    """How large the demo is; the defaults take a few minutes on two cores.

    Attributes:
        chips: samples a dataset.
        test_chips: samples of the held-out, labelled dataset.
        places: places of the archive a continent; half as many more, and at least three, are held out.
        epochs: of each pretraining.
    """

    chips: int = 128
    test_chips: int = 384
    places: int = 4
    epochs: int = 20


@click.command()
@click.option(
    "--out", type=click.Path(path_type=Path), default="pwcat-demo", show_default=True, help="Folder; a rerun goes on."
)
@click.option("--chips", default=DemoOptions.chips, show_default=True, help="Samples a dataset.")
@click.option("--test-chips", default=DemoOptions.test_chips, show_default=True, help="Labelled samples to score on.")
@click.option("--places", default=DemoOptions.places, show_default=True, help="Places of the archive, a continent.")
@click.option("--epochs", default=DemoOptions.epochs, show_default=True, help="Of each pretraining.")
def demo(out: Path, **sizes: int) -> None:
    """Play the whole road in miniature: archive, datasets, catalog, models, scores, report, publication."""
    started = time.monotonic()
    console = Console()
    options = DemoOptions(**sizes)
    with Stages(console) as stages:
        archive = _make_archive(out, options, stages)
        catalog = _build_datasets(out, archive, options, stages)
        runs = _pretrain_all(out, catalog, options, stages)
        scores, control = _evaluate_all(out, catalog, runs, options, stages)
        study, correlations = _report(out, archive, catalog, scores, control, stages)
        read_back = _publish(out, catalog, runs[PUBLISHED], stages)
    console.print(_score_table(study))
    console.print(_correlation_table(correlations))
    for line in _last_screen(out, catalog, read_back, seconds=time.monotonic() - started):
        console.print(line, highlight=False, soft_wrap=True)


def _make_archive(out: Path, options: DemoOptions, stages: Stages) -> Path:
    archive = out / "archive"
    synth = SynthOptions(places=options.places, test_places=held_out_places(options))
    with stages.stage("Archive: synthetic scenes as COGs behind a STAC API") as progress:
        counts = synthesise_archive(archive, options=synth, progress=progress)
        stages.say(f"{sum(counts.values())} items in {len(counts)} collections")
    return archive


def held_out_places(options: DemoOptions) -> int:
    """Places a continent that no model is pretrained on."""
    return max(3, options.places // 2)


def write_recipes(folder: Path, *, archive: str, options: DemoOptions) -> dict[str, Path]:
    """Write the recipes of the demo, one a dataset and one for the held-out places; their paths by name.

    Args:
        folder: gets the files.
        archive: the archive's folder, relative to ``folder``.
        options: sizes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    documents = {
        name: _recipe(name, continent, archive=archive, collection="s2-l2a-synthetic", chips=options.chips, seed=0)
        for name, continent in DATASETS.items()
    }
    documents[HELD_OUT] = _recipe(
        HELD_OUT, None, archive=archive, collection="s2-l2a-synthetic-test", chips=options.test_chips, seed=1
    )
    # Places lie a degree and more apart, so that blocks of 50 km put whole places on one side.
    documents[HELD_OUT]["split"] = {"val_fraction": 0.4, "block_km": 50}
    paths = {}
    for name, document in documents.items():
        paths[name] = folder / f"{name}.yaml"
        paths[name].write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    return paths


def _recipe(
    name: str, continent: str | None, *, archive: str, collection: str, chips: int, seed: int
) -> dict[str, Any]:
    one_hot = {"strategy": "one_hot", "layer": "continent", "value": continent, "domain": "scenes"}
    return {
        "name": name,
        "title": f"{continent or ('Held-out places' if name == HELD_OUT else 'Global')}, synthetic miniature",
        "license": "CC0-1.0",
        "attribution": "pwcat, synthetic scenes",
        "num_samples": chips,
        "seed": seed,
        "sampler": one_hot if continent else {"strategy": "uniform", "domain": "scenes"},
        "source": {"provider": "archive", "path": archive, "collection": collection},
        "when": {"start": "2021-01-01", "end": "2024-12-31", "max_cloud_cover": 40},
        "chip": {"size_px": 96, "bands": [band for band in SENTINEL2_BANDS if band != "B10"]},
        "regions": {
            "continent": {"path": f"{archive}/regions/continent.fgb", "field": "continent"},
            "biome": {"path": f"{archive}/regions/biome.fgb", "field": "biome"},
            "landcover": {"collection": "landcover-synthetic"},
        },
        "split": {"val_fraction": 0.1, "block_km": 2},
    }


def _build_datasets(out: Path, archive: Path, options: DemoOptions, stages: Stages) -> Catalog:
    recipes = write_recipes(out / "recipes", archive=f"../{archive.name}", options=options)
    with stages.stage("Datasets: places sampled, scenes found, chips in Zarr") as progress:
        total = options.chips * len(DATASETS) + options.test_chips
        done = 0
        for path in recipes.values():
            before = done

            def count(stage: str, samples: int, of: int, before: int = before) -> None:
                if stage == "build":
                    progress(before + samples, total)

            built = build(path, catalog=out / "catalog", progress=count)
            done += sum(built.report.counts.values())
        stages.say(f"{done} chips in {len(recipes)} collections")
    return open_catalog(out / "catalog")


def _pretrain_all(out: Path, catalog: Catalog, options: DemoOptions, stages: Stages) -> dict[str, Path]:
    recipe = _train_recipe(options)
    runs = {}
    with stages.stage(f"Models: a {MODEL} pretrained on each dataset") as progress:
        for number, name in enumerate(DATASETS):

            def count(step: Any, number: int = number) -> None:
                progress(number * step.total_steps + step.step, len(DATASETS) * step.total_steps)

            run = pretrain(catalog.search(collections=name), recipe, out / "runs" / name, progress=count)
            runs[name] = run.path
        stages.say(f"{len(runs)} runs of {run.total_steps} steps, {run.samples_per_second:.0f} samples/s")
    return runs


def _train_recipe(options: DemoOptions) -> TrainRecipe:
    warmup = min(2, options.epochs // 2)
    return load_train_recipe(MODEL, overrides={"epochs": str(options.epochs), "optimizer.warmup_epochs": str(warmup)})


def _evaluate_all(
    out: Path, catalog: Catalog, runs: Mapping[str, Path], options: DemoOptions, stages: Stages
) -> tuple[dict[str, Scores], Scores]:
    held_out = catalog.search(collections=HELD_OUT)
    scores = {}
    with stages.stage("Scores: k-NN and linear probe of land cover, held-out places") as progress:
        for number, (name, run) in enumerate(runs.items()):
            scores[name] = evaluate(run, held_out)
            progress(number + 1, len(runs) + 1)
        control = evaluate(None, held_out, control=_train_recipe(options), out_dir=out / "runs" / "none")
        progress(len(runs) + 1, len(runs) + 1)
        stages.say(f"{control.num_train} training and {control.num_test} test chips, {len(control.classes)} classes")
    return scores, control


def _report(
    out: Path, archive: Path, catalog: Catalog, scores: Mapping[str, Scores], control: Scores, stages: Stages
) -> tuple[Study, dict[str, Correlation]]:
    with stages.stage("Report: tables, maps, chips, correlations") as progress:
        study = _study(catalog, scores, control)
        correlations = relate(study.datasets, rng=np.random.default_rng(0))
        land = gpd.read_file(archive / "regions" / "continent.fgb")
        page = render_report(study, correlations=correlations, land=land)
        with replacing(out / "report.html") as temporary:
            temporary.write_text(page, encoding="utf-8")
        _write_scores(out / "scores.csv", study)
        progress(1, 1)
        stages.say(f"{out / 'report.html'}, {out / 'scores.csv'}")
    return study, correlations


def _study(catalog: Catalog, scores: Mapping[str, Scores], control: Scores) -> Study:
    datasets = [
        describe_dataset(
            catalog.search(collections=name),
            name=name,
            scores=[scores[name]],
            statistics=catalog.collection(name).stats["statistics"],
        )
        for name in DATASETS
    ]
    chips = datasets[0].num_samples
    return Study(
        title="Pretrain where? In miniature",
        lead=(
            f"Seven datasets of {chips} chips were drawn from a synthetic archive: one a continent, and one from all of "
            f"them. A small SatMAE was pretrained on each, frozen, and scored on land cover at places that none of them "
            "saw. Below are the scores, the diversity of each dataset, and how the two go together."
        ),
        caveat=(
            "This is a miniature on synthetic scenes. It shows that every step works and can be rerun; with models and "
            "datasets this small, the order of the datasets says nothing about the Earth."
        ),
        datasets=datasets,
        control=cells_of([control]),
        facts={
            "chips a dataset": str(chips),
            "test chips": str(control.num_test),
            "classes": str(len(control.classes)),
            "bands": "12",
        },
        rerun="make demo",
        notes=NOTES,
        tested=f"Land cover of {control.data['num_samples']} chips at held-out places.",
        heat_label="accuracy of the linear probe",
    )


def _write_scores(path: Path, study: Study) -> None:
    """The table that ``pwcat correlate`` reads: one row a dataset, one column a diversity, and the mean score."""
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["dataset", *MEASURES, *study.columns, "score"])
        for dataset in study.datasets:
            diversities = [f"{dataset.value(measure):.6f}" for measure in MEASURES]
            cells = [f"{dataset.scores[column].mean:.6f}" for column in study.columns]
            writer.writerow([dataset.name, *diversities, *cells, f"{dataset.mean_score:.6f}"])


def _publish(out: Path, catalog: Catalog, run: Path, stages: Stages) -> str:
    """Publish one dataset and its model to folders, and read both back as a stranger would."""
    from datasets import load_dataset
    from datasets.utils.logging import disable_progress_bar

    disable_progress_bar()
    folder, weights = out / "published" / PUBLISHED, out / "published" / f"{PUBLISHED}-{MODEL}"
    with stages.stage("Publication: a dataset and weights, read back") as progress:
        publish_dataset(catalog.search(collections=PUBLISHED), to=folder)
        publish_model(run, to=weights)
        progress(1, 2)
        splits = load_dataset(str(folder), cache_dir=str(out / "cache"))
        model = load_model(weights)
        parameters = sum(parameter.numel() for parameter in model.parameters())
        progress(2, 2)
        rows = sum(map(len, splits.values()))
        text = f"{rows} rows by load_dataset, a model of {parameters:,} parameters by pwcat.load_model"
        stages.say(text)
    return text


def _score_table(study: Study) -> Table:
    table = Table(title="Scores on held-out places, best rank first (accuracy, mean ± sd)", box=SIMPLE_HEAD)
    table.title_justify = "left"
    table.add_column("Pretrained on")
    for column in (*study.columns, "Rank"):
        table.add_column(column, justify="right")
    rows = {dataset.name: dataset.scores for dataset in study.datasets} | {"none": study.control}
    ranks = mean_dense_ranks({name: [cells[column].mean for column in study.columns] for name, cells in rows.items()})
    for name in sorted(rows, key=lambda name: (ranks[name], name)):
        cells = [rows[name][column] for column in study.columns]
        shown = [f"{cell.mean:.2f}" + ("" if cell.sd is None else f" ± {cell.sd:.2f}") for cell in cells]
        table.add_row(name, *shown, f"{ranks[name]:.2f}")
    return table


def _correlation_table(correlations: Mapping[str, Correlation]) -> Table:
    table = Table(title="Spearman's rho of each diversity with the mean score", box=SIMPLE_HEAD)
    table.title_justify = "left"
    table.add_column("Diversity")
    for column in ("rho", "p", "n"):
        table.add_column(column, justify="right")
    for measure, found in correlations.items():
        table.add_row(MEASURES[measure][1].lower(), f"{found.rho:+.3f}", f"{found.p:.3f}", str(found.n))
    return table


def _last_screen(out: Path, catalog: Catalog, read_back: str, *, seconds: float) -> list[str]:
    """What was made, where, and three commands to try, a line each; none is broken, so that they can be copied."""
    biomes = catalog.collection(PUBLISHED).stats["statistics"]["biome"]["counts"]
    biome = max(biomes, key=lambda name: (biomes[name], name))
    return [
        f"[bold]Made in {seconds:.0f} seconds:[/bold]",
        f"  {out}/report.html   the page to open first",
        f"  {out}/catalog       a STAC catalog of {len(catalog.collections)} collections, with their chips in Zarr",
        f"  {out}/runs          the models, their metrics and scores",
        f"  {out}/published     {read_back}",
        "",
        "[bold]Try next[/bold] (after `source .venv/bin/activate`):",
        f'  pwcat search {out}/catalog --biome "{biome}" --landcover tree_cover',
        f"  pwcat plan {out}/recipes/global.yaml --catalog {out}/catalog",
        f"  pwcat correlate {out}/scores.csv --score score --by continent,biome,landcover,spectral",
    ]
