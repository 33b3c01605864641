import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from pwcat.errors import TrainingError
from training.scores import (
    METRICS,
    Estimate,
    accuracy,
    estimates,
    estimates_by,
    macro_f1,
    measure_of,
    pixel_estimates,
    pixel_estimates_by,
    score,
    score_by,
)
from training.scoring import counts
from training.scoring.rankings import average_precisions

NAMES = np.array(["bare", "crop", "tree", "water"])
ORACLES = {
    "classification": {
        "accuracy": metrics.accuracy_score,
        "balanced_accuracy": metrics.balanced_accuracy_score,
        "macro_f1": lambda t, p: metrics.f1_score(t, p, average="macro", zero_division=0),
        "weighted_f1": lambda t, p: metrics.f1_score(t, p, average="weighted", zero_division=0),
        "f1": lambda t, p: metrics.f1_score(t, p, zero_division=0),
    },
    "multilabel": {
        "micro_f1": lambda t, p: metrics.f1_score(t, p, average="micro", zero_division=0),
        "macro_f1": lambda t, p: metrics.f1_score(t, p, average="macro", zero_division=0),
        "weighted_f1": lambda t, p: metrics.f1_score(t, p, average="weighted", zero_division=0),
    },
    "regression": {
        "r2": metrics.r2_score,
        "rmse": metrics.root_mean_squared_error,
        "mae": metrics.mean_absolute_error,
    },
}


def made(kind, rng, samples=120, classes=4):
    """A truth, a prediction that is right more often than not, and scores to rank by."""
    if kind == "classification":
        truth = rng.integers(classes, size=samples)
        return truth, np.where(rng.random(samples) < 0.6, truth, rng.integers(classes, size=samples)), None
    if kind == "multilabel":
        truth = rng.random((samples, classes)) < 0.4
        scores = np.round(truth + rng.normal(size=truth.shape), 1)  # with ties
        return truth, scores > 0.5, scores
    truth = rng.normal(50, 10, size=samples)
    return truth, truth + rng.normal(size=samples) * 5, None


@pytest.mark.parametrize("kind", ORACLES)
@pytest.mark.parametrize("seed", range(3))
def test_values_are_scikit_learns(kind, seed):
    rng = np.random.default_rng(seed)
    truth, predicted, scores = made(kind, rng)
    found = estimates(truth, predicted, kind=kind, rng=rng, scores_NK=scores, resamples=50)
    oracles = {name: oracle for name, oracle in ORACLES[kind].items() if name != "f1"}
    assert set(found) == set(oracles) | ({"map"} if kind == "multilabel" else set())
    for name, oracle in oracles.items():
        assert found[name].value == pytest.approx(oracle(truth, predicted)), name
        assert found[name].ci_low <= found[name].value <= found[name].ci_high
    if kind == "multilabel":
        assert found["map"].value == pytest.approx(metrics.average_precision_score(truth, scores, average="macro"))


def test_f1_of_class_1_is_scikit_learns():
    rng = np.random.default_rng(0)
    truth, predicted, _ = made("classification", rng, classes=2)
    found = estimates(truth, predicted, kind="classification", rng=rng, resamples=50)
    assert found["f1"].value == pytest.approx(metrics.f1_score(truth, predicted))
    none = estimates(np.zeros(5, int), np.zeros(5, int), kind="classification", rng=rng, resamples=50)
    assert (none["f1"].value, none["accuracy"].value) == (0, 1)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 30), st.integers(1, 5), st.integers(0, 1000))
def test_any_confusion_has_scikit_learns_scores(samples, classes, seed):
    truth, predicted, _ = made("classification", np.random.default_rng(seed), samples, classes)
    found = estimates(truth, predicted, kind="classification", rng=np.random.default_rng(0), resamples=3)
    for name in ("accuracy", "macro_f1", "weighted_f1"):
        assert found[name].value == pytest.approx(ORACLES["classification"][name](truth, predicted)), name
    recalls = metrics.recall_score(truth, predicted, labels=np.unique(truth), average="macro", zero_division=0)
    assert found["balanced_accuracy"].value == pytest.approx(recalls)


def by_samples(oracle, truth, predicted, rng, resamples):
    """The bootstrap one resample after the other."""
    draws = [rng.integers(len(truth), size=len(truth)) for _ in range(resamples)]
    return np.quantile([oracle(truth[draw], predicted[draw]) for draw in draws], [0.025, 0.975])


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("classification", "macro_f1"), ("classification", "balanced_accuracy"), ("classification", "weighted_f1"),
        ("multilabel", "micro_f1"), ("multilabel", "macro_f1"),
        ("regression", "r2"), ("regression", "rmse"), ("regression", "mae"),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
