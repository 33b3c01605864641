from dataclasses import replace

import numpy as np
import pytest

from pwcat.errors import TrainingError
from training.embed import check_data, embed_subset
from training.evaluate import _draw, _validation, evaluate, load_scores
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
    assert [result.probe for result in scores.results] == ["knn-5", "knn-20", "linear"]
    assert scores.result("linear").chosen[0].keys() == {"C", "num_validation"}
    for result in scores.results:
        measure = result.overall.accuracy
        assert len(measure.values) == 3
        assert measure.mean == pytest.approx(np.mean(measure.values))
        assert measure.sd == pytest.approx(np.std(measure.values, ddof=1))
        assert 0 <= measure.ci_low <= measure.mean <= measure.ci_high <= 1
    with pytest.raises(TrainingError, match="no probe 'forest' in these scores; there are knn-5, knn-20, linear"):
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


def test_the_column_keeps_train_and_test_apart(everything):
    labels = FEW.labels(everything)
    draw = {"block_km": 20.0, "test_fraction": 0.3, "seed": 0, "repeat": 0}
    train, test = _draw(everything, labels, split="column", **draw)
    assert set(everything.column("pwcat:split")[labels.rows[train]]) == {"train"}
    assert set(everything.column("pwcat:split")[labels.rows[test]]) == {"val"}


def test_blocks_share_no_place_and_change_with_the_repeat(everything):
    labels = FEW.labels(everything)
    draw = {"split": "blocks", "block_km": 20.0, "test_fraction": 0.3, "seed": 0}
    train, test = _draw(everything, labels, **draw, repeat=0)
    assert sorted([*train, *test]) == list(range(len(labels.rows)))
    places = np.round(everything.lonlat[labels.rows], 6)
    assert not {tuple(p) for p in places[train]} & {tuple(p) for p in places[test]}
    assert not np.array_equal(test, _draw(everything, labels, **draw, repeat=1)[1])


def test_too_little_on_one_side_is_refused(run, everything):
    with pytest.raises(TrainingError, match=r"0 test samples are left by split='column'.*smaller block_km"):
        evaluate(run.path, everything.split("train"), task=FEW)


def test_validation_part_is_never_empty_nor_all():
    rng = np.random.default_rng(0)
    scattered = _validation(rng.uniform(-60, 60, (50, 2)), block_km=100, seed=0, rng=rng)
    assert 5 <= scattered.sum() <= 15
    together = _validation(np.full((10, 2), 12.5), block_km=100, seed=0, rng=rng)
    assert together.sum() == 2


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
