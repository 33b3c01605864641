from __future__ import annotations

import json

import pytest

from publish.manifest import MANIFEST, check_hashes, check_sizes, read_manifest, write_manifest
from pwcat.errors import PublishError


@pytest.fixture
def hub(cleared_hub):
    return cleared_hub


@pytest.fixture
def releases(beside):
    return beside("releases")


@pytest.fixture
def folder(releases, tmp_path):
    """A folder as the builders leave it: a card, two large files, a manifest."""
    return releases.write_release(tmp_path / "folder", [0, 1])


def test_a_push_is_one_commit_that_holds_the_folder_and_a_second_push_sends_nothing(hub, folder, pushers, releases):
    first = pushers.push(folder, tag="v1", states=True, batch_files=2)
    assert first["files_sent"] == 4
    assert first["url"] == f"{hub.url}/datasets/lab/chips"
    repo = hub.repos["datasets", "lab/chips"]
    assert repo.history[1:] == [first["commit"]]
    assert repo.tags == {"v1": first["commit"]}
    assert releases.shown(hub.files("datasets", "lab/chips"), [folder]) == releases.contents(folder)
    steps = [(state["step"], state["files"]) for state in first["states"]]
    assert steps == [
        ("checking", 0),
        *(("sending", done) for done in (0, 2, 4)),
        ("committing", 4),
        ("verifying", 4),
        ("tagging", 0),
    ]
    sizes = [state["bytes"] for state in first["states"]]
    assert sizes[3] == first["states"][3]["bytes_total"] == first["bytes_sent"]
    sent = len(hub.calls("PUT"))
    second = pushers.push(folder, tag="v1")
    assert second["unchanged"]
    assert second["commit"] == first["commit"]
    assert len(hub.calls("PUT")) == sent
    assert len(hub.calls("POST", "/commit/")) == 1


def test_a_new_release_replaces_its_own_files_and_leaves_those_of_others(hub, folder, pushers, releases):
    pushers.push(folder, tag="v1")
    hub.commit("datasets", "lab/chips", {"paper.pdf": b"%PDF"})
    (folder / "data" / "1.parquet").unlink()
    releases.write_chips(folder / "data" / "2.parquet", 2)
    write_manifest(folder, header={"name": "chips"}, known={})
    assert "the tag v1 of lab/chips already names commit" in pushers.push(folder, tag="v1")["error"]
    ask = {"folder": str(folder), "repo": "lab/chips", "kind": "dataset"}
    planned = pushers.begin("preview", **ask).result()
    assert sorted(planned["send"]) == [MANIFEST, "data/2.parquet"]
    assert planned["remove"] == ["data/1.parquet"]
    assert planned["holds"] == {"name": "chips", "release": 1}
    paths = {"repo": "lab/chips", "kind": "dataset", "paths": ["data/0.parquet", "data/2.parquet"]}
    by_name = pushers.begin("preview paths", **paths).result()
    assert (by_name["remove"], by_name["exact"], by_name["send"]) == (["data/1.parquet"], False, paths["paths"])
    assert (
        "the tag v1 of lab/chips already names" in pushers.begin("preview paths", **paths, tag="v1").result()["error"]
    )
    second = pushers.push(folder, tag="v2")
    assert (second["files_sent"], second["files_deleted"]) == (2, 1)  # the new shard and the manifest; the old shard
    assert set(hub.files("datasets", "lab/chips")) >= {"paper.pdf", "data/0.parquet", "data/2.parquet", "README.md"}
    assert "data/1.parquet" not in hub.files("datasets", "lab/chips")
    assert "data/1.parquet" in hub.files("datasets", "lab/chips", "v1")
    planned = pushers.begin("preview", **ask).result()
    assert (planned["send"], planned["remove"], planned["exact"]) == ([], [], True)


def test_files_that_others_put_in_the_place_of_ours_are_not_overwritten(hub, folder, pushers):
    theirs = {"README.md": b"# Soon", "notes.md": b"theirs", "data/1.parquet": b"theirs", ".gitignore": b"*.parquet\n"}
    hub.add_repo("datasets", "lab/chips", theirs)
    error = pushers.push(folder)["error"]
    assert "holds files that no release of ours made, and this one would replace them: data/1.parquet;" in error
    hub.commit("datasets", "lab/chips", {"data/1.parquet": None})
    pushers.push(folder)
    assert hub.read("datasets", "lab/chips", "notes.md") == b"theirs"
    assert "data/1.parquet" in hub.files("datasets", "lab/chips")  # whatever their .gitignore says


