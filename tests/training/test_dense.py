from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn import metrics
from torch.nn import functional

from pwcat.errors import TrainingError
from training.batch import Bands
from training.evaluate import FewShot, Official, evaluate
from training.evaluating import dense
from training.evaluating.dense import count_pixels, embed_pixels, pixels_at, score_pixels
from training.evaluating.draws import draws_of
from training.finetune import finetune, load_finetune_recipe
from training.models import build_model
from training.probes import KNNProbe, LogisticProbe, make_probes
from training.tasks.base import TaskData, TaskInfo
from training.tasks.chips import FileChips

BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12")
SIZE = 32


@pytest.fixture(scope="module")
def fields():
    """Makes chips in two halves of two of three classes each, of other brightness, a quarter of their pixels unlabelled."""

    def make(*, size=SIZE, fit="resize", samples=27, seed=0, **changes):
        rng = np.random.default_rng(seed)
        left, right = rng.integers(3, size=(2, samples))
        masks = np.where(np.arange(size) < size // 2, left[:, None], right[:, None])[:, None, :].repeat(size, axis=1)
        level = 1500 + 1500 * masks[:, None, None]
        chips = (level + rng.normal(0, 500, (samples, 1, 12, size, size))).clip(1).astype(np.uint16)
        masks = np.where(rng.random(masks.shape) < 0.25, -1, masks).astype(np.int16)
        lonlat = rng.uniform(-50, 50, (samples, 2))
        values = {
            "info": TaskInfo(
                name="fields", title="Fields", kind="segmentation", metric="miou", classes=("a", "b", "c"), fit=fit
            ),
            "ids": np.arange(samples).astype(object),
            "lonlat": lonlat,
            "splits": np.array((["train"] * 5 + ["val"] + ["test"] * 3) * (samples // 9), dtype=object),
            "targets": np.empty((samples, 0)),
            "chips": FileChips(
                bands=Bands.reflectance(BANDS),
                shape=(1, 12, size, size),
                lonlat=lonlat,
                times=np.full((samples, 1), 1_600_000_000),
                read=lambda rows: chips[rows],
                read_masks=lambda rows: masks[rows],
            ),
            "hash": f"fields {size}",
            "groups": {"continent": np.array(["Africa", "Asia", None] * (samples // 3), dtype=object)},
        }
        return TaskData(**{**values, **changes})

    return make


@pytest.fixture(scope="module")
def model(run):
    return run.load_model()


@pytest.mark.parametrize(
    ("places", "pixels"), [((4, 4), (32, 32)), ((3, 5), (7, 20)), ((6, 6), (6, 6)), ((8, 8), (4, 4))]
)
def test_pixels_have_embeddings_between_those_of_the_places(places, pixels):
    found_hwD = torch.randn(*places, 5, generator=torch.Generator().manual_seed(0))
    at = np.stack(np.unravel_index(np.arange(pixels[0] * pixels[1]), pixels))
    wanted = functional.interpolate(found_hwD.permute(2, 0, 1)[None], size=pixels, mode="bilinear", align_corners=False)
    np.testing.assert_allclose(
        pixels_at(found_hwD, at, shape=pixels).numpy(), wanted[0].flatten(1).T.numpy(), atol=1e-5
    )


def test_labelled_pixels_are_embedded_and_so_many_of_each_chip(model, fields):
    data = fields()
    every = list(embed_pixels(model, data, np.array([3, 1])))
    assert [chip.row for chip in every] == [3, 1]
    for chip in every:
        mask = data.masks(np.array([chip.row]))[0]
        np.testing.assert_array_equal(chip.classes, mask[mask >= 0])
        assert chip.features.shape == (len(chip.classes), model.embedding_dim)
    few = list(embed_pixels(model, data, np.array([3, 1]), per_chip=20, seed=5))
    alone = next(embed_pixels(model, data, np.array([1]), per_chip=20, seed=5))
    assert [len(chip.classes) for chip in few] == [20, 20]
    np.testing.assert_allclose(alone.features, few[1].features, atol=1e-5)  # whatever chips are beside it
    other = next(embed_pixels(model, data, np.array([1]), per_chip=20, seed=6))
    assert not np.array_equal(other.features, alone.features)


def test_masks_are_cut_as_chips_are(model, fields):
    data = fields(size=48, fit="crop")
    (chip,) = embed_pixels(model, data, np.array([0]))
    middle = data.masks(np.array([0]))[0, 8:40, 8:40]
    np.testing.assert_array_equal(chip.classes, middle[middle >= 0])
    (whole,) = embed_pixels(model, fields(size=48), np.array([0]))
    assert len(whole.classes) == (data.masks(np.array([0]))[0] >= 0).sum()


def test_every_pixel_of_presto_is_a_series_of_its_own(fields):
    data, presto = fields(size=6), build_model("presto", {"months": 1}).eval()
    (chip,) = embed_pixels(presto, data, np.array([2]))
    mask = data.masks(np.array([2]))[0]
    (batch,) = data.batches(np.array([2]), bands=presto.choose_bands(BANDS), times="all")
    y, x = (int(each[5]) for each in np.nonzero(mask >= 0))
    alone = replace(batch, chips=batch.chips[..., y : y + 1, x : x + 1])
    with torch.inference_mode():
        np.testing.assert_allclose(chip.features[5], presto.encode(alone)[0].numpy(), atol=1e-5)


def test_of_presto_no_pixels_are_encoded_but_those_that_are_drawn(fields, monkeypatch):
    data, presto = fields(), build_model("presto", {"months": 1}).eval()
    rows, asked = np.array([2, 0, 5]), []
    monkeypatch.setattr(dense, "SERIES", 7)
    presto.encoder.register_forward_hook(lambda module, inputs, embedded: asked.append(len(embedded)))
    few = list(embed_pixels(presto, data, rows, per_chip=5, seed=3))
    assert asked == [7, 7, 1]
    monkeypatch.setattr(dense, "SERIES", 1024)
    every = list(embed_pixels(presto, data, rows))
    for some, all_, mask in zip(few, every, data.masks(rows), strict=True):
        labelled = np.flatnonzero(mask.ravel() >= 0)
        drawn = np.sort(np.random.default_rng([3, some.row]).permutation(labelled)[:5])
        np.testing.assert_array_equal(some.classes, mask.ravel()[drawn])
        np.testing.assert_allclose(some.features, all_.features[np.searchsorted(labelled, drawn)], atol=1e-5)


@pytest.mark.parametrize("names", [("knn", "logistic", "forest"), ("mlp",)])
def test_all_pixels_of_test_chips_are_scored_as_scikit_learn_scores_them(run, model, fields, names):
    data = fields()
    scores = evaluate(run.path, data, probes=names, pixels_a_chip=16, out_dir=None)
    (draw,) = draws_of(data, Official())
    chips = list(embed_pixels(model, data, draw.rest, per_chip=16))
    train, classes = np.concatenate([c.features for c in chips]), np.concatenate([c.classes for c in chips])
    tested = list(embed_pixels(model, data, draw.test))
    truth = np.concatenate([chip.classes for chip in tested])
    assert scores.summary(scores.results[0].probe).num_test == len(draw.test) == 9
    for result in scores.results:
        assert scores.summary(result.probe).measure.mean > 0.5
    if "knn" in names:
        features = np.concatenate([train, *(chip.features for chip in tested)])
        known = len(train)
        pixels = replace(
            draw,
            train=np.arange(known),
            test=np.arange(known, len(features)),
            validation=np.zeros(known, dtype=bool),
            refit=True,
        )
        (wanted,) = KNNProbe(5).fit_predict_many(
            features, np.concatenate([classes, truth]), [pixels], kind="classification", num_classes=3
        )
        for metric, value in {
            "accuracy": metrics.accuracy_score(truth, wanted.values),
            "macro_f1": metrics.f1_score(truth, wanted.values, average="macro"),
            "miou": metrics.jaccard_score(truth, wanted.values, average="macro"),
        }.items():
            assert scores.summary("knn-5", metric).measure.mean == pytest.approx(value)


def test_however_few_pixels_are_predicted_at_once_the_counts_are_the_same(model, fields, monkeypatch):
    data, probes = fields(), [LogisticProbe(strengths=(1.0,))]
    draws = draws_of(data, FewShot(sizes=(4, 9), per="total", seeds=2))
    (whole,) = score_pixels(probes, model, data, draws, per_chip=10)
    monkeypatch.setattr(dense, "PIXELS", 100)
    (parts,) = score_pixels(probes, model, data, draws, per_chip=10)
    for one, other, draw in zip(whole[0], parts[0], draws, strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.shape == (len(draw.test), 3, 3)
        labelled = [(data.masks(np.array([row]))[0] >= 0).sum() for row in draw.test]
        assert one[:, 1].sum(axis=1).tolist() == one[:, 2].sum(axis=1).tolist() == labelled


def test_scores_of_chips_by_group_and_their_intervals(run, fields):
    scores = evaluate(run.path, fields(), probes=["knn"], out_dir=None)
    assert scores.metrics == ("miou", "macro_f1", "accuracy", "weighted_f1")
    assert {told.group for told in scores.summaries("knn-5")} == {"all", "continent=Africa", "continent=Asia"}
    measure = scores.summary("knn-5").measure
    assert measure.ci_low < measure.mean < measure.ci_high
    again = evaluate(run.path, fields(), probes=["knn"], out_dir=None)
    assert again == scores


def test_counts_leave_out_what_has_no_label():
    true, predicted = np.array([0, 1, 1, 2, -1]), np.array([0, 1, 2, 0, 1])
    np.testing.assert_array_equal(count_pixels(true, predicted, 3), [[1, 1, 0], [1, 2, 1], [2, 1, 1]])


def test_what_has_no_pixels_to_learn_says_so(run, fields):
    data = fields()
    nothing = replace(
        data, chips=replace(data.chips, read_masks=lambda rows: np.full((len(rows), 32, 32), -1, np.int16))
    )
    with pytest.raises(TrainingError, match="none of 18 training chips has a labelled pixel"):
        evaluate(run.path, nothing, probes=["knn"], out_dir=None)
    with pytest.raises(TrainingError, match="pixels have classes, which ridge cannot predict"):
        evaluate(run.path, data, probes=["ridge"], out_dir=None)
    satclip = build_model("satclip", {"degrees": 4, "dim": 16, "hidden": 16})
    with pytest.raises(TrainingError, match="a satclip embeds places, and not the pixels of chips"):
        score_pixels(make_probes(["knn"]), satclip, data, draws_of(data, Official()))


def test_fine_tuning_is_scored_beside_the_probes(run, model, fields):
    recipe = load_finetune_recipe("tiny").model_copy(update={"epochs": 3, "least_steps": 0})
    data = fields()
    scores = evaluate(run.path, data, probes=["finetune", "knn"], finetuning=recipe, out_dir=None)
    assert [result.probe for result in scores.results] == ["knn-5", "knn-20", "finetune"]
    (draw,) = draws_of(data, Official())
    predicted = finetune(model, data, draw, recipe=recipe)
    masks = data.masks(draw.test)
    truth, found = masks[masks >= 0], predicted.values[masks >= 0]
    assert scores.summary("finetune").measure.mean == pytest.approx(
        metrics.jaccard_score(truth, found, average="macro")
    )
    assert scores.result("finetune").chosen == [predicted.chosen]


def test_fine_tuning_of_chips_that_are_cut_is_scored_where_it_sees(run, fields):
    recipe = load_finetune_recipe("tiny").model_copy(update={"epochs": 1, "least_steps": 0})
    data = fields(size=48, fit="crop")
    scores = evaluate(run.path, data, probes=["finetune"], finetuning=recipe, out_dir=None)
    assert 0 <= scores.summary("finetune", "accuracy").measure.mean <= 1


def test_samples_that_choose_the_epoch_are_not_told_as_learnt_from(run, fields):
    recipe = load_finetune_recipe("tiny").model_copy(update={"epochs": 1, "least_steps": 0})
    sampling = FewShot(sizes=(20,), per="total", seeds=2)
    scores = evaluate(
        run.path, fields(samples=36), probes=["knn", "finetune"], finetuning=recipe, sampling=sampling, out_dir=None
    )
    chosen_on = [trial.num_validation for trial in scores.trials]
    assert all(chosen_on)
    learnt = {row["probe"]: [] for row in scores.rows()}
    for row in scores.rows():
        if (row["group"], row["metric"]) == ("all", "miou"):
            learnt[row["probe"]].append(row["n_train"])
    assert learnt["knn-5"] == [20, 20]
    assert learnt["finetune"] == [20 - number for number in chosen_on]
    assert scores.summary("finetune", size=20).num_train == np.mean(learnt["finetune"])


def test_some_pixels_of_test_chips_stand_for_all_where_that_is_asked_for(run, fields):
    whole = evaluate(run.path, fields(), probes=["logistic"], out_dir=None)
    assert whole.sampling["test_pixels_a_chip"] is None
    some = evaluate(run.path, fields(), probes=["logistic"], pixels_a_chip=20, test_pixels_a_chip=50, out_dir=None)
    assert (some.sampling["pixels_a_chip"], some.sampling["test_pixels_a_chip"]) == (20, 50)
    assert some.summary("logistic", "accuracy").measure.mean == pytest.approx(
        whole.summary("logistic", "accuracy").measure.mean, abs=0.15
    )
    data = fields()
    (draw,) = draws_of(data, Official())
    ((counts, _),) = score_pixels([LogisticProbe()], run.load_model(), data, [draw], per_chip=20, per_test_chip=50)
    assert counts[0][:, 1].sum(axis=1).tolist() == [50] * len(draw.test)
    with pytest.raises(TrainingError, match="'test_pixels_a_chip': 0}: at least one pixel of a chip"):
        evaluate(run.path, data, probes=["knn"], test_pixels_a_chip=0, out_dir=None)
