"""The figures of a report are those of its rows: by hand, by pandas, and as the papers print them."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from pwcat.errors import TrainingError
from training.relating.verdict import number
from training.reporting.cells import difference, grid_of
from training.reporting.charts.looks import looks_of
from training.reporting.completeness import completeness_of
from training.reporting.filling import embeddings_section
from training.reporting.findings import findings_of
from training.reporting.ladder import ladder_section
from training.reporting.leaking import leaks_caveat, leaks_section, left_out_of
from training.reporting.models import models_sheet
from training.reporting.places import places_of
from training.reporting.records import read_records
from training.reporting.relations import relations_of
from training.reporting.standings import combined_sheet, sheet_of, standings_of
from training.reporting.views import foremost, views_of
from training.reporting.writing import write_report

PAPER = {  # main table of Kaur et al. (2026): FMoW, MOSAIKS, ForTy, GEO-Bench
    "europe": (0.33, 0.23, 0.37, 0.51),
    "north-america": (0.32, 0.22, 0.36, 0.49),
    "south-america": (0.27, 0.20, 0.36, 0.49),
    "asia": (0.27, 0.20, 0.35, 0.47),
    "global": (0.23, 0.17, 0.35, 0.46),
    "oceania": (0.23, 0.14, 0.33, 0.45),
    "africa": (0.15, 0.08, 0.31, 0.41),
    "none": (0.12, 0.03, 0.30, 0.46),
}


def rng():
    return np.random.default_rng(0)


def plain(values, **columns):
    """Rows of one seed without intervals: a score by dataset and task."""
    rows = [
        {"dataset": d, "model": "satmae", "task": t, "probe": "linear", "metric": "accuracy", "value": v, **columns}
        for d, of in values.items()
        for t, v in of.items()
    ]
    return pd.DataFrame(rows)


def opened(made, folder, table, **files):
    return read_records(made.write(folder, table, costs=False, **files))


def only_standings(records):
    (view,) = views_of(records)
    return standings_of(view, rng=rng())


@pytest.fixture(scope="module")
def table():
    from importlib.util import module_from_spec, spec_from_file_location
    from pathlib import Path

    spec = spec_from_file_location("made_study", Path(__file__).with_name("conftest.py"))
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.results(models=("satmae",), probes=("knn-5", "linear"), sizes=(5, None), seeds=4, metrics=2)


def test_ranks_are_the_papers(made, tmp_path):
    table = plain({name: dict(zip("abcd", scores, strict=True)) for name, scores in PAPER.items()})
    standings = only_standings(opened(made, tmp_path, table))
    assert [standings.ranks[name] for name in PAPER] == [
        0,
        1,
        1.5,
        2,
        2.75,
        3.5,
        4.5,
        4.75,
    ]  # the paper prints 5.25 last
    assert standings.order == list(PAPER)
    assert standings.mean("europe").mean == pytest.approx(0.36)
    assert standings.stability is None
    texts = [[cell.text for cell in row.cells] for row in sheet_of(standings).rows]
    assert texts[0] == ["europe", ".33", ".23", ".37", ".51", ".36", "0.00"]


def test_correlations_are_the_papers(made, tmp_path):
    points = pd.read_csv("tests/training/pretrain_where.csv")
    table = plain({d: {"all": s} for d, s in zip(points["dataset"], points["score"], strict=True)})
    records = opened(made, tmp_path, table, datasets=points.drop(columns="score"))
    found = relations_of(only_standings(records), rng=rng()).found
    assert {w: round(one.rho, 3) for w, one in found.items()} == {
        "Spectral": 0.845, "Continent": 0.425, "Biome": 0.432, "Land cover": 0.298,
    }  # fmt: skip
    by_t = [number(one.p_values["t"]) for one in found.values()]
    assert by_t == [".0021", ".221", ".213", ".403"]
    assert [one.p_by for one in found.values()] == ["exact"] * 4
    assert [one.verdict.word for one in found.values()] == ["shown", "not shown", "not shown", "not shown"]
    assert found["Spectral"].n == 10


def test_a_mean_over_tasks_that_rounding_would_part_is_tied(made, tmp_path):
    tasks = {
        "a": (0.1, 0.3),
        "b": (0.2, 0.1),
        "c": (0.3, 0.2),
    }  # both sum to .6, in orders that floats round differently
    table = plain({d: {t: v[i] for t, v in tasks.items()} for i, d in enumerate("xy")})
    standings = only_standings(opened(made, tmp_path, table))
    assert standings.mean("x").mean == standings.mean("y").mean


def test_cells_are_those_of_pandas(made, tmp_path, table):
    records = opened(made, tmp_path, table)
    for view in views_of(records):
        standings = standings_of(view, rng=rng())
        rows = table[
            (table["probe"] == view.probe) & table["size"].isna() & (table["group"] == "all") & table["primary"]
        ]
        by_seed = rows.groupby(["dataset", "task_group", "seed"])[
            "value"
        ].mean()  # tasks of a group have the same seeds
        for (dataset, group), of in by_seed.groupby(level=[0, 1]):
            cell = standings.scores[dataset][group]
            assert cell.mean == pytest.approx(of.mean(), abs=1e-12)
            assert cell.sd == pytest.approx(of.std(), abs=1e-12)
            tests = rows[(rows["dataset"] == dataset) & (rows["task_group"] == group)]
            halves = ((tests["ci_high"] - tests["ci_low"]) / 2).groupby(tests["task"]).mean()
            seeds = stats.t.ppf(0.975, 3) * of.std() / 2
            half = np.hypot(seeds, np.sqrt((halves**2).sum()) / len(halves))
            assert (cell.high - cell.low) / 2 == pytest.approx(half, rel=1e-9)


def test_files_hold_the_figures_unrounded(made, tmp_path, table):
    standings = standings_of(views_of(opened(made, tmp_path, table))[0], rng=rng())
    frame = sheet_of(standings).frame
    row = frame[(frame["dataset"] == "asia") & (frame["column"] == "GEO-Bench")].iloc[0]
    assert row["mean"] == standings.scores["asia"]["GEO-Bench"].mean
    assert (row["tasks"], row["tasks_scored"], row["seeds"]) == (3, 3, 4)


def test_bold_is_the_best_and_daggers_overlap_it(made, tmp_path, table):
    standings = standings_of(views_of(opened(made, tmp_path, table))[0], rng=rng())
    sheet = sheet_of(standings)
    for place, column in enumerate(standings.columns, start=1):
        means = {name: standings.scores[name][column] for name in standings.scores}
        best = max(means.values(), key=lambda score: score.mean)
        for row in sheet.rows:
            score, cell = means[row.dataset], row.cells[place]
            assert cell.best == (round(score.mean, 2) == round(best.mean, 2))
            assert cell.near == (not cell.best and score.high >= best.low)
    assert any(row.cells[1].best for row in sheet.rows)


def test_of_errors_the_least_is_best(made, tmp_path):
    table = plain({"a": {"t": 3.0}, "b": {"t": 1.0}, "none": {"t": 7.0}}).assign(metric="rmse")
    standings = only_standings(opened(made, tmp_path, table))
    assert standings.best("t") == {"b"}
    assert standings.ranks == {"a": 1.0, "b": 0.0, "none": 2.0}
    assert standings.averaged == []
    assert "less is better" in sheet_of(standings).heads[1]


def test_errors_and_scores_are_not_averaged_into_one_column(made, tmp_path):
    table = pd.concat(
        [plain({"a": {"t": 0.5}, "b": {"t": 0.6}}), plain({"a": {"u": 5.0}, "b": {"u": 6.0}}).assign(metric="mae")]
    )
    standings = only_standings(opened(made, tmp_path, table.assign(task_group="both")))
    assert standings.columns == ("t", "u")


def test_an_error_rate_is_best_where_it_is_least_and_groups_with_others(made, tmp_path):
    table = plain({"a": {"t": 0.3, "u": 0.2}, "b": {"t": 0.1, "u": 0.3}, "none": {"t": 0.4, "u": 0.4}})
    standings = only_standings(opened(made, tmp_path, table.assign(metric="error_rate", task_group="bridges")))
    assert standings.columns == ("bridges",)
    assert standings.best("bridges") == {"b"}
    assert standings.averaged == []
    assert "error rate" in standings.view.records.metrics("bridges")
    assert standings.view.records.lower("bridges")


@pytest.mark.parametrize("other", ["mae", "error_rate"])
def test_errors_in_units_of_their_own_are_not_averaged(made, tmp_path, other):
    table = pd.concat(
        [
            plain({"a": {"t": 12.0}, "b": {"t": 14.0}}).assign(metric="mae"),
            plain({"a": {"u": 0.3}, "b": {"u": 0.2}}).assign(metric=other),
        ]
    )
    standings = only_standings(opened(made, tmp_path, table.assign(task_group="map")))
    assert standings.columns == ("t", "u")


def test_pretraining_seeds_are_what_an_interval_is_over(made, tmp_path):
    values = {(p, s): 0.5 + 0.1 * p + 0.001 * s for p in range(3) for s in range(5)}
    rows = [plain({"a": {"t": v}, "b": {"t": 0.4}}, pretrain_seed=p, seed=s) for (p, s), v in values.items()]
    standings = only_standings(opened(made, tmp_path, pd.concat(rows)))
    score = standings.scores["a"]["t"]
    assert score.standard_error == (pytest.approx(0.1 / np.sqrt(3)), 2)
    assert (score.high - score.low) / 2 == pytest.approx(stats.t.ppf(0.975, 2) * 0.1 / np.sqrt(3))
    gap, low, high = difference(score, standings.scores["b"]["t"])
    assert gap == pytest.approx(0.202)
    assert (high - low) / 2 == pytest.approx(stats.t.ppf(0.975, 2) * 0.1 / np.sqrt(3))  # the other one does not vary


def test_differences_are_paired_by_draw(made, tmp_path):
    draws = np.array([0.0, 0.3, -0.2, 0.1])
    values = {"a": 0.5 + draws + [0.01, 0.02, 0.03, 0.02], "b": 0.5 + draws}
    rows = [plain({d: {"t": of[s]} for d, of in values.items()}, seed=s) for s in range(4)]
    scores = only_standings(opened(made, tmp_path, pd.concat(rows))).scores
    gap, low, high = difference(scores["a"]["t"], scores["b"]["t"])
    half = stats.t.ppf(0.975, 3) * np.std([0.01, 0.02, 0.03, 0.02], ddof=1) / 2
    assert (gap, low, high) == pytest.approx((0.02, 0.02 - half, 0.02 + half))


def test_the_interval_holds_the_truth_as_often_as_it_says():
    """Draws and test samples vary as the model says: 95 % of intervals hold the mean."""
    draw, held, studies = np.random.default_rng(3), 0, 600
    for _ in range(studies):
        value = 0.5 + 0.02 * draw.standard_normal() + 0.03 * draw.standard_normal(8)
        rows = pd.DataFrame({"value": value, "ci_low": value - 0.0392, "ci_high": value + 0.0392, "seed": range(8)})
        rows = rows.assign(dataset="a", task="t", group="all", pretrain_seed=0, num_test=100)
        score = grid_of(rows).score("a", [("t", "all")])
        held += score.low <= 0.5 <= score.high
    assert 0.93 < held / studies < 0.985


def test_what_is_missing_is_no_number_and_not_ranked(made, tmp_path, table):
    gone = (table["dataset"] == "asia") & (table["task"] == "m-so2sat") & (table["probe"] == "linear")
    records = opened(made, tmp_path, table[~gone], datasets=made.datasets())
    standings = next(standings_of(v, rng=rng()) for v in views_of(records) if v.probe == "linear")
    score = standings.scores["asia"]["GEO-Bench"]
    assert not score.complete
    assert (score.held, score.units) == (2, 3)
    assert np.isnan(score.mean)
    assert "asia" not in standings.ranks
    assert len(standings.ranks) == 7
    row = next(row for row in sheet_of(standings).rows if row.dataset == "asia")
    assert [cell.text for cell in row.cells][4:] == ["–", "–", "–", "–"]
    held = completeness_of(records)
    assert held.missing == (("asia", "satmae", 0, "m-so2sat", "linear"),)
    assert held.expected == 8 * 6 * 2
    assert "1 of 96 evaluations have no scores" in held.sentence


def test_draws_that_others_have_are_counted(made, tmp_path, table):
    gone = (
        (table["dataset"] == "asia") & (table["task"] == "forty") & (table["probe"] == "linear") & (table["seed"] > 1)
    )
    held = completeness_of(opened(made, tmp_path, table[~gone]))
    assert held.short == ((("asia", "satmae", 0, "forty", "linear"), 4, 8),)


def test_a_dataset_that_never_ran_is_missing_as_the_document_says(made, tmp_path, table):
    document = {
        "datasets": [{"name": name} for name in made.quality if name != "none"],
        "models": [{"name": "satmae", "recipe": "satmae-b"}],
        "tasks": [{"task": name} for name in made.tasks],
        "probes": ["knn", "linear"],
    }
    records = opened(made, tmp_path, table[table["dataset"] != "africa"], document=document)
    held = completeness_of(records)
    assert len(held.missing) == 12
    assert {key[0] for key in held.missing} == {"africa"}


def test_a_heat_map_has_every_place_and_none_that_was_not_tested(made, tmp_path, table):
    gone = (table["group"] == "continent=Oceania") & (table["task"] == "forty")
    (view,) = foremost(views_of(opened(made, tmp_path, table[~gone])))
    found = places_of(view, "continent")
    assert view.probe == "linear"
    assert found.places == ("Africa", "Asia", "Europe", "North America", "Oceania", "South America")
    assert np.isnan(found.values["ForTy"][:, 4]).all()
    assert np.isnan(found.counts["ForTy"][4])
    rows = table[
        (table["probe"] == "linear") & table["size"].isna() & table["primary"] & (table["dataset"] == "europe")
        & (table["group"] == "continent=Asia") & (table["task_group"] == "GEO-Bench")
    ]  # fmt: skip
    by_hand = rows.groupby("task")["value"].mean().mean()
    assert found.values["GEO-Bench"][found.datasets.index("europe"), 1] == pytest.approx(by_hand)
    assert found.counts["GEO-Bench"][1] == rows.groupby("task")["num_test"].first().sum()


def test_draws_within_continents_are_averaged_over_them(made, tmp_path):
    rows = [
        plain({"a": {"t": v}, "b": {"t": v / 2}}, group=f"continent={c}", drawn=f"continent={c}", size=100, seed=s)
        for c, level in {"Africa": 0.2, "Asia": 0.6}.items()
        for s, v in enumerate([level, level + 0.1])
    ]
    records = opened(made, tmp_path, pd.concat(rows))
    (view,) = views_of(records)
    assert view.within
    assert view.size == 100
    assert view.score("a", "t").mean == pytest.approx(0.45)
    assert places_of(view, "continent").values["t"][0] == pytest.approx([0.25, 0.65])


def test_all_probes_stand_beside_one_another(made, tmp_path, table):
    every = [standings_of(view, rng=rng()) for view in views_of(opened(made, tmp_path, table))]
    sheet = combined_sheet(every)
    assert sheet.heads == ("Pretrained on", "satmae, k-NN, k = 5", "satmae, linear probe", "Rank over all")
    assert sheet.rows[0].dataset == "europe"
    assert sheet.rows[-1].control


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop(columns=["model", "value"]), "lacks the columns model, value"),
        (lambda t: t.iloc[:0], "has no scores yet"),
        (lambda t: t.assign(value="high"), "column value holds what is no number"),
        (lambda t: t.assign(value=np.nan), "has no scores yet"),
    ],
)
def test_results_that_cannot_be_told_are_refused(made, tmp_path, change, message):
    with pytest.raises(TrainingError, match=message):
        opened(made, tmp_path, change(plain({"a": {"t": 0.5}})))


def test_a_folder_without_scores_is_refused(tmp_path):
    with pytest.raises(TrainingError, match=r"has no results\.csv"):
        read_records(tmp_path)


def test_undefined_and_doubled_scores_are_counted(made, tmp_path):
    table = plain({"a": {"t": 0.5, "u": np.nan}, "b": {"t": 0.6, "u": 0.7}})
    records = opened(made, tmp_path, pd.concat([table, table.iloc[[0]].assign(value=0.9)]))
    assert records.remarks[:2] == (
        "1 of 5 scores are undefined (NaN) and left out.",
        "1 scores are of the same model, task, probe, size and seed as others; the first ones count.",
    )
    assert only_standings(records).scores["a"]["t"].mean == 0.5


def test_findings_are_no_stronger_than_the_figures(made, tmp_path, table):
    records = opened(made, tmp_path / "a", table, datasets=made.datasets())
    standings = standings_of(foremost(views_of(records))[0], rng=rng())
    (told,) = findings_of([standings], [relations_of(standings, rng=rng())])
    assert "Europe ranks first (mean rank 0.00), and stays so in" in told
    assert "7 of 7 pretrained models have a better mean score than random weights, all beyond what seeds do." in told
    assert "spectral not shown (ρ .61)" in told
    same = plain({name: {"t": 0.5} for name in made.quality}, seed=0)
    flat = only_standings(opened(made, tmp_path / "b", same, datasets=made.datasets()))
    (told,) = findings_of([flat], [relations_of(flat, rng=rng())])
    assert "8 of 8 rows share the first rank" in told
    assert "None of 7 pretrained models have a better mean score than random weights." in told
    assert "there is nothing to relate" in told


def test_of_one_seed_nothing_is_said_of_stability(made, tmp_path):
    standings = only_standings(opened(made, tmp_path, plain({"a": {"t": 0.5}, "b": {"t": 0.6}})))
    assert "how stable that is cannot be said" in findings_of([standings], [relations_of(standings, rng=rng())])[0]
    assert [cell.text for cell in sheet_of(standings).rows[0].cells] == ["b", ".60", "0.00"]


def test_a_study_keeps_its_document_beside_its_hash(made, tmp_path):
    document = {
        "hash": "abc",
        "pwcat": "0.1.0",
        "study": {"name": "x", "title": "X", "datasets": [{"name": "a"}, {"name": "c"}]},
    }
    records = opened(made, tmp_path, plain({"a": {"t": 0.5}, "none": {"t": 0.4}}), document=document)
    assert records.document["title"] == "X"
    assert records.provenance == {"hash": "abc", "pwcat": "0.1.0"}
    assert completeness_of(records).missing == (("c", "satmae", 0, "t", "linear"),)


def test_rungs_are_related_to_the_study_and_cost_what_their_jobs_did(made, tmp_path, table):
    jobs = ["pretrain/rung-short/satmae/a/s0", "evaluate/rung-short/satmae/a/s0/t/knn/all", "pretrain/satmae/a/s0"]
    costs = pd.DataFrame({"job": jobs, "seconds": [10.0, 2.0, 50.0], "gpu_hours": [0.1, 0.0, 0.5]})
    made.write(tmp_path, table, costs=False)
    (tmp_path / "rungs").mkdir()
    table.assign(value=1 - table["value"]).to_csv(tmp_path / "rungs" / "short.csv", index=False)
    costs.to_csv(tmp_path / "costs.csv", index=False)
    full = read_records(tmp_path)
    records = replace(full, results=full.results[full.results["rung"] == ""])
    standings = standings_of(foremost(views_of(records))[0], rng=rng())
    looks = looks_of(full.titles, control="none")
    frame = ladder_section([standings], full=full, looks=looks).blocks[-1].frame
    assert frame[["seconds", "gpu_hours"]].to_numpy().tolist() == [[12.0, 0.1]]
    assert frame["rho"].item() == -1.0  # the rung puts them in the reverse order
    assert frame["same_best"].item() == "no"
    assert ladder_section([standings], full=records, looks=looks) is None


def leaking_rows(scores, *, without, tests, clean):
    """Scores of one task, over all test samples and over those that do not leak."""
    rows = plain({name: {"t": value} for name, value in scores.items()}).assign(num_test=tests)
    return pd.concat(
        [rows, rows.assign(group="leaks=none", value=rows["dataset"].map(without), num_test=clean)], ignore_index=True
    )


def test_scores_without_leaks_stand_beside_those_with_them(made, tmp_path):
    table = leaking_rows(
        {"a": 0.6, "b": 0.5, "none": 0.3}, without={"a": 0.4, "b": 0.5, "none": 0.3}, tests=100, clean=80
    )
    records = opened(made, tmp_path, table, document={"name": "x", "leaks": {"km": 1}})
    (held,) = left_out_of(records)
    assert (held.task, held.tests, held.leaking) == ("t", 100, 20)
    assert leaks_caveat([held]).startswith(
        "Test samples lie near a pretraining sample: 20 of 100 of t. They count in all"
    )
    sheet = leaks_section([held], [only_standings(records)], []).blocks[-1]
    assert [[cell.text + cell.spread for cell in row.cells] for row in sheet.rows] == [
        ["a", ".60", ".40 (−.200)", "0.00", "1.00"],  # the first rank rested on leaks
        ["b", ".50", ".50 (.000)", "1.00", "0.00"],
        ["None", ".30", ".30 (.000)", "2.00", "2.00"],
    ]
    write_report(tmp_path)
    text = (tmp_path / "report" / "report.md").read_text()
    assert "Test samples near a pretraining sample of any dataset (within 1 km) count in all scores, but for" in text


def test_leaks_of_draws_within_continents_are_added_up(made, tmp_path):
    whole = plain({"a": {"t": 0.6}, "b": {"t": 0.5}})
    parts = [
        whole.assign(drawn=place, group=group, num_test=number, value=whole["value"] - (group == "leaks=none") / 10)
        for place, of in {"continent=Asia": (50, 40), "continent=Africa": (30, 30)}.items()
        for group, number in ((place, of[0]), ("leaks=none", of[1]))
    ]
    records = opened(made, tmp_path, pd.concat(parts, ignore_index=True))
    (held,) = left_out_of(records)
    assert (held.tests, held.leaking) == (80, 10)
    sheet = leaks_section([held], [only_standings(records)], []).blocks[-1]
    assert [cell.text for cell in sheet.rows[0].cells] == ["a", ".60", ".50", "0.00", "0.00"]


def test_a_task_all_of_whose_samples_leak_has_no_score_without(made, tmp_path):
    table = leaking_rows({"a": 0.6, "b": 0.5}, without={"a": 0.4, "b": 0.5}, tests=100, clean=80)
    other = plain({"a": {"u": 0.6}, "b": {"u": 0.5}}).assign(num_test=10, task_group="t")
    records = opened(made, tmp_path, pd.concat([table.assign(task_group="t"), other], ignore_index=True))
    sheet = leaks_section(left_out_of(records), [only_standings(records)], []).blocks[-1]
    assert [cell.text + cell.spread for cell in sheet.rows[0].cells][1:3] == [".60", "– 1 of 2"]


def test_without_a_search_for_leaks_there_is_no_section(made, tmp_path):
    records = opened(made, tmp_path, plain({"a": {"t": 0.6}, "b": {"t": 0.5}}))
    assert leaks_section(left_out_of(records), [only_standings(records)], []) is None


def test_where_every_test_sample_leaks_that_is_told(made, tmp_path):
    rows = plain({"a": {"t": 0.6}, "b": {"t": 0.5}}).assign(num_test=30)
    records = opened(made, tmp_path, pd.concat([rows, rows.assign(group="leaks=some")], ignore_index=True))
    (held,) = left_out_of(records)
    assert (held.tests, held.leaking) == (30, 30)
    sheet = leaks_section([held], [only_standings(records)], []).blocks[-1]
    assert [cell.text for cell in sheet.rows[0].cells] == ["a", ".60", "–", "0.00", "–"]


def beside_one_another(made, folder, tasks=("houses", "kinds"), **changes):
    """Two models on one dataset, and one with nothing to train, on tasks of which less and more is better."""
    rows = [
        {"dataset": dataset, "model": model, "task": task, "probe": "mlp", "metric": metric, "value": value + noise,
         "ci_low": value - 0.01, "ci_high": value + 0.01, "seed": seed}
        for model, dataset, values in (
            ("T", "towns", (7.0, 0.9)), ("T", "none", (9.0, 0.6)), ("GTI", "towns", (5.0, 0.8)), ("counts", "none", (5.5, 0.5)),
        )
        for task, metric, value in zip(tasks, ("mae", "accuracy"), values, strict=True)
        for seed, noise in enumerate((0.0, 0.02))
    ]  # fmt: skip
    models = [{"name": "T"}, {"name": "GTI"}, {"name": "counts", "trained": False}]
    document = {"name": "maps", "datasets": [{"name": "towns"}], "models": models, **changes}
    return opened(made, folder, pd.DataFrame(rows), document=document)


def test_models_stand_beside_one_another_with_what_they_were_pretrained_on(made, tmp_path):
    records = beside_one_another(made, tmp_path)
    sheet = models_sheet([standings_of(view, rng=rng()) for view in views_of(records)])
    said = [[cell.text for cell in row.cells[:3]] for row in sheet.rows]
    assert said == [
        ["GTI", "MLP", "towns"],  # ranks 0 and 1 of the columns
        ["T", "MLP", "towns"],  # 2 and 0
        ["counts", "MLP", "nothing to train"],  # 1 and 3
        ["T", "MLP", "random weights"],  # 3 and 2
    ]
    assert [row.cells[-1].text for row in sheet.rows] == ["0.50", "1.00", "2.00", "2.50"]
    assert [[cell.best for cell in row.cells[3:5]] for row in sheet.rows] == [[1, 0], [0, 1], [0, 0], [0, 0]]
    assert sheet.frame["houses-mean"].tolist() == pytest.approx([5.01, 7.01, 5.51, 9.01])


def test_tasks_that_leak_count_for_no_rank(made, tmp_path):
    records = beside_one_another(made, tmp_path, tasks=("houses", "kinds-leaky"))
    sheet = models_sheet([standings_of(view, rng=rng()) for view in views_of(records)])
    assert [row.cells[-1].text for row in sheet.rows] == ["0.00", "1.00", "2.00", "3.00"]
    assert [row.cells[0].text for row in sheet.rows] == ["GTI", "counts", "T", "T"]  # by houses alone
    assert "Ranks leave out leaky tasks" in sheet.note


def test_nothing_is_awaited_of_a_model_that_has_nothing_to_train(made, tmp_path):
    records = beside_one_another(made, tmp_path, control=True)
    held = completeness_of(records)
    assert {key[:2] for key in held.missing} == {("none", "GTI")}
    (counts,) = [view for view in views_of(records) if view.model == "counts"]
    assert standings_of(counts, rng=rng()).order == ["none"]


def test_a_model_with_probes_of_its_own_lacks_no_others(made, tmp_path):
    models = [{"name": "T"}, {"name": "GTI", "probes": ["linear"]}, {"name": "counts", "trained": False}]
    records = beside_one_another(made, tmp_path, control=True, models=models)
    assert completeness_of(records).missing == ()


def test_a_model_alone_is_beside_none(made, tmp_path, table):
    records = opened(made, tmp_path, table)
    assert models_sheet([standings_of(view, rng=rng()) for view in views_of(records)]) is None


def test_embeddings_that_have_collapsed_are_told(made, tmp_path):
    made.write(tmp_path, plain({"a": {"t": 0.5}, "none": {"t": 0.4}}))
    assert embeddings_section(read_records(tmp_path)) is None
    ranks = [("none", "", 9.25, 30.5), ("a", "", 1.04, 12.0), ("a", "", 3.0, 8.0), ("a", "short", 1.0, 1.0)]
    table = pd.DataFrame(ranks, columns=["dataset", "rung", "effective_rank", "effective_rank_centred"])
    table.assign(model="satmae", task="t", most=64).to_csv(tmp_path / "embeddings.csv", index=False)
    (_, sheet) = embeddings_section(read_records(tmp_path)).blocks
    texts = [tuple(cell.text for cell in row.cells[2:]) for row in sheet.rows]
    assert texts == [("1.0 to 3.0 !", "8.0 to 12.0", "64"), ("9.2", "30.5", "64")]  # the control last, rungs left out
    assert "collapsed" in sheet.note
    assert sheet.frame["effective_rank_min"].tolist() == [1.04, 9.25]
