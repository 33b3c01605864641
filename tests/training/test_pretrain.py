import json
import math

import pytest
import torch

from catalog.query import open_catalog
from pwcat.errors import TrainingError
from training.checkpoint import load_model_folder, load_state
from training.models.folder import weights_hash
from training.pretrain import learning_rate, pretrain
from training.recipe import load_train_recipe
from training.run import load_run


def same_weights(a, b):
    return weights_hash(load_model_folder(a)) == weights_hash(load_model_folder(b))


def log_of(run):
    return [(row["step"], row["loss"], row["lr"], row["grad_norm"]) for row in run.metrics]


def test_a_run_leaves_everything_that_describes_it(run, subset):
    assert run.finished
    assert run.steps == run.total_steps == 9
    assert [row["step"] for row in run.metrics] == list(range(1, 10))
    assert run.data == {"hash": subset.hash, "num_samples": 48, "collections": ["everywhere"]}
    assert run.normalization["data_hash"] == subset.hash
    assert run.recipe["seed"] == 0
    assert run.samples_per_second > 0
    assert {"pwcat", "torch", "python", "numpy"} <= set(run.versions)
    assert load_run(run.path) == run


def test_the_loss_falls(run):
    losses = [row["loss"] for row in run.metrics]
    assert sum(losses[-3:]) < 0.95 * sum(losses[:3])  # the last epoch's and the first's
    assert run.final_loss == pytest.approx(sum(losses[-3:]) / 3)


def test_same_seed_same_loss(run, subset, make_recipe, tmp_path):
    again = pretrain(subset, make_recipe(), tmp_path / "again", device="cpu")
    assert log_of(again) == log_of(run)
    assert same_weights(again.path, run.path)
    other = pretrain(subset, make_recipe(seed="1"), tmp_path / "other", device="cpu")
    assert log_of(other) != log_of(run)


@pytest.mark.parametrize("stop", [1, 3, 7], ids=["within an epoch", "after an epoch", "late"])
def test_resumed_equals_uninterrupted_to_the_bit(run, subset, make_recipe, tmp_path, stop):
    part = pretrain(subset, make_recipe(), tmp_path, device="cpu", stop_after_steps=stop)
    assert not part.finished
    assert part.steps == stop
    whole = pretrain(subset, make_recipe(), tmp_path, device="cpu")
    assert whole.finished
    assert log_of(whole) == log_of(run)
    assert same_weights(whole.path, run.path)
    ours, theirs = (load_state(r.checkpoint)["optimizer"]["state"] for r in (whole, run))
    assert all(torch.equal(ours[key]["exp_avg_sq"], theirs[key]["exp_avg_sq"]) for key in theirs)


def test_killed_between_checkpoints_goes_on_from_the_last(run, subset, make_recipe, tmp_path):
    class Killed(Exception):
        pass

    def kill(step):
        if step.step == 5:
            raise Killed

    with pytest.raises(Killed):
        pretrain(subset, make_recipe(), tmp_path, device="cpu", progress=kill)
    assert [row["step"] for row in load_run(tmp_path).metrics] == [1, 2, 3, 4, 5]
    whole = pretrain(subset, make_recipe(), tmp_path, device="cpu")
    assert log_of(whole) == log_of(run)
    assert same_weights(whole.path, run.path)


def test_accumulated_batches_are_resumed_too(subset, make_recipe, tmp_path):
    recipe = make_recipe(batch_size="10", accumulate="2")  # 5 batches an epoch: the third step has one
    whole = pretrain(subset, recipe, tmp_path / "whole", device="cpu")
    assert whole.total_steps == 9
    pretrain(subset, recipe, tmp_path / "parts", device="cpu", stop_after_steps=4)
    parts = pretrain(subset, recipe, tmp_path / "parts", device="cpu")
    assert log_of(parts) == log_of(whole)


def test_a_finished_run_is_not_repeated(run, subset, make_recipe):
    before = run.checkpoint.stat().st_mtime_ns
    again = pretrain(subset, make_recipe(), run.path, device="cpu", progress=lambda step: pytest.fail("trained again"))
    assert again.reused
    assert again == run
    assert run.checkpoint.stat().st_mtime_ns == before


