"""What surprises in the protocol and the real clients (huggingface_hub 2.4, datasets 5.2), and that our way around it holds.

A story is one process that walks through many traps, each in a repository of its own, against one Hub; it prints what it
met. Each test looks at one trap: what the client does by itself, and what ours does.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import save

from publish.manifest import write_manifest
from pwcat.errors import PublishError

# Beginning of every story. Pauses are noted instead of waited for.
BEGIN = """
import json, os, sys, time
pauses = []
time.sleep = pauses.append
from pathlib import Path
from huggingface_hub import CommitOperationAdd, HfApi, hf_hub_download, snapshot_download, try_to_load_from_cache
from publish.hub import fetch_folder, push_folder
from pwcat.errors import PublishError
api, work, told = HfApi(), Path(sys.argv[1]), {}

def failure(ask):
    try:
        ask()
    except Exception as exc:
        return [type(exc).__name__, getattr(getattr(exc, "response", None), "status_code", None), str(exc)]

def commit(repo, files, **options):
    adds = [CommitOperationAdd(path, content) for path, content in files.items()]
    return api.create_commit(repo, adds, commit_message="Raw", repo_type="dataset", **options).oid

def push(repo, folder="folder", **options):
    done = push_folder(work / folder, repo=repo, kind="dataset", message="Ours", **options)
    return {"commit": done.commit, "unchanged": done.unchanged}

def made(repo):
    api.create_repo(repo, repo_type="dataset")
    return repo
"""
CARD = "---\nlicense: cc-by-4.0\nconfigs:\n- config_name: default\n  data_files: data/0.parquet\n---\n# Chips\n"


def run_story(hub, work, source, **options):
    """What a story prints, as JSON."""
    keep = {key: os.environ[key] for key in ("PATH", "HOME", "LANG", "TMPDIR") if key in os.environ}
    env = {**keep, "OMP_NUM_THREADS": "1", **hub.environment(work / "home", **options)}
    done = subprocess.run(
        [sys.executable, "-c", source, str(work)], env=env, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return json.loads(done.stdout.splitlines()[-1])


def commits(hub, repo):
    """Titles of the commits of a dataset, the first aside."""
    repo = hub.repos["datasets", repo]
    return [repo.commits[oid].title for oid in repo.history[1:]]


def write_folder(folder, seed=0, texts=0):
    """A folder as the builders leave it: a card, a file of 250 kB of chips, small texts, a manifest."""
    (folder / "data").mkdir(parents=True)
    (folder / "texts").mkdir()
    (folder / "README.md").write_text(CARD)
    pixels = np.random.default_rng(seed).bytes(250_000)
    pq.write_table(pa.table({"pixels": [pixels[:125_000], pixels[125_000:]]}), folder / "data" / "0.parquet")
    for number in range(texts):
        (folder / "texts" / f"{number}.txt").write_text(str(number))
    write_manifest(folder, header={"name": "chips"}, known={})


def contents_of(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


LFS = """
# Before anything else: the faults of addresses that are not of one repository.
robust = made("lab/robust")
told["robust"] = failure(lambda: commit(robust, {"a.parquet": b"a" * 1000, "b.parquet": b"b" * 250_000})), list(pauses)
pauses.clear()
down = made("lab/down")
told["down"] = failure(lambda: commit(down, {"a.parquet": b"a" * 1000})), list(pauses)
pauses.clear()

fragile = made("lab/fragile")
told["fragile"] = failure(lambda: commit(fragile, {"a.parquet": b"b" * 1000})), list(pauses)
commit(fragile, {"a.parquet": b"b" * 1000})
told["fragile again"] = push("lab/fragile-ours")

same = made("lab/same")
first = commit(same, {"a.parquet": b"c" * 1000, "b.txt": b"text"})
told["same"] = first == commit(same, {"a.parquet": b"c" * 1000, "b.txt": b"text"})
told["same ours"] = push("lab/same-ours"), push("lab/same-ours")

