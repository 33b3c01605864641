"""Searches give a server the user and password that ``~/.netrc`` has for it, and no other server."""

from __future__ import annotations

import threading
from base64 import b64encode
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from pwcat.providers.transport import Patience, make_session


@pytest.fixture
def asked():
    """What each request said of itself, by the host it was for; the server sends ``127.0.0.1`` on to ``localhost``."""
    said: dict[str, str | None] = {}

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *arguments) -> None: ...

        def do_GET(self) -> None:
            host, _, port = self.headers["Host"].partition(":")
            said[host] = self.headers.get("Authorization")
            self.send_response(302 if host == "127.0.0.1" else 200)
            self.send_header("Location", f"http://localhost:{port}/")
            self.send_header("Content-Length", "0")
            self.end_headers()

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/", said
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_login_stands_in_netrc(asked, tmp_path, monkeypatch):
    url, said = asked
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password s3cr3t\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with make_session(Patience(attempts=0)) as session:
        assert session.get(url, timeout=5).status_code == 200
    assert said == {"127.0.0.1": f"Basic {b64encode(b'me:s3cr3t').decode()}", "localhost": None}
