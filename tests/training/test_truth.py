"""Scores are scikit-learn's on the same embeddings; seeds and groups vary what they should, and nothing else."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn import metrics
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from training.correlation import correlate_table
from training.evaluating.bench import Bench
from training.probes import ForestProbe, KNNProbe, LinearProbe, LogisticProbe, MLPProbe, RidgeProbe
from training.probing.descent import Recipe
from training.resampling import Draw, FewShot
from training.tasks.base import TaskData, TaskInfo
from training.tasks.chips import PlaceChips

ROOT = Path(__file__).parents[2]
CONTINENTS = np.array(["Africa", "Asia", None], dtype=object)
METRIC = {"classification": "accuracy", "multilabel": "micro_f1", "regression": "r2"}


def soft(distances):
    return np.exp((1 - distances) / 0.07)


def task(kind, *, samples=400, length=20, grouped=True):
    """A task, and the embeddings of its samples."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(samples, length)).astype(np.float32) + np.float32(0.5)
    numbers = features @ rng.normal(size=(length, 3)) + rng.normal(0, 3, (samples, 3))
    targets = {"classification": numbers.argmax(axis=1), "multilabel": numbers > 1, "regression": numbers[:, 0]}[kind]
    lonlat = np.column_stack([rng.uniform(-170, 170, samples), rng.uniform(-60, 60, samples)])
    info = TaskInfo(
        name="made", title="Made up", kind=kind, metric=METRIC[kind],
        classes=() if kind == "regression" else ("a", "b", "c"),
    )  # fmt: skip
    data = TaskData(
        info=info,
        ids=np.array([f"s{i}" for i in range(samples)], dtype=object),
        lonlat=lonlat,
        splits=np.where(np.arange(samples) < 250, "train", "test").astype(object),
        targets=targets,
        chips=PlaceChips(lonlat=lonlat),
        hash="made",
        groups={"continent": CONTINENTS[rng.integers(3, size=samples)]} if grouped else {},
    )
    return data, features


def whole(data, *, seed=0):
    """All training samples, without a validation part: settings are the probes' defaults."""
    train, test = (np.flatnonzero(data.splits == side) for side in ("train", "test"))
    return Draw(train=train, test=test, validation=np.zeros(len(train), dtype=bool), seed=seed)


def predict(probe, data, features, draws):
    return probe.fit_predict_many(features, data.targets, draws, kind=data.info.kind, num_classes=data.num_classes)


def judged(probe, data, features, draws):
    """Scores by group and metric, a list over draws."""
    bench = Bench(data=data, draws=draws, grouping="continent", seed=0, resamples=20)
    found = bench.judge(probe.name, predict(probe, data, features, draws))
    return {(each.group, each.metric): each.values for each in found.figures}


SCORES = {
    "accuracy": metrics.accuracy_score,
    "balanced_accuracy": metrics.balanced_accuracy_score,
    "macro_f1": lambda true, found: metrics.f1_score(true, found, average="macro"),
    "micro_f1": lambda true, found: metrics.f1_score(true, found, average="micro"),
    "r2": metrics.r2_score,
    "rmse": metrics.root_mean_squared_error,
    "mae": metrics.mean_absolute_error,
}


@pytest.mark.parametrize(
    ("kind", "probe", "oracle"),
    [
        ("classification", KNNProbe(5), KNeighborsClassifier(5, metric="cosine", weights=soft)),
        ("classification", KNNProbe(20), KNeighborsClassifier(20, metric="cosine", weights=soft)),
        ("multilabel", KNNProbe(20), KNeighborsClassifier(20, metric="cosine", weights=soft)),
        ("regression", KNNProbe(20), KNeighborsRegressor(20, metric="cosine", weights=soft)),
        ("classification", LogisticProbe(), make_pipeline(StandardScaler(), LogisticRegression(tol=1e-9, max_iter=5000))),
        ("regression", RidgeProbe(), make_pipeline(StandardScaler(), Ridge(alpha=100.0))),
        ("classification", ForestProbe(), RandomForestClassifier(random_state=3)),
        ("multilabel", ForestProbe(trees=30), RandomForestClassifier(30, random_state=3)),
        ("regression", ForestProbe(trees=30), RandomForestRegressor(30, random_state=3)),
    ],
    ids=lambda each: getattr(each, "name", each if isinstance(each, str) else ""),
)  # fmt: skip
def test_scores_are_scikit_learns_on_the_same_embeddings(kind, probe, oracle):
    data, features = task(kind)
    draw = whole(data, seed=3)
    fitted = oracle.fit(features[draw.train], data.targets[draw.train])
    found = judged(probe, data, features, [draw])
    of = {"all": draw.test} | {
        f"continent={name}": draw.test[data.groups["continent"][draw.test] == name] for name in ("Africa", "Asia")
    }
    shared = {metric for _, metric in found} & set(SCORES)
    assert shared >= {METRIC[kind]}
    for group, rows in of.items():
        predicted = fitted.predict(features[rows])
        for metric in shared:
            expected = SCORES[metric](data.targets[rows], predicted)
            np.testing.assert_allclose(found[group, metric], [expected], rtol=1e-5, err_msg=f"{group} {metric}")


# --- seeds and groups

