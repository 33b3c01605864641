"""The token is in the environment or in the Hub's own login, and in nothing that is written, whatever goes wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TOKEN = "hf_loopback"
ECHO = {"error": f"refused: Authorization: Bearer {TOKEN}", "headers": {"authorization": f"Bearer {TOKEN}"}}
TROUBLES = [
    "GET:/xet-write-token/:403:9",
    "POST:/cas/v1/xorbs/:403:9",
    "POST:/commit/:401:1",
    "POST:/repos/create:403:1",
    "POST:/commit/:500:99",
    "POST:/preupload/:400:1",
    "GET:/tree/:404:1",
    "PUT:/settings:500:99",
]


@pytest.fixture(scope="module")
def way():
    return "xet"  # which hands the token to code of another language


@pytest.fixture
def hub(cleared_hub):
    return cleared_hub


@pytest.fixture
def echoing(monkeypatch, hub):
    """The Hub tells whoever it refuses what it was sent, in the body and in headers."""
    answer = sys.modules["loopback_hub.serving"].Answer
    plain = answer.__init__

    def init(self, status, body=None, **headers):
        if status >= 400:
            body = {**(body if isinstance(body, dict) else {}), **ECHO}
            headers |= {"X-Error-Message": f"got Bearer {TOKEN}"}
        plain(self, status, body, **headers)

    monkeypatch.setattr(answer, "__init__", init)


def holding_the_token(folder):
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert files
    return [file for file in files if TOKEN.encode() in file.read_bytes()]


def test_no_token_is_written_whatever_goes_wrong(hub, echoing, pushers, beside, tmp_path):
    folder = beside("releases").write_release(tmp_path / "folder", [0])
    ask = {"folder": str(folder), "repo": "lab/chips", "kind": "dataset", "public": True, "level": "INFO"}
    printed = []
    for trouble in TROUBLES:
        hub.forget()
        hub.repos.clear()
        hub.fail(trouble)
        pushing = pushers.begin("push", **ask)
        assert "error" in pushing.result(), trouble
        assert "Traceback" in pushing.printed, trouble
        assert TOKEN not in pushing.printed, trouble
        printed.append(pushing.printed)
    assert sum("<token>" in text for text in printed) >= 5  # it was told, and hidden
    without = pushers.push(folder, environment={"HF_TOKEN": ""})
    assert without["error"].startswith(
        "there is no Hub token: set HF_TOKEN to one that may write, or run `hf auth login`"
    )
    assert holding_the_token(pushers.folder) == []  # results, what was printed, the client's caches and logs
    assert holding_the_token(folder) == []
    assert not [path for path in hub.files("datasets", "lab/chips") if TOKEN in path]


def test_a_login_is_enough_and_its_file_alone_has_the_token(hub, echoing, tiny_catalog, tmp_path):
    home, built = tmp_path / "home", tmp_path / "built"
    home.mkdir()
    (home / "token").write_text(TOKEN)
    keep = {key: os.environ[key] for key in ("PATH", "HOME", "LANG", "TMPDIR") if key in os.environ}
    env = {**keep, "OMP_NUM_THREADS": "1", **hub.environment(home, token=None)}
    command = [Path(sys.executable).with_name("pwcat"), "-v", "publish", "dataset", tiny_catalog / "europe"]
    command += ["--repo", "lab/europe", "--to", built, "--tag", "v1", "--public"]
    hub.fail("POST:/tag/:403:1")
    refused = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert refused.returncode == 2, refused.stderr
    assert refused.stderr.splitlines()[-1] == (
        "pwcat: could not tag lab/europe (HTTP 403): it does not exist, or the token (HF_TOKEN, or `hf auth login`) may "
        "not do this"
    )
    repo = hub.repos["datasets", "lab/europe"]
    assert (repo.private, repo.tags, len(repo.history)) == (True, {}, 2)
    assert "sending: " in refused.stderr  # no terminal: lines
    assert TOKEN not in refused.stdout + refused.stderr
    assert holding_the_token(tmp_path) == [home / "token"]
    sent = [hub.read("datasets", "lab/europe", path) for path in hub.files("datasets", "lab/europe")]
    assert not [data for data in sent if TOKEN.encode() in data]
