"""Whatever goes wrong, a release is whole on the Hub or absent, and the same command goes on: by LFS and by Xet."""

from __future__ import annotations

import itertools
import threading

import pytest

by_lfs = pytest.mark.parametrize("way", ["lfs"], indirect=True)  # large files make no difference
UPLOADS = {"lfs": ("PUT", "/lfs/"), "xet": ("POST", "/cas/v1/xorbs/")}
numbers = itertools.count(10)


@pytest.fixture(scope="module", params=["lfs", "xet"])
def way(request):
    return request.param


@pytest.fixture
def hub(cleared_hub):
    return cleared_hub


@pytest.fixture
def releases(beside):
    return beside("releases")


@pytest.fixture
def folder(releases, tmp_path):
    """A release of two files of chips that were never sent before."""
    return releases.write_release(tmp_path / "v1", [next(numbers), next(numbers)])


@pytest.fixture
def watched(hub, releases, folder):
    """At every request: the head shows the release whole or not at all, and so does what is tagged or public."""
    seen, whole = [], releases.contents(folder)

    def look():
        for repo in hub.repos.values():
            for oid in {repo.head, *repo.tags.values()}:
                shown = {path: entry.sha256 for path, entry in repo.trees[oid].items() if path in whole}
                if shown and shown != whole:
                    seen.append(shown)

    hub.before("*", "", look, times=10**6)
    hub.after("*", "", look, times=10**6)
    return seen


def uploads(hub, way):
    """How often something large was sent and taken."""
    return sum(status < 300 for _, _, status, _ in hub.calls(*UPLOADS[way]))


def require_whole(hub, folder, releases, *, tag=None, commits=1):
    repo = hub.repos["datasets", "lab/chips"]
    assert releases.shown(repo.trees[repo.head], [folder]) == releases.contents(folder)
    assert releases.parts_of(repo, [folder]) == []
    assert len(repo.history) == 1 + commits
    if tag:
        assert repo.tags == {tag: repo.head}


@pytest.mark.parametrize(
    "schedule",
    [
        "{upload}:503:1,POST:/preupload/:502:1,POST:/commit/:500:1,GET:/tree/:429:1,POST:/tag/:lost:1",
        "{upload}:cut:1,POST:/commit/:drop:1,POST:/tag/:hangup:1,GET:/refs:drop:1,POST:/repos/create:lost:1",
        "POST:/commit/:409:1,POST:/commit/:hangup:1,PUT:/settings:503:1,PUT:/settings:hangup:1",
    ],
    ids=["overloaded", "dropped", "busy"],
)
def test_what_passes_is_waited_for(hub, way, pushers, folder, releases, watched, schedule):
    hub.fail(schedule.format(upload=":".join(UPLOADS[way])))
    done = pushers.push(folder, tag="v1", public=True)
    assert done["commit"] == hub.repos["datasets", "lab/chips"].head
    require_whole(hub, folder, releases, tag="v1")
    assert not hub.repos["datasets", "lab/chips"].private
    assert watched == []


@pytest.mark.parametrize(
    ("schedule", "told"),
    [
        ("{upload}:400:99", "could not send files to lab/chips .HTTP 400."),
        (
            "POST:/commit/:503:99",
            "could not commit to lab/chips .HTTP 503.: 6 attempts failed; run the same command again",
        ),
        ("POST:/preupload/:403:1", "or the token .HF_TOKEN, or `hf auth login`. may not do this"),
    ],
    ids=["upload", "commit", "forbidden"],
)
def test_what_does_not_pass_leaves_nothing_and_the_same_command_goes_on(
    hub, way, pushers, folder, releases, watched, schedule, told
):
    hub.fail(schedule.format(upload=":".join(UPLOADS[way])), after=int("upload" in schedule))
    with pytest.raises(AssertionError, match=told):
        raise AssertionError(pushers.push(folder, tag="v1")["error"])
    repo = hub.repos["datasets", "lab/chips"]
    assert len(repo.history) == 1
    assert repo.tags == {}
    before = uploads(hub, way)
    hub.forget()
    pushers.push(folder, tag="v1")
    require_whole(hub, folder, releases, tag="v1")
    assert before + uploads(hub, way) == 2  # what had arrived was not sent again
    assert watched == []


KILLED = {
    "before the upload": ("POST:/preupload/", 0, 0),
    "between batches": ("{upload}", 1, 0),
    "before the commit": ("POST:/commit/", 0, 0),
    "before the tag": ("POST:/tag/", 0, 1),
    "before it is opened": ("PUT:/settings", 0, 1),
}


@pytest.mark.parametrize("moment", KILLED)
def test_killed_at_any_moment_the_same_command_goes_on(hub, way, pushers, folder, releases, watched, moment):
    place, after, commits = KILLED[moment]
    hub.fail(f"{place.format(upload=':'.join(UPLOADS[way]))}:stall:1", after=after)
    pushing = pushers.begin("push", folder=str(folder), repo="lab/chips", kind="dataset", tag="v1", public=True)
    assert hub.stalled.wait(60), pushing.printed
    pushing.kill()
    repo = hub.repos["datasets", "lab/chips"]
    assert len(repo.history) == 1 + commits
    assert repo.private
    sent = uploads(hub, way)
    hub.resume()
    done = pushers.push(folder, tag="v1", public=True)
    require_whole(hub, folder, releases, tag="v1")
    assert not repo.private
    assert done["opened"]
    assert uploads(hub, way) == 2
    assert (sent, done["unchanged"]) in {(0, False), (1, False), (2, False), (2, True)}
    assert watched == []


