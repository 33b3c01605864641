import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn.datasets import make_classification, make_multilabel_classification, make_regression
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.preprocessing import StandardScaler
from torch import nn

from pwcat.errors import TrainingError
from training.probes import (
    PROBES,
    ForestProbe,
    KNNProbe,
    LinearProbe,
    LogisticProbe,
    MLPProbe,
    RidgeProbe,
    make_probes,
    predict_with_all,
)
from training.probing import strengths
from training.probing.descent import Recipe
from training.probing.linear import first_layer, fit_linear
from training.probing.logistic import fit_labels, fit_logistic
from training.probing.mlp import fit_mlp
from training.probing.ridge import fit_ridge
from training.probing.stacks import parts, stacked
from training.resampling import Draw, FewShot
from training.scores import accuracy

NAMES = np.array(["bare", "crop", "tree", "water"])
SHORT = Recipe(epochs=6, batch=32)
CLASSIFIERS = [
    KNNProbe(5), LinearProbe(recipe=SHORT), LogisticProbe(), MLPProbe(recipe=SHORT, hidden=8), ForestProbe(trees=5)
]  # fmt: skip
REGRESSORS = [
    KNNProbe(5), LinearProbe(recipe=SHORT), RidgeProbe(), MLPProbe(recipe=SHORT, hidden=8), ForestProbe(trees=5)
]  # fmt: skip


def soft(distances):
    return np.exp((1 - distances) / 0.07)


@pytest.fixture(scope="module")
def data():
    features, codes = make_classification(
        n_samples=400, n_features=12, n_informative=8, n_classes=4, class_sep=0.7, random_state=0
    )
    features = features.astype(np.float32)
    validation = np.arange(250) % 5 == 0
    return features[:250], NAMES[codes[:250]], features[250:], NAMES[codes[250:]], validation


@pytest.fixture(scope="module")
def samples():
    """Embeddings, classes, labels and numbers of 300 samples, with few-shot draws of several sizes."""
    features, codes = make_classification(
        n_samples=300, n_features=40, n_informative=10, n_classes=4, class_sep=1.5, random_state=1
    )
    labels = make_multilabel_classification(n_samples=300, n_features=40, n_classes=5, random_state=0)
    numbers = make_regression(n_samples=300, n_features=40, n_informative=10, noise=30.0, random_state=2)
    lonlat = np.random.default_rng(0).uniform(-50, 50, (300, 2))
    sides = np.where(np.arange(300) < 200, "train", "test")
    few = FewShot(sizes=(2, 9), seeds=3).draws(codes, lonlat=lonlat, sides_N=sides)
    (every,) = FewShot(sizes=(None,), seeds=1).draws(codes, lonlat=lonlat, sides_N=sides)
    return {
        "classification": (features.astype(np.float32), codes, 4),
        "multilabel": (labels[0].astype(np.float32), labels[1].astype(bool), 5),
        "regression": (numbers[0].astype(np.float32), numbers[1] + 500, 0),
        "draws": [*few, every],
    }


def predict(probe, samples, kind, draws=None):
    features, targets, classes = samples[kind]
    return probe.fit_predict_many(features, targets, draws or samples["draws"], kind=kind, num_classes=classes)


# --- each is what its oracle is


@pytest.mark.parametrize("k", [1, 5, 20])
def test_knn_is_scikit_learns_with_cosine_and_soft_votes(data, k):
    train, labels, test, _, validation = data
    oracle = KNeighborsClassifier(k, metric="cosine", weights=soft).fit(train, labels)
    predicted, chosen = KNNProbe(k).fit_predict(train, labels, test, validation_N=validation)
    np.testing.assert_array_equal(predicted, oracle.predict(test))
    assert chosen == {"k": k}


