"""Fetching over loopback: drops, other editions, refusals; archives that would write elsewhere."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pwcat.errors import PwcatError, TrainingError
from training.tasks.files.fetching import RECEIPT, Origin, Part, fetch, standing
from training.tasks.files.unpacking import require_space, unpack

DATA = bytes(range(256)) * 4000


@dataclass
class Server:
    """A server of one file, which can be told to fail."""

    data: bytes = DATA
    tag: str = '"one"'
    drops: list[int] = field(default_factory=list)  # answers end after so many bytes, one after another
    statuses: list[int] = field(default_factory=list)  # answered instead, one after another
    ranges: bool = True
    linked: str = ""
    asked: list[str | None] = field(default_factory=list)
    address: str = ""

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        wanted = handler.headers.get("Range")
        self.asked.append(wanted)
        if self.statuses:
            handler.send_response(self.statuses.pop(0))
            handler.send_header("Retry-After", "3")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        same = handler.headers.get("If-Range") in (None, self.tag)
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.ranges and same else 0
        if wanted and start >= len(self.data):
            handler.send_response(416)
            handler.send_header("Content-Range", f"bytes */{len(self.data)}")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        body = self.data[start:]
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(self.data) - 1}/{len(self.data)}")
        handler.send_header("Content-Length", str(len(body)))
        if self.tag:
            handler.send_header("ETag", self.tag)
        if self.linked:
            handler.send_header("X-Linked-Etag", f'"{self.linked}"')
        handler.end_headers()
        handler.wfile.write(body[: self.drops.pop(0)] if self.drops else body)


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            made.answer(self)
            self.close_connection = True

        def log_message(self, *args: object) -> None:
            """Silent."""

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    made.address = f"http://127.0.0.1:{running.server_port}/file.bin"
    yield made
    running.shutdown()
    running.server_close()
    thread.join()


@pytest.fixture
def part(server: Server) -> Part:
    return Part(url=server.address, name="file.bin", md5=hashlib.md5(DATA).hexdigest())


def no_pause(seconds: float) -> None:
    assert 0 < seconds <= 60


def get(part: Part, folder: Path, **options: object) -> list[str]:
    return fetch("some-task", Origin(parts=(part,)), folder, pause=no_pause, **options)  # type: ignore[arg-type]


def test_a_file_is_fetched_once_and_told_of(part: Part, server: Server, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int | None]] = []

    assert get(part, tmp_path / "größe", progress=lambda *told: seen.append(told)) == ["file.bin"]
    assert get(part, tmp_path / "größe") == []

    assert (tmp_path / "größe/file.bin").read_bytes() == DATA
    assert len(server.asked) == 1
    assert seen[-1] == ("file.bin", len(DATA), len(DATA))
    receipt = json.loads((tmp_path / "größe" / RECEIPT).read_text())["file.bin"]
    assert receipt["sha256"] == hashlib.sha256(DATA).hexdigest()
    assert receipt["bytes"] == len(DATA)


def test_drops_are_gone_on_from(part: Part, server: Server, tmp_path: Path) -> None:
    server.drops = [300_000, 500_000, 1]

    get(part, tmp_path)

    assert (tmp_path / "file.bin").read_bytes() == DATA
    assert server.asked == [None, "bytes=300000-", "bytes=800000-", "bytes=800001-"]
    assert not list(tmp_path.glob(".*.part*"))


def test_a_second_run_goes_on_where_the_first_gave_up(part: Part, server: Server, tmp_path: Path) -> None:
    server.drops = [300_000]
    server.statuses = []

    class EndedError(Exception):
        pass

    def end(seconds: float) -> None:
        raise EndedError

    with pytest.raises(EndedError):
        fetch("some-task", Origin(parts=(part,)), tmp_path, pause=end)
    assert standing(Origin(parts=(part,)), tmp_path) == "begun"
    assert not (tmp_path / "file.bin").exists()

    get(part, tmp_path)

    assert server.asked == [None, "bytes=300000-"]
    assert (tmp_path / "file.bin").read_bytes() == DATA
    assert standing(Origin(parts=(part,)), tmp_path) == "yes"


def test_editions_are_never_joined(part: Part, server: Server, tmp_path: Path) -> None:
    part = replace(part, md5="")
    server.drops = [300_000]

    def change(seconds: float) -> None:
        server.data, server.tag = DATA[::-1], '"two"'

    fetch("some-task", Origin(parts=(part,)), tmp_path, pause=change)

    assert (tmp_path / "file.bin").read_bytes() == DATA[::-1]


@pytest.mark.parametrize("tag", ["", 'W/"weak"'])
def test_without_a_name_of_the_edition_all_is_fetched_again(
    part: Part, server: Server, tmp_path: Path, tag: str
) -> None:
    server.tag, server.drops = tag, [300_000]

    get(replace(part, md5=""), tmp_path)

    assert server.asked == [None, None]
    assert (tmp_path / "file.bin").read_bytes() == DATA


def test_servers_without_ranges_start_over(part: Part, server: Server, tmp_path: Path) -> None:
    server.ranges, server.drops = False, [300_000]

    get(part, tmp_path)

    assert (tmp_path / "file.bin").read_bytes() == DATA


def test_a_file_that_was_whole_when_it_was_killed_is_not_fetched_again(
    part: Part, server: Server, tmp_path: Path
) -> None:
    (tmp_path / ".file.bin.part").write_bytes(DATA)
    (tmp_path / ".file.bin.part.json").write_text(json.dumps({"url": part.url, "edition": server.tag}))

    get(part, tmp_path)

    assert server.asked == [f"bytes={len(DATA)}-"]
    assert (tmp_path / "file.bin").read_bytes() == DATA


def test_a_beginning_that_is_longer_than_the_file_is_thrown_away(part: Part, server: Server, tmp_path: Path) -> None:
    (tmp_path / ".file.bin.part").write_bytes(DATA + DATA)
    (tmp_path / ".file.bin.part.json").write_text(json.dumps({"url": part.url, "edition": server.tag}))

    get(part, tmp_path)

    assert (tmp_path / "file.bin").read_bytes() == DATA


def test_busy_servers_are_asked_again_as_they_say(part: Part, server: Server, tmp_path: Path) -> None:
    server.statuses, pauses = [503, 429, 500], []

    fetch("some-task", Origin(parts=(part,)), tmp_path, pause=pauses.append)

    assert pauses == [3, 3, 4]
    assert (tmp_path / "file.bin").read_bytes() == DATA


def test_patience_ends(part: Part, server: Server, tmp_path: Path) -> None:
    server.statuses = [503] * 20

    with pytest.raises(TrainingError, match="the server answered 503 Service Unavailable, 8 times in a row"):
        get(part, tmp_path)
    assert len(server.asked) == 8


def test_a_server_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(
        TrainingError, match="the server cannot be reached, or the connection broke off, 8 times in a row"
    ):
        get(Part(url="http://127.0.0.1:9/x", name="x"), tmp_path)


@pytest.mark.parametrize(
    ("status", "said"), [(401, "wants an account"), (403, "its terms are agreed to"), (404, "may have moved")]
)
def test_refusals_are_told_at_once(part: Part, server: Server, tmp_path: Path, status: int, said: str) -> None:
    server.statuses = [status]

    with pytest.raises(TrainingError, match=said):
        get(part, tmp_path)
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    "changed",
    [{"md5": "0" * 32}, {"sha256": "0" * 64}, {"bytes": 17}],
)
def test_another_file_than_the_published_one_is_not_kept(
    part: Part, tmp_path: Path, changed: dict[str, object]
) -> None:
    with pytest.raises(
        TrainingError, match=r"is not the file\.bin that is known: .* instead of .*; nothing of it was kept"
    ):
        get(replace(part, **changed), tmp_path)
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".lock"] == [".file.bin.part.json"]


def test_what_the_hub_announces_is_held_against(part: Part, server: Server, tmp_path: Path) -> None:
    server.linked = "0" * 64
    with pytest.raises(TrainingError, match=f"instead of {'0' * 64}"):
        get(replace(part, md5=""), tmp_path)

    server.linked = hashlib.sha256(DATA).hexdigest()
    assert get(replace(part, md5=""), tmp_path) == ["file.bin"]


def test_files_placed_by_hand_are_taken_where_they_can_be_checked(part: Part, server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.bin").write_bytes(DATA)

    get(part, tmp_path)
    assert server.asked == []

    (tmp_path / "file.bin").write_bytes(DATA[:-1])
    get(part, tmp_path)
    assert server.asked == [None]
    assert (tmp_path / "file.bin").read_bytes() == DATA


def test_what_cannot_be_fetched_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="task x cannot be fetched by itself: ask the authors"):
        fetch("x", Origin(by_hand="ask the authors"), tmp_path)


def test_a_disc_that_is_too_small_is_told_before_anything_is_asked(part: Part, server: Server, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"task x needs 1,000,000,000\.0 GB, and .* GB free"):
        fetch("x", Origin(parts=(part,), disc_bytes=10**18), tmp_path)
    assert server.asked == []
    with pytest.raises(TrainingError, match="choose another folder"):
        require_space(tmp_path, 10**18, "it")


def test_two_at_once_are_kept_apart(part: Part, server: Server, tmp_path: Path) -> None:
    server.drops = [1000]
    refused = []

    def meanwhile(seconds: float) -> None:
        with pytest.raises(PwcatError, match=r"fetching some-task into .* is at work already") as caught:
            get(part, tmp_path)
        refused.append(caught.value)

    fetch("some-task", Origin(parts=(part,)), tmp_path, pause=meanwhile)

    assert len(refused) == 1


def zipped(members: dict[str, bytes], *, link: str = "") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
        if link:
            info = zipfile.ZipInfo(link)
            info.external_attr = 0o120777 << 16
            archive.writestr(info, "/etc/passwd")
    return buffer.getvalue()


def tarred(members: dict[str, bytes], *, link: str = "") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        if link:
            info = tarfile.TarInfo(link)
            info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(info)
    return buffer.getvalue()


MEMBERS = {"m-x/a.txt": b"a" * 5000, "m-x/ö/b.bin": DATA, "m-x/empty": b""}


@pytest.mark.parametrize(("kind", "pack"), [("zip", zipped), ("tar", tarred)])
def test_archives_are_unpacked_and_removed(part: Part, server: Server, tmp_path: Path, kind: str, pack) -> None:
    server.data = pack(MEMBERS)
    part = replace(part, name="m-x.zip", md5="", unpack=kind, into="deep")

    assert get(part, tmp_path) == ["m-x.zip"]
    assert get(part, tmp_path) == []

    assert {name: (tmp_path / "deep" / name).read_bytes() for name in MEMBERS} == MEMBERS
    assert not (tmp_path / "m-x.zip").exists()
    assert len(server.asked) == 1


@pytest.mark.parametrize(("kind", "pack"), [("zip", zipped), ("tar", tarred)])
@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/evil", "..\\evil", "C:\\evil"])
def test_nothing_is_written_outside(tmp_path: Path, kind, pack, name: str) -> None:
    archive = tmp_path / "archive"
    archive.write_bytes(pack({name: b"x"}))
    (tmp_path / "in").mkdir()

    with pytest.raises(TrainingError, match="names a file outside the folder"):
        unpack(archive, tmp_path / "in", kind=kind)
    assert list((tmp_path / "in").iterdir()) == []
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize(("kind", "pack"), [("zip", zipped), ("tar", tarred)])
def test_links_are_refused(tmp_path: Path, kind, pack) -> None:
    archive = tmp_path / "archive"
    archive.write_bytes(pack({}, link="passwords"))

    with pytest.raises(TrainingError, match=r"holds links \(passwords\)"):
        unpack(archive, tmp_path / "in", kind=kind)
    assert not (tmp_path / "in/passwords").is_symlink()


@pytest.mark.parametrize(("kind", "pack"), [("zip", zipped), ("tar", tarred)])
def test_half_archives_are_told_and_what_was_unpacked_is_whole(tmp_path: Path, kind, pack) -> None:
    archive, whole = tmp_path / "archive", pack(MEMBERS)
    archive.write_bytes(whole[: len(whole) * 2 // 3])
    (tmp_path / "in").mkdir()

    with pytest.raises(TrainingError, match="is damaged or not whole"):
        unpack(archive, tmp_path / "in", kind=kind)

    files = [path for path in (tmp_path / "in").rglob("*") if path.is_file()]
    assert all(path.read_bytes() == MEMBERS[path.relative_to(tmp_path / "in").as_posix()] for path in files)


def test_damaged_members_are_told(tmp_path: Path) -> None:
    archive, whole = tmp_path / "archive", bytearray(zipped({"a": bytes(1000)}))
    whole[35] ^= 0xFF
    archive.write_bytes(whole)
    (tmp_path / "in").mkdir()

    with pytest.raises(TrainingError, match="is damaged or not whole"):
        unpack(archive, tmp_path / "in", kind="zip")
    assert list((tmp_path / "in").iterdir()) == []


def test_unpacking_goes_on_where_it_was(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    archive.write_bytes(zipped(MEMBERS))
    seen: list[tuple[int, int | None]] = []
    (tmp_path / "in/m-x").mkdir(parents=True)
    (tmp_path / "in/m-x/a.txt").write_bytes(b"b" * 5000)  # as long as it should be: it is taken for it
    (tmp_path / "in/m-x/empty").write_bytes(b"not empty")

    assert unpack(archive, tmp_path / "in", kind="zip", progress=lambda *told: seen.append(told)) == 3

    assert seen[0] == (1, 3)
    assert (tmp_path / "in/m-x/a.txt").read_bytes() == b"b" * 5000
    assert (tmp_path / "in/m-x/empty").read_bytes() == b""
