"""A Hub on loopback: the endpoints that ``huggingface_hub`` and ``datasets`` call, over content-addressed storage.

An independent stand-in for the server, not a mock of our code: clients run unchanged, in processes of their own because
they read ``HF_ENDPOINT`` when imported. It is strict: every object must hash to its name, presigned addresses must not be
given the token, a commit must name a parent that is still the head, a private repository answers only to its members.

This file is the package of the modules in ``loopback/``, so that it can be loaded by its path.
"""

from __future__ import annotations

import hashlib
import random
import secrets
import sys
import threading
from pathlib import Path

__path__ = [str(Path(__file__).with_name("loopback"))]
sys.modules.setdefault("loopback_hub", sys.modules[__name__])

from loopback_hub import cas, collecting, faults, files, lfs, repositories  # noqa: F401, E402
from loopback_hub.granting import HttpXet, LocalXet  # noqa: E402
from loopback_hub.serving import Answer, Handler, Server  # noqa: E402
from loopback_hub.storage import Blobs, Repo  # noqa: E402

TOKEN = "hf_loopback"  # may read and write everything
READ_TOKEN = "hf_loopback_read"  # a member's that only reads: writes are refused with 403
STRANGER_TOKEN = "hf_loopback_stranger"  # somebody else's: sees nothing private, and no files of what is gated