stale = made("lab/stale")
first = commit(stale, {"b.txt": b"1"})
commit(stale, {"b.txt": b"2"}, parent_commit=first)
told["stale"] = failure(lambda: commit(stale, {"b.txt": b"3"}, parent_commit=first))
told["no name of a commit"] = failure(lambda: commit(stale, {"b.txt": b"3"}, parent_commit="main"))
commit(stale, {"b.txt": b"4"})  # without a parent, whatever came before is overwritten
told["stale ours"] = push("lab/stale-ours")

told["small"] = failure(lambda: snapshot_download("lab/small", repo_type="dataset"))
pauses.clear()
fetched = fetch_folder("lab/small-ours", kind="dataset", revision=None, patterns=["*"])
told["small ours"] = (fetched / "README.md").read_text(), list(pauses)

push("lab/checked")
checked = api.verify_repo_checksums("lab/checked", repo_type="dataset", local_dir=work / "folder")
told["checked"] = list(checked.missing_paths), len(checked.mismatches), list(checked.extra_paths)

told["spoilt"] = Path(hf_hub_download("lab/spoilt", "data/0.parquet", repo_type="dataset")).read_bytes()[:4].decode()
told["spoilt ours"] = failure(lambda: fetch_folder("lab/spoilt", kind="dataset", revision=None, patterns=["*"]))

sha = api.repo_info("lab/small", repo_type="dataset").sha
told["missing"] = failure(lambda: hf_hub_download("lab/small", "none.json", repo_type="dataset", revision=sha))[0]
told["missing known"] = str(try_to_load_from_cache("lab/small", "none.json", repo_type="dataset", revision=sha))

strangers = [api.repo_info, lambda repo, **options: api.list_repo_refs(repo, **options)]
for repo in ("lab/secret", "lab/none"):
    told[repo] = [failure(lambda: ask(repo, repo_type="dataset", token=False))[:2] for ask in strangers]
    os.environ["HF_TOKEN"], mine = "hf_loopback_stranger", os.environ["HF_TOKEN"]
    told[f"{repo} ours"] = failure(lambda: fetch_folder(repo, kind="dataset", revision=None, patterns=["*"]))
    os.environ["HF_TOKEN"] = mine
told["gated"] = failure(lambda: hf_hub_download("lab/gated", "README.md", repo_type="dataset", token=False))[0]

os.environ["HF_ENDPOINT"] = "http://127.0.0.1:9"
told["endpoint"] = failure(lambda: HfApi().repo_info("lab/small", repo_type="dataset"))

weights = api.get_safetensors_metadata("lab/weights")
told["weights"] = weights.parameter_count
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def lfs(beside, tmp_path_factory):
    """A Hub after the story of clients without Xet, and what they met."""
    work = tmp_path_factory.mktemp("lfs")
    write_folder(work / "folder")
    with beside("loopback_hub").LoopbackHub(work / "hub") as hub:
        hub.part_bytes = 100_000
        write_folder(work / "there", seed=1)
        contents = contents_of(work / "there")
        hub.add_repo("datasets", "lab/small", contents)
        hub.add_repo("datasets", "lab/small-ours", contents)
        hub.add_repo("datasets", "lab/secret", contents, private=True)
        hub.add_repo("datasets", "lab/gated", contents).gated = "auto"
        write_folder(work / "spoilt", seed=2)
        hub.add_repo("datasets", "lab/spoilt", contents_of(work / "spoilt"))
        hub.add_repo("models", "lab/weights", {"model.safetensors": save({"w": np.zeros((1000, 1000), "f4")})})
        spoilt = hub.blobs / hub.files("datasets", "lab/spoilt")["data/0.parquet"].sha256
        spoilt.write_bytes(b"evil" + spoilt.read_bytes()[4:])
        hub.fail(
            "POST:/lab/robust/preupload/:503:1,PUT:/lfs/parts/:503:1,POST:/lfs/complete:503:1,POST:/lfs/verify:503:1"
        )
        hub.fail("POST:/lab/down/preupload/:503:9")
        hub.fail("POST:/lab/fragile/commit/:503:1,POST:/lab/fragile-ours/commit/:503:1")
        hub.fail("GET:/lab/small/resolve/:503:1,GET:/lab/small-ours/resolve/:503:1")
        theirs = {"notes.md": b"theirs"}
        hub.before("POST", "/lab/stale-ours/commit/", lambda: hub.commit("datasets", "lab/stale-ours", theirs))
        yield hub, run_story(hub, work, BEGIN + LFS)