def test_knn_of_numbers_and_labels_is_scikit_learns(samples):
    for kind, oracle in [("regression", KNeighborsRegressor), ("multilabel", KNeighborsClassifier)]:
        features, targets, _ = samples[kind]
        draw = samples["draws"][-1]
        fitted = oracle(5, metric="cosine", weights=soft).fit(features[draw.train], targets[draw.train])
        (predicted,) = predict(KNNProbe(5), samples, kind, [draw])
        np.testing.assert_allclose(predicted.values, fitted.predict(features[draw.test]), rtol=1e-5)


def test_knn_takes_all_when_there_are_fewer_than_k(data):
    train, labels, test, _, _ = data
    predicted, chosen = KNNProbe(20).fit_predict(train[:6], labels[:6], test, validation_N=np.zeros(6, bool))
    assert chosen == {"k": 6}
    assert set(predicted) <= set(labels[:6])


@pytest.mark.parametrize("strength", [0.01, 1.0, 10.0])
@pytest.mark.parametrize("count", [9, 250])  # fewer samples than features, and more
def test_logistic_regression_is_scikit_learns(data, strength, count):
    train, labels, test, _, _ = data
    classes, codes = np.unique(labels[:count], return_inverse=True)
    oracle = LogisticRegression(C=strength, max_iter=5000, tol=1e-9).fit(train[:count].astype(float), codes)
    stack = stacked([np.arange(count)], dtype=torch.float64, device="cpu")
    weights, bias = fit_logistic(
        torch.from_numpy(train), torch.from_numpy(codes), stack,
        strengths_SQ=torch.tensor([[strength]], dtype=torch.float64), classes=len(classes), standardize=False,
    )  # fmt: skip
    ours = softmax(test @ weights[0, :, 0].numpy() + bias[0, 0].numpy(), axis=1)
    np.testing.assert_allclose(ours, oracle.predict_proba(test), atol=2e-3)


def test_logistic_regression_of_two_classes_is_scikit_learns(data):
    train, labels, test, _, _ = data
    here = np.flatnonzero(np.isin(labels, ["crop", "tree"]))
    codes = np.searchsorted(NAMES, labels)  # two of four classes are seen
    oracle = LogisticRegression(C=0.1, max_iter=5000, tol=1e-9).fit(train[here].astype(float), codes[here])
    weights, bias = fit_logistic(
        torch.from_numpy(train), torch.from_numpy(codes), stacked([here], dtype=torch.float64, device="cpu"),
        strengths_SQ=torch.tensor([[0.1]], dtype=torch.float64), classes=4, standardize=False,
    )  # fmt: skip
    ours = softmax(test @ weights[0, :, 0].numpy() + bias[0, 0].numpy(), axis=1)
    np.testing.assert_allclose(ours[:, 1:3], oracle.predict_proba(test), atol=2e-3)
    assert (ours[:, [0, 3]] == 0).all()


def test_balanced_logistic_regression_is_scikit_learns(data):
    train, labels, test, _, _ = data
    here = np.flatnonzero((labels != "crop") | (np.arange(250) % 6 == 0))
    codes = np.searchsorted(NAMES, labels)
    oracle = LogisticRegression(max_iter=5000, tol=1e-9, class_weight="balanced").fit(
        train[here].astype(float), codes[here]
    )
    weights, bias = fit_logistic(
        torch.from_numpy(train), torch.from_numpy(codes), stacked([here], dtype=torch.float64, device="cpu"),
        strengths_SQ=torch.ones(1, 1, dtype=torch.float64), classes=4, standardize=False, balanced=True,
    )  # fmt: skip
    ours = softmax(test @ weights[0, :, 0].numpy() + bias[0, 0].numpy(), axis=1)
    np.testing.assert_allclose(ours, oracle.predict_proba(test), atol=2e-3)


