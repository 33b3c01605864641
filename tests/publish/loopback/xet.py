"""Xet's storage: shards that say what files are made of, xorbs that hold their chunks, and files put together from them.

The formats are those of the protocol's specification (hub-docs, docs/hub/xet: shard.md, xorb.md, api.md); nothing of
``hf_xet`` is used, so that what clients send is read by other code than wrote it.
"""

from __future__ import annotations

import hashlib
import struct
import time
from dataclasses import dataclass
from pathlib import Path

ENTRY = 48  # bytes of every entry of a shard
END = b"\xff" * 32
HAS_CHECKS, HAS_SHA256 = 1 << 31, 1 << 30
FOOTER = 200
ELIGIBLE_EVERY = 1024  # chunks, by their hash, may be asked for by everybody; the first of a file may be, too
MAX_XORB_BYTES = 64 * 2**20 + 2**20
NONE, LZ4, GROUPED = 0, 1, 2


def hexadecimal(raw):
    """How the protocol prints a hash: four little-endian words."""
    return "".join(f"{word:016x}" for word in struct.unpack("<4Q", raw))


@dataclass(frozen=True)
class Term:
    """Chunks ``start`` to ``stop`` of a xorb: the next ``size`` bytes of a file."""

    xorb: str
    start: int
    stop: int
    size: int


@dataclass(frozen=True)
class XetFile:
    hash: str
    sha256: str | None
    terms: tuple[Term, ...]

    @property
    def size(self):
        return sum(term.size for term in self.terms)


@dataclass(frozen=True)
class Shard:
    files: list[XetFile]
    head: bytes
    blocks: bytes  # its section about xorbs, as it came
    chunks: dict[str, list[str]]  # of each of these xorbs


def parse_shard(data):
    """A shard, with or without its footer."""
    if len(data) < 3 * ENTRY or struct.unpack_from("<Q", data, 32)[0] != 2:
        raise ValueError("no shard of version 2")
    at, files = ENTRY, []
    while data[at : at + 32] != END:
        file, at = _file(data, at)
        files.append(file)
    start = at = at + ENTRY
    chunks = {}
    while data[at : at + 32] != END:
        (number,) = struct.unpack_from("<I", data, at + 36)
        inside = range(at + ENTRY, at + ENTRY * (number + 1), ENTRY)
        chunks[hexadecimal(data[at : at + 32])] = [hexadecimal(data[each : each + 32]) for each in inside]
        at += ENTRY * (number + 1)
    return Shard(files, data[:32], data[start : at + ENTRY], chunks)


def _file(data, at):
    flags, number = struct.unpack_from("<II", data, at + 32)
    name, at = hexadecimal(data[at : at + 32]), at + ENTRY
    terms = []
    for entry in range(at, at + number * ENTRY, ENTRY):
        _, size, start, stop = struct.unpack_from("<4I", data, entry + 32)
        terms.append(Term(hexadecimal(data[entry : entry + 32]), start, stop, size))
    at += number * ENTRY * (2 if flags & HAS_CHECKS else 1)
    sha256 = None
    if flags & HAS_SHA256:
        sha256, at = hexadecimal(data[at : at + 32]), at + ENTRY
    return XetFile(name, sha256, tuple(terms)), at


def answer_shard(shard):
    """What a query for a chunk is answered: a shard of no files, its xorbs, and a footer without a key."""
    blocks_at = 2 * ENTRY
    footer_at = blocks_at + len(shard.blocks)
    now = int(time.time())
    no_tables = struct.pack("<6Q", footer_at, 0, footer_at, 0, footer_at, 0)  # the client does not look before it reads
    footer = struct.pack("<3Q", 1, ENTRY, blocks_at) + no_tables + bytes(32) + struct.pack("<2Q", now, now + 86400)
    footer += bytes(72) + struct.pack("<Q", footer_at)
    return shard.head + struct.pack("<2Q", 2, FOOTER) + END + bytes(16) + shard.blocks + footer


