import numpy as np
import pytest
from scipy.special import softmax
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score
from sklearn.neighbors import KNeighborsClassifier

from pwcat.errors import TrainingError
from training.probes import KNNProbe, LinearProbe, fit_logistic, make_probes
from training.scores import accuracy, macro_f1, score, score_by

NAMES = np.array(["bare", "crop", "tree", "water"])


@pytest.fixture(scope="module")
def data():
    features, codes = make_classification(
        n_samples=400, n_features=12, n_informative=8, n_classes=4, class_sep=0.7, random_state=0
    )
    features = features.astype(np.float32)
    validation = np.arange(250) % 5 == 0
    return features[:250], NAMES[codes[:250]], features[250:], NAMES[codes[250:]], validation


@pytest.mark.parametrize("k", [1, 5, 20])
def test_knn_is_scikit_learns_with_cosine_and_soft_votes(data, k):
    train, labels, test, _, validation = data
    oracle = KNeighborsClassifier(k, metric="cosine", weights=lambda d: np.exp((1 - d) / 0.07)).fit(train, labels)
    predicted, chosen = KNNProbe(k).fit_predict(train, labels, test, validation_N=validation)
    np.testing.assert_array_equal(predicted, oracle.predict(test))
    assert chosen == {"k": k}


def test_knn_takes_all_when_there_are_fewer_than_k(data):
    train, labels, test, _, _ = data
    predicted, chosen = KNNProbe(20).fit_predict(train[:6], labels[:6], test, validation_N=np.zeros(6, bool))
    assert chosen == {"k": 6}
    assert set(predicted) <= set(labels[:6])


@pytest.mark.parametrize("strength", [0.01, 1.0, 10.0])
def test_logistic_regression_is_scikit_learns(data, strength):
    train, labels, test, _, _ = data
    classes, codes = np.unique(labels, return_inverse=True)
    oracle = LogisticRegression(C=strength, max_iter=5000, tol=1e-8).fit(train, codes)
    weights, bias = fit_logistic(train, codes, strength=strength, classes=len(classes))
    ours = softmax(test @ weights.T + bias, axis=1)
    np.testing.assert_allclose(ours, oracle.predict_proba(test), atol=2e-3)


def test_linear_probe_chooses_on_validation_and_refits_on_all(data):
    train, labels, test, truth, validation = data
    mean, std = train.mean(0), train.std(0)
    rest_mean, rest_std = train[~validation].mean(0), train[~validation].std(0)
    judged = []
    for strength in LinearProbe().strengths:
        oracle = LogisticRegression(C=strength, max_iter=5000).fit(
            (train[~validation] - rest_mean) / rest_std, labels[~validation]
        )
        judged.append(oracle.score((train[validation] - rest_mean) / rest_std, labels[validation]))
    best = LinearProbe().strengths[int(np.argmax(judged))]
    predicted, chosen = LinearProbe().fit_predict(train, labels, test, validation_N=validation)
    assert chosen == {"C": best, "num_validation": 50}
    oracle = LogisticRegression(C=best, max_iter=5000).fit((train - mean) / std, labels)
    assert (predicted == oracle.predict((test - mean) / std)).mean() > 0.99
    assert accuracy(truth, predicted) > 0.4  # chance is 0.25


def test_linear_probe_bears_constant_features(data):
    train, labels, test, _, validation = data
    train, test = train.copy(), test.copy()
    train[:, 0] = test[:, 0] = 3
    predicted, _ = LinearProbe((1.0,)).fit_predict(train, labels, test, validation_N=validation)
    assert set(predicted) <= set(NAMES)


def test_unknown_probes_are_named_with_those_there_are():
    assert [probe.name for probe in make_probes(["knn", "linear"])] == ["knn-5", "knn-20", "linear"]
    with pytest.raises(TrainingError, match="unknown probes forest: choose from knn, linear"):
        make_probes(["knn", "forest"])


def test_scores_are_scikit_learns():
    rng = np.random.default_rng(0)
    truth, predicted = NAMES[rng.integers(3, size=200)], NAMES[rng.integers(4, size=200)]
    found = score(truth, predicted, rng=rng)
    assert found.accuracy.value == pytest.approx(accuracy_score(truth, predicted))
    assert found.macro_f1.value == pytest.approx(f1_score(truth, predicted, average="macro", zero_division=0))
    assert found.accuracy.ci_low < found.accuracy.value < found.accuracy.ci_high
    assert found.num_samples == 200


def test_interval_of_accuracy_is_the_binomials():
    truth, predicted = np.zeros(400, int), (np.arange(400) < 100).astype(int)
    found = score(truth, predicted, rng=np.random.default_rng(0), resamples=4000).accuracy
    half = 1.96 * np.sqrt(0.75 * 0.25 / 400)
    assert (found.ci_low, found.ci_high) == pytest.approx((0.75 - half, 0.75 + half), abs=0.005)


def test_no_samples_have_no_score():
    assert np.isnan(accuracy(np.array([]), np.array([])))
    assert np.isnan(macro_f1(np.array([]), np.array([])))


def test_scores_within_groups_leave_out_the_groupless():
    groups = np.array(["Asia", "Asia", None, "Africa"], dtype=object)
    found = score_by(groups, np.array([1, 2, 1, 1]), np.array([1, 1, 2, 1]), rng=np.random.default_rng(0))
    assert {name: (part.accuracy.value, part.num_samples) for name, part in found.items()} == {
        "Africa": (1.0, 1),
        "Asia": (0.5, 2),
    }
