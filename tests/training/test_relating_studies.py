from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from pwcat.errors import TrainingError
from training.commands.correlate import correlate as correlate_command
from training.correlation import correlate_table
from training.evaluating.rows import COLUMNS
from training.relating.studies import Selection, is_long, read_study, study_table
from training.reporting.records import read_records
from training.reporting.relations import relations_of
from training.reporting.standings import standings_of
from training.reporting.views import views_of

PAPER = Path(__file__).parent / "pretrain_where.csv"
DATASETS = ("Asia", "Europe", "Global", "Oceania")
DIVERSITY = pd.DataFrame({"dataset": DATASETS, "continent": [0.0, 0.1, 1.79, 0.3], "num_samples": [9, 9, 9, 8]})
TASKS = {"fmow": ("classes", "accuracy"), "eurosat": ("GEO-Bench", "accuracy"), "brick-kiln": ("GEO-Bench", "accuracy")}


def row(dataset, task, value, **others):
    group, metric = TASKS.get(task, (task, "accuracy"))
    known = {
        "dataset": dataset, "model": "satmae", "pretrain_seed": 0, "task": task, "task_group": group, "probe": "linear",
        "seed": 0, "group": "all", "metric": metric, "primary": True, "value": value,
    }  # fmt: skip
    return dict.fromkeys(COLUMNS) | known | others


def table(rows, selection=None, datasets=DIVERSITY):
    return study_table(pd.DataFrame(rows), datasets, selection or Selection())


def scores(found):
    return found.table.groupby("dataset", sort=False)["score"].apply(list).to_dict()


def test_groups_of_tasks_weigh_the_same_and_tasks_within_them():
    rows = [row("Asia", "fmow", 0.2), row("Asia", "eurosat", 0.5), row("Asia", "brick-kiln", 0.9)]
    found = table(rows)
    assert scores(found) == {"Asia": [pytest.approx((0.2 + (0.5 + 0.9) / 2) / 2)]}
    assert found.table["continent"].tolist() == [0.0]
    assert found.told[0] == (
        "Scores: the mean of classes, GEO-Bench; satmae, linear; all training samples; tested everywhere."
    )
    assert scores(table(rows, Selection(task_group="GEO-Bench"))) == {"Asia": [pytest.approx(0.7)]}


@pytest.mark.parametrize(("metric", "warned"), [("mae", True), ("error_rate", False)])
def test_errors_in_units_of_their_own_are_told(metric, warned):
    rows = [row("Asia", task, 3.0, metric=metric) for task in ("eurosat", "brick-kiln")]
    told = " ".join(table(rows).told)
    assert "Less is better of these scores" in told
    assert ("the largest numbers count most" in told) == warned


def test_seeds_stay_rows_about_the_mean_of_the_dataset():
    rows = [
        row("Asia", task, value, seed=seed, pretrain_seed=run)
        for task, base in (("fmow", 0.2), ("eurosat", 0.4))
        for run in range(2)
        for seed, value in enumerate([base + run / 100, base + 0.05 + run / 100])
    ]
    expected = [0.3, 0.35, 0.31, 0.36]
    np.testing.assert_allclose(scores(table(rows))["Asia"], expected, atol=1e-12)
    # a task that was scored once has that score in every row; one of other seeds is paired in order
    once = [each for each in rows if each["task"] == "fmow"] + [row("Asia", "eurosat", 0.4)]
    np.testing.assert_allclose(scores(table(once))["Asia"], [0.3, 0.325, 0.305, 0.33], atol=1e-12)
    other = [each | {"seed": each["seed"] + (7 if each["task"] == "eurosat" else 0)} for each in rows]
    np.testing.assert_allclose(scores(table(other))["Asia"], expected, atol=1e-12)


def test_means_of_a_dataset_are_over_all_runs_of_each_task():
    rows = [row("Asia", "fmow", value, seed=seed) for seed, value in enumerate([0.1, 0.2, 0.6])]
    rows += [row("Asia", "eurosat", value, seed=seed) for seed, value in enumerate([0.5, 0.7])]
    found = scores(table(rows))["Asia"]
    assert len(found) == 2
    assert np.mean(found) == pytest.approx((0.3 + 0.6) / 2)