def test_the_client_tries_an_upload_again_but_not_the_commit(lfs):
    hub, told = lfs
    assert told["robust"] == [None, [1, 1, 1, 1]]  # what precedes the commit: asked for, sent, put together, verified
    (_, status, _), waited = told["down"]
    assert (status, waited) == (503, [1, 2, 4, 8, 8])
    (kind, status, _), waited = told["fragile"]
    assert (kind, status, waited) == ("HfHubHTTPError", 503, [])
    assert [call[2] for call in hub.calls("POST", "/lab/fragile/commit/")] == [503, 200]
    # Ours tries again, within one call, and sends nothing twice: whoever runs a script after us would not.
    assert [call[2] for call in hub.calls("POST", "/lab/fragile-ours/commit/")] == [503, 200]
    assert commits(hub, "lab/fragile-ours") == ["Ours"]


def test_files_that_are_there_already_make_no_commit(lfs):
    hub, told = lfs
    assert told["same"]
    assert commits(hub, "lab/same") == ["Raw"]
    first, second = told["same ours"]
    assert second == {"commit": first["commit"], "unchanged": True}
    assert len(hub.calls("POST", "/lab/same-ours/commit/")) == 1
    assert len(hub.calls("POST", "/lab/same-ours/preupload/")) == 1  # the tree's hashes are enough to know


def test_a_commit_on_another_parent_is_refused_and_one_without_a_parent_overwrites(lfs):
    hub, told = lfs
    assert told["stale"][:2] == ["HfHubHTTPError", 412]
    assert told["no name of a commit"][0] == "ValueError"  # a branch cannot be named as the parent
    assert hub.read("datasets", "lab/stale", "b.txt") == b"4"
    # Ours names its parent, so that a commit in between is met, kept, and built upon.
    assert [call[2] for call in hub.calls("POST", "/lab/stale-ours/commit/")] == [412, 200]
    assert commits(hub, "lab/stale-ours") == ["elsewhere", "Ours"]
    assert hub.read("datasets", "lab/stale-ours", "notes.md") == b"theirs"


def test_a_small_file_that_fails_to_come_is_not_asked_for_again(lfs):
    hub, told = lfs
    assert told["small"][:2] == ["HfHubHTTPError", 503]
    text, waited = told["small ours"]
    assert text == CARD
    assert waited[0] == 1
    assert 503 in {call[2] for call in hub.calls("GET", "/lab/small-ours/resolve/")}


def test_the_hubs_own_file_counts_as_missing(lfs):
    hub, told = lfs
    assert told["checked"] == [[".gitattributes"], 0, []]
    assert commits(hub, "lab/checked") == ["Ours"]  # our own check of the tree passed


def test_downloads_are_not_hashed_by_the_client_but_by_us(lfs):
    _, told = lfs
    assert told["spoilt"] == "evil"
    kind, _, text = told["spoilt ours"]
    assert kind == "PublishError"
    assert "data/0.parquet has SHA-256" in text


def test_that_a_file_is_missing_is_remembered_for_a_commit(lfs):
    hub, told = lfs
    assert told["missing"] == "RemoteEntryNotFoundError"
    assert "object" in told["missing known"]  # the client's mark for it, not None, which means unknown
    assert len(hub.calls("HEAD", "/none.json")) == 1


def test_what_may_not_be_seen_looks_like_what_is_not_there(lfs):
    _, told = lfs
    assert told["lab/secret"] == told["lab/none"] == [["RepositoryNotFoundError", 401]] * 2
    for repo in ("lab/secret", "lab/none"):
        kind, _, text = told[f"{repo} ours"]
        assert kind == "PublishError"
        assert "it does not exist, or the token" in text
        assert "hf_loopback" not in text
    assert told["gated"] == "GatedRepoError"


