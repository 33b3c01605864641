"""Files: asked about before an upload, committed, listed, read by ranges."""

from __future__ import annotations

import base64
import fnmatch
import json
import re
from collections import Counter
from pathlib import PurePosixPath
from urllib.parse import unquote

from loopback_hub.repositories import at, card_faults, check_gate, find, need_write
from loopback_hub.serving import KIND, NAME, OF_DATASETS, REVISION, Answer, Slice, not_found, route
from loopback_hub.storage import MAX_FOLDER_ENTRIES, MAX_REGULAR_BYTES, goes_by_lfs

EXPANDED_PAGE = 50
MAX_LFS_FILES = 25_000
MAX_PREUPLOAD_FILES = 256


@route("POST", rf"/api/{KIND}/{NAME}/preupload/{REVISION}")
def preupload(request, kind, name, revision):
    need_write(request)
    _, _, tree = at(request, kind, name, revision)
    body = request.json()
    files = body["files"]
    if len(files) > MAX_PREUPLOAD_FILES:
        raise Answer(413, {"error": f"{len(files)} files in one call"})
    kept = tree.get(".gitignore")
    ignored = body.get("gitIgnore") or ((request.hub.blobs / kept.sha256).read_text() if kept else "")
    return Answer(200, {"files": [_upload_mode(file, tree, ignored.splitlines()) for file in files]})


def _upload_mode(file, tree, ignored):
    lfs = goes_by_lfs(file["path"], file["size"], base64.b64decode(file["sample"]))
    out = {"path": file["path"], "uploadMode": "lfs" if lfs else "regular"}
    out["shouldIgnore"] = any(fnmatch.fnmatch(file["path"], pattern) for pattern in ignored)
    if (entry := tree.get(file["path"])) is not None:
        out["oid"] = entry.etag
    return out


@route("POST", rf"/api/{KIND}/{NAME}/commit/{REVISION}")
def commit(request, kind, name, revision):
    need_write(request)
    repo = find(request, kind, name)
    if unquote(revision) != "main" or request.flag("create_pr"):
        raise Answer(400, {"error": "this stand commits to main only"})
    lines = (json.loads(line) for line in request.body.lines())
    header = next(lines)["value"]
    parent = header.get("parentCommit")
    if parent is not None and not repo.head.startswith(parent):
        raise Answer(412, {"error": "A commit has happened since. Please refresh and try again."})
    tree = dict(repo.trees[repo.head])
    changes = Counter(_apply(request.hub, line["key"], line["value"], tree) for line in lines)
    _check(request.hub, tree, changes)
    oid = repo.add(tree, title=header["summary"], message=header.get("description", ""))
    return Answer(200, {"commitUrl": f"{request.hub.url}/{name}/commit/{oid}", "commitOid": oid})


def _apply(hub, key, value, tree):
    path = value["path"].rstrip("/") if key == "deletedFolder" else value["path"]
    if path != str(PurePosixPath(path)) or path.startswith(("/", ".git/")) or ".." in path.split("/"):
        raise Answer(400, {"error": f"invalid path {path!r}"})
    if key == "file":
        tree[path] = _regular(hub, path, base64.b64decode(value["content"], validate=True))
    elif key == "lfsFile":
        tree[path] = _pointer(hub, path, value)
    elif key == "deletedFile":
        if tree.pop(path, None) is None:
            raise Answer(400, {"error": f"there is no {path} to delete"})
    elif key == "deletedFolder":
        inside = [name for name in tree if name.startswith(f"{path}/")]
        for name in inside:
            del tree[name]
    else:
        raise Answer(400, {"error": f"unknown operation {key}"})
    return key


def _regular(hub, path, data):
    if len(data) > MAX_REGULAR_BYTES or b"\0" in data[:8000]:
        raise Answer(400, {"error": f"{path} is large or binary: it must go by LFS or Xet"})
    if path == "README.md" and (faults := card_faults(data.decode())[0]):
        raise Answer(400, {"error": f"Invalid metadata in README.md: {faults}"})
    return hub.blobs.regular(data)


def _pointer(hub, path, value):
    if not hub.stored(value["oid"]):
        raise Answer(422, {"error": f"LFS object {value['oid']} of {path} was never uploaded"})
    entry = hub.blobs.pointer(value["oid"])
    if value.get("size", entry.size) != entry.size:
        raise Answer(422, {"error": f"{path} has {entry.size} bytes, not {value['size']}"})
    return entry


def _check(hub, tree, changes):
    if changes["lfsFile"] > MAX_LFS_FILES:
        raise Answer(413, {"error": f"{changes['lfsFile']} LFS files in one commit"})
    entries = Counter(folder for path in tree for folder in {_folder(path)})
    crowded = [folder for folder, number in entries.items() if number > MAX_FOLDER_ENTRIES]
    if crowded:
        raise Answer(400, {"error": f"more than {MAX_FOLDER_ENTRIES} entries in {crowded}"})


