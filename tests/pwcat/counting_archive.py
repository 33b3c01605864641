"""An archive's server that writes a line for each request of an asset: ``path bytes``. Run as a process of its own.

A last argument delays each answer by so many seconds, as a distant server would.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import uvicorn

from pwcat.archive.server import build_app


def counting(app, log: Path, delay: float):
    async def wrapped(scope, receive, send):
        sent = 0

        async def count(message):
            nonlocal sent
            sent += len(message.get("body", b""))
            if asset and message["type"] == "http.response.body" and not message.get("more_body"):
                with log.open("a") as file:  # before the client has all of it, so that it finds the line
                    file.write(f"{scope['method']} {scope['path']} {sent}\n")
            await send(message)

        asset = scope["type"] == "http" and scope["path"].startswith("/assets/")
        if asset:
            await asyncio.sleep(delay)
        await app(scope, receive, count)

    return wrapped


if __name__ == "__main__":
    directory, log, port = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    delay = float(sys.argv[4]) if len(sys.argv) > 4 else 0.0
    uvicorn.run(counting(build_app(directory), log, delay), port=port, log_level="warning", lifespan="off")
