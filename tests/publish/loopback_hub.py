"""A Hub on loopback: the endpoints that ``huggingface_hub`` and ``datasets`` call, over content-addressed storage.

An independent stand-in for the server, not a mock of our code: clients run unchanged, in processes of their own because
they read ``HF_ENDPOINT`` when imported. Files go by LFS (``HF_HUB_DISABLE_XET=1``). It is strict: every object must
hash to its name, a commit must name a parent that is still the head, a private repo answers only to the token.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

TOKEN = "hf_loopback"
LFS_SUFFIXES = {".parquet", ".geoparquet", ".safetensors", ".png"}
PAGE = 1000


def git_blob_sha1(data):
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@dataclass
class Entry:
    sha256: str
    size: int
    git_sha1: str
    lfs: bool

    def listing(self, path):
        out = {"type": "file", "oid": self.git_sha1, "size": self.size, "path": path}
        if self.lfs:
            out["lfs"] = {"oid": self.sha256, "size": self.size, "pointerSize": 130}
        return out


@dataclass
class Repo:
    kind: str  # "models" or "datasets"
    name: str
    private: bool
    trees: dict[str, dict[str, Entry]] = field(default_factory=dict)
    history: list[str] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def head(self):
        return self.history[-1]

    def resolve(self, revision):
        revision = unquote(revision)
        if revision == "main":
            return self.head
        oid = self.tags.get(revision, revision)
        return oid if oid in self.trees else None

    def add(self, tree, salt):
        listing = json.dumps({path: entry.sha256 for path, entry in sorted(tree.items())})
        oid = hashlib.sha1(f"{self.history[-1:]}{listing}{salt}".encode()).hexdigest()
        self.trees[oid] = tree
        self.history.append(oid)
        return oid


@dataclass
class Fault:
    """The next ``times`` requests of that method whose path holds ``path`` get ``status`` instead of an answer.

    Status ``"stall"`` keeps the client waiting; ``"lost"`` does the work and answers 504.
    """

    method: str
    path: str
    status: int | str
    times: int


class LoopbackHub:
    """The server, its storage and its log. Use as a context manager."""

    def __init__(self, folder):
        self.blobs = Path(folder)
        self.blobs.mkdir(parents=True, exist_ok=True)
        self.repos: dict[tuple[str, str], Repo] = {}
        self.log: list[tuple[str, str, int, int]] = []  # method, path, status, bytes received
        self.faults: list[Fault] = []
        self.lock = threading.RLock()
        self.stalled = threading.Event()
        self.resumed = threading.Event()
        handler = type("Handler", (_Handler,), {"hub": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *exc):
        self.resumed.set()
        self.server.shutdown()
        self.server.server_close()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def environment(self, home, *, token=TOKEN):
        """Environment variables for a client process; ``home`` is its cache."""
        env = {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_UPDATE_DOWNLOAD_COUNTS": "0",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
        }
        return {**env, "HF_TOKEN": token} if token else env

    def fail(self, schedule):
        """Plan faults from ``"METHOD:path:status:times"`` entries parted by commas, as ``"PUT:/lfs/:503:2"``."""
        for entry in schedule.split(","):
            method, path, status, times = entry.split(":")
            self.faults.append(Fault(method, path, int(status) if status.isdigit() else status, int(times)))

    def fault(self, method, path):
        with self.lock:
            for fault in self.faults:
                if fault.times and fault.method == method and fault.path in path:
                    fault.times -= 1
                    return fault.status
        return None

    def resume(self):
        """Let stalled requests go on; they are answered 503."""
        self.resumed.set()

    def calls(self, method, path=""):
        return [entry for entry in self.log if entry[0] == method and path in entry[1]]

    def put(self, data):
        sha256 = hashlib.sha256(data).hexdigest()
        (self.blobs / sha256).write_bytes(data)
        return sha256

    def entry(self, data, *, lfs):
        return Entry(self.put(data), len(data), git_blob_sha1(data), lfs)

    def commit(self, kind, name, files):
        """Somebody else's commit: ``files`` maps paths to bytes."""
        repo = self.repos[kind, name]
        tree = {**repo.trees[repo.head], **{path: self.entry(data, lfs=False) for path, data in files.items()}}
        return repo.add(tree, salt="elsewhere")

    def files(self, kind, name, revision="main"):
        repo = self.repos[kind, name]
        return repo.trees[repo.resolve(revision)]