def test_files_of_others_that_load_dataset_would_take_for_chips_of_a_release_stop_it(hub, folder, pushers, releases):
    stray = (folder / "data" / "0.parquet").read_bytes()
    hub.add_repo("datasets", "lab/chips", {"data/99.parquet": stray, "more/99.parquet": stray})
    told = "load_dataset would take them for parts of this one: data/99.parquet; push to another repository"
    assert told in pushers.push(folder)["error"]
    assert told in pushers.begin("preview", folder=str(folder), repo="lab/chips", kind="dataset").result()["error"]
    hub.commit("datasets", "lab/chips", {"data/99.parquet": None})
    hub.before("POST", "/commit/", lambda: hub.commit("datasets", "lab/chips", {"data/98.parquet": stray}))
    assert told.replace("99", "98") in pushers.push(folder)["error"]
    assert "README.md" not in hub.files("datasets", "lab/chips")


def test_what_somebody_changed_since_the_last_release_is_replaced_and_that_is_told(hub, folder, pushers, releases):
    pushers.push(folder)
    card = hub.read("datasets", "lab/chips", "README.md") + b"By hand."
    hub.commit("datasets", "lab/chips", {"README.md": card, "data/1.parquet": b"PAR1 by hand"})
    pushing = pushers.begin("push", folder=str(folder), repo="lab/chips", kind="dataset")
    assert pushing.result()["files_sent"] == 2
    assert "README.md, data/1.parquet was changed on lab/chips since its last release: this one" in pushing.printed
    write_manifest(folder, header={"name": "chips", "release": 2}, known={})
    pushing = pushers.begin("push", folder=str(folder), repo="lab/chips", kind="dataset")
    assert (pushing.result()["files_sent"], "was changed on" in pushing.printed) == (1, False)


def test_where_the_manifest_is_not_ours_or_damaged_nothing_is_replaced_or_removed(
    hub, folder, pushers, releases, tmp_path
):
    theirs = json.dumps({"files": {"theirs.csv": {}}}).encode()
    for manifest in (theirs, b'{"name": "theirs"}', b"[]"):
        hub.repos.clear()
        hub.add_repo("datasets", "lab/chips", {MANIFEST: manifest, "theirs.csv": b"1,2"})
        assert f"holds a {MANIFEST} that is none of ours, or damaged" in pushers.push(folder)["error"]
        assert set(hub.files("datasets", "lab/chips")) >= {MANIFEST, "theirs.csv"}
    hub.repos.clear()
    pushers.push(folder)
    whole = hub.read("datasets", "lab/chips", MANIFEST)
    hub.commit("datasets", "lab/chips", {MANIFEST: whole[:99]})
    second = releases.write_release(tmp_path / "v2", [5], release=2)
    assert "put back there the one of the last release" in pushers.push(second)["error"]
    hub.commit("datasets", "lab/chips", {MANIFEST: whole})
    assert pushers.push(second)["files_deleted"] == 2
    for cached in pushers.home.rglob(f"snapshots/*/{MANIFEST}"):
        cached.resolve().write_bytes(b"{}")  # a disk that forgets
    assert pushers.push(folder)["files_deleted"] == 1


def test_what_is_of_another_kind_is_not_replaced_and_another_name_is_told(hub, folder, pushers):
    pushers.push(folder)
    write_manifest(folder, header={"name": "lakes"}, known={})
    pushing = pushers.begin("push", folder=str(folder), repo="lab/chips", kind="dataset")
    assert "error" not in pushing.result()
    assert "lab/chips holds 'chips': this release of 'lakes' takes its place" in pushing.printed
    write_manifest(folder, header={"name": "lakes", "kind": "zarr"}, known={})
    assert "a release of kind None, and this one is of kind 'zarr'" in pushers.push(folder)["error"]


def test_who_may_see_it(hub, folder, pushers):
    def is_private():
        return hub.repos["datasets", "lab/chips"].private

    pushers.push(folder, private=True)
    assert is_private()
    opened = pushers.push(folder, public=True)  # a private one that is there already is opened
    assert (opened["opened"], opened["unchanged"], is_private()) == (True, True, False)
    assert not pushers.push(folder, public=True)["opened"]  # one that is public stays so
    assert not hub.calls("PUT", "/settings")[1:]
    assert "is public, but a private one was asked for" in pushers.push(folder, private=True)["error"]
    assert "private and public exclude each other" in pushers.push(folder, private=True, public=True)["error"]


