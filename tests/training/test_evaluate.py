import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from pyproj import Transformer
from sklearn import metrics
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from pwcat.errors import TrainingError
from training.batch import Bands
from training.embed import check_data, embed_subset, embed_task
from training.evaluate import FewShot, Resampling, evaluate, load_scores
from training.evaluating.draws import draws_of
from training.evaluating.rows import COLUMNS
from training.models import build_model
from training.tasks.base import TaskData, TaskInfo
from training.tasks.chips import FileChips, PlaceChips
from training.tasks.column import ColumnTask

FEW = ColumnTask(name="landcover", column="div:landcover", min_samples=4)
BLOCKS = Resampling(split="blocks", block_km=20.0, repeats=3)
ONCE = replace(BLOCKS, repeats=1)
BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12")


@pytest.fixture(scope="module")
def scores(run, everything, tmp_path_factory):
    return evaluate(run.path, everything, task=FEW, sampling=BLOCKS, out_dir=tmp_path_factory.mktemp("scores"))


@pytest.fixture(scope="module")
def embedded(run, everything, tmp_path_factory):
    """A task, with its embeddings and where they are kept."""
    data, kept = FEW.open(everything), tmp_path_factory.mktemp("kept")
    return data, embed_task(run.load_model(), data, cache_dir=kept), kept