def test_intervals_are_those_of_resampling_samples_one_by_one(kind, name):
    rng = np.random.default_rng(1)
    truth, predicted, _ = made(kind, rng)
    found = estimates(truth, predicted, kind=kind, rng=rng, metrics=[name], resamples=4000)[name]
    low, high = by_samples(ORACLES[kind][name], truth, predicted, rng, 600)
    assert (found.ci_low, found.ci_high) == pytest.approx((low, high), abs=0.2 * (high - low))


def test_average_precision_of_a_resample_is_that_of_its_samples():
    rng = np.random.default_rng(0)
    truth, _, scores = made("multilabel", rng)
    drawn = rng.integers(len(truth), size=(5, len(truth)))
    counted = np.array([np.bincount(draw, minlength=len(truth)) for draw in drawn], dtype=float)
    for found, draw in zip(average_precisions(truth, scores, counted), drawn, strict=True):
        np.testing.assert_allclose(found, metrics.average_precision_score(truth[draw], scores[draw], average=None))


def test_resamples_in_parts_are_as_many(monkeypatch):
    truth, predicted, _ = made("regression", np.random.default_rng(0))
    whole = estimates(truth, predicted, kind="regression", rng=np.random.default_rng(5), resamples=100)
    monkeypatch.setattr(counts, "NUMBERS", 700)
    assert estimates(truth, predicted, kind="regression", rng=np.random.default_rng(5), resamples=100) == whole


def test_interval_of_accuracy_is_the_binomials():
    truth, predicted = np.zeros(400, int), (np.arange(400) < 100).astype(int)
    found = score(truth, predicted, rng=np.random.default_rng(0), resamples=4000).accuracy
    half = 1.96 * np.sqrt(0.75 * 0.25 / 400)
    assert (found.ci_low, found.ci_high) == pytest.approx((0.75 - half, 0.75 + half), abs=0.005)


def test_names_are_scored_as_numbers_are():
    rng = np.random.default_rng(0)
    truth, predicted = NAMES[rng.integers(3, size=200)], NAMES[rng.integers(4, size=200)]
    found = score(truth, predicted, rng=rng)
    assert found.accuracy.value == pytest.approx(metrics.accuracy_score(truth, predicted))
    assert found.macro_f1.value == pytest.approx(metrics.f1_score(truth, predicted, average="macro", zero_division=0))
    assert macro_f1(truth, predicted) == pytest.approx(found.macro_f1.value)
    assert found.accuracy.ci_low < found.accuracy.value < found.accuracy.ci_high
    assert found.num_samples == 200


def test_no_samples_have_no_score():
    assert np.isnan(accuracy(np.array([]), np.array([])))
    assert np.isnan(macro_f1(np.array([]), np.array([])))
    nothing = np.zeros(0, dtype=int)
    found = estimates(nothing, nothing, kind="classification", rng=np.random.default_rng(0))
    assert np.isnan([found["accuracy"].value, found["macro_f1"].ci_low]).all()


def test_numbers_that_do_not_differ_have_the_r2_of_scikit_learn():
    same, rng = np.full(6, 4.25), np.random.default_rng(0)
    for predicted in (same, same + 1):
        found = estimates(same, predicted, kind="regression", rng=rng, resamples=10)
        assert found["r2"].value == metrics.r2_score(same, predicted)


def test_scores_within_groups_leave_out_the_groupless():
    groups = np.array(["Asia", "Asia", None, "Africa"], dtype=object)
    found = score_by(groups, np.array([1, 2, 1, 1]), np.array([1, 1, 2, 1]), rng=np.random.default_rng(0))
    assert {name: (part.accuracy.value, part.num_samples) for name, part in found.items()} == {
        "Africa": (1.0, 1),
        "Asia": (0.5, 2),
    }


def test_any_grouping_has_its_scores():
    groups = {
        "continent": np.array(["Asia", "Asia", None, "Africa"], dtype=object),
        "biome": np.array(["tundra", "desert", "desert", "desert"], dtype=object),
    }
    truth, predicted = np.array([1, 2, 1, 1]), np.array([1, 1, 2, 1])
    found = estimates_by(groups, truth, predicted, kind="classification", rng=np.random.default_rng(0))
    assert {name: part["accuracy"].value for name, part in found.items()} == {
        "all": 0.5, "continent=Africa": 1.0, "continent=Asia": 0.5, "biome=desert": pytest.approx(1 / 3), "biome=tundra": 1.0,
    }  # fmt: skip
    assert len({tuple(part) for part in found.values()}) == 1  # the same scores everywhere, whatever classes occur


def test_several_draws_have_mean_deviation_and_interval():
    found = measure_of([Estimate(0.5, 0.4, 0.6), Estimate(0.7, 0.6, 0.9)])
    assert (found.mean, found.ci_low, found.ci_high) == pytest.approx((0.6, 0.5, 0.75))
    assert found.sd == pytest.approx(np.std([0.5, 0.7], ddof=1))
    assert measure_of([Estimate(0.5, 0.4, 0.6)]).sd is None