def test_logistic_regression_of_labels_is_scikit_learns_one_for_each(samples):
    features, labels, _ = samples["multilabel"]
    oracle = OneVsRestClassifier(LogisticRegression(C=0.3, max_iter=5000, tol=1e-9)).fit(features[:200], labels[:200])
    weights, bias = fit_labels(
        torch.from_numpy(features), torch.from_numpy(labels),
        stacked([np.arange(200)], dtype=torch.float64, device="cpu"),
        strengths_SQ=torch.tensor([[0.3]], dtype=torch.float64), standardize=False,
    )  # fmt: skip
    ours = 1 / (1 + np.exp(-(features[200:] @ weights[0, :, 0].numpy() + bias[0, 0].numpy())))
    np.testing.assert_allclose(ours, oracle.predict_proba(features[200:]), atol=2e-3)


def test_a_label_that_all_or_none_have_is_predicted_for_all_or_none(samples):
    features, labels, _ = samples["multilabel"]
    labels = labels.copy()
    labels[:, 0], labels[:, 1] = True, False
    (predicted,) = LogisticProbe().fit_predict_many(
        features, labels, samples["draws"][-1:], kind="multilabel", num_classes=5
    )
    assert predicted.values[:, 0].all()
    assert not predicted.values[:, 1].any()


def test_logistic_probe_chooses_on_validation_and_refits_on_all(data):
    train, labels, test, truth, validation = data
    judged = []
    scaler = StandardScaler().fit(train[~validation])
    for strength in LogisticProbe().strengths:
        oracle = LogisticRegression(C=strength, max_iter=5000).fit(
            scaler.transform(train[~validation]), labels[~validation]
        )
        judged.append(oracle.score(scaler.transform(train[validation]), labels[validation]))
    best = LogisticProbe().strengths[int(np.argmax(judged))]
    predicted, chosen = LogisticProbe().fit_predict(train, labels, test, validation_N=validation)
    assert chosen == {"C": best, "num_validation": 50}
    scaler = StandardScaler().fit(train)
    oracle = LogisticRegression(C=best, max_iter=5000).fit(scaler.transform(train), labels)
    assert (predicted == oracle.predict(scaler.transform(test))).mean() > 0.99
    assert accuracy(truth, predicted) > 0.4  # chance is 0.25


@pytest.mark.parametrize("count", [15, 200])
def test_ridge_is_scikit_learns(samples, count):
    features, numbers, _ = samples["regression"]
    alphas = [0.1, 10.0, 1e3]
    weights, bias = fit_ridge(
        torch.from_numpy(features), torch.from_numpy(numbers),
        stacked([np.arange(count), np.arange(5, count)], dtype=torch.float64, device="cpu"),
        penalties_SQ=torch.tensor([alphas, alphas], dtype=torch.float64),
    )  # fmt: skip
    for s, rows in enumerate([slice(0, count), slice(5, count)]):
        scaler = StandardScaler().fit(features[rows].astype(float))
        for q, alpha in enumerate(alphas):
            oracle = Ridge(alpha).fit(scaler.transform(features[rows]), numbers[rows])
            ours = features[200:] @ weights[s, :, q, 0].numpy() + bias[s, q, 0].numpy()
            np.testing.assert_allclose(ours, oracle.predict(scaler.transform(features[200:])), rtol=1e-4)


def test_ridge_probe_chooses_on_validation(samples):
    features, numbers, _ = samples["regression"]
    draw = samples["draws"][-1]
    held_out, rest = draw.train[draw.validation], draw.rest
    scaler = StandardScaler().fit(features[rest])
    fits = [Ridge(a).fit(scaler.transform(features[rest]), numbers[rest]) for a in RidgeProbe().penalties]
    scores = [fit.score(scaler.transform(features[held_out]), numbers[held_out]) for fit in fits]
    (predicted,) = predict(RidgeProbe(), samples, "regression", [draw])
    assert predicted.chosen["alpha"] == RidgeProbe().penalties[int(np.argmax(scores))]