def test_what_was_scored_twice_counts_once():
    assert scores(table([row("Asia", "fmow", 0.2), row("Asia", "fmow", 0.4)])) == {
        "Asia": [0.2]
    }  # the first, as in the report


def test_control_other_metrics_and_scores_without_leaks_are_no_rows():
    rows = [
        row("none", "fmow", 0.1),
        row("Asia", "fmow", 0.3),
        row("Asia", "fmow", 0.9, metric="macro_f1", primary=False),
    ]
    rows += [row("Asia", "fmow", 0.8) | {"without": "leaks.parquet"}, row("Europe", "fmow", float("nan"))]
    found = table(rows)
    assert scores(found) == {"Asia": [0.3]}
    assert found.told[-1] == "Without any such score: Europe, Global, Oceania."


def test_a_dataset_without_all_tasks_has_no_score_and_is_told():
    rows = [row("Asia", "fmow", 0.2), row("Asia", "eurosat", 0.5), row("Europe", "fmow", 0.9), row("Mars", "fmow", 0.1)]
    found = table(rows)
    assert np.isnan(scores(found)["Europe"]).all()
    assert found.told[1:] == (
        "Without a score of every task, and so left out: Europe, Mars.",
        "Not in datasets.csv, and so left out: Mars.",
        "Without any such score: Global, Oceania.",
    )


def test_groups_of_test_samples_are_chosen_and_draws_within_them_stand_where_there_are_no_others():
    rows = [row("Asia", "fmow", 0.5), row("Asia", "fmow", 0.4, group="continent=Africa")]
    rows += [row("Asia", "fmow", 0.3, group="continent=Africa", drawn="continent=Africa")]
    assert scores(table(rows, Selection(group="continent=Africa"))) == {"Asia": [0.4]}
    within = [
        row("Asia", "fmow", value, group=group, drawn=drawn, size=100)
        for value, group, drawn in [
            (0.2, "continent=Africa", "continent=Africa"),
            (0.6, "continent=Asia", "continent=Asia"),
            (0.9, "continent=Asia", "continent=Africa"),
        ]
    ]
    found = table(within)
    assert scores(found) == {"Asia": [pytest.approx(0.4)]}
    assert "100 training samples a draw; tested within each of 2 groups (continent)" in found.told[0]
    assert scores(table(within, Selection(group="continent=Asia"))) == {"Asia": [0.6]}


def test_errors_are_left_out_of_a_mean_of_scores_but_can_be_chosen():
    rows = [row("Asia", "fmow", 0.2), row("Asia", "fuel", 11.0, metric="rmse")]
    found = table(rows)
    assert scores(found) == {"Asia": [0.2]}
    assert "Left out, as less is better there: fuel." in found.told
    found = table(rows, Selection(task_group="fuel"))
    assert scores(found) == {"Asia": [11.0]}
    assert any(line.startswith("Less is better of these scores") for line in found.told)


def test_the_full_size_is_meant_where_there_is_one():
    rows = [row("Asia", "fmow", 0.2, size=5), row("Asia", "fmow", 0.3, size=20)]
    assert scores(table([*rows, row("Asia", "fmow", 0.6)])) == {"Asia": [0.6]}
    assert scores(table(rows, Selection(size=5))) == {"Asia": [0.2]}
    assert scores(table(rows[:1])) == {"Asia": [0.2]}


@pytest.mark.parametrize(
    ("rows", "selection", "message"),
    [
        ([row("Asia", "fmow", 0.2), row("Asia", "fmow", 0.3, model="presto")], {},
         "scores are of several: presto, satmae. Choose one with --model"),
        ([row("Asia", "fmow", 0.2), row("Asia", "fmow", 0.3, probe="knn-5")], {},
         "scores are of several: knn-5, linear. Choose one with --probe"),
        ([row("Asia", "fmow", 0.2, size=5), row("Asia", "fmow", 0.3, size=20)], {},
         "draws of 20, 5 samples. Choose one with --size"),
        ([row("Asia", "fmow", 0.2)], {"model": "presto"}, "--model presto: there are no such scores; there are satmae"),
        ([row("Asia", "fmow", 0.2)], {"task_group": "x"}, "--task-group x: there are no such scores; there are classes"),
        ([row("Asia", "fmow", 0.2)], {"group": "biome=x"}, "no scores of test samples in 'biome=x': there are all"),
        ([row("Asia", "fmow", 0.2)], {"size": 5}, "--size 5: there are no such scores; there are those of all samples"),
        ([row("none", "fmow", 0.2)], {}, "no scores of a pretraining dataset yet"),
        ([row("Asia", "fmow", "much")], {}, "column 'value' of the scores holds what is no number"),
        ([{"dataset": "Asia", "score": 1}], {}, "scores lack the columns model, task, probe, metric, value"),
    ],
)  # fmt: skip
def test_what_cannot_be_one_table_is_refused(rows, selection, message):
    with pytest.raises(TrainingError, match=message):
        table(rows, Selection(**selection))


