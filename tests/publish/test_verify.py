"""What ``pwcat verify`` finds out of what lies on the Hub: many repositories, each with a fault of its own, and whole ones."""

from __future__ import annotations

import hashlib
import json
import re
import shutil

import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file, save

from catalog.published.layout import ITEMS_PATH, PREVIEW_PATH
from publish.manifest import MANIFEST, describe_file, read_manifest
from publish.verify import verify_folder
from publish.verifying.held import HeldRepository
from publish.verifying.processes import Script, run_fresh
from publish.weights import build_model_folder
from pwcat.errors import PublishError
from training.models import build_model

CARD, WEIGHTS = "README.md", "model.safetensors"
VERIFY = """
import json, os, sys
from publish.verify import verify
from pwcat.errors import PublishError
found = {}
for source in sys.argv[1:]:
    name, options = source, {}
    if source.startswith("anonymously:"):
        name, _ = source.removeprefix("anonymously:"), os.environ.pop("HF_TOKEN", None)
    if source.startswith("full:"):
        name, options = source.removeprefix("full:"), {"full": True}
    try:
        done = verify(name, **options)
        found[source] = {"states": {c.name: c.state for c in done.checks}, "faults": done.faults, "others": done.others}
    except PublishError as exc:
        found[source] = str(exc)
print(json.dumps(found))
"""
COMMAND = """
import sys
from pwcat.cli import main
rest = sys.argv[2:]
sys.argv = ["pwcat", "verify", sys.argv[1]]
main()
sys.argv[1:] = rest
"""