def test_a_commit_killed_on_its_way_back_is_recognised(hub, way, pushers, folder, releases, watched):
    begun, killed = threading.Event(), threading.Event()

    def kill():
        begun.wait(60)
        pushing.kill()
        killed.set()

    hub.after("POST", "/commit/", kill)
    pushing = pushers.begin("push", folder=str(folder), repo="lab/chips", kind="dataset", tag="v1")
    begun.set()
    assert killed.wait(60)
    done = pushers.push(folder, tag="v1")
    assert done["unchanged"]
    require_whole(hub, folder, releases, tag="v1")


def test_a_head_that_moved_beside_the_release_is_planned_from_again(hub, way, pushers, folder, releases, watched):
    theirs = []
    hub.before("POST", "/commit/", lambda: theirs.append(hub.commit("datasets", "lab/chips", {"notes.md": b"theirs"})))
    pushing = pushers.begin("push", folder=str(folder), repo="lab/chips", kind="dataset", tag="v1")
    done = pushing.result()
    assert "someone else committed to lab/chips meanwhile" in pushing.printed
    assert "planned again, 4 files to change and 0 to remove" in pushing.printed
    repo = hub.repos["datasets", "lab/chips"]
    assert repo.history[1:] == [theirs[0], done["commit"]]
    assert "notes.md" in repo.trees[repo.head]
    require_whole(hub, folder, releases, tag="v1", commits=2)
    assert uploads(hub, way) == 2
    assert watched == []


@by_lfs
def test_a_head_that_moves_on_and_on_is_given_up(hub, pushers, folder, watched):
    count = itertools.count()
    move = lambda: hub.commit("datasets", "lab/chips", {f"{next(count)}.md": b"theirs"})  # noqa: E731
    hub.before("POST", "/commit/", move, times=99)
    assert "moved 3 times during this push: nothing was committed" in pushers.push(folder)["error"]
    assert watched == []


@by_lfs
def test_someone_elses_change_to_the_same_files_is_never_overwritten(hub, pushers, folder):
    hub.before("POST", "/commit/", lambda: hub.commit("datasets", "lab/chips", {"README.md": b"theirs"}))
    error = pushers.push(folder)["error"]
    assert "someone else committed to lab/chips meanwhile" in error
    assert "changed files of this release (README.md), so nothing was committed" in error
    assert hub.read("datasets", "lab/chips", "README.md") == b"theirs"


@by_lfs
def test_a_second_release_takes_the_place_of_the_first_at_one_stroke(hub, pushers, folder, releases, tmp_path):
    first = pushers.push(folder, tag="v1")
    second = releases.write_release(tmp_path / "v2", [next(numbers), next(numbers)], release=2)
    hub.fail("POST:/commit/:hangup:1,POST:/tag/:503:99")
    assert "could not tag lab/chips" in pushers.push(second, tag="v2")["error"]
    hub.forget()
    done = pushers.push(second, tag="v2")
    repo = hub.repos["datasets", "lab/chips"]
    assert repo.tags == {"v1": first["commit"], "v2": done["commit"]}
    assert releases.parts_of(repo, [folder, second]) == []
    assert releases.shown(repo.trees[repo.head], [folder, second]) == releases.contents(second)
    assert "the tag v1 of lab/chips already names commit" in pushers.push(second, tag="v1")["error"]


def test_a_file_that_changed_under_its_manifest_is_never_committed(hub, pushers, folder):
    path = next((folder / "data").iterdir())
    data = bytearray(path.read_bytes())
    data[1000] ^= 1
    path.write_bytes(data)
    assert f"data/{path.name} in {folder} are not what the manifest says" in pushers.push(folder)["error"]
    assert len(hub.repos["datasets", "lab/chips"].history) == 1


@by_lfs
def test_a_server_that_falls_silent_is_asked_again(hub, pushers, folder, releases):
    hub.fail("POST:/commit/:stall:1")
    pushers.push(folder, silence_s=0.5)
    assert [status for *_, status, _ in hub.calls("POST", "/commit/")] == [200]  # the first still has no answer
    require_whole(hub, folder, releases)


def test_what_is_fetched_is_compared_with_the_manifest(hub, way, pushers, folder, releases):
    pushers.push(folder, tag="v1")
    path = next((folder / "data").iterdir()).name
    place = "/cas/data/" if way == "xet" else f"/{path}"
    hub.fail(f"GET:{place}:truncate:1")
    ask = {"repo": "lab/chips", "kind": "dataset", "revision": "v1", "patterns": ["data/*"]}
    found = pushers.begin("fetch", **ask).result()["folder"]
    assert releases.describe_file(type(folder)(found) / "data" / path) == releases.describe_file(folder / "data" / path)
    cached = (type(folder)(found) / "data" / path).resolve()
    cached.write_bytes(b"x" * cached.stat().st_size)  # a disk that forgets
    again = type(folder)(pushers.begin("fetch", **ask).result()["folder"])
    assert releases.describe_file(again / "data" / path) == releases.describe_file(folder / "data" / path)
    assert (type(folder)(found) / "MANIFEST.json").resolve().write_bytes(b"{") == 1
    again = type(folder)(pushers.begin("fetch", **ask).result()["folder"])
    assert releases.describe_file(again / "MANIFEST.json") == releases.describe_file(folder / "MANIFEST.json")
