import json
import pickle
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch

from pwcat.errors import TrainingError
from training.checkpoint import latest_checkpoint, load_model_folder, load_state, prune_checkpoints, save_checkpoint
from training.loader import read_chips
from training.models.folder import save_model_folder, weights_hash

FRESH = """
import sys, numpy as np, torch
torch.set_num_threads(1)
from training.checkpoint import load_model_folder
model = load_model_folder(sys.argv[1])
chips = torch.from_numpy(np.load(sys.argv[2]))
with torch.inference_mode():
    np.save(sys.argv[3], model.embed(chips).numpy())
"""


@pytest.fixture(scope="module")
def model_folder(run, tmp_path_factory):
    """The model of the run as a folder. Do not change it."""
    return save_model_folder(run.load_model(), tmp_path_factory.mktemp("model"))


def test_a_fresh_process_loads_the_same_model(run, subset, tmp_path):
    model = run.load_model()
    assert not model.training
    chips = read_chips(subset, np.arange(4), bands=model.bands)
    np.save(tmp_path / "chips.npy", chips)
    paths = [str(run.path), str(tmp_path / "chips.npy"), str(tmp_path / "found.npy")]
    subprocess.run([sys.executable, "-c", FRESH, *paths], check=True)
    with torch.inference_mode():
        here = model.embed(torch.from_numpy(chips)).numpy()
    np.testing.assert_array_equal(np.load(tmp_path / "found.npy"), here)


def test_a_saved_model_comes_back_with_all_that_belongs_to_it(run, tmp_path):
    model = run.load_model()
    again = load_model_folder(save_model_folder(model, tmp_path / "model"))
    assert weights_hash(again) == weights_hash(model)
    assert again.config == model.config
    assert again.normalization == model.normalization
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == ["config.json", "model.safetensors"]


def test_hash_follows_weights(run):
    model = run.load_model()
    before = weights_hash(model)
    with torch.no_grad():
        next(iter(model.parameters())).view(-1)[0] += 1e-6
    assert weights_hash(model) != before


def test_loading_leaves_random_state_alone(run):
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    run.load_model()
    assert torch.equal(torch.rand(2), expected)


def test_half_written_checkpoints_are_not_seen(run):
    part = run.path / "checkpoints" / "step-99999999.part"
    part.mkdir()
    try:
        assert latest_checkpoint(run.path) == run.checkpoint
        assert run.checkpoint.name == "step-00000009"
    finally:
        part.rmdir()


def test_earlier_checkpoints_go_and_half_removed_ones_are_not_seen(run, tmp_path):
    model = run.load_model()
    for step in (1, 2, 3, 4):
        save_checkpoint(tmp_path, model=model, state={"step": step}, step=step)
    (tmp_path / "checkpoints" / "step-00000009.part").mkdir()
    prune_checkpoints(tmp_path, keep=2, always=[1])
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == [f"step-0000000{n}" for n in (1, 3, 4)]
    prune_checkpoints(tmp_path, keep="all")
    assert load_state(latest_checkpoint(tmp_path)) == {"step": 4}


def test_a_checkpoint_of_this_step_is_not_written_again(run, tmp_path):
    written = save_checkpoint(tmp_path, model=run.load_model(), state={"step": 1}, step=1)
    before = (written / "state.pt").stat().st_mtime_ns
    assert save_checkpoint(tmp_path, model=run.load_model(), state={"step": 1}, step=1) == written
    assert (written / "state.pt").stat().st_mtime_ns == before


def test_unknown_architecture_is_refused(run, tmp_path):
    folder = save_model_folder(run.load_model(), tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "architecture": "llama"}))
    with pytest.raises(
        TrainingError, match=r"architecture 'llama' is unknown to this version of pwcat; it knows satmae"
    ):
        load_model_folder(folder)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"architecture": ["satmae"]}, "architecture missing, or of another kind"),
        ({"architecture": None, "config": "x"}, "architecture and config missing, or of another kind"),
        ({"config": []}, "config missing, or of another kind"),
        (
            {"format": "pwcat-model/2"},
            r"is of the format 'pwcat-model/2', and this version of pwcat reads 'pwcat-model/1'",
        ),
        ({"normalization": "x"}, r"the normalization in .* cannot be read \(AttributeError"),
        ({"normalization": {"mean": [1.0]}}, r"the normalization in .* cannot be read \(KeyError: 'percentiles'"),
        (b"\xff\xfe{}", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"[1]", "architecture and config missing"),
    ],
)
def test_configs_of_anybody_are_refused_in_a_line(model_folder, tmp_path, changed, told):
    folder = tmp_path / "model"
    shutil.copytree(model_folder, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_bytes(
        changed if isinstance(changed, bytes) else json.dumps({**config, **changed}).encode()
    )
    with pytest.raises(TrainingError, match=told):
        load_model_folder(folder)


def test_pickles_are_refused_unopened(tmp_path):
    path = tmp_path / "model.pth"
    path.write_bytes(pickle.dumps({}))
    with pytest.raises(TrainingError, match="is a pickle, which can run code"):
        load_model_folder(path)


def test_a_folder_without_a_model_says_what_is_missing(tmp_path):
    with pytest.raises(TrainingError, match=r"config\.json and model\.safetensors missing"):
        load_model_folder(tmp_path)


def test_weights_that_do_not_fit_are_refused(run, tmp_path):
    folder = save_model_folder(run.load_model(), tmp_path)
    config = json.loads((folder / "config.json").read_text())
    config["config"]["depth"] = 2
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(TrainingError, match=r"do not fit its config\.json.*Missing key"):
        load_model_folder(folder)
    (folder / "model.safetensors").write_bytes(b"not safetensors")
    with pytest.raises(TrainingError, match="do not fit"):
        load_model_folder(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(TrainingError, match="is not JSON"):
        load_model_folder(folder)
