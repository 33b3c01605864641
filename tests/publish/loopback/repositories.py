"""Repositories: made, set, told, tagged, deleted; who asks, and what they may."""

from __future__ import annotations

import re
from urllib.parse import unquote

import yaml
from loopback_hub.serving import KIND, NAME, REVISION, Answer, not_found, route
from loopback_hub.storage import Repo

COMMITS_PAGE = 50


def need_write(request):
    role = request.hub.tokens.get(request.token)
    if role is None:
        raise Answer(401, {"error": "Invalid username or password."})
    if role != "write":
        raise Answer(403, {"error": "You don't have the rights to write here: this token reads only."})


def find(request, kind, name):
    """The repository, where it is there and the token may see it: a private one and none look the same."""
    repo = request.hub.repos.get((kind, name))
    member = request.hub.tokens.get(request.token) in ("write", "read")
    if repo is None or (repo.private and not member):
        status = 404 if request.token else 401
        raise Answer(status, {"error": "Repository not found"}, **{"X-Error-Code": "RepoNotFound"})
    return repo


def at(request, kind, name, revision):
    repo = find(request, kind, name)
    oid = repo.resolve(revision)
    if oid is None:
        raise not_found("RevisionNotFound")
    return repo, oid, repo.trees[oid]


def _named(request):
    body = request.json()
    if not body.get("organization"):
        raise Answer(400, {"error": "name an organization"})
    return body, body.get("type", "model") + "s", f"{body['organization']}/{body['name']}"


def _visibility(value):
    if value not in ("public", "private"):
        raise Answer(400, {"error": f"{value!r} is no visibility"})
    return value == "private"


@route("POST", r"/api/repos/create")
def create(request):
    need_write(request)
    body, kind, name = _named(request)
    url = f"{request.hub.url}/{'datasets/' if kind == 'datasets' else ''}{name}"
    if (kind, name) in request.hub.repos:
        raise Answer(409, {"error": "You already created this repo", "url": url})
    if not re.fullmatch(r"[\w.-]{1,96}", body["name"]) or ".." in body["name"] or "--" in body["name"]:
        raise Answer(400, {"error": f"Invalid repo name: {name}"})
    repo = Repo(kind, name, private=_visibility(body.get("visibility", "public")))
    attributes = b"*.parquet filter=lfs diff=lfs merge=lfs -text\n"
    repo.add({".gitattributes": request.hub.blobs.regular(attributes)}, title="initial commit")
    request.hub.repos[kind, name] = repo
    return Answer(200, {"url": url, "name": name})


@route("DELETE", r"/api/repos/delete")
def delete(request):
    need_write(request)
    _, kind, name = _named(request)
    find(request, kind, name)
    del request.hub.repos[kind, name]
    return Answer(200)


@route("PUT", rf"/api/{KIND}/{NAME}/settings")
def settings(request, kind, name):
    need_write(request)
    repo, body = find(request, kind, name), request.json()
    if unknown := set(body) - {"visibility", "gated"}:
        raise Answer(400, {"error": f"unknown settings: {sorted(unknown)}"})
    if "gated" in body:
        repo.gated = body["gated"]
    if "visibility" in body:
        repo.private = _visibility(body["visibility"])
    return Answer(200, {"visibility": "private" if repo.private else "public", "gated": repo.gated})


@route("GET", r"/api/whoami-v2")
def whoami(request):
    role = request.hub.tokens.get(request.token)
    if role is None:
        raise Answer(401, {"error": "Invalid username or password."})
    token = {"displayName": "loopback", "role": "write" if role == "write" else "read"}
    lab = {"type": "org", "id": "1", "name": "lab", "fullname": "Lab", "roleInOrg": role}
    user = {"type": "user", "id": "0", "name": "tester", "fullname": "Tester", "orgs": [lab]}
    return Answer(200, {**user, "auth": {"type": "access_token", "accessToken": token}})


@route("GET", rf"/api/{KIND}/{NAME}/auth-check(?P<write>/write)?")
def auth_check(request, kind, name, write):
    check_gate(request, find(request, kind, name))
    if write:
        need_write(request)
    return Answer(200)


def check_gate(request, repo):
    """Refuse the files of a gated repository to who has not been let in."""
    if repo.gated and request.hub.tokens.get(request.token) not in ("write", "read"):
        status = 403 if request.token else 401
        raise Answer(status, {"error": f"Access to {repo.name} is restricted"}, **{"X-Error-Code": "GatedRepo"})