class LoopbackHub:
    """The server, its storage and its log. Use as a context manager.

    Args:
        folder: Where content is kept; large bodies never in memory.
        cdn: Send readers of large files on to presigned addresses of another host, as the Hub does.
        xet: Take and give large files by Xet too: ``True`` or ``"http"`` for a storage of this server's, whose requests are
            logged, counted and may be made to fail; ``"local"`` for folders that ``hf_xet`` writes and reads itself.
    """

    def __init__(self, folder, *, cdn=False, xet=False):
        self.blobs = Blobs(folder)
        kinds = {False: None, True: HttpXet, "http": HttpXet, "local": LocalXet}
        self.xet = kinds[xet](Path(folder) / "xet", lambda: self.url) if xet else None
        self.xet_downloads = True  # False: large files are told of, and given, by plain HTTP only
        self.cdn = cdn
        self.tokens = {TOKEN: "write", READ_TOKEN: "read", STRANGER_TOKEN: "stranger"}
        self.signature = secrets.token_hex(8)
        self.page_entries = 1000  # of a listing of files
        self.part_bytes = 8 * 2**20  # larger objects go in parts
        self.retry_after_s = 0  # what an answer 429 asks for; the client waits a second longer
        self.repos: dict[tuple[str, str], Repo] = {}
        self.collections: dict[str, collecting.Collection] = {}
        self.log: list[tuple[str, str, int, int]] = []  # method, path, status, bytes received
        self.errors: list[str] = []
        self._sent: list[tuple[str, str, int]] = []
        self._planned: list[faults.Planned] = []
        self._storm = None
        self.lock = threading.RLock()
        self.stalled = threading.Event()
        self.resumed = threading.Event()
        self.server = Server(("127.0.0.1", 0), type("Handler", (Handler,), {"hub": self}))
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, kind, *exc):
        self.resumed.set()
        self.server.shutdown()
        self.server.server_close()
        if self.xet is not None:
            self.xet.close()
        if self.errors and kind is None:
            raise AssertionError("the loopback Hub itself failed:\n" + "\n".join(self.errors))

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    @property
    def cdn_url(self):
        return self.url.replace("127.0.0.1", "localhost")

    def environment(self, home, *, token=TOKEN, xet=None):
        """Environment variables for a client process; ``home`` is its cache.

        ``xet`` leaves Xet on, as it is by default; None: where this Hub has it.
        """
        env = {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_UPDATE_DOWNLOAD_COUNTS": "0",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
        }
        if not (self.xet is not None if xet is None else xet):
            env["HF_HUB_DISABLE_XET"] = "1"
        return {**env, "HF_TOKEN": token} if token else env

    # What a test plans.
    def fail(self, schedule, *, after=0):
        """Plan faults from ``"METHOD:path:status:times"`` entries parted by commas, as ``"PUT:/lfs/:503:2"``.

        They concern the next ``times`` requests of that method (``*``: any) whose path holds ``path``, once ``after`` such
        requests have passed. Beside a status code (429 tells when to come back), the status is one of:

        - ``stall``: no answer until ``resume()``, then 503; ``stalled`` is set meanwhile. Nothing is done.
        - ``drop``: the request is read, nothing is done, the connection closes without an answer.
        - ``cut``: the connection closes when half of the request's body has come.
        - ``lost``: the work is done, the answer is 504.
        - ``hangup``: the work is done, the connection closes without an answer.
        - ``truncate``: the answer promises its whole Content-Length and ends after half of it.
        """
        planned = list(faults.parse(schedule, after))
        if any(fault.status == "stall" for fault in planned):
            self.stalled.clear()
            self.resumed.clear()
        self._planned += planned

    def storm(self, share, *, seed):
        """From now on, that share of all requests fails, each in a way drawn at random, until ``forget()``."""
        draw = random.Random(seed)
        self._storm = lambda: draw.choice(faults.STORM) if draw.random() < share else None

    def before(self, method, path, callback, *, times=1, after=0):
        """Run a callback when such a request has come, before it is worked on: somebody else's commit in between, say."""
        self._planned.append(faults.Hook(method, path, times, after, callback, True))

    def after(self, method, path, callback, *, times=1, after=0):
        """Run a callback when such a request has been worked on, before it is answered."""
        self._planned.append(faults.Hook(method, path, times, after, callback, False))

    def resume(self):
        """Let stalled requests go on; they are answered 503."""
        self.resumed.set()

    def forget(self):
        """Plan nothing any more, and begin the log anew."""
        with self.lock:
            self._planned.clear()
            self._storm = None
            self.log.clear()
            self._sent.clear()
        self.resume()

    # What a test asks.
    def calls(self, method, path=""):
        return [entry for entry in self.log if entry[0] == method and path in entry[1]]

    def sent(self, path=""):
        """Bytes of the bodies of answers to GETs whose path holds ``path``."""
        return sum(size for method, at, size in self._sent if method == "GET" and path in at)

    def files(self, kind, name, revision="main"):
        repo = self.repos[kind, name]
        return repo.trees[repo.resolve(revision)]

    def read(self, kind, name, path, revision="main"):
        return (self.blobs / self.files(kind, name, revision)[path].sha256).read_bytes()

    # What somebody else does.
    def add_repo(self, kind, name, contents, *, private=False, tags=()):
        """A repository that somebody else made: ``contents`` maps paths to bytes; by LFS where the Hub would."""
        with self.lock:
            self.repos[kind, name] = repo = Repo(kind, name, private)
            repo.add({".gitattributes": self.blobs.regular(b"")}, title="initial commit")
            oid = self.commit(kind, name, contents)
            repo.tags.update(dict.fromkeys(tags, oid))
        return repo

    def commit(self, kind, name, contents, *, title="elsewhere"):
        """Somebody else's commit: ``contents`` maps paths to bytes, or to None for those to delete."""
        with self.lock:
            repo = self.repos[kind, name]
            tree = dict(repo.trees[repo.head])
            for path, data in contents.items():
                if data is None:
                    del tree[path]
                else:
                    tree[path] = self.blobs.entry(path, data)
            return repo.add(tree, title)

    # What the handler asks.
    def fault(self, method, path):
        with self.lock:
            for planned in self._planned:
                if isinstance(planned, faults.Fault) and planned.takes(method, path):
                    return planned.status
            return self._storm() if self._storm else None

    def run_hooks(self, method, path, *, before):
        with self.lock:
            hooks = [each for each in self._planned if isinstance(each, faults.Hook) and each.before == before]
            due = [hook for hook in hooks if hook.takes(method, path)]
        for hook in due:
            try:
                hook.callback()
            except Exception as exc:
                self.errors.append(f"a callback at {method} {path}: {exc!r}")

    def headers_of_fault(self, status):
        if status != 429:
            return {}
        limit = {
            "RateLimit": f'"api";r=0;t={self.retry_after_s}',
            "RateLimit-Policy": '"fixed window";"api";q=500;w=300',
        }
        return {**limit, "Retry-After": str(self.retry_after_s)}

    def record(self, method, path, status, received, sent):
        with self.lock:
            self.log.append((method, path, status, received))
            self._sent.append((method, path, sent))

    def check_token(self, token):
        if token and token not in self.tokens:
            raise Answer(401, {"error": "Invalid credentials in Authorization header"})

    def check_signed(self, request):
        if "Authorization" in request.headers:
            raise Answer(400, {"error": "a presigned address must not be given the token"})
        if request.query.get("signature") != self.signature:
            raise Answer(403, {"error": "the address is not signed"})

    def stored(self, sha256):
        """Whether content has come, by LFS or Xet; what came by Xet is put together here, and must hash to its name."""
        if self.blobs.has(sha256) or self.xet is None:
            return self.blobs.has(sha256)
        self.xet.sync()
        file = self.xet.store.by_sha256.get(sha256)
        if file is None:
            return False
        whole = self.blobs.incoming / sha256
        try:
            built = self.xet.store.rebuild(file, whole)
        except ValueError as exc:
            raise Answer(422, {"error": str(exc)}) from exc
        if built != sha256:
            raise Answer(422, {"error": f"what Xet was given for {sha256} does not hash to it"})
        self.blobs.take(whole, sha256)
        return True

    def assemble(self, oid, parts):
        """Put parts together, in order, whose hashes are what the client was told."""
        if [number for number, _ in parts] != list(range(1, len(parts) + 1)):
            raise Answer(400, {"error": "the parts are not in order"})
        whole, digest = self.blobs.incoming / oid, hashlib.sha256()
        pieces = [self.blobs.incoming / f"{oid}.{number}" for number, _ in parts]
        with whole.open("wb") as file:
            for piece, (number, etag) in zip(pieces, parts, strict=True):
                data = piece.read_bytes() if piece.is_file() else b""
                if hashlib.sha256(data).hexdigest() != etag.strip('"'):
                    raise Answer(400, {"error": f"part {number} is not what was sent"})
                digest.update(data)
                file.write(data)
        if digest.hexdigest() != oid:
            raise Answer(422, {"error": "the parts do not hash to the object's name"})
        self.blobs.take(whole, oid)
        for piece in pieces:
            piece.unlink()

    def xet_hash(self, sha256):
        if self.xet is None or not self.xet_downloads:
            return None
        file = self.xet.store.by_sha256.get(sha256)
        return file.hash if file and self.xet.readable(file) else None

    def xet_headers(self, repo, commit, sha256):
        if (name := self.xet_hash(sha256)) is None:
            return {}
        route = f"{self.url}/api/{repo.kind}/{repo.name}/xet-read-token/{commit}"
        return {"X-Xet-Hash": name, "Link": f'<{route}>; rel="xet-auth"'}

    def xorb_bytes(self):
        """Bytes that Xet stores for all uploads so far: chunks that were there already are not stored again."""
        self.xet.sync()
        return self.xet.store.bytes()
