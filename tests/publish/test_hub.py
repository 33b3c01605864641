from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from publish.manifest import MANIFEST, check_hashes, check_sizes, read_manifest, write_manifest
from pwcat.errors import PublishError

PUSH = """
import json, sys
from pathlib import Path
from publish.hub import push_folder
from pwcat.errors import PublishError
folder, options = Path(sys.argv[1]), json.loads(sys.argv[2])
try:
    for _ in range(options.pop("times", 1)):
        push = push_folder(folder, repo="lab/chips", kind="dataset", message="Release", **options)
        print(json.dumps({**vars(push), "unchanged": push.unchanged}))
except PublishError as exc:
    print(json.dumps({"error": str(exc)}))
"""


CARD = """---
license: cc-by-4.0
configs:
- config_name: chips
  data_files: data/*.parquet
---
# Chips
"""


@pytest.fixture
def folder(tmp_path):
    """A folder as the builders leave it: a card, two large files, a manifest."""
    folder = tmp_path / "folder"
    (folder / "data").mkdir(parents=True)
    (folder / "README.md").write_text(CARD)
    for number in range(2):
        write_chips(folder / "data" / f"{number}.parquet", number)
    write_manifest(folder, header={"name": "chips"}, known={})
    return folder


def write_chips(path, number):
    """A Parquet file of about 100 kB that no other number gives."""
    noise = np.random.default_rng(number).bytes(100_000)
    pq.write_table(pa.table({"id": [number], "pixels": [noise]}), path)


@pytest.fixture
def push(fresh, folder):
    """Push the folder from a fresh process; gives the last result (or all)."""

    def run(*, every=False, **options):
        lines = [json.loads(line) for line in fresh(PUSH, folder, json.dumps(options)).splitlines()]
        return lines if every else lines[-1]

    return run


def wait_for_stall(hub, process):
    while not hub.stalled.wait(0.05):
        assert process.poll() is None, process.communicate()


def test_a_push_is_one_commit_that_holds_the_folder_and_a_second_push_sends_nothing(hub, folder, push):
    first, second = push(every=True, times=2, tag="v1")
    assert first["files_sent"] == 4
    assert first["url"] == f"{hub.url}/datasets/lab/chips"
    repo = hub.repos["datasets", "lab/chips"]
    assert repo.history[1:] == [first["commit"]]
    assert repo.tags == {"v1": first["commit"]}
    listed = hub.files("datasets", "lab/chips")
    assert set(listed) == {".gitattributes", "README.md", "data/0.parquet", "data/1.parquet", MANIFEST}
    _, records = read_manifest(folder)
    assert {path: listed[path].sha256 for path in records} == {path: record.sha256 for path, record in records.items()}
    assert second["unchanged"]
    assert second["commit"] == first["commit"]
    assert len(hub.calls("PUT")) == 2
    assert len(hub.calls("POST", "/commit/")) == 1


def test_a_new_release_replaces_its_own_files_and_leaves_those_of_others(hub, folder, push):
    push(tag="v1")
    hub.commit("datasets", "lab/chips", {"paper.pdf": b"%PDF"})
    (folder / "data" / "1.parquet").unlink()
    write_chips(folder / "data" / "2.parquet", 2)
    write_manifest(folder, header={"name": "chips"}, known={})
    taken = push(tag="v1")
    assert "the tag v1 of lab/chips already names commit" in taken["error"]
    second = push(tag="v2")
    assert (second["files_sent"], second["files_deleted"]) == (2, 1)  # the new shard and the manifest; the old shard
    assert set(hub.files("datasets", "lab/chips")) >= {"paper.pdf", "data/0.parquet", "data/2.parquet", "README.md"}
    assert "data/1.parquet" not in hub.files("datasets", "lab/chips")
    assert "data/1.parquet" in hub.files("datasets", "lab/chips", "v1")


def test_an_overloaded_hub_is_asked_again(hub, push):
    hub.fail("PUT:/lfs/:503:1,POST:/commit/:500:1,GET:/tree/:429:1")
    assert push()["files_sent"] == 4
    assert len(hub.repos["datasets", "lab/chips"].history) == 2