def test_presigned_addresses_are_not_given_the_token_and_large_files_go_in_parts(lfs):
    hub, _ = lfs
    oid = hub.files("datasets", "lab/same-ours")["data/0.parquet"].sha256
    parts = [call[1] for call in hub.calls("PUT", f"/lfs/parts/{oid}")]
    assert len(parts) == len(set(parts)) == 3  # of our file of 250 kB, which went to three repositories: sent once
    address = f"{hub.url}/lfs/objects/{oid}?signature={hub.signature}"
    request = urllib.request.Request(address, data=b"x", method="PUT", headers={"Authorization": "Bearer hf_loopback"})
    with pytest.raises(urllib.error.HTTPError, match="400"):
        urllib.request.urlopen(request)  # the stand would have told


def test_the_endpoint_is_read_when_the_client_is_imported(lfs):
    _, told = lfs
    assert told["endpoint"] is None  # a change in the process changed nothing: tests take a process of their own


def test_what_weights_hold_is_known_from_a_range(lfs):
    hub, told = lfs
    assert told["weights"] == {"F32": 1_000_000}
    assert hub.sent("/lab/weights/") < 250_000  # of 4 MB


XET = """
many = made("lab/many")
told["many"] = failure(lambda: api.upload_folder(
    repo_id=many, folder_path=work / "many", repo_type="dataset", commit_message="Raw", delete_patterns="*"
))
pipeline = made("lab/pipeline")
told["pipeline"] = failure(lambda: api.upload_folder(
    repo_id=pipeline, folder_path=work / "folder", repo_type="dataset", commit_message="Raw"
))
told["ours"] = push("lab/ours", "many", tag="v1")
sha = told["ours"]["commit"]
for _ in range(2):
    snapshot_download("lab/ours", repo_type="dataset", revision=sha, allow_patterns=["data/*", "README.md"])
    failure(lambda: api.repo_info("lab/marker", repo_type="dataset"))
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def xet(beside, tmp_path_factory):
    """A Hub with Xet after the story of clients as they are by default, and what they met."""
    work = tmp_path_factory.mktemp("xet")
    write_folder(work / "folder")
    write_folder(work / "many", seed=1, texts=300)
    with beside("loopback_hub").LoopbackHub(work / "hub", xet=True) as hub:
        hub.seen = []

        def look(name):
            hub.seen.append((name, set(hub.files("datasets", f"lab/{name}"))))

        def old():
            hub.commit("datasets", "lab/many", {f"data/old-{number}.parquet": b"\0old" for number in range(3)})

        hub.after("POST", "/repos/create", old)
        hub.after("POST", "/lab/many/commit/", lambda: look("many"), times=9)
        hub.after("POST", "/lab/ours/commit/", lambda: look("ours"), times=9)
        hub.fail("POST:/lab/pipeline/commit/:503:1")
        yield hub, run_story(hub, work, BEGIN + XET)


def shown(hub, name):
    return [paths for at, paths in hub.seen if at == name]


def test_upload_folder_shows_readers_half_a_release(xet):
    hub, told = xet
    assert told["many"] is None
    first, last = shown(hub, "many")
    assert commits(hub, "lab/many") == ["elsewhere", "Raw", "Raw (part 2)"]
    assert "README.md" in first  # which looks complete
    assert len(first) < len(last) == 304
    assert not [path for path in first if "old" in path]  # and the release before is gone already
    # Ours makes one commit of as many files.
    (whole,) = shown(hub, "ours")
    assert commits(hub, "lab/ours") == ["Ours"]
    assert whole == last


def test_uploads_by_xet_try_the_commit_again(xet):
    hub, told = xet
    assert told["pipeline"] is None
    assert [call[2] for call in hub.calls("POST", "/lab/pipeline/commit/")] == [503, 200]


def test_files_of_xet_are_not_asked_about_one_by_one_and_what_is_known_of_a_commit_is_kept(xet):
    hub, _ = xet
    assert [call[1].rpartition("/")[2] for call in hub.calls("HEAD", "/lab/ours/resolve/")] == ["README.md"]
    assert len(hub.calls("GET", "/lab/ours/xet-read-token/")) == 1
    first, second = [place for place, call in enumerate(hub.log) if "/lab/marker" in call[1]]
    assert second == first + 1  # the second download asked nothing


def test_the_storage_of_xet_is_not_given_the_hubs_token(xet):
    hub, _ = xet
    assert {call[2] for call in hub.calls("POST", "/cas/v1/xorbs/")} == {200}
    request = urllib.request.Request(
        f"{hub.url}/cas/v1/shards", data=b"x", headers={"Authorization": "Bearer hf_loopback"}
    )
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(request)  # the stand would have told


PLAIN = """
plain = made("lab/plain")
told["raw"] = failure(lambda: commit(plain, {"a.parquet": b"a" * 1000}))
told["ours"] = failure(lambda: push("lab/plain-ours"))
print(json.dumps(told))
"""


def test_a_server_without_xet_is_met_with_a_client_that_insists_on_it(hub, tmp_path):
    write_folder(tmp_path / "folder")
    told = run_story(hub, tmp_path, BEGIN + PLAIN, xet=True)
    assert "404" in told["raw"][2]
    assert "xet-write-token" in told["raw"][2]
    kind, _, text = told["ours"]
    assert kind == "PublishError"
    assert "set HF_HUB_DISABLE_XET=1" in text
    assert commits(hub, "lab/plain") == commits(hub, "lab/plain-ours") == []
    # With it, everything above in the story without Xet passed.


READERS = """
import socket, subprocess
asked, resolve = set(), socket.getaddrinfo