@route("POST", r"/api/validate-yaml")
def validate_yaml(request):
    faults, warnings = card_faults(request.json()["content"])
    messages = {"errors": [{"message": text} for text in faults], "warnings": [{"message": text} for text in warnings]}
    return Answer(400 if faults else 200, messages)


def card_faults(text):
    """Errors and warnings of a card's front matter."""
    match = re.match(r"---\n(.*?)\n---(\n|$)", text, flags=re.DOTALL)
    if match is None:
        return [], ["empty or missing yaml metadata in repo card"]
    try:
        front = yaml.safe_load(match[1])
    except yaml.YAMLError as exc:
        return [str(exc)], []
    if not isinstance(front, dict):
        return ["the front matter is not a mapping"], []
    lists = ("tags", "configs", "datasets", "size_categories", "task_categories")
    return [f"{key} must be a list" for key in lists if not isinstance(front.get(key, []), list)], []


@route("GET", rf"/api/{KIND}/{NAME}(/revision/{REVISION})?")
def info(request, kind, name, revision):
    repo, oid, tree = at(request, kind, name, revision or "main")
    body = _told(repo, oid)
    body["siblings"] = [_sibling(path, entry, request.flag("blobs")) for path, entry in sorted(tree.items())]
    if wanted := request.queries("expand"):
        body = {"_id": body["_id"], "id": name, **{key: body[key] for key in wanted if key in body}}
    return Answer(200, body)


def _told(repo, oid):
    return {
        "_id": repo.history[0][:24],
        "id": repo.name,
        "author": repo.name.split("/")[0],
        "sha": oid,
        "private": repo.private,
        "gated": repo.gated,
        "disabled": False,
        "tags": [],
        "downloads": 0,
        "likes": 0,
        "createdAt": repo.commits[repo.history[0]].date,
        "lastModified": repo.commits[repo.head].date,
    }


def _sibling(path, entry, blobs):
    out = {"rfilename": path}
    if blobs:
        out |= {"size": entry.size, "blobId": entry.git_sha1}
    if blobs and entry.lfs:
        out["lfs"] = {"sha256": entry.sha256, "size": entry.size, "pointerSize": 130}
    return out


@route("GET", rf"/api/{KIND}")
def listing(request, kind):
    member = request.hub.tokens.get(request.token) in ("write", "read")
    rows = [
        _told(repo, repo.head)
        for (of, name), repo in sorted(request.hub.repos.items())
        if of == kind and (member or not repo.private)
        if name.startswith(request.query.get("author", "")) and request.query.get("search", "") in name
    ]
    return request.page(rows, int(request.query.get("limit", "1000")))


@route("GET", rf"/api/{KIND}/{NAME}/refs")
def refs(request, kind, name):
    repo = find(request, kind, name)
    tags = [{"name": tag, "ref": f"refs/tags/{tag}", "targetCommit": oid} for tag, oid in repo.tags.items()]
    branch = {"name": "main", "ref": "refs/heads/main", "targetCommit": repo.head}
    return Answer(200, {"branches": [branch], "converts": [], "tags": tags})


@route("GET", rf"/api/{KIND}/{NAME}/commits/{REVISION}")
def commits(request, kind, name, revision):
    repo, oid, _ = at(request, kind, name, revision)
    newest_first = repo.history[repo.history.index(oid) :: -1]
    rows = [
        {**repo.commits[each].listing(), "message": repo.commits[each].message, "authors": [{"user": "tester"}]}
        for each in newest_first
    ]
    return request.page(rows, COMMITS_PAGE)


@route("POST", rf"/api/{KIND}/{NAME}/tag/{REVISION}")
def tag(request, kind, name, revision):
    need_write(request)
    repo, oid, _ = at(request, kind, name, revision)
    tag = request.json()["tag"]
    if tag in repo.tags:
        raise Answer(409, {"error": f"Tag reference exists already: {tag}"})
    if re.search(r"[\s~^:?*\[\\]|\.\.|^[-/.]|[/.]$", tag):
        raise Answer(400, {"error": f"Invalid tag name: {tag}"})
    repo.tags[tag] = oid
    return Answer(200)


@route("DELETE", rf"/api/{KIND}/{NAME}/tag/{REVISION}")
def delete_tag(request, kind, name, revision):
    need_write(request)
    repo = find(request, kind, name)
    if repo.tags.pop(unquote(revision), None) is None:
        raise not_found("RevisionNotFound")
    return Answer(200)
