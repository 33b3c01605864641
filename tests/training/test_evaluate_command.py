import csv
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from catalog.subset import load_subset
from training.commands.evaluate import evaluate
from training.evaluate import load_scores
from training.evaluating.rows import COLUMNS


def invoke(*args, **env):
    return CliRunner(env={"COLUMNS": "150", **env}).invoke(evaluate, [str(arg) for arg in args], catch_exceptions=False)


@pytest.fixture
def asked(run, tiny_catalog, tmp_path):
    """The arguments that every call here has: the run, its data, neighbours alone."""
    return [run.path, tiny_catalog, "--out", tmp_path, "--probe", "knn", "--min-samples", 4]


def test_scores_are_shown_by_probe_and_group(asked, tmp_path):
    shown = invoke(*asked, "--split", "blocks", "--block-km", 20, "--repeats", 2).stdout
    for text in (
        "landcover  div:landcover of europe, everywhere",
        "knn-20",
        "macro F1",
        "Continent",
        "  Europe",
        "Biome",
    ):
        assert text in shown
    assert "test blocks drawn anew, 2 draws; ± is the deviation over draws" in shown
    (scores,) = load_scores(tmp_path)
    told = scores.summary("knn-5").measure
    assert f"{told.mean:.3f} ±{told.sd:.3f}" in shown
    assert f"{told.ci_low:.3f}–{told.ci_high:.3f}" in shown


def test_a_narrow_terminal_shows_fewer_metrics(asked):
    shown = invoke(*asked, "--repeats", 1, COLUMNS="70").stdout
    assert "accuracy" in shown
    assert "weighted F1" not in shown
    assert max(map(len, shown.splitlines()[:8])) <= 70


def test_few_shot_draws_and_a_row_a_figure(asked, tmp_path):
    file = tmp_path / "sub" / "rows.csv"
    shown = invoke(*asked, "--few-shot", "1,3,all", "--seeds", 2, "--csv", file).stdout
    assert "few-shot: so many training samples a class, 2 draws of each size" in shown
    with file.open() as opened:
        rows = list(csv.DictReader(opened))
    assert tuple(rows[0]) == COLUMNS
    assert {row["size"] for row in rows} == {"1", "3", ""}
    assert {row["seed"] for row in rows} == {"0", "1"}
    scores = load_scores(tmp_path)[0]
    assert len(rows) == len(scores.rows())
    mine = [
        float(row["value"])
        for row in rows
        if (row["probe"], row["group"], row["metric"], row["size"]) == ("knn-5", "all", "accuracy", "3")
    ]
    assert mine == scores.summary("knn-5", size=3).measure.values


def test_draws_within_continents(asked, tmp_path):
    shown = invoke(*asked, "--few-shot", "6", "--within", "continent", "--seeds", 2).stdout
    assert "drawn within" in shown
    assert "Continent\n" not in shown
    (scores,) = load_scores(tmp_path)
    assert scores.sampling["per"] == "total"
    assert all(trial.drawn.startswith("continent=") for trial in scores.trials)


def test_another_metric_regions_and_json(asked, tiny_catalog):
    result = invoke(*asked, "--metric", "macro_f1", "--regions", tiny_catalog, "--repeats", 1, "--json")
    values = json.loads(result.stdout)
    assert (values["metric"], values["sampling"]["how"], len(values["trials"])) == ("macro_f1", "column", 1)


def test_leaking_samples_are_told_and_left_out_beside(asked, run, tiny_catalog, tmp_path):
    subset = load_subset(tiny_catalog)
    tested = subset.column("id")[subset.column("pwcat:split") == "val"]
    file = tmp_path / "leaks.parquet"
    pq.write_table(pa.table({"task": ["landcover"] * 3, "id": tested[:3]}), file)
    shown = invoke(*asked, "--repeats", 1, "--without", file).stdout
    assert "leak from the pretraining (leaks.parquet); scores without them are those of group leaks, none" in shown
    assert "Leaks" in shown


def test_numbers_have_probes_and_metrics_of_their_own(run, tiny_catalog, tmp_path):
    shown = invoke(
        run.path, tiny_catalog, "--out", tmp_path, "--task", "number:div:spectral_entropy", "--repeats", 1
    ).stdout
    for text in ("ridge", "R²", "RMSE", "MAE"):
        assert text in shown


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--per", "total"], "--per go with --few-shot"),
        (["--within", "continent", "--seeds", "2"], "--within, --seeds go with --few-shot"),
        (["--few-shot", "5", "--split", "blocks"], "leave out --split, --repeats"),
        (["--few-shot", "5,x"], "'5,x' are no sizes"),
        (["--control", "satmae-tiny"], "RUN none and --control RECIPE go together"),
    ],
)
def test_options_that_do_not_go_together_say_so(asked, options, said):
    result = invoke(*asked, *options)
    assert result.exit_code == 2
    assert said in result.stderr.replace("\n", " ")


def test_released_sides_stay_however_often_they_are_drawn(tmp_path):
    rng = np.random.default_rng(0)
    for name, samples in {"train": 60, "val": 30}.items():
        places = rng.uniform(-60, 60, (samples, 2))
        lines = [f"{x:.3f},{y:.3f},{'Tundra' if y > 0 else 'Mangroves'}" for x, y in places]
        (tmp_path / f"ecoregion_{name}.csv").write_text("\n".join(["X,Y,BIOME_NAME", *lines]) + "\n", encoding="utf-8")
    asked = ["none", tmp_path, "--task", "ecoregions", "--control", "satclip-tiny", "--probe", "knn", "--out", tmp_path]
    for more in ([], ["--repeats", 2], ["--block-km", 50]):
        assert invoke(*asked, *more).exit_code == 0
        (scores,) = load_scores(tmp_path)
        assert (scores.sampling["how"], scores.num_train, scores.num_test) == ("official", 60, 30)
