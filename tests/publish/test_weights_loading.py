from __future__ import annotations

import hashlib
import json
import pickle

import pytest

from publish.manifest import MANIFEST
from publish.models.loading import load_model
from publish.weights import build_model_folder
from pwcat.errors import PublishError

LOAD = """
import time
time.sleep = lambda seconds: None
import json, sys
from pathlib import Path
from huggingface_hub import HfApi, constants
import pwcat
from pwcat.errors import PwcatError
from training.models.folder import weights_hash
api, out = HfApi(), {}
def load(source):
    try:
        model = pwcat.load_model(source)
        return [weights_hash(model), model.training]
    except PwcatError as exc:
        return f"{type(exc).__name__}: {exc}"
for source in sys.argv[1:]:
    out[source] = load(source)
if constants.HF_HUB_DISABLE_XET:
    told = api.get_safetensors_metadata("lab/good")
    out["parameters"] = sum(told.parameter_count.values())
    (cached,) = Path(constants.HF_HUB_CACHE).glob("models--lab--good/snapshots/*")
    commit = f"lab/good@{cached.name}"
    constants.HF_HUB_OFFLINE = True
    out["cached"] = load(commit)
    for name in ("model.safetensors", "MANIFEST.json"):
        (cached / name).resolve().write_bytes(b"{" * (cached / name).stat().st_size)
        constants.HF_HUB_OFFLINE = True
        out[f"{name} alone"] = load(commit)
        constants.HF_HUB_OFFLINE = False
        out[name] = load(commit)
print(json.dumps(out))
"""


@pytest.fixture(scope="module")
def model_folder(run_dir, tmp_path_factory):
    return build_model_folder(run_dir, tmp_path_factory.mktemp("models") / "tiny-mae", repo_id="lab/good")


@pytest.fixture(scope="module")
def files(model_folder):
    return {path.name: path.read_bytes() for path in model_folder.iterdir()}


def renamed(files, weights):
    """The same repository with other weights, to which the manifest agrees."""
    manifest = json.loads(files[MANIFEST])
    manifest["files"]["model.safetensors"] = {"bytes": len(weights), "sha256": hashlib.sha256(weights).hexdigest()}
    return {**files, "model.safetensors": weights, MANIFEST: json.dumps(manifest).encode()}


class Mischief:
    def __reduce__(self):
        return (print, ("a pickle was opened",))


@pytest.mark.parametrize("hub", [{}, {"xet": True}], indirect=True, ids=["lfs", "xet"])
def test_models_of_a_hub_load_checked_or_not_at_all(hub, fresh, files):
    evil = pickle.dumps(Mischief())
    flipped = bytearray(files["model.safetensors"])
    flipped[-1] ^= 1
    hub.add_repo("models", "lab/good", files, tags=("v1",))
    hub.add_repo("models", "lab/both", {**files, "pytorch_model.bin": evil, "modeling.py": b"raise SystemExit(9)"})
    hub.add_repo("models", "lab/renamed", renamed(files, evil * 50))
    hub.add_repo("models", "lab/tampered", {**files, "model.safetensors": bytes(flipped)})
    hub.add_repo("models", "lab/shorter", {**files, "model.safetensors": files["model.safetensors"][:-100]})
    hub.add_repo("models", "lab/unlisted", {k: v for k, v in files.items() if k != "config.json"})
    hub.add_repo("models", "lab/secret", files, private=True)
    if hub.xet is None:
        hub.fail("GET:/lab/both/resolve/:truncate:1,GET:/lab/good/resolve/:503:1")
    wrong = ("lab/renamed", "lab/tampered", "lab/shorter", "lab/unlisted", "lab/secret")
    out = json.loads(fresh(LOAD, "lab/good@v1", "hf://lab/good", "lab/both", *wrong, token=None))
    assert out["lab/good@v1"] == out["hf://lab/good"] == out["lab/both"]
    assert out["lab/good@v1"][1] is False
    assert (
        "PublishError: model.safetensors of lab/renamed is no safetensors but a pickle under that name"
        in out["lab/renamed"]
    )
    assert "model.safetensors has SHA-256" in out["lab/tampered"]
    assert "model.safetensors has" in out["lab/shorter"]
    assert "config.json is missing" in out["lab/unlisted"]
    assert "could not fetch lab/secret" in out["lab/secret"]
    assert all("\n" not in out[name] and out[name].startswith("PublishError: ") for name in wrong)
    # Sizes differ before anything is hashed.
    assert "SHA" not in out["lab/shorter"]
    fetched = {path for _, path, _, _ in hub.calls("GET", "/resolve/")}
    assert not any(".bin" in path or ".py" in path for path in fetched)
    # All files of a model are asked for by its commit.
    head = hub.repos["models", "lab/good"].head
    assert all(f"/resolve/{head}/" in path for path in fetched if "lab/good/" in path and "safetensors" not in path)
    if hub.xet is not None:
        return
    assert out["parameters"] > 100_000
    assert out["cached"] == out["lab/good@v1"]  # a commit that was fetched before needs no Hub
    # What was damaged in the cache is fetched again, the manifest too; without a Hub to ask it is said in a line.
    for name in ("model.safetensors", "MANIFEST.json"):
        assert out[name] == out["lab/good@v1"]
        assert "the Hub's client is offline: unset HF_HUB_OFFLINE" in out[f"{name} alone"]


def test_renamed_pickles_in_a_folder_are_refused(files, tmp_path):
    for name, weights, kind in (
        ("p2", pickle.dumps(Mischief()) * 50, "a pickle"),
        ("zip", b"PK\x03\x04" + bytes(200), "a pickle"),
        ("text", b"cos\nsystem\n" * 30, "another kind of file"),
        ("none", b"", "another kind of file"),
    ):
        folder = tmp_path / name
        folder.mkdir()
        for path, data in renamed(files, weights).items():
            (folder / path).write_bytes(data)
        with pytest.raises(
            PublishError, match=rf"model\.safetensors of .* is no safetensors but {kind} under that name"
        ):
            load_model(folder)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"kind": "dataset"}, "holds a dataset, and no model, as its MANIFEST.json says"),
        ({"manifest_version": 99}, "is of version 99, and this version of pwcat reads 1: load the"),
    ],
)
def test_what_is_no_model_or_of_another_version_is_not_read(files, tmp_path, changed, told):
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / MANIFEST).write_text(json.dumps({**json.loads(files[MANIFEST]), **changed}))
    with pytest.raises(PublishError, match=told):
        load_model(tmp_path)


def test_datasets_and_addresses_without_the_revision_that_they_announce_are_refused():
    with pytest.raises(
        PublishError, match=r"hf://datasets/lab/x is a dataset, and no model: `pwcat.open_catalog` opens"
    ):
        load_model("hf://datasets/lab/x")
    with pytest.raises(PublishError, match="lab/x@ names no revision after the @: give one, or leave the @ out"):
        load_model("lab/x@")


def test_an_address_that_names_two_revisions_is_refused():
    with pytest.raises(PublishError, match="lab/x@v1 names the revision 'v1', and 'v2' was asked for besides"):
        load_model("lab/x@v1", revision="v2")