class _Answer(Exception):
    def __init__(self, status, body=None, **headers):
        self.status, self.body, self.headers = status, body, headers


def _not_found(code, **headers):
    return _Answer(404, {"error": code}, **{"X-Error-Code": code}, **headers)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: LoopbackHub

    def log_message(self, *args):
        pass

    def do_GET(self):
        self._serve()

    do_HEAD = do_POST = do_PUT = do_GET

    def _serve(self):
        self.url = urlsplit(self.path)
        self.data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            self.data = self._read_chunks()
        fault = self.hub.fault(self.command, self.url.path)
        try:
            if fault == "stall":
                self.hub.stalled.set()
                self.hub.resumed.wait(60)
                raise _Answer(503, {"error": "stalled"})
            if isinstance(fault, int):
                raise _Answer(fault, {"error": "planned fault"})
            with self.hub.lock:
                self._route()
        except _Answer as answer:
            lost = fault == "lost"
            self._send(_Answer(504, {"error": "the response got lost"}) if lost else answer)

    def _read_chunks(self):
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _send(self, answer):
        body = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
        headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), **answer.headers}
        self.hub.log.append((self.command, self.path, answer.status, len(self.data)))
        try:
            self.send_response(answer.status)
            for key, value in headers.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    # Routes: (method, pattern, handler); the handler raises an _Answer.
    def _route(self):
        for method, pattern, name in ROUTES:
            match = re.fullmatch(pattern, self.url.path)
            if match and self.command in method.split("|"):
                getattr(self, name)(**match.groupdict())
        raise _not_found("NoSuchRoute")

    @property
    def _token(self):
        return self.headers.get("Authorization", "").removeprefix("Bearer ")

    def _json(self):
        return json.loads(self.data)

    def _need_token(self):
        if self._token != TOKEN:
            raise _Answer(401, {"error": "Invalid username or password."})

    def _repo(self, kind, name):
        repo = self.hub.repos.get((kind, name))
        if repo is None or (repo.private and self._token != TOKEN):
            raise _Answer(
                404 if self._token == TOKEN else 401,
                {"error": "Repository not found"},
                **{"X-Error-Code": "RepoNotFound"},
            )
        return repo

    def _at(self, kind, name, revision):
        repo = self._repo(kind, name)
        oid = repo.resolve(revision)
        if oid is None:
            raise _not_found("RevisionNotFound")
        return repo, oid, repo.trees[oid]

    def create(self):
        self._need_token()
        body = self._json()
        name, kind = f"{body['organization']}/{body['name']}", body.get("type", "model") + "s"
        url = f"{self.hub.url}/{'datasets/' if kind == 'datasets' else ''}{name}"
        if (kind, name) in self.hub.repos:
            raise _Answer(409, {"error": "You already created this repo", "url": url})
        repo = Repo(kind, name, private=body.get("visibility") == "private")
        repo.add(
            {".gitattributes": self.hub.entry(b"*.parquet filter=lfs diff=lfs merge=lfs -text\n", lfs=False)}, salt=name
        )
        self.hub.repos[kind, name] = repo
        raise _Answer(200, {"url": url, "name": name})

    def validate_yaml(self):
        match = re.match(r"---\n(.*?)\n---\n", self._json()["content"], flags=re.DOTALL)
        if match is None:
            raise _Answer(200, {"errors": [], "warnings": [{"message": "empty or missing yaml metadata in repo card"}]})
        try:
            front = yaml.safe_load(match[1])
            faults = [] if isinstance(front, dict) else ["the front matter is not a mapping"]
            faults += [
                f"{key} must be a list" for key in ("tags", "configs") if not isinstance(front.get(key, []), list)
            ]
        except yaml.YAMLError as exc:
            faults = [str(exc)]
        raise _Answer(400 if faults else 200, {"errors": [{"message": text} for text in faults], "warnings": []})

    def preupload(self, kind, name, revision):
        self._need_token()
        _, _, tree = self._at(kind, name, revision)
        raise _Answer(200, {"files": [self._upload_mode(file, tree) for file in self._json()["files"]]})

    def _upload_mode(self, file, tree):
        binary = b"\0" in base64.b64decode(file["sample"])
        lfs = Path(file["path"]).suffix in LFS_SUFFIXES or binary or file["size"] > 10 * 2**20
        out = {"path": file["path"], "uploadMode": "lfs" if lfs else "regular", "shouldIgnore": False}
        if (entry := tree.get(file["path"])) is not None:
            out["oid"] = entry.sha256 if entry.lfs else entry.git_sha1
        return out

    def lfs_batch(self, kind, name):
        self._need_token()
        self._repo("datasets" if kind else "models", name)
        objects = []
        for item in self._json()["objects"]:
            out = {"oid": item["oid"], "size": item["size"]}
            if not (self.hub.blobs / item["oid"]).exists():
                upload = {"href": f"{self.hub.url}/lfs/objects/{item['oid']}", "header": {}}
                out["actions"] = {"upload": upload, "verify": {"href": f"{self.hub.url}/lfs/verify"}}
            objects.append(out)
        raise _Answer(200, {"transfer": "basic", "objects": objects})

    def lfs_put(self, oid):
        if "Authorization" in self.headers:
            raise _Answer(400, {"error": "a presigned address must not be given the token"})
        if hashlib.sha256(self.data).hexdigest() != oid:
            raise _Answer(422, {"error": "the object does not hash to its name"})
        self.hub.put(self.data)
        raise _Answer(200, {})

    def lfs_verify(self):
        body = self._json()
        file = self.hub.blobs / body["oid"]
        raise _Answer(200 if file.exists() and file.stat().st_size == body["size"] else 404, {})

    def commit(self, kind, name, revision):
        self._need_token()
        repo, head, tree = self._at(kind, name, revision)
        lines = [json.loads(line) for line in self.data.splitlines()]
        parent = lines[0]["value"].get("parentCommit")
        if parent is not None and not head.startswith(parent):
            raise _Answer(412, {"error": "A commit has happened since. Please refresh and try again."})
        tree = dict(tree)
        for line in lines[1:]:
            self._apply(line["key"], line["value"], tree)
        oid = repo.add(tree, salt=lines[0]["value"]["summary"])
        raise _Answer(200, {"commitUrl": f"{self.hub.url}/{name}/commit/{oid}", "commitOid": oid})

    def _apply(self, key, value, tree):
        if key == "file":
            tree[value["path"]] = self.hub.entry(base64.b64decode(value["content"]), lfs=False)
        elif key == "lfsFile":
            blob = self.hub.blobs / value["oid"]
            if not blob.exists():
                raise _Answer(422, {"error": f"LFS object {value['oid']} was never uploaded"})
            pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{value['oid']}\nsize {value['size']}\n"
            tree[value["path"]] = Entry(value["oid"], blob.stat().st_size, git_blob_sha1(pointer.encode()), lfs=True)
        elif key == "deletedFile":
            del tree[value["path"]]
        else:
            raise _Answer(400, {"error": f"unknown operation {key}"})

    def tag(self, kind, name, revision):
        self._need_token()
        repo, oid, _ = self._at(kind, name, revision)
        tag = self._json()["tag"]
        if tag in repo.tags:
            raise _Answer(409, {"error": f"Tag reference exists already: {tag}"})
        repo.tags[tag] = oid
        raise _Answer(200, {})

    def refs(self, kind, name):
        repo = self._repo(kind, name)
        tags = [{"name": tag, "ref": f"refs/tags/{tag}", "targetCommit": oid} for tag, oid in repo.tags.items()]
        branch = {"name": "main", "ref": "refs/heads/main", "targetCommit": repo.head}
        raise _Answer(200, {"branches": [branch], "converts": [], "tags": tags})

    def info(self, kind, name, revision="main"):
        repo, oid, tree = self._at(kind, name, revision)
        siblings = [{"rfilename": path} for path in sorted(tree)]
        body = {
            "id": name,
            "sha": oid,
            "private": repo.private,
            "gated": False,
            "disabled": False,
            "tags": [],
            "siblings": siblings,
        }
        raise _Answer(200, {**body, "downloads": 0, "likes": 0, "lastModified": "2026-01-01T00:00:00.000Z"})

    def tree(self, kind, name, revision, path=""):
        _, _, tree = self._at(kind, name, revision)
        query = parse_qs(self.url.query)
        folder = unquote(path or "").strip("/")
        prefix = f"{folder}/" if folder else ""
        inside = {name: entry for name, entry in sorted(tree.items()) if name.startswith(prefix)}
        if folder and not inside:
            raise _not_found("EntryNotFound")
        recursive = query.get("recursive", ["false"])[0].lower() == "true"
        names = {prefix + rest for full in inside for rest in _levels(full[len(prefix) :], recursive)}
        rows = [
            inside[name].listing(name)
            if name in inside
            else {"type": "directory", "oid": "0" * 40, "size": 0, "path": name}
            for name in sorted(names)
        ]
        start = int(query.get("cursor", ["0"])[0])
        headers = {}
        if start + PAGE < len(rows):
            following = f"{self.hub.url}{self.url.path}?recursive={str(recursive).lower()}&cursor={start + PAGE}"
            headers["Link"] = f'<{following}>; rel="next"'
        raise _Answer(200, rows[start : start + PAGE], **headers)

    def resolve(self, kind, name, revision, path):
        _, oid, tree = self._at("datasets" if kind else "models", name, revision)
        entry = tree.get(unquote(path))
        if entry is None:
            raise _not_found("EntryNotFound", **{"X-Repo-Commit": oid})
        etag = entry.sha256 if entry.lfs else entry.git_sha1
        headers = {
            "ETag": f'"{etag}"',
            "X-Repo-Commit": oid,
            "Accept-Ranges": "bytes",
            "Content-Type": "application/octet-stream",
        }
        if entry.lfs:
            headers |= {"X-Linked-Etag": f'"{etag}"', "X-Linked-Size": str(entry.size)}
        if self.command == "HEAD":
            raise _Answer(200, b"", **headers, **{"Content-Length": str(entry.size)})
        self._send_bytes(entry, headers)

    def _send_bytes(self, entry, headers):
        data = (self.hub.blobs / entry.sha256).read_bytes()
        match = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if match is None:
            raise _Answer(200, data, **headers)
        first, last = match.groups()
        start = int(first) if first else max(0, len(data) - int(last))
        stop = min(len(data), int(last) + 1) if first and last else len(data)
        if start >= len(data):
            raise _Answer(416, b"", **headers, **{"Content-Range": f"bytes */{len(data)}"})
        raise _Answer(206, data[start:stop], **headers, **{"Content-Range": f"bytes {start}-{stop - 1}/{len(data)}"})


