"""A bad day: many requests fail, each in its own way, and what is pushed and fetched is whole or not there all the same."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from publish.manifest import write_manifest

PUSH = """
import os, time
time.sleep = lambda seconds: None
os.environ["HF_XET_CLIENT_RETRY_BASE_DELAY"] = "10ms"  # it waits in code of its own
import json, sys
from pathlib import Path
from publish.hub import fetch_folder, push_folder
from pwcat.errors import PublishError
told = {}
for folder in sorted(Path(sys.argv[1]).iterdir()):
    repo = f"lab/{folder.name}"
    try:
        push = push_folder(folder, repo=repo, kind="dataset", message="Release", tag="v1", public=True)
        fetched = fetch_folder(repo, kind="dataset", revision="v1", patterns=["*"])
        names = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
        told[repo] = [name.as_posix() for name in names if (fetched / name).read_bytes() != (folder / name).read_bytes()]
    except PublishError as exc:
        told[repo] = str(exc)
print(json.dumps(told))
"""


def write_release(folder, seed):
    (folder / "data").mkdir(parents=True)
    draw = np.random.default_rng(seed)
    for number in range(3):
        pq.write_table(pa.table({"pixels": [draw.bytes(40_000)]}), folder / "data" / f"train-{number}.parquet")
    (folder / "README.md").write_text(
        "---\nlicense: cc-by-4.0\nconfigs:\n- config_name: default\n  data_files: data/*.parquet\n---\n# Chips\n"
    )
    write_manifest(folder, header={"name": "chips"}, known={})


@pytest.mark.parametrize(
    ("hub", "releases"), [({"cdn": True}, 6), ({"xet": True}, 2)], indirect=["hub"], ids=["lfs", "xet"]
)
def test_whatever_fails_nobody_sees_half_a_release_and_it_ends(hub, releases, fresh, tmp_path):
    for seed in range(releases):
        write_release(tmp_path / "releases" / f"chips-{seed}", seed)
    hub.storm(0.12, seed=0)
    told = json.loads(fresh(PUSH, tmp_path / "releases").splitlines()[-1])
    assert told == {
        f"lab/chips-{seed}": [] for seed in range(releases)
    }  # all went through, all came back byte for byte
    assert len([call for call in hub.log if call[2] in (0, 429, 500, 503, 504)]) > 2 * releases
    for repo in hub.repos.values():
        folder = tmp_path / "releases" / repo.name.removeprefix("lab/")
        whole = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        assert [set(repo.trees[oid]) - {".gitattributes"} for oid in repo.history] == [set(), whole]  # one commit
        assert repo.tags == {"v1": repo.head}
        assert not repo.private
