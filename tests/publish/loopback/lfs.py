"""Uploads by LFS: whole, or in parts; at presigned addresses, which must not be given the token."""

from __future__ import annotations

from loopback_hub.repositories import find, need_write
from loopback_hub.serving import OF_DATASETS, Answer, route

OID = r"(?P<oid>[0-9a-f]{64})"


@route("POST", rf"{OF_DATASETS}\.git/info/lfs/objects/batch")
def batch(request, kind, name):
    need_write(request)
    find(request, "datasets" if kind else "models", name)
    body = request.json()
    parts = "multipart" in body.get("transfers", [])
    objects = [_object(request.hub, item["oid"], item["size"], parts) for item in body["objects"]]
    chosen = "multipart" if any("chunk_size" in str(item) for item in objects) else "basic"
    return Answer(200, {"transfer": chosen, "objects": objects})


def _object(hub, oid, size, parts):
    out = {"oid": oid, "size": size}
    if hub.stored(oid):
        return out
    signed = f"signature={hub.signature}"
    upload = {"href": f"{hub.url}/lfs/objects/{oid}?{signed}", "header": {}}
    if parts and size > hub.part_bytes:
        number = -(-size // hub.part_bytes)
        pieces = {f"{part:05d}": f"{hub.url}/lfs/parts/{oid}/{part}?{signed}" for part in range(1, number + 1)}
        upload = {
            "href": f"{hub.url}/lfs/complete/{oid}?{signed}",
            "header": {"chunk_size": str(hub.part_bytes), **pieces},
        }
    out["actions"] = {"upload": upload, "verify": {"href": f"{hub.url}/lfs/verify"}}
    return out


@route("PUT", rf"/lfs/objects/{OID}")
def put(request, oid):
    request.hub.check_signed(request)
    if request.body.hash.hexdigest() != oid:
        raise Answer(422, {"error": "the object does not hash to its name"})
    request.body.keep(request.hub.blobs / oid)
    return Answer(200)


@route("PUT", rf"/lfs/parts/{OID}/(?P<part>\d+)")
def put_part(request, oid, part):
    request.hub.check_signed(request)
    if request.body.size > request.hub.part_bytes:
        raise Answer(413, {"error": "the part is larger than agreed"})
    request.body.keep(request.hub.blobs.incoming / f"{oid}.{part}")
    return Answer(200, ETag=f'"{request.body.hash.hexdigest()}"')


@route("POST", rf"/lfs/complete/{OID}")
def complete(request, oid):
    request.hub.check_signed(request)
    body = request.json()
    if body["oid"] != oid:
        raise Answer(400, {"error": "another object"})
    request.hub.assemble(oid, [(item["partNumber"], item["etag"]) for item in body["parts"]])
    return Answer(200)


@route("POST", r"/lfs/verify")
def verify(request):
    need_write(request)
    body = request.json()
    file = request.hub.blobs / body["oid"]
    return Answer(200 if file.is_file() and file.stat().st_size == body["size"] else 404)
