"""Xet: tokens for its storage, and the storage's own endpoints, as its specification gives them (hub-docs, api.md)."""

from __future__ import annotations

import re
import time

from loopback_hub.files import content
from loopback_hub.repositories import at, check_gate, find, need_write
from loopback_hub.serving import KIND, NAME, REVISION, Answer, route
from loopback_hub.xet import MAX_XORB_BYTES, chunk_offsets

HASH = r"(?P<hash>[0-9a-f]{64})"


@route("GET", rf"/api/{KIND}/{NAME}/xet-(?P<scope>read|write)-token/{REVISION}")
def token(request, kind, name, revision, scope):
    if request.hub.xet is None:
        raise Answer(404, {"error": "Not Found"})
    if scope == "write":
        need_write(request)
        find(request, kind, name)
    else:
        repo, _, _ = at(request, kind, name, revision)
        check_gate(request, repo)
    address, access = request.hub.xet.grant(scope)
    expiry = int(time.time()) + 3600
    headers = {"X-Xet-Cas-Url": address, "X-Xet-Access-Token": access, "X-Xet-Token-Expiration": str(expiry)}
    return Answer(200, {"casUrl": address, "accessToken": access, "exp": expiry}, **headers)


def _need(request, scope):
    granted = request.hub.xet.granted.get(request.token)
    if granted is None:
        raise Answer(401, {"error": "not a token of this storage"})
    if scope == "write" and granted != "write":
        raise Answer(403, {"error": "the token may not write"})


@route("POST", rf"/cas/v1/xorbs/default/{HASH}")
def put_xorb(request, hash):
    _need(request, "write")
    target = request.hub.xet.store.xorbs / hash
    known = target.exists()
    if request.body.size > MAX_XORB_BYTES:
        raise Answer(400, {"error": f"a xorb of {request.body.size} bytes"})
    if not known:
        incoming = request.hub.blobs.incoming / f"xorb-{hash}"
        request.body.keep(incoming)
        try:
            chunk_offsets(incoming)
        except ValueError as exc:
            raise Answer(400, {"error": str(exc)}) from exc
        incoming.replace(target)
    return Answer(200, {"was_inserted": not known})


@route("POST", r"/cas(/v1)?/shards")
def put_shard(request):
    _need(request, "write")
    try:
        request.hub.xet.store.register(b"".join(request.body.chunks()))
    except ValueError as exc:
        raise Answer(400, {"error": str(exc)}) from exc
    return Answer(200, {"result": 1})


@route("GET", rf"/cas/v1/chunks/default(-merkledb)?/{HASH}")
def query(request, hash):
    _need(request, "read")
    shard = request.hub.xet.store.query(hash)
    if shard is None:
        raise Answer(404, {"error": "the chunk is not known"})
    return Answer(200, shard, **{"Content-Type": "application/octet-stream"})


@route("GET", rf"/cas/v1/reconstructions/{HASH}")
def reconstruction(request, hash):
    _need(request, "read")
    store = request.hub.xet.store
    file = store.by_hash.get(hash)
    if file is None:
        raise Answer(404, {"error": "no such file"})
    first, last = 0, file.size
    if match := re.fullmatch(r"bytes=(\d+)-(\d+)", request.headers.get("Range", "")):
        first, last = int(match[1]), min(int(match[2]) + 1, file.size)
        if first >= file.size:
            raise Answer(416, {"error": "beyond the end"})
    return Answer(200, _plan(request.hub, file, first, last))


def _plan(hub, file, first, last):
    """Terms that overlap bytes ``first`` to ``last``, and where to fetch them."""
    terms, fetches, skip, position = [], {}, 0, 0
    for term in file.terms:
        begin, position = position, position + term.size
        if position <= first or begin >= last:
            continue
        if not terms:
            skip = first - begin
        chunks = {"start": term.start, "end": term.stop}
        terms.append({"hash": term.xorb, "unpacked_length": term.size, "range": chunks})
        offsets = hub.xet.store.offsets(term.xorb)
        span = {"start": offsets[term.start], "end": offsets[term.stop] - 1}
        url = f"{hub.url}/cas/data/{term.xorb}?signature={hub.signature}"
        entry = {"range": chunks, "url": url, "url_range": span}
        if entry not in fetches.setdefault(term.xorb, []):
            fetches[term.xorb].append(entry)
    return {"offset_into_first_range": skip, "terms": terms, "fetch_info": fetches}


@route("GET", rf"/cas/data/{HASH}")
def data(request, hash):
    """A xorb's bytes at a presigned address."""
    request.hub.check_signed(request)
    return content(request, request.hub.xet.store.xorbs / hash)
