"""The best constant of the training samples, and a head that is trained until validation gets no better."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from pwcat.errors import TrainingError
from training.probes import DummyProbe, PlateauProbe, make_probes
from training.resampling import Draw
from training.scores import estimates


def draw_of(train, test, *, validation=(), seed=0) -> Draw:
    train = np.asarray(train, dtype=np.int64)
    return Draw(train=train, test=np.asarray(test, dtype=np.int64), validation=np.isin(train, validation), seed=seed)


def answers(probe, targets, draw, *, kind, classes=0, features=None):
    features = np.full((len(targets), 2), np.nan) if features is None else features
    (predicted,) = probe.fit_predict_many(features, targets, [draw], kind=kind, num_classes=classes)
    return predicted


@pytest.mark.parametrize(("metric", "constant"), [("mae", 2.0), ("rmse", 26.5), ("r2", 26.5), ("", 26.5)])
def test_numbers_are_the_median_or_the_mean_of_those_learnt_from(metric, constant):
    targets = np.array([1.0, 2.0, 3.0, 100.0, 1e6])
    draw = draw_of([0, 1, 1, 3, 2, 1], [4, 0], validation=[2])
    found = answers(DummyProbe(metric=metric), targets, draw, kind="regression")
    want = np.median([1, 2, 2, 100, 3, 2]) if metric == "mae" else np.mean([1, 2, 2, 100, 3, 2])
    np.testing.assert_array_equal(found.values, [want, want])
    assert found.chosen == {"constant": want}


def test_no_constant_is_better_than_the_dummy():
    rng = np.random.default_rng(0)
    targets, draw = np.round(rng.gamma(1, 20, 41)), draw_of(np.arange(41), np.arange(41))
    for metric, worse in (("mae", np.abs), ("rmse", np.square)):
        found = answers(DummyProbe(metric=metric), targets, draw, kind="regression").values
        assert all(worse(targets - found).mean() <= worse(targets - other).mean() for other in np.linspace(0, 100, 201))


def test_classes_are_the_commonest_or_class_1_for_its_f1():
    targets, draw = np.array([0, 0, 1, 0, 1]), draw_of([0, 1, 2], [3, 4])
    found = answers(DummyProbe(metric="error_rate"), targets, draw, kind="classification", classes=2)
    np.testing.assert_array_equal(found.values, [0, 0])
    np.testing.assert_allclose(found.scores, [[2 / 3, 1 / 3]] * 2)
    f1 = answers(DummyProbe(metric="f1"), targets, draw, kind="classification", classes=2)
    np.testing.assert_array_equal(f1.values, [1, 1])


def test_labels_are_those_that_most_have():
    targets = np.array([[1, 0, 1], [1, 0, 0], [1, 1, 1], [0, 0, 0]], dtype=bool)
    found = answers(DummyProbe(), targets, draw_of([0, 1, 2], [3]), kind="multilabel", classes=3)
    np.testing.assert_array_equal(found.values, [[True, False, True]])


def test_one_class_alone_and_no_test_samples():
    found = answers(DummyProbe(), np.zeros(4, np.int64), draw_of([0, 1], []), kind="classification", classes=3)
    assert found.values.shape == (0,)
    assert found.scores.shape == (0, 3)


def test_the_dummy_of_a_task_is_the_best_in_its_metric():
    mae, error = (make_probes(["dummy"], metric=metric)[0] for metric in ("mae", "error_rate"))
    targets = np.array([0.0, 0.0, 9.0])
    assert answers(mae, targets, draw_of([0, 1, 2], [0]), kind="regression").values == [0.0]
    assert error.name == mae.name == "dummy"


def test_what_are_no_targets_is_refused():
    with pytest.raises(TrainingError, match="1 targets are not numbers"):
        answers(DummyProbe(), np.array([1.0, np.nan]), draw_of([0], [1]), kind="regression")


@pytest.fixture(scope="module")
def counts():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(240, 6)).astype(np.float32)
    return (
        features,
        np.floor(np.exp(1 + features[:, 0])),
        draw_of(np.arange(160), np.arange(160, 240), validation=np.arange(40)),
    )


def test_the_head_beats_the_dummy_and_never_counts_below_nothing(counts):
    features, targets, draw = counts
    heads = {probe.name: probe for probe in make_probes(["mlp-plateau", "dummy"], metric="mae", beta=0.5)}
    truth = targets[draw.test]
    errors = {
        name: np.abs(answers(probe, targets, draw, kind="regression", features=features).values - truth).mean()
        for name, probe in heads.items()
    }
    assert errors["mlp-plateau"] < 0.6 * errors["dummy"]
    found = answers(heads["mlp-plateau"], targets, draw, kind="regression", features=-3 * features)
    assert found.values.min() >= 0


def test_numbers_below_nothing_are_predicted_where_there_are_any(counts):
    features, targets, draw = counts
    found = answers(PlateauProbe(epochs=80), targets - 5, draw, kind="regression", features=features)
    assert found.values.min() < 0


@pytest.mark.parametrize("classes", [2, 3])
def test_the_head_learns_classes(counts, classes):
    features, _, draw = counts
    codes = np.digitize(features[:, 0], [0.0, 0.7][: classes - 1]).astype(np.int64)
    found = answers(PlateauProbe(), codes, draw, kind="classification", classes=classes, features=features)
    assert (found.values == codes[draw.test]).mean() > 0.85
    assert found.scores.shape == (80, classes)


def test_the_head_learns_labels(counts):
    features, _, draw = counts
    found = answers(PlateauProbe(), features[:, :2] > 0, draw, kind="multilabel", classes=2, features=features)
    assert (found.values == (features[draw.test, :2] > 0)).mean() > 0.85


def test_the_best_epoch_is_kept_and_not_the_last(counts):
    features, _, draw = counts
    noise = np.random.default_rng(1).normal(size=240)  # nothing to learn: validation soon gets worse
    probe = PlateauProbe(rate=3e-3, epochs=60, stop=60)
    found = answers(probe, noise, draw, kind="regression", features=features)
    assert found.chosen["epoch"] < found.chosen["epochs"] == 60
    short = PlateauProbe(rate=3e-3, epochs=found.chosen["epoch"], stop=60)
    np.testing.assert_array_equal(
        answers(short, noise, draw, kind="regression", features=features).values, found.values
    )
    stopped = answers(PlateauProbe(rate=3e-3, stop=5), noise, draw, kind="regression", features=features)
    assert stopped.chosen["epochs"] == stopped.chosen["epoch"] + 5


def test_one_seed_gives_one_head_and_another_seed_another(counts):
    features, targets, draw = counts
    probe = PlateauProbe(epochs=3)
    torch.manual_seed(1)
    first = answers(probe, targets, draw, kind="regression", features=features).values
    torch.manual_seed(2)
    again = answers(probe, targets, draw, kind="regression", features=features).values
    other = answers(
        probe, targets, draw_of(draw.train, draw.test, validation=np.arange(40), seed=1), kind="regression",
        features=features,
    ).values  # fmt: skip
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_without_validation_all_epochs_are_trained(counts):
    features, targets, _ = counts
    found = answers(
        PlateauProbe(epochs=4), targets, draw_of(np.arange(9), [9, 10]), kind="regression", features=features
    )
    assert found.chosen == {"epoch": 4, "epochs": 4, "num_validation": 0}


def test_the_size_of_the_head_is_the_sources():
    """As nn.Sequential(nn.Linear(768, 512), nn.GELU(), nn.Dropout(0.1), nn.Linear(512, 1))."""
    source = nn.Sequential(nn.Linear(768, 512), nn.GELU(), nn.Dropout(0.1), nn.Linear(512, 1))
    from training.probing.plateau import _layer

    generator = torch.Generator().manual_seed(0)
    ours = [*_layer(768, PlateauProbe().hidden, generator), *_layer(PlateauProbe().hidden, 1, generator)]
    assert sum(each.numel() for each in ours) == sum(each.numel() for each in source.parameters())


def test_the_error_rate_is_what_accuracy_leaves_and_given_only_where_asked_for():
    truth, found, rng = np.array([0, 1, 1, 0]), np.array([0, 1, 0, 0]), np.random.default_rng(0)
    told = estimates(truth, found, kind="classification", rng=rng, metrics=("accuracy", "error_rate"))
    assert told["error_rate"].value == 0.25
    assert told["error_rate"].ci_low == pytest.approx(1 - told["accuracy"].ci_high)
    assert told["error_rate"].ci_high == pytest.approx(1 - told["accuracy"].ci_low)
    assert "error_rate" not in estimates(truth, found, kind="classification", rng=rng)