def test_datasets_are_named_once(tmp_path):
    rows = [row("Asia", "fmow", 0.2)]
    with pytest.raises(TrainingError, match=r"datasets.csv has several rows of Asia"):
        table(rows, datasets=pd.concat([DIVERSITY, DIVERSITY[:1]]))
    with pytest.raises(TrainingError, match="has no column 'dataset' that would name them; it has name"):
        table(rows, datasets=DIVERSITY.rename(columns={"dataset": "name"}))
    with pytest.raises(TrainingError, match=r"has no results.csv"):
        read_study(tmp_path, Selection())
    pd.DataFrame(rows).to_csv(tmp_path / "results.csv", index=False)
    with pytest.raises(TrainingError, match=r"datasets.csv is missing"):
        read_study(tmp_path, Selection())


# --- the command


@pytest.fixture
def study(tmp_path):
    """The paper's ten datasets as a study: four groups of tasks whose mean is each one's score, three seeds, two probes."""
    paper = pd.read_csv(PAPER)
    rows = [
        row(name, task, score + offset + (seed - 1) / 100 + (0.1 if probe == "knn-5" else 0), seed=seed, probe=probe)
        for name, score in zip(paper["dataset"], paper["score"], strict=True)
        for task, offset in (("fmow", 0.05), ("population", -0.05), ("forest", 0.02), ("eurosat", -0.02))
        for seed in range(3)
        for probe in ("linear", "knn-5")
    ]
    pd.DataFrame([*rows, row("none", "fmow", 0.1)]).to_csv(tmp_path / "results.csv", index=False)
    paper.drop(columns="score").assign(title="A dataset").to_csv(tmp_path / "datasets.csv", index=False)
    return tmp_path


def say(*arguments):
    return CliRunner().invoke(correlate_command, [str(each) for each in arguments], catch_exceptions=False)


def test_a_studys_folder_gives_what_its_table_gives(study):
    told = say(study, "--probe", "linear").output
    assert told.startswith("Scores: the mean of classes, population, forest, GEO-Bench; satmae, linear; all training")
    expected = say(PAPER).output
    for line in expected.splitlines()[:9]:
        assert line in told  # the same estimates, though seeds are rows here
    assert say(study / "results.csv", "--probe", "linear").output == told


def test_the_studys_report_finds_the_same(study):
    (view,) = (each for each in views_of(read_records(study)) if each.probe == "linear")
    reported = relations_of(standings_of(view, rng=np.random.default_rng(0)), rng=np.random.default_rng(0)).found
    measures = ["spectral", "continent", "biome", "landcover"]
    table = read_study(study, Selection(probe="linear")).table
    found = correlate_table(table, score="score", by=measures, rng=np.random.default_rng(0))
    for words, one in zip(("Spectral", "Continent", "Biome", "Land cover"), found, strict=True):
        assert (reported[words].rho, reported[words].p, reported[words].n) == (one.rho, one.p, one.n)
        np.testing.assert_allclose(reported[words].scores, one.scores, atol=1e-12)
        np.testing.assert_allclose(reported[words].score_sd, one.score_sd, atol=1e-9)


def test_choices_are_refused_of_a_table_of_datasets(study):
    with pytest.raises(TrainingError, match="Choose one with --probe"):
        say(study)
    with pytest.raises(TrainingError, match=r"--task-group, --size: .* has a row a dataset"):
        say(PAPER, "--task-group", "classes", "--size", 5)
    assert not is_long(pd.read_csv(PAPER))