def noted(host, *args, **options):
    asked.add(host)
    if host not in ("127.0.0.1", "localhost"):
        raise socket.gaierror(f"{host} is out of reach")
    return resolve(host, *args, **options)

def hosts(**options):
    asked.clear()
    load_dataset("lab/chips", split="train", **options)
    return sorted(asked)

def marker(name):
    failure(lambda: api.repo_info(f"lab/{name}"))

socket.getaddrinfo = noted
import datasets
from datasets import load_dataset
marker("tagged")
told["tagged"] = hosts(revision="v1")
marker("after")
told["head"] = hosts()
datasets.config.HF_UPDATE_DOWNLOAD_COUNTS = True  # as it is where nobody says otherwise
told["counted"] = hosts(revision="v1")
told["streamed"] = next(iter(load_dataset("lab/chips", split="train", revision="v1", streaming=True)))["id"]
told["script"] = failure(lambda: load_dataset("lab/scripted"))

told["by xet"] = push("lab/by-xet")
told["rows"] = load_dataset("lab/by-xet", split="train").num_rows
marker("streaming")
told["row"] = len(next(iter(load_dataset("lab/by-xet", split="train", streaming=True)))["pixels"])
marker("streamed")

from publish.verifying.held import find_publication
from publish.verifying.processes import Script, run_fresh
shown = "{'counts': config.HF_UPDATE_DOWNLOAD_COUNTS, 'endpoint': config.HF_ENDPOINT}"
ask = Script(source=f"import json; from datasets import config; print(json.dumps({shown}))")
del os.environ["HF_UPDATE_DOWNLOAD_COUNTS"]
os.environ["HF_ENDPOINT"] += "/"
told["bare"] = json.loads(subprocess.run([sys.executable, "-c", ask.source], capture_output=True, check=True).stdout)
told["verifying"] = run_fresh(ask, find_publication("lab/chips@v1", kind="dataset"))

import torch
from huggingface_hub import PyTorchModelHubMixin

class Tiny(torch.nn.Module, PyTorchModelHubMixin, library_name="pwcat", license="mit"):
    def __init__(self, width=3):
        super().__init__()
        self.layer = torch.nn.Linear(width, 2)

model = Tiny(4)
model.push_to_hub("lab/tiny")
sha = api.repo_info("lab/tiny").sha
told["tiny"] = torch.equal(Tiny.from_pretrained("lab/tiny", revision=sha).layer.weight, model.layer.weight)
marker("cached")
Tiny.from_pretrained("lab/tiny", revision=sha)
marker("done")
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def readers(beside, tmp_path_factory):
    """A Hub after the story of those who load data and weights, and what they met."""
    work = tmp_path_factory.mktemp("readers")
    buffer = io.BytesIO()
    pq.write_table(pa.table({"id": list(range(10))}), buffer)
    card = b"---\nconfigs:\n- config_name: default\n  data_files: data/train-*.parquet\n---\n"
    contents = {"README.md": card, "data/train-00000-of-00001.parquet": buffer.getvalue()}
    write_folder(work / "folder")
    with beside("loopback_hub").LoopbackHub(work / "hub", xet=True) as hub:
        hub.add_repo("datasets", "lab/chips", contents, tags=["v1"])
        hub.add_repo("datasets", "lab/scripted", {**contents, "scripted.py": b"import datasets"})
        yield hub, run_story(hub, work, BEGIN + READERS)


