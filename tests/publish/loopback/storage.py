"""What the Hub keeps: content by its SHA-256, trees of paths, commits, tags."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

# By .gitattributes of a new repository of the Hub; other files go by LFS where they are binary or larger than this.
LFS_SUFFIXES = {".parquet", ".geoparquet", ".safetensors", ".png", ".npy", ".zip", ".tar", ".gz", ".h5", ".bin", ".pt"}
MAX_REGULAR_BYTES = 10 * 2**20
MAX_FOLDER_ENTRIES = 10_000
MIB = 2**20


def git_blob_sha1(data):
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def goes_by_lfs(path, size, sample):
    return PurePosixPath(path).suffix.lower() in LFS_SUFFIXES or b"\0" in sample or size > MAX_REGULAR_BYTES


def date(number):
    """A time for the number-th commit: the same in every run."""
    return f"2026-01-{1 + number // 1440:02d}T{number // 60 % 24:02d}:{number % 60:02d}:00.000Z"


@dataclass(frozen=True)
class Entry:
    """One file of a tree."""

    sha256: str
    size: int
    git_sha1: str
    lfs: bool

    @property
    def etag(self):
        return self.sha256 if self.lfs else self.git_sha1


@dataclass(frozen=True)
class Commit:
    oid: str
    title: str
    message: str
    date: str

    def listing(self):
        return {"id": self.oid, "title": self.title, "date": self.date}


@dataclass
class Repo:
    kind: str  # "models" or "datasets"
    name: str
    private: bool
    gated: bool | str = False
    trees: dict[str, dict[str, Entry]] = field(default_factory=dict)
    history: list[str] = field(default_factory=list)
    commits: dict[str, Commit] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def head(self):
        return self.history[-1]

    def resolve(self, revision):
        """The commit that a branch, tag or (shortened) commit names; None where there is none."""
        revision = unquote(revision)
        if revision in ("main", "refs/heads/main"):
            return self.head
        if revision in self.tags:
            return self.tags[revision]
        found = [oid for oid in self.trees if len(revision) >= 7 and oid.startswith(revision)]
        return found[0] if len(found) == 1 else None

    def add(self, tree, title, message=""):
        listing = json.dumps({path: entry.sha256 for path, entry in sorted(tree.items())})
        oid = hashlib.sha1(f"{self.name}{self.history[-1:]}{listing}{title}".encode()).hexdigest()
        self.commits[oid] = Commit(oid, title, message, date(len(self.history)))
        self.trees[oid] = tree
        self.history.append(oid)
        return oid

    def last_commit(self, path):
        """The newest commit that gave a path its present content."""
        entry, last = self.trees[self.head].get(path), self.head
        for oid in reversed(self.history):
            if self.trees[oid].get(path) != entry:
                break
            last = oid
        return self.commits[last]


class Blobs:
    """Files named by their SHA-256 in a folder."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.incoming = self.folder / "incoming"
        self.incoming.mkdir(parents=True, exist_ok=True)

    def __truediv__(self, sha256):
        return self.folder / sha256

    def has(self, sha256):
        return (self.folder / sha256).is_file()

    def put(self, data):
        sha256 = hashlib.sha256(data).hexdigest()
        (self.folder / sha256).write_bytes(data)
        return sha256

    def take(self, path, sha256):
        """Keep a file that came in, without copying it."""
        path.replace(self.folder / sha256)

    def regular(self, data):
        return Entry(self.put(data), len(data), git_blob_sha1(data), False)

    def pointer(self, sha256):
        """The tree's entry for content that is stored already."""
        size = (self.folder / sha256).stat().st_size
        text = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n"
        return Entry(sha256, size, git_blob_sha1(text.encode()), True)

    def entry(self, path, data):
        lfs = goes_by_lfs(path, len(data), data[:512])
        return self.pointer(self.put(data)) if lfs else self.regular(data)
