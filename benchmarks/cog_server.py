"""Files of a folder by ranges over loopback, as a far object store would serve them: a delay a request, all of them counted.

Run as ``python cog_server.py DIR DELAY_S``, it prints its port. The first part of a path is passed over, so that one file has
as many addresses as are wanted: clients keep what they know of an address. ``/_take`` answers with the count since it was last
asked.
"""

from __future__ import annotations

import asyncio
import json
import mmap
import re
import sys
from pathlib import Path

RANGE = re.compile(rb"\r\nrange: *bytes=(\d+)-(\d*)", re.IGNORECASE)


class Files:
    """The folder's files, mapped, and what was asked of them."""

    def __init__(self, folder: Path, delay_s: float) -> None:
        self.folder = folder
        self.delay_s = delay_s
        self.mapped: dict[str, memoryview] = {}
        self.requests = 0
        self.bytes = 0

    def get(self, path: str) -> memoryview | None:
        name = path.partition("?")[0].rpartition("/")[2]
        if name not in self.mapped:
            if not (self.folder / name).is_file():
                return None
            with (self.folder / name).open("rb") as file:
                self.mapped[name] = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        return self.mapped[name]

    def take(self) -> bytes:
        taken = json.dumps({"requests": self.requests, "bytes": self.bytes}).encode()
        self.requests = self.bytes = 0
        return taken


class Connection(asyncio.Protocol):
    def __init__(self, files: Files) -> None:
        self.files = files
        self.received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.received += data
        while (end := self.received.find(b"\r\n\r\n")) >= 0:
            request, self.received = self.received[: end + 2], self.received[end + 4 :]
            self.answer(request)

    def answer(self, request: bytes) -> None:
        method, path, _ = request.split(b" ", 2)
        if path == b"/_take":
            self.send(b"200 OK", b"", memoryview(self.files.take()))
            return
        self.files.requests += 1
        body = self.files.get(path.decode())
        if body is None:
            self.later(b"404 Not Found", b"", memoryview(b""))
            return
        status, fields = b"200 OK", b"Accept-Ranges: bytes\r\n"
        if wanted := RANGE.search(request):
            start, end, size = int(wanted[1]), min(int(wanted[2] or len(body)), len(body) - 1), len(body)
            status, body = b"206 Partial Content", body[start : end + 1]
            fields += b"Content-Range: bytes %d-%d/%d\r\n" % (start, end, size)
        if method == b"HEAD":
            fields += b"Content-Length: %d\r\n" % len(body)
            body = memoryview(b"")
        self.files.bytes += len(body)
        self.later(status, fields, body)

    def later(self, status: bytes, fields: bytes, body: memoryview) -> None:
        if self.files.delay_s:
            asyncio.get_running_loop().call_later(self.files.delay_s, self.send, status, fields, body)
        else:
            self.send(status, fields, body)

    def send(self, status: bytes, fields: bytes, body: memoryview) -> None:
        length = b"" if b"Content-Length" in fields else b"Content-Length: %d\r\n" % len(body)
        head = b"HTTP/1.1 %s\r\nContent-Type: image/tiff\r\n%s%s\r\n" % (status, length, fields)
        if not self.transport.is_closing():
            self.transport.writelines([head, body])


async def serve(folder: Path, delay_s: float) -> None:
    files = Files(folder, delay_s)
    server = await asyncio.get_running_loop().create_server(lambda: Connection(files), "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), float(sys.argv[2])))