def _levels(rest, recursive):
    """The names to list for one file below a folder: itself, and the folders on the way to it."""
    parts = rest.split("/")
    depth = len(parts) if recursive else 1
    return ["/".join(parts[: level + 1]) for level in range(depth)]


KIND, NAME, REVISION = r"(?P<kind>models|datasets)", r"(?P<name>[^/]+/[^/]+)", r"(?P<revision>[^/]+)"
OF_DATASETS = r"/(?P<kind>datasets/)?(?P<name>[^/]+/[^/]+?)"
ROUTES = [
    ("POST", r"/api/repos/create", "create"),
    ("POST", r"/api/validate-yaml", "validate_yaml"),
    ("POST", rf"/api/{KIND}/{NAME}/preupload/{REVISION}", "preupload"),
    ("POST", rf"{OF_DATASETS}\.git/info/lfs/objects/batch", "lfs_batch"),
    ("PUT", r"/lfs/objects/(?P<oid>[0-9a-f]{64})", "lfs_put"),
    ("POST", r"/lfs/verify", "lfs_verify"),
    ("POST", rf"/api/{KIND}/{NAME}/commit/{REVISION}", "commit"),
    ("POST", rf"/api/{KIND}/{NAME}/tag/{REVISION}", "tag"),
    ("GET", rf"/api/{KIND}/{NAME}/refs", "refs"),
    ("GET", rf"/api/{KIND}/{NAME}/revision/{REVISION}", "info"),
    ("GET", rf"/api/{KIND}/{NAME}/tree/{REVISION}(?P<path>/.*)?", "tree"),
    ("GET", rf"/api/{KIND}/{NAME}", "info"),
    ("GET|HEAD", rf"{OF_DATASETS}/resolve/{REVISION}/(?P<path>.+)", "resolve"),
]