SHORT = Recipe(epochs=4, batch=64)
FIXED = [("classification", KNNProbe(5)), ("classification", LogisticProbe()), ("regression", RidgeProbe())]
DRAWN = [
    ("classification", LinearProbe(recipe=SHORT)), ("classification", MLPProbe(recipe=SHORT)),
    ("classification", ForestProbe(trees=5)),
]  # fmt: skip


def named(each):
    return getattr(each, "name", each)


@pytest.mark.parametrize(("kind", "probe"), FIXED, ids=named)
def test_the_seed_changes_nothing_where_nothing_is_drawn(kind, probe):
    data, features = task(kind)
    one, other = predict(probe, data, features, [whole(data, seed=1), whole(data, seed=2)])
    np.testing.assert_array_equal(one.values, other.values)
    assert one.chosen == other.chosen


@pytest.mark.parametrize(("kind", "probe"), DRAWN, ids=named)
def test_the_seed_changes_what_is_drawn_and_can_be_drawn_again(kind, probe):
    data, features = task(kind)
    one, other, again = predict(probe, data, features, [whole(data, seed=seed) for seed in (1, 2, 1)])
    assert np.abs(one.scores - other.scores).max() > 1e-4
    np.testing.assert_allclose(one.scores, again.scores, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("kind", "probe"), [*FIXED, *DRAWN], ids=named)
def test_which_samples_are_tested_changes_no_training(kind, probe):
    """Each test sample is predicted the same, whichever others are tested, so that groups of them are scores of one probe."""
    data, features = task(kind)
    draw = whole(data)
    here = np.flatnonzero(data.groups["continent"][draw.test] == "Africa")
    fewer = Draw(train=draw.train, test=draw.test[here], validation=draw.validation, seed=draw.seed)
    (every,), (some,) = (predict(probe, data, features, [each]) for each in (draw, fewer))
    np.testing.assert_allclose(every.values[here], some.values, rtol=1e-4)
    assert every.chosen == some.chosen


def test_groups_of_test_samples_change_no_score_of_all():
    data, features = task("classification")
    alone, _ = task("classification", grouped=False)
    draws = FewShot(sizes=(5, 20), seeds=3).draws(data.targets, lonlat=data.lonlat, sides_N=data.splits)
    grouped, plain = (judged(LogisticProbe(), each, features, draws) for each in (data, alone))
    assert ("continent=Africa", "accuracy") in grouped
    assert {group for group, _ in plain} == {"all"}
    for key, values in plain.items():
        assert grouped[key] == values


def test_draws_of_other_seeds_and_sizes_beside_it_change_nothing_of_a_draw():
    data, features = task("classification")
    known = {"lonlat": data.lonlat, "sides_N": data.splits}
    many = FewShot(sizes=(5, 20), seeds=4, seed=7).draws(data.targets, **known)
    few = FewShot(sizes=(20,), seeds=2, seed=7).draws(data.targets, **known)
    both = [draw for draw in many if draw.size == 20][:2]
    for one, other in zip(both, few, strict=True):
        np.testing.assert_array_equal(one.train, other.train)
        np.testing.assert_array_equal(one.test, other.test)
    found, alone = (judged(LinearProbe(recipe=SHORT), data, features, each) for each in (many, few))
    np.testing.assert_allclose(found["all", "accuracy"][4:6], alone["all", "accuracy"], atol=1e-12)


# --- what is stated of relations

STATED = re.compile(r"^\| (\d+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", re.MULTILINE)


def test_stated_rates_are_the_measured_ones():
    measured = json.loads((ROOT / "benchmarks/results/verdicts.json").read_text())["rows"]
    stated = STATED.findall((ROOT / "docs/correlate.md").read_text(encoding="utf-8"))
    assert {(int(n), float(rho)) for n, rho, *_ in stated} >= {(7, 0.0), (10, 0.0), (10, 0.8), (10, 0.95)}
    for n, rho, *shares in stated:
        (row,) = (each for each in measured if each["n"] == int(n) and each["rho"] == float(rho))
        for word, share in zip(("shown", "suggestive", "false"), shares, strict=True):
            assert float(share) == pytest.approx(row[word], abs=0.00501), (n, rho, word)


@pytest.mark.parametrize("rho", [0.0, 0.9])
def test_relations_of_ten_datasets_are_shown_as_often_as_stated(rho):
    """Within the outer .5 % of a binomial of the stated share; any false "shown" in at most 5 % of studies."""
    stated = STATED.findall((ROOT / "docs/correlate.md").read_text(encoding="utf-8"))
    (share,) = (float(shown) for n, at, shown, *_ in stated if (int(n), float(at)) == (10, rho))
    rng, first, false, studies = np.random.default_rng(11), 0, 0, 40
    for _ in range(studies):
        x = rng.normal(size=(10, 4))
        r = 2 * np.sin(np.pi * rho / 6)
        score = r * x[:, 0] + np.sqrt(1 - r * r) * rng.normal(size=10)
        table = pd.DataFrame(x, columns=list("abcd")).assign(score=score)
        words = [c.verdict.word for c in correlate_table(table, score="score", by=list("abcd"), rng=rng, resamples=20)]
        first += words[0] == "shown"
        false += "shown" in (words[1:] if rho else words)
    assert stats.binom.ppf(0.005, studies, share) <= first <= stats.binom.ppf(0.995, studies, share)
    assert false <= stats.binom.isf(0.005, studies, 0.05)