def contents(folder):
    """A folder's files, as a repository of the Hub has them."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def flipped(data, at=-20):
    """The same bytes but one."""
    changed = bytearray(data)
    changed[at] ^= 1
    return bytes(changed)


def manifest_with(files, **changes):
    """A manifest that says other things: of itself, or of the file whose path is given as ``path``."""
    document = json.loads(files[MANIFEST])
    path = changes.pop("path", None)
    (document["files"][path] if path else document).update(changes)
    return json.dumps(document).encode()


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    """A small model that was never trained, published."""
    root = tmp_path_factory.mktemp("models")
    build_model("presto", {"dim": 32, "depth": 1, "decoder_dim": 32, "decoder_depth": 1}).save_pretrained(root / "own")
    return build_model_folder(root / "own", root / "published")


def test_every_fault_of_a_repository_is_found_and_whole_ones_are_loaded(hub, fresh, dataset_folder, model_folder):
    files, model = contents(dataset_folder), contents(model_folder)
    shard = next(path for path in files if path.startswith("data/train"))
    stray = f"data/train-9{shard.removeprefix('data/train-')[1:]}"
    repos = {
        "tampered": {**files, shard: flipped(files[shard])},
        "card": {**files, CARD: flipped(files[CARD])},
        "shortened": {**files, ITEMS_PATH: files[ITEMS_PATH][:-9]},
        "half": {path: data for path, data in files.items() if path not in (shard, ITEMS_PATH)},
        "stray": {**files, stray: files[shard], "notes.md": b"mine"},
        "rows": {**files, MANIFEST: manifest_with(files, path=shard, rows=7)},
        "manifest": {**files, MANIFEST: b"{}"},
        "later": {**files, MANIFEST: manifest_with(files, manifest_version=9)},
        "theirs": {"data/a.parquet": files[shard]},
        "secret": files,
    }
    for name, repo in repos.items():
        hub.add_repo("datasets", f"lab/{name}", repo, private=name == "secret", tags=("v1",))
    hub.add_repo("datasets", "lab/tiny", {**files, "notes.md": b"mine"}, private=True, tags=("v1",))
    model[WEIGHTS] = save({name: values * float("nan") for name, values in load_file(model_folder / WEIGHTS).items()})
    digest = hashlib.sha256(model[WEIGHTS]).hexdigest()
    model[MANIFEST] = manifest_with(model, path=WEIGHTS, bytes=len(model[WEIGHTS]), sha256=digest)
    hub.add_repo("models", "lab/nan", model)

    released = [f"lab/{name}@v1" for name in repos if name != "secret"]
    others = ["full:lab/rows", "lab/tampered@v9", "lab/no-such", "hf://models/lab/rows", "no/such/folder", ""]
    asked = [*released, *others, "lab/nan", "anonymously:lab/secret"]
    *told, last = fresh(COMMAND + VERIFY, "hf://datasets/lab/tiny@v1", *asked).splitlines()
    assert_found(json.loads(last), files, shard, stray, pq.read_metadata(dataset_folder / shard).num_rows)

    commit = hub.repos["datasets", "lab/tiny"].tags["v1"]
    assert told[0].startswith("lab/tiny@v1: dataset of ")
    assert told[0].endswith(f" at commit {commit[:12]}")
    assert [line[:9] for line in told[1:5]] == ["✓ files  ", "✓ tables ", "✓ loading", "✓ catalog"]
    assert "chips (train, val), items (items), preview (preview)" in told[3]
    assert "finds 48 samples" in told[4]
    assert told[5:] == ["Note: 1 file(s) of others: notes.md"]
    assert not hub.calls("GET", "/datasets/lab/tiny/resolve/main/")  # all of one commit


def assert_found(out, files, shard, stray, rows):
    """Each repository has its own fault, and nothing of it is loaded but the model that looks whole."""

    def faults(name):
        assert out[name]["states"]["loading"] == "not tried"
        return out[name]["faults"]

    (fault,) = faults("lab/tampered@v1")
    assert fault.startswith(f"{shard} has SHA-256 ")
    (fault,) = faults("lab/card@v1")
    assert fault.startswith(f"{CARD} has SHA-256 ")
    size = len(files[ITEMS_PATH])
    assert faults("lab/shortened@v1") == [f"{ITEMS_PATH} has {size - 9} bytes, the manifest says {size}"]
    assert sorted(faults("lab/half@v1")) == sorted([f"{shard} is missing", f"{ITEMS_PATH} is missing"])
    assert faults("lab/stray@v1") == [
        f"{stray} is not in the manifest, and load_dataset would take it for a part of the dataset"
    ]
    assert out["lab/stray@v1"]["others"] == ["notes.md"]
    assert f"{shard} has {rows} rows, the manifest says 7" in faults("lab/rows@v1")
    assert out["full:lab/rows"]["states"]["contents"] == "passed"
    assert out["lab/manifest@v1"].startswith(f"{MANIFEST} of lab/manifest@v1 cannot be read as a manifest")
    assert out["lab/later@v1"].endswith("this pwcat knows dataset, model, zarr, study of version 1; upgrade it")
    assert out["lab/theirs@v1"].startswith(f"lab/theirs@v1 has no {MANIFEST}: it was not published by pwcat")
    assert out["lab/tampered@v9"] == "the dataset lab/tampered has no revision 'v9': there are main, v1"
    assert out["lab/no-such"].startswith("lab/no-such is no folder and no dataset or model at http://127.0.0.1:")
    assert out["hf://models/lab/rows"].startswith("lab/rows is no model at http://127.0.0.1:")
    assert out["no/such/folder"].startswith("no/such/folder is neither a folder nor a repository: give a folder, org")
    assert out["anonymously:lab/secret"].endswith("it does not exist there, or it is private: set HF_TOKEN")
    assert out[""].startswith("nothing is neither a folder nor a repository")
    assert out["lab/nan"]["states"] == {"files": "passed", "model": "failed"}
    assert re.search(r"or not finite, where \(2, \d+\) are due", out["lab/nan"]["faults"][0])


def test_a_folder_is_read_in_full_its_columns_are_looked_at_and_what_lies_there_besides_is_a_fault(
    dataset_folder, tmp_path
):
    copy = shutil.copytree(dataset_folder, tmp_path / "data")
    shard = next((copy / "data").glob("val-*"))
    shard.write_bytes((copy / PREVIEW_PATH).read_bytes())
    found = verify_folder(copy)
    assert [check.state for check in found.checks] == ["failed", *["not tried"] * 4]
    # A manifest that agrees with a file of other columns: the columns themselves are looked at.
    header, records = read_manifest(copy)
    preview = describe_file(copy / PREVIEW_PATH, rows=records[PREVIEW_PATH].rows)
    named = {**records, shard.relative_to(copy).as_posix(): preview}
    files = {path: {k: v for k, v in vars(record).items() if v is not None} for path, record in named.items()}
    (copy / MANIFEST).write_text(json.dumps({**header, "files": files}))
    found = verify_folder(copy)
    assert [check.state for check in found.checks] == ["passed", "passed", "failed", "not tried", "not tried"]
    assert "has other columns than a dataset's: without attribution string, " in found.faults[0]
    damaged = (dataset_folder / PREVIEW_PATH).read_bytes()
    footer = int.from_bytes(damaged[-8:-4], "little")
    shard.write_bytes(damaged[: -8 - footer] + b"\xff" * footer + damaged[-8:])
    files[shard.relative_to(copy).as_posix()] |= vars(describe_file(shard)) | {"rows": 1}
    (copy / MANIFEST).write_text(json.dumps({**header, "files": files}))
    assert "is no Parquet file: Couldn't deserialize thrift" in verify_folder(copy).faults[0]
    (copy / MANIFEST).write_text(json.dumps({**header, "files": {"a": {"bytes": "9", "sha256": "0"}}}))
    with pytest.raises(PublishError, match=r"cannot be read as a manifest .bytes and rows are whole numbers"):
        verify_folder(copy)
    (copy / MANIFEST).write_text(json.dumps({**header, "files": files}))
    (copy / "thesis.txt").write_text("irreplaceable")
    assert verify_folder(copy).faults == ("thesis.txt is not in the manifest",)
    with pytest.raises(PublishError, match="nowhere is no folder: give the folder of a publication"):
        verify_folder(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("failure", "tries"),
    [("ConnectionError('Server disconnected')", 3), ("ValueError('503 Server Error: x')", 3), ("ValueError('no')", 1)],
)
def test_what_passes_is_tried_again_in_another_process_and_what_does_not_is_told(monkeypatch, failure, tries):
    monkeypatch.setattr("publish.verifying.processes.PAUSES_S", (0, 0, 0))
    source = f"""