def test_forest_is_scikit_learns_with_the_draws_seed(samples):
    draw = samples["draws"][3]
    for kind, oracle in [
        ("classification", RandomForestClassifier),
        ("regression", RandomForestRegressor),
        ("multilabel", RandomForestClassifier),
    ]:
        features, targets, _ = samples[kind]
        fitted = oracle(7, random_state=draw.seed).fit(features[draw.train], targets[draw.train])
        (predicted,) = predict(ForestProbe(trees=7), samples, kind, [draw])
        np.testing.assert_allclose(predicted.values, fitted.predict(features[draw.test]))


def torch_linear(features, codes, seed, rate, recipe, classes, *, hidden=None):
    """The linear probe, or the small network, as torch's own layers and optimiser train one of them."""
    length = features.shape[1]
    if hidden:
        layers = [nn.Linear(length, hidden), nn.ReLU(), nn.Linear(hidden, classes)]
        started = [(layers[0], length, hidden, 2 * seed), (layers[2], hidden, classes, 2 * seed + 1)]
    else:
        layers = [nn.BatchNorm1d(length), nn.Linear(length, classes)]
        started = [(layers[1], length, classes, seed)]
    for layer, inputs, outputs, layer_seed in started:
        weights, bias = first_layer(inputs, outputs, [layer_seed], 1)
        layer.weight.data, layer.bias.data = weights[0, :, 0].T.clone(), bias[0, 0, 0].clone()
    model = nn.Sequential(*layers)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=recipe.decay)
    steps = -(-len(features) // recipe.batch)
    total, rng = recipe.epochs * steps, np.random.default_rng([seed, 1])
    rising = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=10 / total, total_iters=round(0.1 * total) - 1)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, total - round(0.1 * total), eta_min=1e-5)
    schedule = torch.optim.lr_scheduler.SequentialLR(optimizer, [rising, falling], [round(0.1 * total)])
    for _ in range(recipe.epochs):
        order = rng.permutation(np.arange(len(features)))
        for step in range(steps):
            batch = order[step * len(order) // steps : (step + 1) * len(order) // steps]
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(features[batch]), codes[batch])
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
    return model.eval()


@pytest.mark.filterwarnings("ignore:The epoch parameter in `scheduler.step:UserWarning")
@pytest.mark.parametrize("hidden", [None, 6])
def test_heads_trained_side_by_side_are_what_torch_trains_one_by_one(data, hidden):
    train, labels, test, _, _ = data
    features, codes = torch.from_numpy(train), torch.from_numpy(np.searchsorted(NAMES, labels))
    if hidden:  # the network's features are standardised
        features = (features - features.mean(0)) / features.std(0, correction=0)
        test = (test - train.mean(0)) / train.std(0)
    recipe, rates, seeds = Recipe(epochs=10, batch=100), [1e-3, 3e-1], [4, 7]
    rows = [np.arange(250), np.arange(215)]
    settings = {"kind": "classification", "outputs": 4, "rates_SQ": torch.tensor([rates, rates]), "recipe": recipe}
    if hidden:
        fitted = fit_mlp(
            features[:250], codes, rows[:1], seeds[:1], hidden=hidden, **settings | {"rates_SQ": torch.tensor([rates])}
        )
    else:
        fitted = fit_linear(features, codes, rows, seeds, **settings)
    tests = torch.from_numpy(test.astype(np.float32))
    for s, outputs in enumerate(fitted.outputs(tests, [np.arange(150)] * (1 if hidden else 2))):
        for q, rate in enumerate(rates):
            alone = torch_linear(features[: len(rows[s])], codes, seeds[s], rate, recipe, 4, hidden=hidden)
            np.testing.assert_allclose(
                outputs[:, q].numpy(),
                alone(tests).detach().numpy(),
                rtol=1e-3,
                atol=2e-3 * float(outputs[:, q].abs().max()),
            )


# --- many draws at once are the same draws one by one


