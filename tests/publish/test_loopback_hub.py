"""The stand-in of the Hub itself: it fails as it is told to, refuses what the Hub refuses, and outlives its clients."""

from __future__ import annotations

import hashlib
import http.client
import json
import socket
import threading
from urllib.parse import urlsplit

import pytest

MINE = {"Authorization": "Bearer hf_loopback"}


@pytest.fixture
def ask(hub):
    """One request; gives status, headers and body."""

    def ask(method, path, body=None, headers=MINE):
        connection = http.client.HTTPConnection(urlsplit(hub.url).netloc, timeout=30)
        data = json.dumps(body).encode() if isinstance(body, dict) else body
        try:
            connection.request(method, path, data, headers)
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            connection.close()

    return ask


def create(ask, name="chips", **options):
    return ask("POST", "/api/repos/create", {"organization": "lab", "name": name, "type": "dataset", **options})[0]


def commit(ask, files=(), *, parent=None, operations=(), repo="lab/chips"):
    lines = [{"key": "header", "value": {"summary": "m", **({"parentCommit": parent} if parent else {})}}]
    lines += [{"key": "file", "value": {"path": path, "content": content}} for path, content in dict(files).items()]
    body = b"\n".join(json.dumps(line).encode() for line in [*lines, *operations])
    return ask("POST", f"/api/datasets/{repo}/commit/main", body)[0]


def repos(hub):
    return {name for _, name in hub.repos}


def test_work_is_done_or_not_as_each_fault_says(hub, ask):
    hub.fail("POST:/create:drop:1,POST:/create:cut:1")
    for _ in range(2):
        with pytest.raises((http.client.RemoteDisconnected, ConnectionError)):
            create(ask)
        assert repos(hub) == set()
    hub.fail("POST:/create:hangup:1")
    with pytest.raises(http.client.RemoteDisconnected, match="without response"):
        create(ask)
    assert repos(hub) == {"lab/chips"}
    hub.fail("POST:/create:lost:1")
    assert create(ask, "more") == 504
    assert repos(hub) == {"lab/chips", "lab/more"}
    hub.fail("*:/refs:500:2", after=1)
    assert [ask("GET", "/api/datasets/lab/chips/refs")[0] for _ in range(4)] == [200, 500, 500, 200]
    with pytest.raises(ValueError, match="'sloth' is no fault: give a status code or one of cut, drop"):
        hub.fail("GET:/:sloth:1")


def test_a_truncated_answer_promises_more_than_it_holds(hub, ask):
    hub.add_repo("datasets", "lab/chips", {"a.parquet": bytes(1000)})
    hub.fail("GET:/resolve/:truncate:1")
    with pytest.raises(http.client.IncompleteRead) as caught:
        ask("GET", "/datasets/lab/chips/resolve/main/a.parquet", headers={"Range": "bytes=100-299"})
    assert len(caught.value.partial) == 100
    assert hub.sent("a.parquet") == 100
    status, headers, body = ask("GET", "/datasets/lab/chips/resolve/main/a.parquet", headers={"Range": "bytes=-10"})
    assert (status, headers["Content-Range"], len(body)) == (206, "bytes 990-999/1000", 10)
    assert ask("GET", "/datasets/lab/chips/resolve/main/a.parquet", headers={"Range": "bytes=1000-"})[0] == 416


def test_who_asks_too_much_is_told_when_to_come_back(hub, ask):
    hub.retry_after_s = 7
    hub.fail("GET:/whoami:429:1")
    status, headers, _ = ask("GET", "/api/whoami-v2")
    assert (status, headers["Retry-After"], headers["RateLimit"]) == (429, "7", '"api";r=0;t=7')


def test_others_act_between_two_requests(hub, ask):
    hub.add_repo("datasets", "lab/chips", {})
    head = hub.repos["datasets", "lab/chips"].head
    hub.before("POST", "/commit/", lambda: hub.commit("datasets", "lab/chips", {"notes.md": b"theirs"}))
    assert commit(ask, {"a.txt": "YQ=="}, parent=head) == 412
    assert commit(ask, {"a.txt": "YQ=="}, parent=hub.repos["datasets", "lab/chips"].head) == 200
    assert set(hub.files("datasets", "lab/chips")) == {".gitattributes", "notes.md", "a.txt"}
    hub.forget()
    assert hub.log == []


def test_a_stalled_client_waits_until_it_is_let_go_and_nothing_is_done(hub, ask):
    hub.fail("POST:/create:stall:1")
    seen = []
    thread = threading.Thread(target=lambda: seen.append(create(ask)))
    thread.start()
    assert hub.stalled.wait(10)
    assert create(ask, "others") == 200  # who comes meanwhile is served
    hub.resume()
    thread.join(10)
    assert seen == [503]
    assert repos(hub) == {"lab/others"}


