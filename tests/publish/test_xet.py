"""The default way of the real clients: large files go to the Hub, and come from it, by Xet."""

from __future__ import annotations

import importlib.metadata
import json

import pytest

HF_XET = importlib.metadata.version("hf-xet")
LOCAL = pytest.param(
    {"xet": "local"},
    marks=pytest.mark.skipif(
        HF_XET != "1.8.0",
        reason=f"local:// is a means of hf_xet's own tests that no document promises: known to work in 1.8.0, not {HF_XET}",
    ),
)

# Tables, noise, numbers and text: chunks that Xet stores as they are, packed, and packed after grouping their bytes.
ROAD = """
import hashlib, json, sys
from pathlib import Path
import numpy as np, pyarrow as pa, pyarrow.parquet as pq
from huggingface_hub import CommitOperationAdd, HfApi, HfFileSystem, hf_hub_download, snapshot_download
folder, rng = Path(sys.argv[1]), np.random.default_rng(0)
folder.mkdir()
pq.write_table(pa.table({"id": np.arange(200_000), "value": rng.normal(size=200_000)}), folder / "table.parquet")
(folder / "noise.bin").write_bytes(rng.bytes(1_200_000))
(folder / "numbers.bin").write_bytes(np.cumsum(rng.normal(size=300_001)).astype("f4").tobytes() + b"odd")
(folder / "text.bin").write_bytes(b"".join(b"%d little lambs\\n" % n for n in range(60_000)))
(folder / "empty.parquet").write_bytes(b"")
(folder / "README.md").write_text("---\\nconfigs:\\n- config_name: default\\n  data_files: table.parquet\\n---\\n")
api = HfApi()
api.create_repo("lab/x", repo_type="dataset", visibility="private")
adds = [CommitOperationAdd(path.name, path) for path in sorted(folder.iterdir())]
api.preupload_lfs_files("lab/x", adds[:3], repo_type="dataset", free_memory=False)
api.preupload_lfs_files("lab/x", adds[3:], repo_type="dataset", free_memory=False)
api.create_commit("lab/x", adds, commit_message="Release", repo_type="dataset")
checked = api.verify_repo_checksums("lab/x", repo_type="dataset", local_dir=folder)
hashes = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
fetched = Path(snapshot_download("lab/x", repo_type="dataset"))
assert {name: hashlib.sha256((fetched / name).read_bytes()).hexdigest() for name in hashes} == hashes
one = hf_hub_download("lab/x", "noise.bin", repo_type="dataset", local_dir=folder.parent / "one")
assert hashlib.sha256(Path(one).read_bytes()).hexdigest() == hashes["noise.bin"]
with HfFileSystem().open("datasets/lab/x/noise.bin") as file:
    file.seek(1_000_000)
    assert file.read(10) == (folder / "noise.bin").read_bytes()[1_000_000:1_000_010]
print(json.dumps({"mismatches": len(checked.mismatches), "hashes": hashes}))
"""


def schemes(store):
    """How the chunks of all xorbs are packed."""
    found = set()
    for xorb in store.xorbs.iterdir():
        data = xorb.read_bytes()
        found |= {data[at + 4] for at in store.offsets(xorb.name)[:-1]}
    return found


@pytest.mark.parametrize("hub", [{"xet": True}, LOCAL], indirect=True)
def test_a_push_by_xet_holds_the_files_bytes_and_every_reader_gets_them(hub, fresh, tmp_path):
    out = json.loads(fresh(ROAD, tmp_path / "folder"))
    assert out["mismatches"] == 0
    large = {name for name in out["hashes"] if name.endswith((".bin", ".parquet"))}
    tree = hub.files("datasets", "lab/x")
    assert {name: tree[name].sha256 for name in large} == {name: out["hashes"][name] for name in large}
    assert all(tree[name].lfs for name in large - {"empty.parquet"})
    assert schemes(hub.xet.store) == {0, 1, 2}
    assert not hub.calls("PUT")  # nothing by LFS
    ranged, whole = (
        {name(call) for call in hub.calls("GET", "/resolve/") if call[2] == status} for status in (206, 200)
    )
    assert ranged == {"noise.bin"}  # a range never comes by Xet
    assert not {"noise.bin", "numbers.bin", "text.bin", "table.parquet"} & whole  # and nothing large by plain HTTP


def name(call):
    return call[1].rpartition("/")[2]


UPLOAD = """
import sys
from huggingface_hub import HfApi
api = HfApi()
api.create_repo("lab/x", repo_type="dataset", exist_ok=True)
api.upload_file(path_or_fileobj=sys.argv[1], path_in_repo="data.parquet", repo_id="lab/x", repo_type="dataset")
"""


@pytest.mark.parametrize("hub", [{"xet": True}], indirect=True)
def test_a_larger_file_sent_from_another_machine_is_stored_once(hub, fresh, tmp_path):
    import numpy as np

    data = np.random.default_rng(0).bytes(6_000_000)
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_bytes(data)
    second.write_bytes(data[:4_000_000] + b"and 1 % more" * 5_000 + data[4_000_000:])
    fresh(UPLOAD, first, home="here")
    before = hub.xorb_bytes()
    assert before == pytest.approx(6_000_000, rel=0.01)
    hub.fail("POST:/cas/v1/xorbs/:503:1")  # which Xet's client meets by itself
    fresh(UPLOAD, second, home="elsewhere")
    assert hub.read("datasets", "lab/x", "data.parquet") == second.read_bytes()
    assert 0 < hub.xorb_bytes() - before < 0.05 * before
    assert {call[2] for call in hub.calls("GET", "/cas/v1/chunks/")} == {200, 404}  # it asked what is there already


LIE = """
import hashlib, sys
from huggingface_hub import CommitOperationAdd, HfApi
api = HfApi()
api.create_repo("lab/x", repo_type="dataset")
add = CommitOperationAdd("data.parquet", sys.argv[1])
add.upload_info.sha256 = hashlib.sha256(b"other bytes").digest()
try:
    api.create_commit("lab/x", [add], commit_message="m", repo_type="dataset")
except Exception as exc:
    print(exc)
"""


@pytest.mark.parametrize("hub", [{"xet": True}], indirect=True)
def test_what_xet_is_given_must_hash_to_its_name(hub, fresh, tmp_path):
    (tmp_path / "file").write_bytes(b"some bytes" * 10_000)
    assert "does not hash to it" in fresh(LIE, tmp_path / "file")
    assert set(hub.files("datasets", "lab/x")) == {".gitattributes"}