def test_a_commit_whose_answer_was_lost_is_recognised(hub, push):
    hub.fail("POST:/commit/:lost:1")
    done = push()
    assert done["commit"] == hub.repos["datasets", "lab/chips"].head
    assert len(hub.repos["datasets", "lab/chips"].history) == 2


def test_someone_elses_commit_meanwhile_is_never_overwritten(hub, fresh, folder):
    hub.fail("POST:/preupload/:stall:1")  # the head has been read by then
    process = fresh(PUSH, folder, "{}", wait=False)
    wait_for_stall(hub, process)
    theirs = hub.commit("datasets", "lab/chips", {"README.md": b"theirs"})
    hub.resume()
    out, _ = process.communicate(timeout=60)
    error = json.loads(out)["error"]
    assert "someone else committed to lab/chips meanwhile" in error
    assert "run the same command again" in error
    assert hub.repos["datasets", "lab/chips"].head == theirs


def test_killed_between_upload_and_commit_nothing_is_visible_and_a_rerun_finishes(hub, fresh, folder, push):
    hub.fail("POST:/commit/:stall:1")
    process = fresh(PUSH, folder, "{}", wait=False)
    wait_for_stall(hub, process)
    process.kill()
    process.communicate()
    assert set(hub.files("datasets", "lab/chips")) == {".gitattributes"}
    hub.resume()
    push()
    assert len(hub.calls("PUT")) == 2  # the large files were not sent again


def test_a_private_repository_is_made_and_a_public_one_is_not_taken_for_it(hub, push):
    push(private=True)
    assert hub.repos["datasets", "lab/chips"].private
    hub.repos["datasets", "lab/chips"].private = False
    assert "is public, but a private one was asked for" in push(private=True)["error"]


def test_no_token_and_a_refused_token_are_told_apart_and_no_token_is_shown(hub, fresh, folder):
    out = fresh(PUSH, folder, "{}", token=False)
    assert "there is no Hub token: set HF_TOKEN" in json.loads(out)["error"]
    hub.fail("POST:/repos/create:403:1")
    out = fresh(PUSH, folder, "{}")
    assert "may not do this" in json.loads(out)["error"]
    assert "hf_loopback" not in out


def test_a_folder_that_does_not_match_its_manifest_is_not_sent(folder):
    from publish.hub import push_folder

    (folder / "data" / "0.parquet").write_bytes(b"short")
    (folder / "notes.txt").write_text("added by hand")
    with pytest.raises(
        PublishError, match=r"notes.txt is not in the manifest; data/0.parquet has 5 bytes, the manifest"
    ):
        push_folder(folder, repo="lab/chips", kind="dataset", message="Release")
    with pytest.raises(PublishError, match="'chips' is no name for a repository: give organisation/name"):
        push_folder(folder, repo="chips", kind="dataset", message="Release")


def test_a_manifest_tells_every_fault_and_refuses_to_leave_its_folder(folder):
    header, records = read_manifest(folder)
    assert header == {"name": "chips"}
    assert check_sizes(folder, records) == check_hashes(folder, records) == []
    (folder / "data" / "0.parquet").write_bytes(b"x" * (folder / "data" / "0.parquet").stat().st_size)
    assert check_sizes(folder, records) == []
    assert check_hashes(folder, records)[0].startswith("data/0.parquet has SHA-256")
    (folder / "data" / "1.parquet").unlink()
    assert check_sizes(folder, records) == ["data/1.parquet is missing"]
    (folder / MANIFEST).write_text(json.dumps({"files": {"../../etc/passwd": {"bytes": 1, "sha256": "0"}}}))
    with pytest.raises(PublishError, match="names files outside its folder"):
        read_manifest(folder)
    (folder / MANIFEST).unlink()
    with pytest.raises(PublishError, match=r"has no MANIFEST\.json"):
        read_manifest(folder)