import json, os
from pathlib import Path
home = Path(os.environ["HF_HOME"])
(home / str(len(list(home.iterdir())))).touch()
tries = len(list(home.iterdir()))
if tries < 3:
    raise {failure}
print(json.dumps({{"tries": tries}}))
"""
    held = HeldRepository(repo="lab/tiny", kind="dataset", commit="0" * 40, asked=None)
    answer = run_fresh(Script(source=source), held)
    assert answer == ({"tries": tries} if tries == 3 else "ValueError: no")


@pytest.mark.parametrize(
    ("source", "told"),
    [
        (
            "import yaml\nyaml.safe_load('- : [')",
            "yaml.parser.ParserError: while parsing a block mapping expected ",
        ),
        ("raise ValueError('refused: Bearer hf_mine')", "ValueError: refused: Bearer <token>"),
        ("raise ValueError('a' * 999)", f"ValueError: {'a' * 488} …"),
        ("raise SystemExit(3)", "exit code 3"),
    ],
)
def test_what_went_wrong_in_another_process_is_told_in_one_line_without_the_token(monkeypatch, source, told):
    monkeypatch.setenv("HF_TOKEN", "hf_mine")
    held = HeldRepository(repo="lab/tiny", kind="dataset", commit="0" * 40, asked=None)
    assert str(run_fresh(Script(source=source), held)).startswith(told)
