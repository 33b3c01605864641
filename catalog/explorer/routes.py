"""What the explorer's page asks for: files of the page, facts, the columns of all samples, one sample, its pictures."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Awaitable, Callable
from functools import cached_property
from hashlib import sha256
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.staticfiles import StaticFiles

from catalog.explorer.columns import Columns, read_columns
from catalog.explorer.pictures import COMPOSITES, composites_of, encode_png, render, scaling_of, spectrum
from catalog.land import land_of
from catalog.querying.beside import fitting
from catalog.querying.places import Folder
from catalog.subset import Subset, load_subset
from pwcat.errors import CatalogError, PwcatError
from pwcat.maps import COLOURS

if TYPE_CHECKING:
    from catalog.query import Catalog, Collection

__all__ = ["explorer_routes"]

log = logging.getLogger(__name__)

PAGE = Path(__file__).parent / "page"
LAND_TOLERANCE_DEG = 0.1
KEPT_CHIPS = 256  # chips held in memory, so that the pictures of one are read once
# Nothing but our own files: names in a catalog are text of strangers
POLICY = "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'"
Endpoint = Callable[[Request], Awaitable[Response]]


def explorer_routes(catalog: Catalog) -> list[BaseRoute]:
    """The routes of the explorer over one catalog, to be mounted at a path of its own.

    Nothing is read before the page is asked for. A request names rows, never files: none of it reaches the file system.
    """
    explorer = _Explorer(catalog)
    return [
        Route("/", explorer.page, name="explorer"),
        Route("/facts.json", explorer.facts),
        Route("/land.json", explorer.land),
        Route("/samples.bin", explorer.samples),
        Route("/samples/{row:int}.json", explorer.sample),
        Route("/samples/{row:int}/{composite:str}.png", explorer.picture),
        Route("/subsets/{number:int}.bin", explorer.subset),
        Route("/{name:str}", explorer.file),
    ]


class _Explorer:
    """One catalog, its columns read once, at the first request."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self._files = StaticFiles(directory=PAGE)
        self._lock = threading.Lock()
        self._chips: dict[int, NDArray[np.uint16]] = {}

    @property
    def members(self) -> list[Collection]:
        return list(self.catalog.members.values())

    @cached_property
    def _columns(self) -> Columns:
        return read_columns(self.catalog)

    @cached_property
    def _block(self) -> bytes:
        return self.columns.encode()

    @property
    def columns(self) -> Columns:
        with self._lock:  # several requests may come at once; one reads
            return self._columns

    @cached_property
    def version(self) -> str:
        """Changes with what is shown, so that a page of yesterday's samples is not mixed with today's."""
        return sha256(self._block).hexdigest()[:16]

    @cached_property
    def saved(self) -> list[tuple[str, Path]]:
        """Subsets that lie in the catalog's folder: what search and subset saved there."""
        place = self.catalog.place
        root = place.path if isinstance(place, Folder) else None
        files = sorted([*root.glob("*.parquet"), *root.glob("subsets/*.parquet")]) if root else []
        return [(path.stem, path) for path in files if _is_subset(path)]

    async def page(self, request: Request) -> Response:
        """The page itself; asked for without a slash at the end, it moves there, for its links are relative."""
        if not request.url.path.endswith("/"):
            return RedirectResponse(request.url.replace(path=request.url.path + "/"))
        return await self._file(request, "index.html")

    async def file(self, request: Request) -> Response:
        """A file of the page."""
        return await self._file(request, request.path_params["name"])

    async def _file(self, request: Request, name: str) -> Response:
        response = await self._files.get_response(name, request.scope)
        response.headers["Content-Security-Policy"] = POLICY
        response.headers["Cache-Control"] = "no-cache"  # asked again each time, sent again where it has changed
        return response

    def facts(self, request: Request) -> Response:
        """What the page says and offers before it knows the samples."""
        return self._told(request, lambda: JSONResponse(self._facts(request)))

    def _facts(self, request: Request) -> dict[str, Any]:
        return {
            "name": self.catalog.place.name,
            "path": self._called(request),
            "version": self.version,
            "collections": [_facts_of(member) for member in self.members],
            "subsets": [name for name, _ in self.saved],
            "colours": list(COLOURS),
            "composites": [{"name": each.name, "title": each.title} for each in COMPOSITES],
        }

    def _called(self, request: Request) -> str:
        """The catalog in the lines to copy: how it is opened from here, or its name for others, who have it elsewhere."""
        place, here = self.catalog.place, Path.cwd()
        if not isinstance(place, Folder):
            return str(place)
        if not _is_here(request):
            return place.name
        return str(place.path.relative_to(here) if place.path.is_relative_to(here) else place.path)

    def _said(self, request: Request, exc: PwcatError) -> str:
        """A message for whoever asks; where the catalog's folder lies is nobody's business but ours."""
        place = self.catalog.place
        return str(exc) if _is_here(request) else str(exc).replace(str(place), place.name)

    def _told(self, request: Request, answer: Callable[[], Response]) -> Response:
        """An answer; what the user can mend is told to the page."""
        try:
            return answer()
        except PwcatError as exc:
            return JSONResponse({"error": self._said(request, exc)}, status_code=409)

    def land(self, request: Request) -> Response:
        """Land for the map, as rings."""
        return self._told(request, lambda: Response(self._land, media_type="application/json"))

    @cached_property
    def _land(self) -> bytes:
        land = land_of(self.members)
        return json.dumps(
            {"source": land.source, "rings": land.rings(tolerance_deg=LAND_TOLERANCE_DEG)}, separators=(",", ":")
        ).encode()

    def samples(self, request: Request) -> Response:
        """The columns of all samples."""
        return self._told(request, lambda: Response(self._block, media_type="application/octet-stream"))

    def subset(self, request: Request) -> Response:
        """Which rows a saved subset holds: unsigned numbers of four bytes."""
        return self._told(request, lambda: self._subset(request.path_params["number"]))

    def _subset(self, number: int) -> Response:
        if number >= len(self.saved):
            return JSONResponse({"error": f"there are {len(self.saved)} subsets"}, status_code=404)
        rows = _rows_of(load_subset(self.saved[number][1]), self.catalog, self.columns)
        return Response(rows.astype("<u4").tobytes(), media_type="application/octet-stream")

    def sample(self, request: Request) -> Response:
        """All that is known of one sample."""
        return self._told(request, lambda: self._sample(request))

    def _sample(self, request: Request) -> Response:
        row = request.path_params["row"]
        if row >= len(self.columns):
            return _no_such_row(row, len(self.columns))
        name, sample_id = self.columns.collection_of(row), self.columns.ids[row].as_py()
        found = self.catalog.search(collections=name, ids=[sample_id])
        told = {"row": row, "id": sample_id, "collection": name, **_labels(found)}
        try:
            cube, chip = self._read(row)
        except PwcatError as exc:
            return JSONResponse({**told, "pictures": [], "spectra": [], "why": self._said(request, exc)})
        titles = {composite.name: composite.title for composite in COMPOSITES}
        pictures = [{"name": each, "title": titles[each]} for each in composites_of(cube)]
        return JSONResponse({**told, "pictures": pictures, "size_px": chip.shape[-1], "spectra": spectrum(chip, cube)})

    def picture(self, request: Request) -> Response:
        """A chip as a PNG; ``date`` is its number, ``px`` about how many pixels are wanted."""
        return self._told(request, lambda: self._picture(request))

    def _picture(self, request: Request) -> Response:
        row, name = request.path_params["row"], request.path_params["composite"]
        if row >= len(self.columns):
            return _no_such_row(row, len(self.columns))
        cube, chip = self._read(row)
        bands = composites_of(cube)
        date = _number(request.query_params.get("date"), 0)
        if name not in bands or date >= len(chip):
            return JSONResponse({"error": f"there is no picture {name!r} of date {date}"}, status_code=404)
        step = max(1, chip.shape[-1] // max(1, _number(request.query_params.get("px"), chip.shape[-1])))
        scale, offset = scaling_of(cube)
        composite = next(each for each in COMPOSITES if each.name == name)
        pixels = render(chip[date], composite=composite, bands=bands[name], scale=scale, offset=offset, step=step)
        return Response(encode_png(pixels), media_type="image/png", headers={"Cache-Control": "max-age=3600"})

    def _read(self, row: int) -> tuple[Any, NDArray[np.uint16]]:
        """The cube that holds a row, and its chip ``(time, band, y, x)``."""
        cube = self.catalog.collection(self.columns.collection_of(row)).cube
        chip = self._chips.get(row)
        if chip is None:
            if self.columns.index[row] < 0:
                raise CatalogError("this sample is in no cube of ours: its pixels stay where they are")
            chip = cube.read(self.columns.index[row : row + 1])[0]
            with self._lock:
                while len(self._chips) >= KEPT_CHIPS:
                    self._chips.pop(next(iter(self._chips)))
                self._chips[row] = chip
        return cube, chip


def _is_here(request: Request) -> bool:
    """Whether a request comes from this computer, by its own name; through a proxy that tells, from where it came to that."""
    names = [request.client.host if request.client else "", request.url.hostname or ""]
    return all(name == "localhost" or _is_loopback(name) for name in names)


def _is_loopback(name: str) -> bool:
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def _no_such_row(row: int, rows: int) -> Response:
    return JSONResponse({"error": f"row {row}: there are {rows:,} samples"}, status_code=404)


def _number(text: str | None, usual: int) -> int:
    """A small number of a query; anything else is the usual one."""
    return int(text) if text is not None and text.isdecimal() and len(text) < 6 else usual


def _facts_of(member: Collection) -> dict[str, Any]:
    metadata = member.metadata
    return {
        "name": member.name,
        "title": metadata.title or member.name,
        "license": metadata.license,
        "providers": [provider.name for provider in metadata.providers or []],
    }


def _labels(found: Subset) -> dict[str, Any]:
    """Everything flat that the items say of the one sample found."""
    row = found.table.slice(0, 1).to_pylist()[0]
    flat = {key: value for key, value in row.items() if key.startswith(("div:", "proj:code", "pwcat:"))}
    beside = [name for one in found.collections for name, told in fitting(one.items).items() if told.kind != "vector"]
    told = found.columns(beside).to_pylist()[0] if beside else {}
    lon, lat = found.lonlat[0].tolist()
    moment = row["datetime"].isoformat() if row.get("datetime") else None
    return {"lon": lon, "lat": lat, "datetime": moment, "fields": flat, "columns": told}


def _is_subset(path: Path) -> bool:
    try:
        return b"pwcat:subset" in (pq.read_schema(path).metadata or {})
    except (OSError, ValueError):
        return False


def _rows_of(subset: Subset, catalog: Catalog, columns: Columns) -> NDArray[np.int64]:
    """Rows of the page that a subset holds."""
    starts, start = {}, 0
    for name, member in catalog.members.items():
        starts[name] = start
        start += member.items.num_rows
    held = np.zeros(start, dtype=bool)
    for member, rows in subset.parts():
        if member.name in starts:
            held[starts[member.name] + subset.row[rows]] = True
    return np.flatnonzero(held[columns.order])
