"""A web application on an address of this computer, until somebody ends it."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable

import uvicorn
from starlette.types import ASGIApp

__all__ = ["listen"]


def listen(
    app: ASGIApp,
    *,
    host: str,
    port: int,
    started: Callable[[str], None],
    until_end_of: int | None = None,
) -> None:
    """Serve an application until SIGINT or SIGTERM, which are raised again once it has ended.

    Args:
        app: ASGI.
        host: to listen on, a name or an address.
        port: to listen on; 0 takes a free one.
        started: called with the server's address once it answers.
        until_end_of: a file descriptor; the server ends when that does, so that a parent that is killed leaves no orphan.

    Raises:
        OSError: the address cannot be listened on.
    """
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise
    shown = f"[{host}]" if ":" in host else host
    config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=1, lifespan="off")
    server = _TellingServer(config, lambda: started(f"http://{shown}:{listener.getsockname()[1]}"))
    if until_end_of is not None:
        threading.Thread(target=_stop_at_end, args=(server, until_end_of), daemon=True).start()
    server.run(sockets=[listener])


class _TellingServer(uvicorn.Server):
    """A server that tells once it answers."""

    def __init__(self, config: uvicorn.Config, started_: Callable[[], None]) -> None:
        super().__init__(config)
        self.tell = started_

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then tell."""
        await super().startup(sockets=sockets)
        self.tell()


def _stop_at_end(server: uvicorn.Server, descriptor: int) -> None:
    while os.read(descriptor, 4096):
        pass
    server.should_exit = True