def chunk_offsets(path):
    """Where each chunk of a xorb begins, and where the last one ends."""
    offsets, at = [0], 0
    with path.open("rb") as file:
        while len(header := file.read(8)) == 8 and not header.startswith(b"XETBLOB"):
            if header[0] != 0:
                raise ValueError("no chunk of version 0")
            at += 8 + int.from_bytes(header[1:4], "little")
            offsets.append(at)
            file.seek(at)
    if at > path.stat().st_size:
        raise ValueError("the last chunk is cut off")
    return offsets


def unpack(file, number):
    """The bytes of the next chunks of a xorb, one after another."""
    import pyarrow as pa

    for _ in range(number):
        header = file.read(8)
        packed, scheme, size = int.from_bytes(header[1:4], "little"), header[4], int.from_bytes(header[5:8], "little")
        chunk = file.read(packed)
        if scheme in (LZ4, GROUPED):
            chunk = pa.Codec("lz4").decompress(chunk, size, asbytes=True)
        if scheme not in (NONE, LZ4, GROUPED) or len(chunk) != size:
            raise ValueError("a chunk is not what its header says")
        yield _ungroup(chunk) if scheme == GROUPED else chunk


def _ungroup(chunk):
    out, start = bytearray(len(chunk)), 0
    for group in range(4):
        stop = start + (len(chunk) + 3 - group) // 4
        out[group::4] = chunk[start:stop]
        start = stop
    return bytes(out)


class XetStore:
    """Xorbs and shards in a folder, and what is known of files by them."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.xorbs = self.folder / "xorbs"
        self.shards = self.folder / "shards"
        for each in (self.xorbs, self.shards):
            each.mkdir(parents=True, exist_ok=True)
        self.by_sha256: dict[str, XetFile] = {}
        self.by_hash: dict[str, XetFile] = {}
        self._chunks: dict[str, list[str]] = {}
        self._eligible: dict[str, str] = {}  # chunk -> name of a shard
        self._offsets: dict[str, list[int]] = {}

    def bytes(self):
        """Bytes of all xorbs: what uploads really stored."""
        return sum(file.stat().st_size for file in self.xorbs.iterdir())

    def offsets(self, xorb):
        if xorb not in self._offsets:
            self._offsets[xorb] = chunk_offsets(self.xorbs / xorb)
        return self._offsets[xorb]

    def register(self, data):
        """The files of a shard, which must be made of xorbs that are here."""
        shard = parse_shard(data)
        for file in shard.files:
            for term in file.terms:
                if not (self.xorbs / term.xorb).is_file():
                    raise ValueError(f"xorb {term.xorb} was never uploaded")
                if not 0 <= term.start < term.stop < len(self.offsets(term.xorb)):
                    raise ValueError(f"xorb {term.xorb} has no chunks {term.start} to {term.stop}")
        name = hashlib.sha256(data).hexdigest()
        (self.shards / name).write_bytes(data)
        self._chunks |= shard.chunks
        chunks = [
            each for inside in shard.chunks.values() for each in inside if int(each[48:], 16) % ELIGIBLE_EVERY == 0
        ]
        firsts = [self._chunks[file.terms[0].xorb][file.terms[0].start] for file in shard.files if file.terms]
        for chunk in (*chunks, *firsts):
            self._eligible.setdefault(chunk, name)
        for file in shard.files:
            self.by_hash[file.hash] = file
            if file.sha256 is not None:
                self.by_sha256[file.sha256] = file
        return shard.files

    def query(self, chunk):
        """A shard that knows a chunk; None where none does."""
        name = self._eligible.get(chunk)
        return answer_shard(parse_shard((self.shards / name).read_bytes())) if name else None

    def rebuild(self, file, target):
        """Write a file's bytes, and give their SHA-256."""
        digest = hashlib.sha256()
        with target.open("wb") as out:
            for term in file.terms:
                with (self.xorbs / term.xorb).open("rb") as xorb:
                    xorb.seek(self.offsets(term.xorb)[term.start])
                    for chunk in unpack(xorb, term.stop - term.start):
                        digest.update(chunk)
                        out.write(chunk)
        if target.stat().st_size != file.size:
            raise ValueError(f"the chunks of {file.hash} are not of the size that its terms have")
        return digest.hexdigest()
