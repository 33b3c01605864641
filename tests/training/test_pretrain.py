import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import pwcat
from catalog.query import open_catalog
from pwcat.errors import PwcatError, TrainingError
from pwcat.lock import locked
from training.checkpoint import latest_checkpoint, load_model_folder, load_state
from training.looping.stopping import Stop
from training.models.folder import weights_hash
from training.pretrain import Trainer, pretrain
from training.recipe import load_train_recipe
from training.run import load_run
from training.trial import time_steps


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
    assert (run.world_size, run.effective_batch, run.precision, run.gpu_hours) == (1, 16, "float32", 0.0)
    assert {"system", "processor", "cores", "memory_gb", "gpus"} == set(run.hardware)
    assert run.peak["flops"] > 0
    assert run.peak_memory_mb > 0
    assert 0 < run.mfu < 1
    keys = ["step", "epoch", "loss", "lr", "grad_norm", "samples_per_s", "wait_share", "mfu", "memory_mb"]
    assert all(list(row) == keys for row in run.metrics)
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


@pytest.mark.parametrize("stop", [2, 4], ids=["within an epoch", "in the next"])
def test_averaged_and_accumulated_weights_are_resumed_to_the_bit(subset, make_recipe, tmp_path, stop):
    recipe = make_recipe(batch_size="10", accumulate="2", optimizer__ema_decay="0.9", epochs="2")
    whole = pretrain(subset, recipe, tmp_path / "whole", device="cpu")
    pretrain(subset, recipe, tmp_path / "parts", device="cpu", stop_after_steps=stop)
    parts = pretrain(subset, recipe, tmp_path / "parts", device="cpu")
    assert log_of(parts) == log_of(whole)
    for name in ("model.safetensors", "trained.safetensors"):
        assert (parts.checkpoint / name).read_bytes() == (whole.checkpoint / name).read_bytes()
    assert (whole.checkpoint / "model.safetensors").read_bytes() != (
        whole.checkpoint / "trained.safetensors"
    ).read_bytes()


def test_the_average_is_evaluated_and_training_goes_on_with_its_own_weights(run, subset, make_recipe, tmp_path):
    averaged = pretrain(subset, make_recipe(optimizer__ema_decay="0.5"), tmp_path, device="cpu")
    assert log_of(averaged) == log_of(run)
    trained = load_file(averaged.checkpoint / "trained.safetensors")
    assert all(torch.equal(trained[name], weights) for name, weights in run.load_model().state_dict().items())
    assert not same_weights(averaged.path, run.path)


def test_reading_a_step_late_changes_nothing(run, subset, make_recipe, tmp_path):
    trainer = Trainer(subset, make_recipe(), tmp_path, device=torch.device("cpu"))
    trainer.ahead = True  # as on a GPU
    trainer.start()
    late = trainer.train(Stop())
    assert log_of(late) == log_of(run)
    assert same_weights(late.path, run.path)
    diverging = Trainer(
        subset,
        make_recipe(optimizer__base_lr="1.0e+12", epochs="8", checkpoint__every_steps="1"),
        tmp_path / "bad",
        device=torch.device("cpu"),
    )
    diverging.ahead = True
    diverging.start()
    with pytest.raises(TrainingError, match="The last good checkpoint is kept"):
        diverging.train(Stop())
    weights = load_model_folder(tmp_path / "bad").state_dict().values()
    assert all(torch.isfinite(tensor).all() for tensor in weights)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_signal_leaves_a_checkpoint_from_which_the_run_goes_on(run, subset, make_recipe, tmp_path, number):
    recipe, before = make_recipe(checkpoint__every_epochs="null"), signal.getsignal(number)

    def send(step):
        if step.step == 4:
            os.kill(os.getpid(), number)

    with pytest.raises(KeyboardInterrupt, match="after a checkpoint"):
        pretrain(subset, recipe, tmp_path, device="cpu", progress=send)
    part = load_run(tmp_path)
    assert 4 <= part.steps < part.total_steps
    assert part.checkpoint.name == f"step-{part.steps:08d}"
    assert signal.getsignal(number) == before  # a shell's background job has SIGINT ignored
    whole = pretrain(subset, recipe, tmp_path, device="cpu")
    assert log_of(whole) == log_of(run)
    assert same_weights(whole.path, run.path)


def test_a_run_of_limited_time_stops_with_a_checkpoint(subset, make_recipe, tmp_path):
    part = pretrain(subset, make_recipe(), tmp_path, device="cpu", max_minutes=1e-6)
    assert (part.steps, part.finished) == (1, False)
    assert part.checkpoint.name == "step-00000001"