@pytest.mark.parametrize(
    ("kind", "probe"),
    [("classification", p) for p in CLASSIFIERS]
    + [("multilabel", p) for p in CLASSIFIERS]
    + [("regression", p) for p in REGRESSORS],
    ids=lambda each: getattr(each, "name", each),
)
def test_draws_together_are_draws_one_by_one(samples, kind, probe, monkeypatch):
    together = predict(probe, samples, kind)
    monkeypatch.setattr(strengths, "BUDGET", 1)  # each alone in its stack
    for draw, predicted in zip(samples["draws"], together, strict=True):
        (alone,) = predict(probe, samples, kind, [draw])
        assert alone.chosen == predicted.chosen
        np.testing.assert_allclose(alone.values, predicted.values, rtol=1e-3)
        if predicted.scores is not None:
            np.testing.assert_allclose(alone.scores, predicted.scores, rtol=2e-2, atol=2e-3)
        assert len(predicted.values) == len(draw.test)


@pytest.mark.parametrize("kind", ["classification", "multilabel", "regression"])
def test_everything_learns_what_there_is_to_learn(samples, kind):
    _, targets, _ = samples[kind]
    draw = samples["draws"][-1]
    truth = targets[draw.test]
    for name in PROBES:
        for probe in make_probes([name]):
            if kind not in probe.kinds or name in {"dummy", "mlp-plateau"}:  # see test_probing_dummy.py
                continue
            (predicted,) = predict(probe, samples, kind, [draw])
            if kind == "regression":
                assert np.corrcoef(predicted.values, truth)[0, 1] > 0.4, probe.name
            else:
                commonest = max((targets[draw.train] == c).mean() for c in np.unique(targets[draw.train]))
                assert (predicted.values == truth).mean() > (commonest if kind == "classification" else 0.5) + 0.1, (
                    probe.name
                )


def test_draws_without_validation_take_the_default(samples):
    first, *_, every = predict(LogisticProbe(default=0.5), samples, "classification")
    assert first.chosen == {"C": 0.5, "num_validation": 0}
    assert every.chosen["num_validation"] > 0


def test_of_equally_good_rates_that_of_least_loss_is_taken(samples):
    _, codes, _ = samples["classification"]
    easy = np.eye(4, dtype=np.float32)[codes] + np.random.default_rng(0).normal(size=(300, 4)).astype(np.float32) / 50
    probe = LinearProbe(rates=(1e-2, 1e-1))
    (predicted,) = probe.fit_predict_many(easy, codes, samples["draws"][-1:], kind="classification", num_classes=4)
    assert predicted.chosen["lr"] == 1e-1  # both are right on all validation samples


def test_without_refit_the_validation_part_is_never_learnt_from(samples):
    features, codes, _ = samples["classification"]
    draw = samples["draws"][-1]
    changed = codes.copy()
    probe = LinearProbe(rates=(1e-2,), recipe=SHORT, refit=False)
    changed[draw.train[draw.validation]] = 0
    (one,) = probe.fit_predict_many(features, codes, [draw], kind="classification", num_classes=4)
    (other,) = probe.fit_predict_many(features, changed, [draw], kind="classification", num_classes=4)
    np.testing.assert_array_equal(one.scores, other.scores)


@pytest.mark.parametrize("probe", CLASSIFIERS, ids=lambda probe: probe.name)
def test_targets_of_test_samples_are_never_looked_at(samples, probe):
    features, codes, _ = samples["classification"]
    draw = samples["draws"][-1]
    shuffled = codes.copy()
    shuffled[draw.test] = 0
    (one,) = probe.fit_predict_many(features, codes, [draw], kind="classification", num_classes=4)
    (other,) = probe.fit_predict_many(features, shuffled, [draw], kind="classification", num_classes=4)
    np.testing.assert_array_equal(one.scores, other.scores)


