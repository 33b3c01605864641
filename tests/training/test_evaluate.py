from dataclasses import replace

import numpy as np
import pytest
from pyproj import Transformer

from pwcat.errors import TrainingError
from training.embed import check_data, embed_subset
from training.evaluate import evaluate, load_scores
from training.resampling import Resampling
from training.tasks import make_task
from training.tasks.landcover import LandcoverTask

FEW = LandcoverTask(min_samples=4)
BLOCKS = {"task": FEW, "split": "blocks", "block_km": 20.0}


@pytest.fixture(scope="module")
def scores(run, everything, tmp_path_factory):
    return evaluate(run.path, everything, **BLOCKS, repeats=3, out_dir=tmp_path_factory.mktemp("scores"))


def test_scores_say_what_they_are_of(scores, run, everything):
    assert (scores.run, scores.control, scores.task, scores.split) == ("small", False, "landcover", "blocks")
    assert scores.data == {"hash": everything.hash, "num_samples": 80, "collections": ["europe", "everywhere"]}
    assert [result.probe for result in scores.results] == ["knn-5", "knn-20", "logistic"]
    assert scores.result("logistic").chosen[0].keys() == {"C", "num_validation"}
    for result in scores.results:
        measure = result.overall.accuracy
        assert len(measure.values) == 3
        assert measure.mean == pytest.approx(np.mean(measure.values))
        assert measure.sd == pytest.approx(np.std(measure.values, ddof=1))
        assert 0 <= measure.ci_low <= measure.mean <= measure.ci_high <= 1
    with pytest.raises(TrainingError, match="no probe 'forest' in these scores; there are knn-5, knn-20, logistic"):
        scores.result("forest")


def test_scores_within_continents_add_up(run, everything):
    one = evaluate(run.path, everything, **BLOCKS, repeats=1, probes=["knn"], out_dir=None).result("knn-5")
    parts = one.by_continent.values()
    assert sum(part.num_test for part in parts) == one.overall.num_test
    weighted = sum(part.accuracy.mean * part.num_test for part in parts) / one.overall.num_test
    assert weighted == pytest.approx(one.overall.accuracy.mean)
    assert one.overall.accuracy.sd is None


def test_scores_are_written_and_replaced_by_the_same_kind(run, everything, tmp_path):
    first = evaluate(run.path, everything, **BLOCKS, repeats=2, probes=["knn"], out_dir=tmp_path)
    assert load_scores(tmp_path) == [first]
    second = evaluate(run.path, everything, **BLOCKS, repeats=1, probes=["knn"], out_dir=tmp_path)
    assert load_scores(tmp_path) == [second]
    evaluate(run.path, everything, task=FEW, repeats=1, probes=["knn"], out_dir=tmp_path)
    assert [scores.split for scores in load_scores(tmp_path)] == ["blocks", "column"]
    assert load_scores(tmp_path / "nowhere") == []


def test_same_seed_same_scores(scores, run, everything, tmp_path):
    again = evaluate(run.path, everything, **BLOCKS, repeats=3, out_dir=tmp_path)
    assert again == scores
    other = evaluate(run.path, everything, **BLOCKS, repeats=3, seed=9, out_dir=tmp_path)
    assert other.results != scores.results


def test_the_control_has_random_weights_of_the_same_architecture(run, everything, make_recipe, tmp_path):
    control = evaluate(None, everything, **BLOCKS, repeats=2, probes=["knn"], control=make_recipe(), out_dir=tmp_path)
    assert (control.run, control.control) == (None, True)
    assert control.weights_hash != evaluate(run.path, everything, **BLOCKS, repeats=1, probes=["knn"]).weights_hash
    assert load_scores(tmp_path) == [control]
    with pytest.raises(TrainingError, match="nothing to evaluate"):
        evaluate(None, everything)


@pytest.fixture
def draw(everything):
    labels = FEW.labels(everything)

    def of(**settings):
        sides = everything.column("pwcat:split")[labels.rows]
        return Resampling(**settings).draws(labels.values, lonlat=everything.lonlat[labels.rows], sides_N=sides)

    return of


def test_the_column_keeps_train_and_test_apart(everything, draw):
    rows = FEW.labels(everything).rows
    (all_of_them,) = draw(split="column", repeats=1)
    sides = everything.column("pwcat:split")[rows]
    assert all_of_them.train.tolist() == np.flatnonzero(sides == "train").tolist()
    assert all_of_them.test.tolist() == np.flatnonzero(sides == "val").tolist()
    thinned = draw(split="column", repeats=3)
    assert {len(each.train) for each in thinned} == {round(0.8 * len(all_of_them.train))}
    assert len({tuple(each.train) for each in thinned}) == 3
    assert {tuple(each.test) for each in thinned} == {tuple(all_of_them.test)}


def test_blocks_share_no_place_and_change_with_the_repeat(everything, draw):
    lonlat = everything.lonlat[FEW.labels(everything).rows]
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
    np.save(kept, first + 1)  # what is kept is what comes back
    np.testing.assert_array_equal(embed_subset(model, everything, cache_dir=tmp_path), first + 1)
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


def test_rare_classes_are_dropped_and_listed(everything):
    truth = everything.column("div:landcover").tolist()
    counts = {name: truth.count(name) for name in set(truth)}
    needed = min(counts.values()) + 1
    labels = LandcoverTask(min_samples=needed).labels(everything)
    assert all(count >= needed for count in labels.classes.values())
    assert all(0 < count < needed for count in labels.dropped.values())
    assert labels.dropped
    assert {**labels.classes, **labels.dropped} == counts
    assert labels.values.tolist() == [name for name in truth if name in labels.classes]
    assert labels.unlabelled == 0


def test_a_task_that_cannot_be_set_says_why(everything):
    with pytest.raises(TrainingError, match=r"0 classes of div:landcover have at least 500 samples"):
        LandcoverTask(min_samples=500).labels(everything)
    with pytest.raises(TrainingError, match="has no column 'crop'"):
        LandcoverTask(column="crop").labels(everything)
    with pytest.raises(TrainingError, match="unknown task 'depth': choose from landcover"):
        make_task("depth")