def test_a_repository_that_somebody_makes_meanwhile_is_taken_as_it_is(hub, folder, pushers):
    hub.before("POST", "/repos/create", lambda: hub.add_repo("datasets", "lab/chips", {"notes.md": b"theirs"}))
    pushers.push(folder, public=True)
    hub.repos.clear()
    hub.before("POST", "/repos/create", lambda: hub.add_repo("datasets", "lab/chips", {"notes.md": b"theirs"}))
    assert "is public, but a private one was asked for: nothing was sent" in pushers.push(folder, private=True)["error"]


def test_a_preview_asks_and_changes_nothing(hub, folder, pushers):
    ask = {"folder": str(folder), "repo": "lab/chips", "kind": "dataset", "environment": {"HF_TOKEN": ""}}
    planned = pushers.begin("preview", **ask).result()
    assert (planned["exists"], len(planned["send"])) == (False, 4)
    hub.add_repo("datasets", "lab/chips", {"notes.md": b"theirs"})
    planned = pushers.begin("preview", **ask).result()
    assert (planned["exists"], planned["private"], len(planned["send"])) == (True, False, 4)
    told = "lab/chips exists and is public, but a private one was asked for"
    assert told in pushers.begin("preview", **ask, asked_private=True).result()["error"]
    paths = {"repo": "lab/chips", "kind": "dataset", "paths": ["data/0.parquet"], "asked_private": True}
    assert told in pushers.begin("preview paths", **paths).result()["error"]
    assert {method for method, *_ in hub.log} == {"GET"}


def test_nothing_is_built_for_a_push_that_could_not_begin(hub, folder, pushers, tmp_path):
    hub.add_repo("datasets", "lab/chips", {})
    ask = {"folder": str(tmp_path / "built"), "repo": "lab/chips", "private": True}
    assert "lab/chips exists and is public" in pushers.begin("deliver", **ask).result()["error"]
    ask |= {"repo": "lab/other", "environment": {"HF_TOKEN": ""}}
    assert "there is no Hub token" in pushers.begin("deliver", **ask).result()["error"]


def test_the_hub_is_waited_for_as_long_as_it_asks_and_no_longer(hub, folder, pushers):
    hub.retry_after_s = 7
    hub.fail("POST:/commit/:429:1")
    pushing = pushers.begin("push", folder=str(folder), repo="lab/chips", kind="dataset")
    assert pushing.result()["slept"] == [7]
    assert "could not commit to lab/chips (HTTP 429); trying again in 7 s" in pushing.printed
    hub.repos.clear()
    hub.fail("POST:/commit/:503:99")
    assert pushers.push(folder)["slept"] == [1, 2, 4, 8, 16]
    hub.forget()
    hub.retry_after_s = 4000
    hub.fail("POST:/commit/:429:1")
    hub.repos.clear()
    assert "the Hub asks to be left alone for 4000 s" in pushers.push(folder)["error"]


def test_the_hub_judges_the_card_before_anything_is_sent(hub, folder, pushers):
    card = (folder / "README.md").read_text().replace("license: cc-by-4.0", "license: cc-by-4.0\ntags: chips")
    (folder / "README.md").write_text(card)
    write_manifest(folder, header={"name": "chips"}, known={})
    assert "does not take the front matter" in (error := pushers.push(folder)["error"])
    assert "tags must be a list" in error
    assert not hub.repos


def test_names_and_folders_that_cannot_be_pushed_are_told_before_anything_is_asked(folder):
    from publish.hub import push_folder

    with pytest.raises(PublishError, match="'chips' is no name for a repository: give organisation/name"):
        push_folder(folder, repo="chips", kind="dataset", message="Release")
    for tag, told in (("v 1", "is no name for a tag"), ("main", "taken for a branch"), ("abcdef0", "or a commit")):
        with pytest.raises(PublishError, match=told):
            push_folder(folder, repo="lab/chips", kind="dataset", message="Release", tag=tag)
    (folder / "data" / "0.parquet").write_bytes(b"short")
    (folder / "notes.txt").write_text("added by hand")
    with pytest.raises(
        PublishError, match=r"notes.txt is not in the manifest; data/0.parquet has 5 bytes, the manifest"
    ):
        push_folder(folder, repo="lab/chips", kind="dataset", message="Release")


def test_a_manifest_tells_every_fault_and_refuses_to_leave_its_folder(folder):
    header, records = read_manifest(folder)
    assert header == {"name": "chips", "release": 1}
    assert check_sizes(folder, records) == check_hashes(folder, records) == []
    (folder / "data" / "0.parquet").write_bytes(b"x" * records["data/0.parquet"].bytes)
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