def test_a_folder_of_another_run_is_left_alone(run, everything, subset, make_recipe):
    with pytest.raises(TrainingError, match="another recipe: train into another folder"):
        pretrain(subset, make_recipe(seed="5"), run.path, device="cpu")
    with pytest.raises(TrainingError, match="another recipe and other data"):
        pretrain(everything, make_recipe(seed="5"), run.path, device="cpu")


def test_start_over_replaces_the_run(subset, make_recipe, tmp_path):
    pretrain(subset, make_recipe(seed="5"), tmp_path, device="cpu", stop_after_steps=2)
    run = pretrain(subset, make_recipe(), tmp_path, device="cpu", resume=False, stop_after_steps=1)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000001"]
    assert len(run.metrics) == 1


def test_a_loss_that_is_no_number_ends_the_run_and_keeps_the_last_good_checkpoint(subset, make_recipe, tmp_path):
    recipe = make_recipe(optimizer__base_lr="1.0e+12", epochs="8", batch_size="48")
    with pytest.raises(
        TrainingError, match=r"Lower optimizer\.base_lr \(now 1e\+12\).*The last good checkpoint is kept"
    ):
        pretrain(subset, recipe, tmp_path, device="cpu")
    state = load_model_folder(tmp_path).state_dict()
    assert all(torch.isfinite(tensor).all() for tensor in state.values())


def test_too_small_chips_are_refused_before_any_work(subset, make_recipe, tmp_path):
    with pytest.raises(TrainingError, match="chips are 32 x 32 pixels, but the model reads 64 x 64"):
        pretrain(subset, make_recipe(model__image_size="64"), tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()


def test_a_recipe_may_be_named(subset, tmp_path):
    with pytest.raises(TrainingError, match="the model reads 96 x 96"):
        pretrain(subset, "satmae-tiny", tmp_path, device="cpu")


def test_streaming_trains_as_well(subset, make_recipe, tmp_path):
    recipe = make_recipe(placement="stream", window_chips="16", epochs="2")
    run = pretrain(subset, recipe, tmp_path, device="cpu")
    assert (run.placement, run.finished) == ("stream", True)


def test_bfloat16_stays_close_to_float32(run, subset, make_recipe, tmp_path):
    half = pretrain(subset, make_recipe(precision="bfloat16"), tmp_path, device="cpu")
    assert half.final_loss == pytest.approx(run.final_loss, rel=0.05)


def test_clipping_limits_the_step(subset, make_recipe, tmp_path):
    free = pretrain(subset, make_recipe(), tmp_path / "free", device="cpu", stop_after_steps=3)
    clipped = pretrain(
        subset, make_recipe(optimizer__clip_norm="0.01"), tmp_path / "clip", device="cpu", stop_after_steps=3
    )
    assert clipped.metrics[0]["grad_norm"] == free.metrics[0]["grad_norm"] > 0.01
    assert clipped.metrics[2]["loss"] != free.metrics[2]["loss"]


def test_schedule_warms_up_and_falls_along_half_a_cosine():
    rates = [learning_rate(step, peak=2.0, warmup_steps=10, total_steps=110) for step in range(111)]
    assert rates[0] == 0
    assert rates[5] == pytest.approx(1.0)
    assert rates[10] == pytest.approx(2.0)
    assert rates[60] == pytest.approx(1.0)
    assert rates[35] == pytest.approx(1 + math.cos(math.pi / 4))
    assert rates[110] == pytest.approx(0, abs=1e-12)


def test_a_folder_without_a_run_says_so(tmp_path):
    with pytest.raises(TrainingError, match=r"is no run: run\.json missing"):
        load_run(tmp_path)
    (tmp_path / "run.json").write_text(json.dumps({"recipe": {}, "colour": 1}))
    with pytest.raises(TrainingError, match="not of this version"):
        load_run(tmp_path)


def test_a_folder_of_other_files_and_an_unknown_device_are_refused(tiny_catalog, tmp_path):
    subset = open_catalog(tiny_catalog).search(collections="europe")
    recipe = load_train_recipe("satmae-tiny")
    (tmp_path / "items.parquet").touch()
    with pytest.raises(TrainingError, match="holds other files and no run"):
        pretrain(subset, recipe, tmp_path)
    with pytest.raises(TrainingError, match="no device 'potato' here"):
        pretrain(subset, recipe, tmp_path / "run", device="potato")
    assert not (tmp_path / "run").exists()