@pytest.mark.parametrize("probe", CLASSIFIERS, ids=lambda probe: probe.name)
def test_constant_features_and_a_missing_class_are_borne(samples, probe):
    features, codes, _ = samples["classification"]
    features = features.copy()
    features[:, 0] = 3
    draw = samples["draws"][-1]
    keep = codes[draw.train] != 2
    draw = Draw(train=draw.train[keep], test=draw.test, validation=draw.validation[keep])
    (predicted,) = probe.fit_predict_many(features, codes, [draw], kind="classification", num_classes=4)
    assert not np.isnan(predicted.scores).any()
    assert (predicted.values == codes[draw.test]).mean() > 0.3


@pytest.mark.parametrize("probe", [LinearProbe(recipe=SHORT), MLPProbe(recipe=SHORT)], ids=lambda probe: probe.name)
def test_the_seed_of_a_draw_varies_what_is_random_in_a_probe(samples, probe):
    features, codes, _ = samples["classification"]
    draw = samples["draws"][-1]
    seeds = [Draw(train=draw.train, test=draw.test, validation=draw.validation, seed=seed) for seed in (1, 2, 1)]
    one, two, again = probe.fit_predict_many(features, codes, seeds, kind="classification", num_classes=4)
    np.testing.assert_allclose(one.scores, again.scores, rtol=1e-5)
    assert np.abs(one.scores - two.scores).max() > 1e-3


# --- neighbours


def test_large_training_sets_are_searched_as_small_ones_are(samples, monkeypatch):
    few = [predict(KNNProbe(5), samples, kind) for kind in ("classification", "regression")]
    monkeypatch.setattr("training.probing.votes.FEW", 10)
    for before, kind in zip(few, ("classification", "regression"), strict=True):
        for one, other in zip(before, predict(KNNProbe(5), samples, kind), strict=True):
            np.testing.assert_allclose(one.values, other.values, rtol=1e-6)


@pytest.mark.parametrize("kind", ["classification", "multilabel", "regression"])
def test_heads_that_search_at_once_answer_as_each_does_alone(kind, monkeypatch):
    monkeypatch.setattr("training.probing.knn.FEW", 10)
    monkeypatch.setattr("training.probing.votes.FEW", 10)
    rng = np.random.default_rng(0)
    of = np.repeat(
        np.arange(40), 25
    )  # alike within each of forty, so that leaving one out takes all neighbours at once
    features = (rng.normal(size=(40, 16))[of] + 0.05 * rng.normal(size=(1000, 16))).astype(np.float32)
    codes = rng.integers(3, size=1000)
    targets = {"classification": codes, "multilabel": rng.random((1000, 3)) < 0.5, "regression": codes + 0.5}[kind]
    kept = [of >= 4, of < 30, of % 2 == 0, of < 6, np.ones(1000, bool), np.isin(np.arange(1000), [1, 2, 3, 500])]
    draws = [
        Draw(train=rows, test=np.empty(0, np.int64), validation=np.zeros(len(rows), bool))
        for rows in map(np.flatnonzero, kept)
    ]
    heads = [
        head
        for k in (5, 20)
        for head in KNNProbe(k).fit_many(
            features, targets, draws, kind=kind, num_classes=0 if kind == "regression" else 3
        )
    ]
    asked = (features[rng.permutation(1000)[:200]] + 0.02 * rng.normal(size=(200, 16))).astype(np.float32)
    for head, found in zip(heads, predict_with_all(heads, asked), strict=True):
        alone = head.predict(asked)
        assert found.chosen == alone.chosen
        np.testing.assert_allclose(found.values, alone.values, rtol=1e-6)
        if alone.scores is not None:
            np.testing.assert_allclose(found.scores, alone.scores, atol=1e-6)


# --- stacks, and what is refused


@given(st.lists(st.integers(1, 60), max_size=20), st.integers(1, 400))
def test_every_draw_is_in_one_stack_that_fits(sizes, budget):
    found = list(parts(sizes, cost=lambda n: n, budget=budget))
    assert sorted(s for part in found for s in part) == list(range(len(sizes)))
    assert all(len(part) == 1 or len(part) * max(sizes[s] for s in part) <= budget for part in found)