def markers(hub, *names):
    return [place for place, call in enumerate(hub.log) if call[1].endswith(tuple(f"/lab/{name}" for name in names))]


def between(hub, first, last):
    """Method and path, within the repository, of what was asked between two markers."""
    start, stop = markers(hub, first, last)
    return [(call[0], call[1].split("?")[0].split("/lab/chips/")[-1]) for call in hub.log[start + 1 : stop]]


def test_load_dataset_asks_more_than_for_its_files(readers):
    hub, _ = readers
    head = hub.repos["datasets", "lab/chips"].head
    assert [entry for entry in between(hub, "tagged", "after") if entry[0] == "HEAD"] == [
        ("HEAD", "resolve/v1/README.md"),
        *[("HEAD", f"resolve/{head}/{name}") for name in ("chips.py", ".huggingface.yaml", "dataset_infos.json")],
        ("HEAD", f"resolve/{head}/data/train-00000-of-00001.parquet"),
    ]


def test_loading_is_counted_elsewhere_unless_that_is_turned_off_and_a_tag_asks_least(readers):
    _, told = readers
    assert set(told["tagged"]) <= {"127.0.0.1"}
    assert "datasets-server.127.0.0.1" in told["head"]  # failures there are swallowed
    assert "s3.amazonaws.com" in told["counted"]
    assert told["streamed"] == 0
    # Ours loads tags, and looks at its own publications without being counted.
    assert told["bare"]["counts"] is True
    assert told["verifying"]["counts"] is False


def test_an_endpoint_with_a_slash_at_its_end_is_used_as_it_stands_by_datasets(readers):
    hub, told = readers
    assert told["bare"]["endpoint"] == f"{hub.url}/"  # and so asks for //datasets/lab/chips
    assert told["verifying"]["endpoint"] == hub.url


def test_load_dataset_fetches_whole_files_by_xet_and_streams_by_ranges(readers):
    hub, told = readers
    assert (told["rows"], told["row"]) == (2, 125_000)
    first, last = markers(hub, "streaming", "streamed")
    loading, streaming = hub.log[:first], hub.log[first:last]
    assert [call for call in loading if "/cas/v1/reconstructions/" in call[1] and call[2] == 200]
    assert not [call for call in streaming if "/cas/" in call[1]]
    files = {"loading": loading, "streaming": streaming}
    got = {when: {call[2] for call in calls if is_table(call)} for when, calls in files.items()}
    assert got == {"loading": set(), "streaming": {206}}


def is_table(call):
    return call[0] == "GET" and "/lab/by-xet/resolve/" in call[1] and call[1].endswith(".parquet")


def test_a_script_named_like_the_repository_keeps_it_from_loading(readers, tmp_path):
    from publish.limits import check_limits
    from publish.manifest import read_manifest

    _, told = readers
    assert "Dataset scripts are no longer supported" in told["script"][2]
    write_folder(tmp_path / "folder")
    (tmp_path / "folder" / "scripted.py").write_text("import datasets")
    (tmp_path / "folder" / "MANIFEST.json").unlink()
    write_manifest(tmp_path / "folder", header={"name": "chips"}, known={})
    _, records = read_manifest(tmp_path / "folder")
    with pytest.raises(PublishError, match=r"scripted\.py"):
        check_limits(tmp_path / "folder", records, "dataset", repo="lab/scripted")


def test_the_clients_own_way_for_models_makes_one_commit_and_asks_nothing_of_what_is_cached(readers):
    hub, told = readers
    assert told["tiny"]
    assert len(hub.calls("POST", "/lab/tiny/commit/")) == 1
    assert {"README.md", "config.json", "model.safetensors"} < set(hub.files("models", "lab/tiny"))
    assert between(hub, "cached", "done") == []