def test_a_client_that_dies_in_the_middle_leaves_nothing_and_hinders_nobody(hub, ask):
    hub.add_repo("datasets", "lab/chips", {})
    oid = hashlib.sha256(bytes(5_000_000)).hexdigest()
    address = urlsplit(hub.url)
    for sent in (0, 1000, 3_000_000):
        with socket.create_connection((address.hostname, address.port)) as connection:
            head = f"PUT /lfs/objects/{oid}?signature={hub.signature} HTTP/1.1\r\nHost: x\r\nContent-Length: 5000000\r\n\r\n"
            connection.sendall(head.encode() + bytes(sent))
    assert ask("GET", "/api/datasets/lab/chips")[0] == 200
    assert not hub.stored(oid)
    assert ask("PUT", f"/lfs/objects/{oid}?signature={hub.signature}", bytes(5_000_000), headers={})[0] == 200
    assert hub.stored(oid)


def test_what_the_hub_refuses_is_refused(hub, ask):
    hub.add_repo("datasets", "lab/chips", {"a/b.txt": b"b"})
    refused = {
        "../a.txt": "YQ==",
        "/a.txt": "YQ==",
        "a//b.txt": "YQ==",
        "a.txt": "AAA=",  # binary, and not by LFS
        "README.md": "LS0tCnRhZ3M6IFsKLS0tCg==",  # a list without an end
    }
    assert {path: commit(ask, {path: content}) for path, content in refused.items()} == dict.fromkeys(refused, 400)
    pointer = {"path": "a.parquet", "oid": "0" * 64, "size": 1}
    assert commit(ask, operations=[{"key": "lfsFile", "value": pointer}]) == 422
    assert commit(ask, operations=[{"key": "deletedFile", "value": {"path": "none"}}]) == 400
    assert commit(ask, operations=[{"key": "deletedFolder", "value": {"path": "a/"}}]) == 200
    assert set(hub.files("datasets", "lab/chips")) == {".gitattributes"}
    assert ask("PUT", f"/lfs/objects/{'0' * 64}?signature={hub.signature}", b"x", headers={})[0] == 422
    assert ask("PUT", f"/lfs/objects/{'0' * 64}", b"x", headers={})[0] == 403


@pytest.mark.parametrize(
    ("token", "read", "write"),
    [
        ("hf_loopback", 200, 200),
        ("hf_loopback_read", 200, 403),
        ("hf_loopback_stranger", 404, 403),
        ("hf_no", 401, 401),
    ],
)
def test_who_may_what(hub, ask, token, read, write):
    hub.add_repo("datasets", "lab/chips", {"a.txt": b"a"}, private=True)
    headers = {"Authorization": f"Bearer {token}"}
    assert ask("GET", "/datasets/lab/chips/resolve/main/a.txt", headers=headers)[0] == read
    settings = json.dumps({"visibility": "public"}).encode()
    assert ask("PUT", "/api/datasets/lab/chips/settings", settings, headers)[0] == write
    assert hub.repos["datasets", "lab/chips"].private == (write != 200)


@pytest.mark.parametrize("hub", [{"cdn": True}], indirect=True)
def test_large_files_come_from_another_host_at_a_signed_address(hub, ask):
    hub.add_repo("datasets", "lab/chips", {"a.parquet": b"large", "a.txt": b"small"})
    assert ask("GET", "/datasets/lab/chips/resolve/main/a.txt")[2] == b"small"
    status, headers, _ = ask("GET", "/datasets/lab/chips/resolve/main/a.parquet")
    assert (status, headers["X-Linked-Size"]) == (302, "5")
    assert headers["Location"].startswith(f"{hub.cdn_url}/cdn/")
    path = headers["Location"].removeprefix(hub.cdn_url)
    assert ask("GET", path, headers={})[2] == b"large"
    assert ask("GET", path)[0] == 400  # it was given the token
    assert ask("GET", path.split("?")[0], headers={})[0] == 403


def test_a_defect_of_the_stand_is_told_and_not_tried_again(beside, tmp_path):
    hub = beside("loopback_hub").LoopbackHub(tmp_path / "hub").__enter__()
    connection = http.client.HTTPConnection(urlsplit(hub.url).netloc)
    connection.request("POST", "/api/repos/create", b"no JSON", MINE)
    assert connection.getresponse().status == 501
    connection.close()
    with pytest.raises(AssertionError, match="the loopback Hub itself failed:\nPOST /api/repos/create"):
        hub.__exit__(None, None, None)


def test_long_listings_come_in_pages(hub, ask):
    hub.page_entries = 10
    hub.add_repo("datasets", "lab/chips", {f"data/{number:02d}.txt": b"x" for number in range(25)})
    path, names = "/api/datasets/lab/chips/tree/main?recursive=true", []
    while path:
        _, headers, body = ask("GET", path)
        names += [entry["path"] for entry in json.loads(body)]
        path = headers.get("Link", "").removeprefix(f"<{hub.url}").removesuffix('>; rel="next"')
    assert names == [".gitattributes", "data", *(f"data/{number:02d}.txt" for number in range(25))]
