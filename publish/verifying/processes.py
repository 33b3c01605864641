"""What only a fresh process can tell: whether a publication loads where nothing of it is cached and nothing imported."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from typing import Any, Final

from huggingface_hub import constants

from publish.pushing.tokens import concealed
from publish.verifying.held import Held, HeldRepository

__all__ = ["CATALOG", "DATASET", "MODEL", "Script", "run_fresh"]

TIMEOUT_S = 1800
LONGEST_TOLD = 500
PAUSES_S: tuple[float, ...] = (1, 4, 16)
# Failures of the net, as the public clients' errors name them.
_PASSING = re.compile(
    r"\b(RemoteProtocol|Read|Write|Connect|Connection|LocalEntryNotFound)Error\b|Timeout(Error)?:|"
    r"\b(429|50[0234]) (Client|Server) Error"
)
_ERROR = re.compile(r"^[A-Za-z_][\w.]*(Error|Exception|Exit|Interrupt)\b(:|$)|^[a-z_]+(\.\w+)+: ")
_OUR_ERROR = re.compile(r"^pwcat\.errors\.\w+: ")  # those say what is wrong in words of their own


@dataclass(frozen=True, kw_only=True)
class Script:
    """Python source that gets an address and a revision, which may be empty, and prints one JSON object."""

    source: str


# The public library alone; each config and split gives its first row, and chips decode by the card's line.
DATASET: Final = Script(
    source="""
import json, sys
import numpy as np
from datasets import get_dataset_config_names, load_dataset
source, at = sys.argv[1], {"revision": sys.argv[2]} if sys.argv[2] else {}
found = {}
for config in get_dataset_config_names(source, **at):
    for split, rows in load_dataset(source, config, streaming=True, **at).items():
        row = next(iter(rows))
        if config == "chips":
            np.frombuffer(row["pixels"], row["dtype"]).reshape(row["shape"])
        found.setdefault(config, []).append(split)
print(json.dumps(found))
"""
)
CATALOG: Final = Script(
    source="""
import json, sys
from pwcat import open_catalog
found = open_catalog(sys.argv[1]).search()
if len(found):
    found.select([0]).read([0])
print(json.dumps({"samples": len(found), "hash": found.hash}))
"""
)
MODEL: Final = Script(
    source="""
import json, sys
from publish.models.invented import embed_invented
from publish.models.loading import load_model
embeddings = embed_invented(load_model(sys.argv[1], revision=sys.argv[2] or None))
print(json.dumps({"shape": list(embeddings.shape)}))
"""
)


def run_fresh(script: Script, held: Held) -> dict[str, Any] | str:
    """What a script prints of a publication in a process and cache of its own, or the last line of its error.

    The public clients give up at some failures of the net that pass: those are tried again, in another process.
    """
    with tempfile.TemporaryDirectory(prefix="pwcat-verify-") as home:
        done = _run(script, held, home)
        for pause in PAUSES_S if isinstance(held, HeldRepository) else ():
            if done is None or done.returncode == 0 or not _PASSING.search(done.stderr):
                break
            time.sleep(pause)
            done = _run(script, held, home)
    if done is None:
        return f"it did not end within {TIMEOUT_S // 60} minutes"
    if done.returncode == 0:
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return answer
    return concealed(_error(done.stderr) or f"exit code {done.returncode}")


def _error(printed: str) -> str:
    """The last error of what a process printed, in a line: some have several, of which the last alone says nothing."""
    lines = [line for line in printed.splitlines() if line.strip()]
    starts = [number for number, line in enumerate(lines) if _ERROR.match(line)]
    told = " ".join(" ".join(lines[starts[-1] if starts else -1 :]).split())
    told = _OUR_ERROR.sub("", told)
    return told if len(told) <= LONGEST_TOLD else f"{told[:LONGEST_TOLD]} …"


def _run(script: Script, held: Held, home: str) -> subprocess.CompletedProcess[str] | None:
    """A script's process, ended; None where it took too long."""
    command = [sys.executable, "-c", script.source, _address(script, held), _revision(script, held)]
    try:
        return subprocess.run(
            command, env=_environment(held, home), capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return None


def _address(script: Script, held: Held) -> str:
    if not isinstance(held, HeldRepository):
        return os.path.realpath(held.name)
    return f"hf://datasets/{held.repo}@{held.commit}" if script is CATALOG else held.repo


def _revision(script: Script, held: Held) -> str:
    return "" if script is CATALOG else (held.revision or "")


def _environment(held: Held, home: str) -> dict[str, str]:
    """This process's, with a cache of its own; of a folder, all that loads must lie there: no network."""
    # A login lies in the cache's folder, unless it is said where.
    login = {"HF_TOKEN_PATH": constants.HF_TOKEN_PATH, "HF_STORED_TOKENS_PATH": constants.HF_STORED_TOKENS_PATH}
    own = {"HF_HOME": home, "HF_DATASETS_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    own["HF_ENDPOINT"] = (
        constants.ENDPOINT
    )  # without a slash at its end, with which datasets asks for other repositories
    own["HF_UPDATE_DOWNLOAD_COUNTS"] = "0"  # who checks is no user: datasets would count them at a host of its own
    caches = {"HF_HUB_CACHE", "HF_DATASETS_CACHE", "HF_XET_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE"}
    kept = {name: value for name, value in os.environ.items() if name not in caches}
    offline = {} if isinstance(held, HeldRepository) else {"HF_HUB_OFFLINE": "1"}
    return {**kept, **login, **own, **offline}