def test_checkpoints_are_kept_by_policy(subset, make_recipe, tmp_path):
    def kept(**policy):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        values = {f"checkpoint__{key}": value for key, value in policy.items()}
        pretrain(subset, make_recipe(**values), folder, device="cpu")
        return [int(path.name.removeprefix("step-")) for path in sorted((folder / "checkpoints").iterdir())]

    assert kept() == [9]  # nine steps of three epochs
    assert kept(keep="all") == [3, 6, 9]
    assert kept(keep="2", every_steps="2", every_epochs="null") == [8, 9]
    assert kept(milestones="[1]", every_epochs="null", every_steps="4") == [3, 9]


def test_another_policy_or_place_is_no_other_run(subset, make_recipe, tmp_path):
    pretrain(subset, make_recipe(), tmp_path, device="cpu", stop_after_steps=2)
    recipe = make_recipe(checkpoint__keep="all", memory_budget_mb="1", title="another")
    assert pretrain(subset, recipe, tmp_path, device="cpu").finished


KILLED = """
import sys
from pathlib import Path
import torch
from catalog.subset import load_subset
from training.pretrain import pretrain
from training.recipe import load_train_recipe
torch.set_num_threads(1)
pretrain(load_subset(sys.argv[1]), load_train_recipe(sys.argv[2]), sys.argv[3], device="cpu")
"""


def test_killed_while_it_writes_a_checkpoint_the_former_is_whole(subset, tiny_catalog, make_recipe, tmp_path):
    recipe = make_recipe(checkpoint__every_steps="1", epochs="40", model__dim="384", model__depth="2")
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe.model_dump(mode="json")))
    run_dir = tmp_path / "run"
    arguments = [tiny_catalog / "everywhere", tmp_path / "recipe.yaml", run_dir]
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, *map(str, arguments)], cwd=Path(pwcat.__file__).parents[1]
    )
    writing = run_dir / "checkpoints" / "step-00000003.part"
    deadline = time.monotonic() + 120
    while not writing.is_dir() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.0002)
    process.kill()
    process.wait()
    assert latest_checkpoint(run_dir).name in {"step-00000002", "step-00000003"}
    assert load_model_folder(run_dir).config.dim == 384
    more = pretrain(subset, recipe, run_dir, device="cpu", stop_after_steps=5)
    alone = pretrain(subset, recipe, tmp_path / "alone", device="cpu", stop_after_steps=5)
    assert log_of(more) == log_of(alone)
    assert [path.name for path in (run_dir / "checkpoints").iterdir()] == ["step-00000005"]


def test_a_checkpoint_that_cannot_be_written_leaves_the_former(run, subset, make_recipe, tmp_path):
    before = pretrain(subset, make_recipe(), tmp_path, device="cpu", stop_after_steps=3)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))  # as a full disk: no file may grow beyond it
    try:
        with pytest.raises(
            TrainingError, match=r"checkpoint of step 6 could not be written.*goes on from there\. The last"
        ):
            pretrain(subset, make_recipe(), tmp_path, device="cpu")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == [before.checkpoint.name]
    assert log_of(pretrain(subset, make_recipe(), tmp_path, device="cpu")) == log_of(run)


def test_memory_that_does_not_suffice_says_what_to_change(subset, make_recipe, tmp_path):
    # images of 500,000 pixels a side: more than a process can address, so that no machine has it
    absurd = {"image_size": "500000", "patch_size": "500", "dim": "12", "group_dim": "4", "decoder_dim": "12"}
    model = {f"model__{name}": value for name, value in {**absurd, "decoder_group_dim": "4"}.items()}
    recipe = make_recipe(batch_size="48", augment__crop="resized", **model)
    with pytest.raises(TrainingError, match=r"not enough memory for 48 samples.*batch_size 24 with accumulate 2"):
        pretrain(subset, recipe, tmp_path, device="cpu")


def test_a_folder_that_another_process_trains_in_is_left_alone(subset, make_recipe, tmp_path):
    with (
        locked(tmp_path / ".lock", doing="x"),
        pytest.raises(PwcatError, match="another pretraining is at work already"),
    ):
        pretrain(subset, make_recipe(), tmp_path, device="cpu")