def _folder(path):
    return path.rpartition("/")[0]


@route("GET", rf"/api/{KIND}/{NAME}/tree/{REVISION}(/(?P<path>.*))?")
def tree(request, kind, name, revision, path):
    repo, _, tree = at(request, kind, name, revision)
    folder = unquote(path or "").strip("/")
    prefix = f"{folder}/" if folder else ""
    inside = [full for full in tree if full.startswith(prefix)]
    if folder and not inside:
        raise not_found("EntryNotFound")
    recursive = request.flag("recursive")
    names = {prefix + rest for full in inside for rest in _levels(full[len(prefix) :], recursive)}
    expand = request.flag("expand")
    rows = [_row(request.hub, repo, tree, each, expand) for each in sorted(names)]
    return request.page(rows, EXPANDED_PAGE if expand else request.hub.page_entries)


def _levels(rest, recursive):
    """The names to list for one file below a folder: itself, and the folders on the way to it."""
    parts = rest.split("/")
    depth = len(parts) if recursive else 1
    return ["/".join(parts[: level + 1]) for level in range(depth)]


def _row(hub, repo, tree, path, expand):
    entry = tree.get(path)
    if entry is None:
        row = {"type": "directory", "oid": "0" * 40, "size": 0, "path": path}
    else:
        row = {"type": "file", "oid": entry.git_sha1, "size": entry.size, "path": path}
    if entry is not None and entry.lfs:
        row["lfs"] = {"oid": entry.sha256, "size": entry.size, "pointerSize": 130}
        if (xet_hash := hub.xet_hash(entry.sha256)) is not None:
            row["xetHash"] = xet_hash
    if expand:
        row["lastCommit"] = (repo.last_commit(path) if entry else repo.commits[repo.head]).listing()
    if expand and entry is not None:
        scan = {"status": "safe", "avScan": {"virusFound": False}, "pickleImportScan": None}
        row["securityFileStatus"] = scan
    return row


@route("POST", rf"/api/{KIND}/{NAME}/paths-info/{REVISION}")
def paths_info(request, kind, name, revision):
    repo, _, tree = at(request, kind, name, revision)
    form = request.form()
    expand = form.get("expand", ["false"])[0].lower() == "true"
    folders = {"/".join(path.split("/")[:depth]) for path in tree for depth in range(1, path.count("/") + 1)}
    found = [path.strip("/") for path in form.get("paths", []) if path.strip("/") in folders | set(tree)]
    return Answer(200, [_row(request.hub, repo, tree, path, expand) for path in found])


@route("GET|HEAD", rf"{OF_DATASETS}/resolve/{REVISION}/(?P<path>.+)")
def resolve(request, kind, name, revision, path):
    repo, oid, tree = at(request, "datasets" if kind else "models", name, revision)
    check_gate(request, repo)
    entry = tree.get(unquote(path))
    if entry is None:
        raise not_found("EntryNotFound", **{"X-Repo-Commit": oid})
    headers = {"ETag": f'"{entry.etag}"', "X-Repo-Commit": oid}
    if entry.lfs:
        headers |= {"X-Linked-Etag": f'"{entry.etag}"', "X-Linked-Size": str(entry.size)}
        headers |= request.hub.xet_headers(repo, oid, entry.sha256)
    if entry.lfs and request.hub.cdn:
        location = f"{request.hub.cdn_url}/cdn/{entry.sha256}?signature={request.hub.signature}"
        return Answer(302, b"", Location=location, **headers)
    return content(request, request.hub.blobs / entry.sha256, **headers)


@route("GET|HEAD", r"/cdn/(?P<sha256>[0-9a-f]{64})")
def cdn(request, sha256):
    """Content at a presigned address of another host, as large files of the Hub come."""
    request.hub.check_signed(request)
    return content(request, request.hub.blobs / sha256, ETag=f'"{sha256}"')


def content(request, path, **headers):
    """A file's bytes, or the range of them that is asked for."""
    size = path.stat().st_size
    headers = {"Accept-Ranges": "bytes", "Content-Type": "application/octet-stream", **headers}
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", request.headers.get("Range", ""))
    if match is None or match.groups() == ("", "") or request.command == "HEAD":
        return Answer(200, Slice(path, 0, size), **headers)
    first, last = match.groups()
    start = int(first) if first else max(0, size - int(last))
    stop = min(size, int(last) + 1) if first and last else size
    if start >= size or stop <= start:
        raise Answer(416, b"", **headers, **{"Content-Range": f"bytes */{size}"})
    return Answer(206, Slice(path, start, stop), **headers, **{"Content-Range": f"bytes {start}-{stop - 1}/{size}"})
