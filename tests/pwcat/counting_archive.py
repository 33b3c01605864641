"""An archive's server that writes a line for each request of an asset: ``path bytes``. Run as a process of its own."""

from __future__ import annotations

import sys
from pathlib import Path

import uvicorn

from pwcat.archive.server import build_app


def counting(app, log: Path):
    async def wrapped(scope, receive, send):
        sent = 0

        async def count(message):
            nonlocal sent
            sent += len(message.get("body", b""))
            await send(message)

        await app(scope, receive, count)
        if scope["type"] == "http" and scope["path"].startswith("/assets/"):
            with log.open("a") as file:
                file.write(f"{scope['method']} {scope['path']} {sent}\n")

    return wrapped


if __name__ == "__main__":
    directory, log, port = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    uvicorn.run(counting(build_app(directory), log), port=port, log_level="warning", lifespan="off")
