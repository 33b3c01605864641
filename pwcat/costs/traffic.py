"""What GDAL and the tile reader really ask of servers: requests and bytes, by their own counts, in this process.

GDAL keeps the count itself (CPL_VSIL_NETWORK_STATS_ENABLED, since 3.2) but rasterio does not hand it on, so it is asked for
through the very library that rasterio has loaded.
"""

from __future__ import annotations

import ctypes
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from threading import Lock

from pwcat.gdal import loaded_gdal
from pwcat.readers import counting

__all__ = ["Traffic", "metered", "under_way"]

# GDAL counts by file as well; beyond this size its report is cleared, so that asking stays cheap.
REPORT_BYTES = 2**20


@dataclass
class Traffic:
    """Requests and bytes.

    Attributes:
        requests: HEAD and GET.
        bytes: of the answers' bodies.
        retries: requests that the tile reader sent again; GDAL does not tell of its own.
        measured: whether GDAL could be asked; if not, the numbers mean nothing.
    """

    requests: int = 0
    bytes: int = 0
    retries: int = 0
    measured: bool = True

    def add(self, other: Traffic) -> None:
        """Add another's; the sum is measured where both are."""
        self.requests += other.requests
        self.bytes += other.bytes
        self.retries += other.retries
        self.measured &= other.measured


@contextmanager
def metered() -> Iterator[Traffic]:
    """Traffic of GDAL and the tile reader in this process while the block runs, filled in when it ends.

    Blocks may overlap in threads: each is given what no other has been given yet, so that their sum is right.
    """
    traffic = Traffic()
    _METER.start()
    try:
        yield traffic
    finally:
        traffic.add(_METER.stop())


def under_way() -> Traffic:
    """What the tile reader asked for in this process that no block has been given yet; GDAL is not asked."""
    now, before = counting.snapshot(), _METER.given_of_tiles
    return Traffic(
        requests=now.requests - before.requests, bytes=now.bytes - before.bytes, retries=now.retries - before.retries
    )


class _Meter:
    """Shares the one count of the process among the blocks that run."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.running = 0
        self.given = (0, 0)  # the part of GDAL's present count that is no block's any more
        self.given_of_tiles = counting.snapshot()  # the same of the tile reader's

    def start(self) -> None:
        """A block begins; what was read before the first of several is none of theirs."""
        with self.lock:
            if not self.running:
                self._take()
            self.running += 1

    def stop(self) -> Traffic:
        """A block ends; what was read since one last ended."""
        with self.lock:
            self.running -= 1
            return self._take()

    def _take(self) -> Traffic:
        """What no block has been given yet; not measured where GDAL cannot be asked."""
        gdal, tiles = self._take_of_gdal(), counting.snapshot()
        before, self.given_of_tiles = self.given_of_tiles, tiles
        retries = tiles.retries - before.retries
        if gdal is None:
            return Traffic(retries=retries, measured=False)
        requests, size = gdal[0] + tiles.requests - before.requests, gdal[1] + tiles.bytes - before.bytes
        return Traffic(requests=requests, bytes=size, retries=retries)

    def _take_of_gdal(self) -> tuple[int, int] | None:
        gdal = _gdal()
        if gdal is None:
            return None
        report = _report(gdal)
        methods = json.loads(report).get("methods", {}).values()
        count = (sum(m.get("count", 0) for m in methods), sum(m.get("downloaded_bytes", 0) for m in methods))
        taken = (max(0, count[0] - self.given[0]), max(0, count[1] - self.given[1]))
        self.given = count
        if len(report) > REPORT_BYTES:
            gdal.VSINetworkStatsReset()
            self.given = (0, 0)
        return taken


_METER = _Meter()


@cache
def _gdal() -> ctypes.CDLL | None:
    gdal = loaded_gdal()
    return start_count(gdal) if gdal is not None else None


def start_count(gdal: ctypes.CDLL) -> ctypes.CDLL | None:
    """GDAL, counting from now on; ``None`` where it has no such functions, as before 3.2."""
    try:
        gdal.VSINetworkStatsGetAsSerializedJSON.restype = ctypes.c_void_p
        gdal.VSINetworkStatsGetAsSerializedJSON.argtypes = [ctypes.c_void_p]
        gdal.VSIFree.argtypes = [ctypes.c_void_p]
        gdal.CPLSetConfigOption.argtypes = [ctypes.c_char_p, ctypes.c_char_p]
        reset = gdal.VSINetworkStatsReset
    except AttributeError:
        return None
    gdal.CPLSetConfigOption(b"CPL_VSIL_NETWORK_STATS_ENABLED", b"YES")
    reset()  # it looks at the option again
    return gdal


def _report(gdal: ctypes.CDLL) -> bytes:
    pointer = gdal.VSINetworkStatsGetAsSerializedJSON(None)
    try:
        return ctypes.string_at(pointer)
    finally:
        gdal.VSIFree(pointer)
