"""An archive's server that fails as it is told, and signs. Run as a process of its own: ``DIR PORT CONTROL``.

CONTROL is a JSON file, read at each request of an asset: ``faults`` from regular expressions over paths to the status that
is answered, ``oldest`` the number of the first token that is accepted (0 where none is needed), ``log`` a file that gets a
line ``time path`` a request. ``/token/...`` hands out tokens with rising numbers.
"""

from __future__ import annotations

import itertools
import json
import re
import sys
import time
from pathlib import Path
from urllib.parse import parse_qs

import uvicorn

from pwcat.archive.server import build_app


def failing(app, control: Path):
    numbers = itertools.count(1)

    async def answer(send, status: int, body: bytes = b"secret words"):
        await send(
            {"type": "http.response.start", "status": status, "headers": [(b"content-type", b"application/json")]}
        )
        await send({"type": "http.response.body", "body": body})

    async def wrapped(scope, receive, send):
        path = scope.get("path", "")
        if path.startswith("/token/"):
            token = {"token": f"sig={next(numbers)}", "msft:expiry": "2100-01-01T00:00:00Z"}
            return await answer(send, 200, json.dumps(token).encode())
        if path.startswith("/assets/"):
            told = json.loads(control.read_text())
            if "log" in told:
                with Path(told["log"]).open("a") as file:
                    file.write(f"{time.time()} {path}\n")
            number = int(parse_qs(scope["query_string"].decode()).get("sig", ["0"])[0])
            if number < told.get("oldest", 0):
                return await answer(send, 403)
            for pattern, status in told.get("faults", {}).items():
                if re.search(pattern, path):
                    return await answer(send, status)
        return await app(scope, receive, send)

    return wrapped


if __name__ == "__main__":
    directory, port, control = Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    uvicorn.run(failing(build_app(directory), control), port=port, log_level="warning", lifespan="off")