def test_steps_can_be_timed_without_a_run(subset, make_recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trial = time_steps(subset, make_recipe(), steps=4, warmup_steps=2, device="cpu")
    assert (trial.steps, trial.samples) == (4, 64)
    assert trial.samples_per_second == pytest.approx(64 / trial.seconds)
    assert trial.mfu == pytest.approx(trial.samples_per_second * trial.flops_per_sample / trial.peak.flops)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(TrainingError, match="make 9 steps, fewer than the 12 asked for"):
        time_steps(subset, make_recipe(), steps=10, warmup_steps=2, device="cpu")


def test_a_finished_run_is_not_repeated(run, subset, make_recipe):
    before = run.checkpoint.stat().st_mtime_ns
    again = pretrain(subset, make_recipe(), run.path, device="cpu", progress=lambda step: pytest.fail("trained again"))
    assert again.reused
    assert again == run
    assert run.checkpoint.stat().st_mtime_ns == before


@pytest.mark.parametrize("kept", [[], ["step-00000006"]])
def test_a_finished_run_whose_last_checkpoint_is_gone_is_trained_again(run, subset, make_recipe, tmp_path, kept):
    recipe = make_recipe(checkpoint__keep="all")
    pretrain(subset, recipe, tmp_path, device="cpu")
    for checkpoint in (tmp_path / "checkpoints").iterdir():
        if checkpoint.name not in kept:
            shutil.rmtree(checkpoint)
    again = pretrain(subset, recipe, tmp_path, device="cpu")
    assert (again.finished, again.reused, again.checkpoint.name) == (True, False, "step-00000009")
    assert log_of(again) == log_of(run)


def test_a_folder_of_another_run_is_left_alone(run, everything, subset, make_recipe):
    told = r"another recipe \(model\.depth was 1, is 2, seed was 0, is 5\): train into another folder"
    with pytest.raises(TrainingError, match=told):
        pretrain(subset, make_recipe(seed="5", model__depth="2", title="New"), run.path, device="cpu")
    with pytest.raises(TrainingError, match="another recipe and other data"):
        pretrain(everything, make_recipe(seed="5"), run.path, device="cpu")


def test_a_run_of_other_steps_is_not_gone_on_with(subset, make_recipe, tmp_path):
    part = pretrain(subset, make_recipe(), tmp_path, device="cpu", stop_after_steps=1)
    replace(part, total_steps=6, world_size=5).save()  # as five processes count, which share no batch of four
    with pytest.raises(TrainingError, match="holds a run of 6 steps on 5 devices; on 1 it has 9"):
        pretrain(subset, make_recipe(), tmp_path, device="cpu")


def test_a_run_that_is_told_to_stop_where_it_is_keeps_what_it_knows(subset, make_recipe, tmp_path):
    part = pretrain(subset, make_recipe(), tmp_path, device="cpu", stop_after_steps=2)
    again = pretrain(subset, make_recipe(), tmp_path, device="cpu", stop_after_steps=2)
    assert (again.steps, again.final_loss, again.finished) == (2, part.final_loss, False)
    assert load_run(tmp_path) == again


def test_start_over_replaces_the_run(subset, make_recipe, tmp_path):
    pretrain(subset, make_recipe(seed="5"), tmp_path, device="cpu", stop_after_steps=2)
    run = pretrain(subset, make_recipe(), tmp_path, device="cpu", resume=False, stop_after_steps=1)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000001"]
    assert len(run.metrics) == 1


def test_a_run_that_is_replaced_is_undone_before_anything_of_it_goes(subset, make_recipe, tmp_path):
    pretrain(subset, make_recipe(), tmp_path / "run", device="cpu", stop_after_steps=2)
    checkpoints = tmp_path / "run" / "checkpoints"
    checkpoints.rename(tmp_path / "elsewhere")
    checkpoints.symlink_to(
        tmp_path / "elsewhere"
    )  # cannot be removed as a folder: as if the process ended at this point
    with pytest.raises(OSError, match="symbolic link"):
        pretrain(subset, make_recipe(), tmp_path / "run", device="cpu", resume=False)
    assert not (tmp_path / "run" / "run.json").exists()


def test_a_loss_that_is_no_number_ends_the_run_and_keeps_the_last_good_checkpoint(subset, make_recipe, tmp_path):
    recipe = make_recipe(optimizer__base_lr="1.0e+12", epochs="8", batch_size="48")
    with pytest.raises(
        TrainingError, match=r"Lower optimizer\.base_lr \(now 1e\+12\).*The last good checkpoint is kept"
    ) as caught:
        pretrain(subset, recipe, tmp_path, device="cpu")
    assert "set optimizer.clip_norm (there is none)" in str(caught.value)
    assert "precision" not in str(caught.value)  # it was float32
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
    with pytest.raises(TrainingError, match="no device 'meta' here"):
        pretrain(subset, recipe, tmp_path / "run", device="meta")
    with pytest.raises(TrainingError, match="stop_after_steps 0 and max_minutes nan cannot be: give numbers above 0"):
        pretrain(subset, recipe, tmp_path / "run", stop_after_steps=0, max_minutes=float("nan"))
    assert not (tmp_path / "run").exists()