@pytest.fixture(scope="module")
def made():
    """Makes a task of noisy chips of a few classes, labels or numbers, on all continents, with official sides."""

    def make(kind, *, size=32, samples=90, seed=0, **changes):
        rng = np.random.default_rng(seed)
        codes = rng.integers(3, size=samples)
        chips = (1000 + 800 * codes[:, None, None, None, None] + rng.normal(0, 900, (samples, 1, 12, size, size))).clip(
            1
        )
        targets = {
            "classification": codes,
            "multilabel": np.stack([codes > 0, codes > 1, rng.random(samples) < 0.5], axis=1),
            "regression": codes + rng.normal(0, 0.3, samples),
            "segmentation": np.empty((samples, 0)),
        }[kind]
        masks = np.where(rng.random((samples, size, size)) < 0.3, -1, codes[:, None, None]).astype(np.int16)
        lonlat = np.column_stack([rng.uniform(-170, 170, samples), rng.uniform(-60, 70, samples)])
        info = TaskInfo(
            name=f"made-{kind}",
            title="Made up",
            kind=kind,
            metric={"multilabel": "micro_f1", "regression": "r2", "segmentation": "miou"}.get(kind, "accuracy"),
            classes=() if kind == "regression" else ("a", "b", "c"),
        )
        values = {
            "info": info,
            "ids": np.array([f"s{i}" for i in range(samples)], dtype=object),
            "lonlat": lonlat,
            "splits": np.array((["train"] * 5 + ["val"] + ["test"] * 3) * (samples // 9), dtype=object),
            "targets": targets,
            "chips": FileChips(
                bands=Bands.reflectance(BANDS),
                shape=(1, 12, size, size),
                lonlat=lonlat,
                times=np.full((samples, 1), 1_600_000_000),
                read=lambda rows: chips[rows].astype(np.uint16),
                read_masks=lambda rows: masks[rows],
            ),
            "hash": f"{kind} {size} {seed}",
            "groups": {"continent": np.array(["Africa", "Asia", None] * (samples // 3), dtype=object)},
        }
        return TaskData(**{**values, **changes})

    return make


def test_scores_say_what_they_are_of(scores, run, everything):
    assert (scores.run, scores.control, scores.task, scores.kind) == ("small", False, "landcover", "classification")
    assert scores.sampling["how"] == "blocks"
    assert scores.data_hash == run.data["hash"]
    assert scores.task_hash == FEW.open(everything).hash
    assert sum(scores.classes.values()) == scores.num_samples == len(everything) - sum(scores.left_out.values())
    assert [result.probe for result in scores.results] == ["knn-5", "knn-20", "logistic"]
    assert scores.result("logistic").chosen[0].keys() == {"C", "num_validation"}
    assert scores.metrics == ("accuracy", "balanced_accuracy", "macro_f1", "weighted_f1")
    for result in scores.results:
        measure = scores.summary(result.probe).measure
        assert len(measure.values) == 3
        assert measure.mean == pytest.approx(np.mean(measure.values))
        assert measure.sd == pytest.approx(np.std(measure.values, ddof=1))
        assert 0 <= measure.ci_low <= measure.mean <= measure.ci_high <= 1
    with pytest.raises(TrainingError, match="no probe 'forest' in these scores; there are knn-5, knn-20, logistic"):
        scores.result("forest")
    with pytest.raises(TrainingError, match="no 'r2' in scores of landcover; there are accuracy"):
        scores.summary("knn-5", "r2")
    with pytest.raises(TrainingError, match=r"no scores of group 'all', size 5, drawn ''; there are: all, size None"):
        scores.summary("knn-5", size=5)


def test_scores_are_those_of_scikit_learn_on_the_embeddings(run, embedded):
    data, features, _ = embedded
    scores = evaluate(run.path, data, sampling=ONCE, probes=["knn", "logistic"], out_dir=None)
    sides = np.where(data.splits == "test", "val", "train").astype(object)
    (draw,) = ONCE.draws(data.targets, lonlat=data.lonlat, sides_N=sides)
    truth = data.targets[draw.test]

    def soft(distances):
        return np.exp((1 - distances) / 0.07)

    near = KNeighborsClassifier(5, metric="cosine", weights=soft).fit(features[draw.train], data.targets[draw.train])
    scaler = StandardScaler().fit(features[draw.train].astype(float))
    linear = LogisticRegression(C=scores.result("logistic").chosen[0]["C"], max_iter=5000, tol=1e-8)
    linear.fit(scaler.transform(features[draw.train]), data.targets[draw.train])
    for probe, predicted in {
        "knn-5": near.predict(features[draw.test]),
        "logistic": linear.predict(scaler.transform(features[draw.test])),
    }.items():
        for metric, wanted in {
            "accuracy": metrics.accuracy_score(truth, predicted),
            "balanced_accuracy": metrics.balanced_accuracy_score(truth, predicted),
            "macro_f1": metrics.f1_score(truth, predicted, average="macro"),
            "weighted_f1": metrics.f1_score(truth, predicted, average="weighted"),
        }.items():
            assert scores.summary(probe, metric).measure.mean == pytest.approx(wanted), (probe, metric)
        for continent in {name for name in data.groups["continent"][draw.test] if name is not None}:
            here = data.groups["continent"][draw.test] == continent
            found = scores.summary(probe, group=f"continent={continent}")
            assert found.measure.mean == pytest.approx(metrics.accuracy_score(truth[here], predicted[here]))
            assert found.num_test == here.sum()


def test_scores_within_continents_add_up(run, embedded):
    one = evaluate(run.path, embedded[0], sampling=ONCE, probes=["knn"], out_dir=None)
    everyone = one.summary("knn-5")
    for grouping in ("continent=", "biome=", "landcover="):
        parts = [each for each in one.summaries("knn-5") if each.group.startswith(grouping)]
        assert sum(part.num_test for part in parts) == everyone.num_test
        weighted = sum(part.measure.mean * part.num_test for part in parts) / everyone.num_test
        assert weighted == pytest.approx(everyone.measure.mean)
    assert everyone.measure.sd is None


def test_scores_are_written_and_replaced_by_the_same_kind(run, embedded, tmp_path):
    data = embedded[0]
    first = evaluate(run.path, data, sampling=BLOCKS, probes=["knn"], out_dir=tmp_path)
    assert load_scores(tmp_path) == [first]
    second = evaluate(run.path, data, sampling=ONCE, probes=["knn"], out_dir=tmp_path)
    assert load_scores(tmp_path) == [second]
    evaluate(run.path, data, sampling=Resampling(repeats=1), probes=["knn"], out_dir=tmp_path)
    evaluate(run.path, data, sampling=FewShot(sizes=(2,), seeds=2), probes=["knn"], out_dir=tmp_path)
    assert [scores.sampling["how"] for scores in load_scores(tmp_path)] == ["blocks", "column", "few-shot"]
    assert load_scores(tmp_path / "nowhere") == []


def test_scores_of_another_version_are_refused_and_replaced(run, embedded, tmp_path, caplog):
    (tmp_path / "scores.json").write_text(json.dumps([{"run": "old", "results": []}]))
    with pytest.raises(TrainingError, match="holds scores of another version of pwcat: remove it"):
        load_scores(tmp_path)
    scores = evaluate(run.path, embedded[0], sampling=ONCE, probes=["knn"], out_dir=tmp_path)
    assert "earlier scores are replaced" in caplog.text
    assert load_scores(tmp_path) == [scores]
    for text in ("{", '{"format": 2}', '{"format": 2, "scores": [{}]}'):
        (tmp_path / "scores.json").write_text(text)
        with pytest.raises(TrainingError, match="cannot be read"):
            load_scores(tmp_path)


def test_same_seed_same_scores(scores, run, everything, tmp_path):
    again = evaluate(run.path, everything, task=FEW, sampling=BLOCKS, out_dir=tmp_path)
    assert again == scores
    other = evaluate(run.path, everything, task=FEW, sampling=BLOCKS, seed=9, out_dir=tmp_path)
    assert other.results != scores.results
    assert other.sampling["seed"] == 9


def test_rows_hold_a_figure_each(scores):
    rows = scores.rows()
    assert all(tuple(row) == COLUMNS for row in rows)
    mine = [row for row in rows if (row["probe"], row["group"], row["metric"]) == ("knn-5", "all", "accuracy")]
    assert [row["value"] for row in mine] == scores.summary("knn-5").measure.values
    assert [row["seed"] for row in mine] == [0, 1, 2]
    assert {row["primary"] for row in mine} == {True}
    assert {row["size"] for row in rows} == {None}
    keys = [(row["probe"], row["seed"], row["group"], row["metric"]) for row in rows]
    assert len(set(keys)) == len(keys)
    assert all(row["num_test"] > 0 for row in rows)


def test_few_shot_draws_are_nested_and_told_by_size(run, embedded):
    sampling = FewShot(sizes=(1, 3, None), seeds=3)
    scores = evaluate(run.path, embedded[0], sampling=sampling, probes=["knn"], out_dir=None)
    assert [(trial.size, trial.seed) for trial in scores.trials] == [(n, s) for n in (1, 3, None) for s in range(3)]
    assert scores.largest_size is None
    there = np.bincount(embedded[0].targets[embedded[0].splits == "train"])
    for size in (1, 3):
        assert scores.summary("knn-5", size=size).num_train == np.minimum(there, size).sum()
    (headline,) = scores.headlines("knn-5")
    assert headline.size is None
    for group in ("all", "continent=Europe"):
        tested = {scores.summary("knn-5", group=group, size=size).num_test for size in (1, 3, None)}
        assert len(tested) == 1  # curves are of the same test samples


def test_few_shot_within_continents(run, made):
    data = made("classification")
    sampling = FewShot(sizes=(10,), per="total", within_groups=True, seeds=4)
    scores = evaluate(run.path, data, sampling=sampling, probes=["knn"], out_dir=None)
    assert {trial.drawn for trial in scores.trials} == {"continent=Africa", "continent=Asia"}
    rows = scores.rows()
    assert {(row["group"], row["drawn"]) for row in rows} == {(f"continent={c}",) * 2 for c in ("Africa", "Asia")}
    assert [told.drawn for told in scores.headlines("knn-5")] == ["continent=Africa", "continent=Asia"]
    assert {row["n_train"] for row in rows} == {10}
    with pytest.raises(
        TrainingError, match=r"no sample has a known biome, and draws by biome need it; known are: continent"
    ):
        evaluate(run.path, data, sampling=replace(sampling, grouping="biome"), out_dir=None)


@pytest.mark.parametrize("kind", ["classification", "multilabel", "regression"])
def test_benchmarks_are_scored_on_their_official_sides(run, made, kind):
    data = made(kind)
    probes = ["knn", "ridge"] if kind == "regression" else ["knn", "logistic", "forest"]
    scores = evaluate(run.path, data, probes=probes, out_dir=None)
    assert scores.sampling["how"] == "official"
    assert [(trial.num_train, trial.num_validation) for trial in scores.trials] == [(50, 10)]
    assert scores.num_test == 30
    features = embed_task(run.load_model(), data)
    train, test = (np.flatnonzero(data.splits == side) for side in ("train", "test"))
    from training.probes import KNNProbe
    from training.resampling import Draw

    (wanted,) = KNNProbe(5).fit_predict_many(
        features, data.targets, [Draw(train=train, test=test, validation=np.zeros(50, dtype=bool))],
        kind=kind, num_classes=data.num_classes,
    )  # fmt: skip
    score = {
        "classification": lambda t, p: metrics.accuracy_score(t, p),
        "multilabel": lambda t, p: metrics.f1_score(t, p, average="micro"),
        "regression": metrics.r2_score,
    }[kind]
    assert scores.summary("knn-5").measure.mean == pytest.approx(score(data.targets[test], wanted.values))
    assert set(scores.metrics) >= {"multilabel": {"map"}, "regression": {"rmse", "mae"}}.get(kind, {"macro_f1"})
    assert {each.group for each in scores.summaries("knn-5")} == {"all", "continent=Africa", "continent=Asia"}


def test_the_default_probes_are_those_of_the_kind(run, made):
    scores = evaluate(run.path, made("regression"), out_dir=None)
    assert [result.probe for result in scores.results] == ["knn-5", "knn-20", "ridge"]
    with pytest.raises(TrainingError, match="is a regression, which logistic cannot predict: leave it out"):
        evaluate(run.path, made("regression"), probes=["knn", "logistic"])
    with pytest.raises(TrainingError, match=r"unknown probes svm: choose from knn, .*finetune"):
        evaluate(run.path, made("regression"), probes=["svm"])
    with pytest.raises(TrainingError, match="'r2' is no metric of this classification; there are accuracy"):
        evaluate(run.path, made("classification"), metric="r2")
    with pytest.raises(TrainingError, match="is opened already: leave out `task`"):
        evaluate(run.path, made("classification"), task="landcover")


def test_scores_without_leaking_samples_stand_beside_those_with(run, made, tmp_path, caplog):
    data = made("classification")
    tested = np.flatnonzero(data.splits == "test")
    leaks = tmp_path / "leaks.parquet"
    ids = [*data.ids[tested[:7]], data.ids[0]]
    pq.write_table(
        pa.table({"task": [data.info.name] * 8 + ["other"], "task_hash": [data.hash] * 9, "id": [*ids, "s80"]}), leaks
    )
    scores = evaluate(run.path, data, probes=["knn"], without=leaks, out_dir=None)
    plain = evaluate(run.path, data, probes=["knn"], out_dir=None)
    assert (scores.num_leaks, scores.without) == (7, "leaks.parquet")
    assert scores.summary("knn-5").measure == plain.summary("knn-5").measure
    assert scores.summary("knn-5", group="leaks=none").num_test == 23
    assert scores.summary("knn-5", group="leaks=some").num_test == 7
    assert evaluate(run.path, data, probes=["knn"], without=ids, out_dir=None).results == scores.results
    none = evaluate(run.path, replace(data, info=replace(data.info, name="else")), without=leaks, out_dir=None)
    assert none.num_leaks == 0
    assert "names no sample of task else: none of them leaks, or it was not audited" in caplog.text
    audit = {"data_hash": "other", "overlaps": [{"task": data.info.name, "task_hash": "another"}]}
    table = pa.table({"task": pa.array([], pa.string()), "id": pa.array([], pa.string())})
    pq.write_table(table.replace_schema_metadata({"pwcat:audit": json.dumps(audit)}), leaks)
    assert evaluate(run.path, data, probes=["knn"], without=leaks, out_dir=None).num_leaks == 0
    assert "is of other samples than those that the model was pretrained on" in caplog.text
    assert "was made of another choice of samples of task made-classification" in caplog.text
    with pytest.raises(
        TrainingError, match=r"none of 1 leaking samples, such as 'x', is one of task made-classification"
    ):
        evaluate(run.path, data, without=["x"])
    pq.write_table(pa.table({"name": ["x"]}), leaks)
    with pytest.raises(TrainingError, match="has columns task, id; task, id missing, there are name"):
        evaluate(run.path, data, without=leaks)
    leaks.write_text("x")
    with pytest.raises(TrainingError, match="no list of leaking samples can be read"):
        evaluate(run.path, data, without=leaks)


def test_the_control_has_random_weights_of_the_same_architecture(run, everything, make_recipe, tmp_path):
    settings = {"task": FEW, "sampling": ONCE, "probes": ["knn"]}
    control = evaluate(None, everything, **settings, control=make_recipe(), out_dir=tmp_path)
    assert (control.run, control.control, control.data_hash) == (None, True, "")
    assert control.weights_hash != evaluate(run.path, everything, **settings, out_dir=None).weights_hash
    assert load_scores(tmp_path) == [control]
    with pytest.raises(TrainingError, match="nothing to evaluate"):
        evaluate(None, everything)


def test_the_control_is_scaled_by_the_training_samples(made, make_recipe):
    from training.evaluating.models import with_random_weights

    data = made("classification")
    found = with_random_weights(make_recipe(), data).normalization
    chips = data.chips.read(np.flatnonzero(data.splits == "train"))[:, 0]
    at = [BANDS.index(band) for band in found.bands]
    np.testing.assert_allclose(found.mean, chips.mean(axis=(0, 2, 3))[at], rtol=1e-6)
    np.testing.assert_allclose(found.std, chips.std(axis=(0, 2, 3))[at], rtol=1e-4)
    assert (found.num_samples, found.unit) == (50, "DN, reflectance*10000")


def test_a_catalog_has_tasks_by_name(run, everything):
    with pytest.raises(TrainingError, match="unknown task 'eurosat' of a catalog: choose from landcover"):
        evaluate(run.path, everything, task="eurosat")
    named = evaluate(run.path, everything, task="column:div:landcover", sampling=ONCE, probes=["knn"], out_dir=None)
    assert named.task == "column:div:landcover"


@pytest.fixture
def draw(embedded):
    data = embedded[0]

    def of(**settings):
        return draws_of(data, Resampling(**settings))

    return of


def test_the_column_keeps_train_and_test_apart(embedded, draw):
    (all_of_them,) = draw(split="column", repeats=1)
    sides = embedded[0].splits
    assert all_of_them.train.tolist() == np.flatnonzero(sides == "train").tolist()
    assert all_of_them.test.tolist() == np.flatnonzero(sides == "test").tolist()
    thinned = draw(split="column", repeats=3)
    assert {len(each.train) for each in thinned} == {round(0.8 * len(all_of_them.train))}
    assert len({tuple(each.train) for each in thinned}) == 3
    assert {tuple(each.test) for each in thinned} == {tuple(all_of_them.test)}


def test_blocks_share_no_place_and_change_with_the_repeat(embedded, draw):
    lonlat = embedded[0].lonlat
    places = spatial_blocks(lonlat, km=20.0)
    draws = draw(split="blocks", block_km=20.0, repeats=3)
    for each in draws:
        assert not set(places[each.train]) & set(places[each.test])
        inner = places[each.train]
        assert not set(inner[each.validation]) & set(inner[~each.validation])
    assert len({tuple(each.test) for each in draws}) == 3
    (whole,) = draw(split="blocks", block_km=20.0, repeats=1)
    assert sorted([*whole.train, *whole.test]) == list(range(len(lonlat)))


def spatial_blocks(lonlat, *, km):
    """Cells of the cylindrical equal-area grid, by pyproj."""
    x, y = Transformer.from_crs(4326, "+proj=cea +R=6371008.8", always_xy=True).transform(*lonlat.T)
    return np.array([f"{a}/{b}" for a, b in zip(x // (km * 1000), y // (km * 1000), strict=True)])


def test_too_little_on_one_side_is_refused(run, everything):
    with pytest.raises(TrainingError, match=r"0 test samples are left by split='column'.*smaller block_km"):
        evaluate(run.path, everything.split("train"), task=FEW)
    with pytest.raises(TrainingError, match="no draws were asked for"):
        evaluate(run.path, everything, task=FEW, sampling=Resampling(repeats=0))


def test_validation_part_is_never_empty_nor_all():
    rng = np.random.default_rng(0)
    labels, sides = np.array(["a", "b"] * 30), np.array(["train"] * 50 + ["val"] * 10, dtype=object)
    once = Resampling(repeats=1)
    (scattered,) = once.draws(labels, lonlat=rng.uniform(-60, 60, (60, 2)), sides_N=sides)
    assert 5 <= scattered.validation.sum() <= 15
    (together,) = once.draws(labels, lonlat=np.full((60, 2), 12.5), sides_N=sides)
    assert together.validation.sum() == 10


def test_embeddings_are_kept_and_found_again(run, everything, tmp_path):
    model = run.load_model()
    first = embed_subset(model, everything, cache_dir=tmp_path)
    assert first.shape == (80, model.embedding_dim)
    assert first.dtype == np.float32
    (kept,) = tmp_path.glob("*.npy")
    changed = np.array(first) + 1
    kept.unlink()
    np.save(kept, changed)  # what is kept is what comes back
    np.testing.assert_array_equal(embed_subset(model, everything, cache_dir=tmp_path), changed)
    embed_subset(model, everything.split("val"), cache_dir=tmp_path)
    assert len(list(tmp_path.glob("*.npy"))) == 2


def test_data_of_other_bands_or_units_are_refused(run, everything):
    model = run.load_model()
    model.normalization = replace(model.normalization, unit="DN, reflectance*255")
    with pytest.raises(
        TrainingError, match=r"trained on values in 'DN, reflectance\*255'.*in 'DN, reflectance\*10000'"
    ):
        check_data(model, everything)
    check_data(model, everything, other_units=True)
    model.config = replace(model.config, bands=("B02", "VV"), groups=(("B02",), ("VV",)))
    with pytest.raises(TrainingError, match="VV are missing"):
        check_data(model, everything, other_units=True)
    model.normalization = None
    with pytest.raises(TrainingError, match="no normalisation"):
        check_data(model, everything)


def test_a_kept_embedding_is_of_these_weights_samples_and_fit(run, made, tmp_path):
    data, model = made("classification", size=40), run.load_model()

    def kept(model, data):
        embed_task(model, data, cache_dir=tmp_path)
        return len(list(tmp_path.glob("*.npy")))

    assert kept(model, data) == 1
    assert kept(run.load_model(), replace(data, left_out={"cloud": 3})) == 1  # the same, however they came to be
    assert kept(model, replace(data, info=replace(data.info, fit="crop"))) == 2
    assert kept(model, made("classification", size=40, seed=1)) == 3
    model.normalization = replace(model.normalization, mean=tuple(mean + 1 for mean in model.normalization.mean))
    assert kept(model, data) == 4
    with torch.no_grad():
        model.norm.weight[0] += 1
    assert kept(model, data) == 5
    presto = build_model("presto", {"months": 1}).eval()
    assert kept(presto, data) == 6
    assert kept(build_model("presto", {"months": 2}).eval(), data) == 7


def test_chips_of_another_size_are_resized_or_cut(run, made):
    model, data = run.load_model(), made("classification", size=40)
    (whole,) = data.batches(bands=model.bands)
    cut = replace(data, info=replace(data.info, fit="crop"))
    with torch.inference_mode():
        np.testing.assert_array_equal(embed_task(model, cut), model.encode(whole).numpy())
    assert np.abs(embed_task(model, data) - embed_task(model, cut)).max() > 1e-3
    with pytest.raises(TrainingError, match=r"chips are 20 x 20 pixels, and 32 x 32 cannot be cut.*fit='resize'"):
        embed_task(model, replace(made("classification", size=20), info=cut.info))
    assert embed_task(model, made("classification", size=20)).shape == (90, model.embedding_dim)


def test_places_alone_are_for_models_of_places(run, made):
    data = made("classification")
    places = replace(data, chips=PlaceChips(lonlat=data.lonlat))
    satclip = build_model("satclip", {"degrees": 4, "dim": 16, "hidden": 16})
    assert embed_task(satclip, places).shape == (90, 16)
    np.testing.assert_array_equal(embed_task(satclip, places), embed_task(satclip, data))
    with pytest.raises(
        TrainingError, match="its samples are places without pixels, and satmae reads chips: take a model of"
    ):
        embed_task(run.load_model(), places)
    nowhere = data.lonlat.copy()
    nowhere[:3] = np.nan
    with pytest.raises(TrainingError, match="the model encodes places, and 3 of 90 samples have none"):
        embed_task(satclip, replace(places, lonlat=nowhere))


def test_tasks_of_other_bands_or_units_are_refused(run, made):
    model, data = run.load_model(), made("classification")
    check_data(model, data)
    scaled = replace(data.chips, bands=replace(data.chips.bands, scale=(1 / 255,) * 12))
    with pytest.raises(
        TrainingError, match=r"trained on values in 'DN, reflectance\*10000'.*in 'DN, reflectance\*255'"
    ):
        embed_task(model, replace(data, chips=scaled))
    check_data(model, replace(data, chips=scaled), other_units=True)
    few = replace(data.chips, bands=Bands.reflectance(("B02", "B03", "B04")), shape=(1, 3, 32, 32))
    with pytest.raises(TrainingError, match=r"the data have B02, B03, B04: .* are missing"):
        embed_task(model, replace(data, chips=few))


def test_a_task_of_a_subset_shares_its_embeddings(run, everything, tmp_path):
    model = run.load_model()
    embed_subset(model, everything, cache_dir=tmp_path)
    data = ColumnTask(name="continent", column="div:continent", min_samples=1).open(everything)
    assert len(data) == len(everything)
    embed_task(model, data, cache_dir=tmp_path)
    assert len(list(tmp_path.glob("*.npy"))) == 1


def test_rare_classes_are_dropped_and_listed(everything):
    truth = everything.column("div:landcover").tolist()
    counts = {name: truth.count(name) for name in set(truth)}
    needed = min(counts.values()) + 1
    data = replace(FEW, min_samples=needed).open(everything)
    assert set(data.info.classes) == {name for name, count in counts.items() if count >= needed}
    assert data.left_out == {f"{n}: fewer than {needed}": c for n, c in counts.items() if c < needed}
    assert data.left_out
    kept = [name for name in truth if name in data.info.classes]
    assert [data.info.classes[code] for code in data.targets] == kept


def test_a_task_that_cannot_be_set_says_why(everything):
    with pytest.raises(TrainingError, match=r"0 classes of div:landcover have at least 500 samples"):
        replace(FEW, min_samples=500).open(everything)
    with pytest.raises(TrainingError, match="task crop: no column 'crop'; there are id"):
        ColumnTask(name="crop", column="crop").open(everything)
    with pytest.raises(TrainingError, match="column 'div:landcover' holds no numbers"):
        replace(FEW, kind="regression").open(everything)


def test_draws_without_a_value_do_not_hide_the_others(run, made):
    scores = evaluate(
        run.path, made("regression"), probes=["knn"], sampling=FewShot(sizes=(8,), per="total", seeds=3), out_dir=None
    )
    (first, *others) = scores.results
    r2 = next(each for each in first.figures if (each.group, each.metric) == ("all", "r2"))
    gap = {name: [None, *getattr(r2, name)[1:]] for name in ("values", "ci_low", "ci_high")}
    lacking = replace(scores, results=[replace(first, figures=[replace(r2, **gap)]), *others])
    measure = lacking.summary("knn-5", size=8).measure
    assert measure.values == r2.values[1:]
    assert measure.mean == np.mean(r2.values[1:])