def test_scores_that_a_kind_has_not_are_refused():
    truth, rng = np.array([0, 1, 2]), np.random.default_rng(0)
    with pytest.raises(TrainingError, match="r2 is no score of a classification: choose from accuracy, balanced"):
        estimates(truth, truth, kind="classification", rng=rng, metrics=["r2"])
    with pytest.raises(TrainingError, match="f1 needs classes 0 and 1 alone; take macro_f1 of more"):
        estimates(truth, truth, kind="classification", rng=rng, metrics=["f1"])
    with pytest.raises(TrainingError, match="map needs scores_NK to rank by"):
        estimates(truth[:, None] > 0, truth[:, None] > 0, kind="multilabel", rng=rng, metrics=["map"])
    with pytest.raises(
        TrainingError,
        match="of segmentation are given here: choose from classification, multilabel, regression; those of a segmentation",
    ):
        estimates(truth, truth, kind="segmentation", rng=rng)


def pixels(*, chips=40, classes=4, seed=0):
    """Masks of chips, true and predicted, with unlabelled pixels, and what each chip adds to a score."""
    rng = np.random.default_rng(seed)
    true = rng.integers(-1, classes - 1, (chips, 9, 9))  # the last class never occurs
    predicted = np.where(rng.random(true.shape) < 0.5, true, rng.integers(0, classes - 1, true.shape)).clip(0)
    counted = np.stack([
        [[(t[p == k] == k).sum(), (t == k).sum(), (p[t >= 0] == k).sum()] for k in range(classes)]
        for t, p in zip(true, predicted, strict=True)
    ])  # fmt: skip
    return true, predicted, counted.transpose(0, 2, 1)


def test_pixels_are_scored_as_scikit_learn_scores_them_all():
    true, predicted, counted = pixels()
    t, p = true[true >= 0], predicted[true >= 0]
    found = pixel_estimates(counted, rng=np.random.default_rng(0))
    assert found["accuracy"].value == pytest.approx(metrics.accuracy_score(t, p))
    assert found["macro_f1"].value == pytest.approx(metrics.f1_score(t, p, average="macro"))
    assert found["weighted_f1"].value == pytest.approx(metrics.f1_score(t, p, average="weighted"))
    assert found["miou"].value == pytest.approx(metrics.jaccard_score(t, p, average="macro"))
    assert tuple(found) == METRICS["segmentation"]


def test_intervals_of_pixels_are_over_chips():
    _, _, counted = pixels(chips=30)
    ours = pixel_estimates(counted, rng=np.random.default_rng(7), resamples=200)
    rows = np.random.default_rng(7).integers(30, size=(200, 30))
    hits, true, both = (counted[rows][:, :, i].sum(axis=1) for i in range(3))
    seen = (true + both) > 0
    iou = np.where(seen, hits / np.where(seen, true + both - hits, 1), 0).sum(axis=1) / seen.sum(axis=1)
    assert (ours["miou"].ci_low, ours["miou"].ci_high) == pytest.approx(tuple(np.quantile(iou, [0.025, 0.975])))
    same = pixel_estimates(np.repeat(counted[:1], 30, axis=0), rng=np.random.default_rng(0))["accuracy"]
    assert same.ci_low == pytest.approx(same.ci_high)  # however many pixels: chips that are alike leave nothing open


def test_groups_of_chips_have_scores_of_their_own():
    _, _, counted = pixels()
    of = np.array(["Africa", "Asia", None, "Asia"] * 10, dtype=object)
    found = pixel_estimates_by({"continent": of}, counted, rng=np.random.default_rng(0))
    assert list(found) == ["all", "continent=Africa", "continent=Asia"]
    alone = pixel_estimates(counted[of == "Asia"], rng=np.random.default_rng(1))
    assert found["continent=Asia"]["miou"].value == pytest.approx(alone["miou"].value)


def test_chips_without_labels_have_no_score():
    nothing = pixel_estimates(np.zeros((3, 3, 2), dtype=np.int64), rng=np.random.default_rng(0))
    assert all(np.isnan(each.value) for each in nothing.values())


def test_what_is_no_number_has_no_score():
    rng, numbers = np.random.default_rng(0), np.array([0.0, 1.0, 2.0, 3.0])
    gap = np.array([0.0, np.nan, 2.0, 3.0])
    for true, predicted in ((gap, numbers), (numbers, gap)):
        found = estimates(true, predicted, kind="regression", rng=rng)
        assert all(np.isnan(each.value) for each in found.values())
    labels = np.eye(4, 2, dtype=bool)
    scores = np.where(labels, np.nan, 0.5)
    found = estimates(labels, labels, kind="multilabel", rng=rng, scores_NK=scores)
    assert np.isnan(found["map"].value)
    assert found["micro_f1"].value == 1.0