def test_unknown_probes_are_named_with_those_there_are():
    assert [probe.name for probe in make_probes(["knn", "linear"])] == ["knn-5", "knn-20", "linear"]
    with pytest.raises(
        TrainingError, match="unknown probes trees: choose from knn, linear, logistic, mlp, forest, ridge"
    ):
        make_probes(["knn", "trees"])


def test_what_a_probe_cannot_predict_is_refused(samples):
    with pytest.raises(TrainingError, match="probe ridge predicts regression, not classification: choose another"):
        predict(RidgeProbe(), samples, "classification")
    features, codes, _ = samples["classification"]
    draws = samples["draws"]
    with pytest.raises(TrainingError, match=r"classes are whole numbers from 0 to 2, and int64 from 0 to 3 were given"):
        KNNProbe(5).fit_predict_many(features, codes, draws, kind="classification", num_classes=3)
    with pytest.raises(TrainingError, match=r"targets of shape \(299,\) were given for \(300,\)"):
        KNNProbe(5).fit_predict_many(features, codes[1:], draws, kind="classification", num_classes=4)
    with pytest.raises(TrainingError, match="1 targets are not numbers: leave those samples out"):
        KNNProbe(5).fit_predict_many(
            features, np.where(np.arange(300) == 7, np.nan, 1.0), draws, kind="regression", num_classes=0
        )


@pytest.mark.parametrize(("kind", "probes"), [("classification", CLASSIFIERS), ("regression", REGRESSORS)])
def test_a_head_predicts_later_what_it_predicts_at_once(samples, kind, probes):
    features, targets, num_classes = samples[kind]
    draws = [samples["draws"][0], *samples["draws"][3:5]]
    for probe in probes:
        at_once = predict(probe, samples, kind, draws)
        heads = probe.fit_many(features, targets, draws, kind=kind, num_classes=num_classes)
        for draw, wanted, head in zip(draws, at_once, heads, strict=True):
            parts = [head.predict(features[rows]) for rows in np.array_split(draw.test, 3)]
            found = np.concatenate([part.values for part in parts])
            np.testing.assert_allclose(found, wanted.values, rtol=1e-4, err_msg=probe.name)
            assert head.chosen == wanted.chosen


def test_a_validation_part_that_is_not_learnt_from_again(samples):
    features, codes, _ = samples["classification"]
    draw = samples["draws"][-1]
    assert draw.validation.any()
    strict = Draw(train=draw.train, test=draw.test, validation=draw.validation, refit=False)
    alone = Draw(train=draw.rest, test=draw.test, validation=np.zeros(len(draw.rest), dtype=bool))
    for probe in (KNNProbe(5), ForestProbe(trees=5), LogisticProbe(strengths=(1.0,))):
        (one,), (other,) = (predict(probe, samples, "classification", [each]) for each in (strict, alone))
        np.testing.assert_array_equal(one.values, other.values)
    changed = codes.copy()
    changed[draw.train[draw.validation]] = 0
    (one,) = predict(LogisticProbe(strengths=(1.0,)), samples, "classification", [strict])
    (other,) = LogisticProbe(strengths=(1.0,)).fit_predict_many(
        features, changed, [strict], kind="classification", num_classes=4
    )
    np.testing.assert_array_equal(one.values, other.values)


@pytest.mark.parametrize("probe", CLASSIFIERS, ids=lambda probe: probe.name)
def test_embeddings_that_are_no_numbers_are_refused(samples, probe):
    features, codes, _ = samples["classification"]
    broken = features.copy()
    broken[[3, 7], 0] = np.nan, np.inf
    with pytest.raises(TrainingError, match="2 of 300 embeddings hold numbers that are NaN or infinite"):
        probe.fit_predict_many(broken, codes, samples["draws"][:1], kind="classification", num_classes=4)
