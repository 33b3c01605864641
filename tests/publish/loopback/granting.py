"""Where clients are sent for Xet: to this server, or to folders that ``hf_xet`` takes for a storage (``local://``)."""

from __future__ import annotations

import os
import secrets
import shutil
from pathlib import Path

from loopback_hub.xet import XetStore


class HttpXet:
    """Xet's storage as endpoints of this server: every request is logged, counted, and may be made to fail."""

    def __init__(self, folder, url):
        self.store = XetStore(folder)
        self.url = url
        self.granted: dict[str, str] = {}

    def grant(self, scope):
        """An address of the storage and a token for it."""
        token = f"xet_{scope}_{secrets.token_hex(8)}"
        self.granted[token] = scope
        return f"{self.url()}/cas", token

    def readable(self, file):
        return True

    def sync(self):
        pass

    def close(self):
        pass


class LocalXet:
    """Xet's storage as folders that ``hf_xet`` itself writes and reads: ``local://``, an undocumented means of its tests.

    Such a folder belongs to one process, for it holds a database; each grant has one of its own, with hard links to all
    that is stored. What was written there is taken over when somebody asks for it. A file can be read so where the
    database that is handed on knows it; others, of uploads side by side, are given by plain HTTP.
    """

    DATABASE = "global_dedup_lookup.redb"

    def __init__(self, folder, url):
        self.store = XetStore(folder)
        self.granted: dict[str, str] = {}
        self._known: dict[Path, set[str]] = {}  # names of the files that the database of a folder knows
        self._seen: set[Path] = set()

    @property
    def _richest(self):
        return max(self._known, key=lambda folder: len(self._known[folder]), default=None)

    def readable(self, file):
        return self._richest is not None and file.hash in self._known[self._richest]

    def grant(self, scope):
        self.sync()
        source = self._richest
        folder = self.store.folder / f"local-{len(self._known)}" / "xet" / "xorbs"
        for part in ("shards", "xorbs"):
            (folder / part).mkdir(parents=True)
            for file in (source / part).glob("*[0-9a-f]") if source and part == "xorbs" else ():
                os.link(file, folder / part / file.name)
        for shard in (source / "shards").glob("*.mdb") if source else ():
            os.link(shard, folder / "shards" / shard.name)
            self._seen.add(folder / "shards" / shard.name)
        if source:
            shutil.copy(source / self.DATABASE, folder / self.DATABASE)
        self._known[folder] = set(self._known[source]) if source else set()
        return f"local://{folder.parent.parent}", "unused"

    def sync(self):
        """Take over xorbs and shards that were written since."""
        for folder, known in self._known.items():
            new = [path for path in folder.glob("shards/*.mdb") if path not in self._seen]
            for xorb in folder.glob("xorbs/default.*") if new else ():
                target = self.store.xorbs / xorb.name.removeprefix("default.")
                if len(target.name) == 64 and not target.exists():
                    os.link(xorb, target)
            for shard in new:
                known.update(file.hash for file in self.store.register(shard.read_bytes()))
                self._seen.add(shard)

    def close(self):
        for folder in self._known:
            shutil.rmtree(folder.parent.parent, ignore_errors=True)
