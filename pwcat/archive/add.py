"""Real GeoTIFFs into an archive: each file, or each group of one-band files, becomes an item; pixels stay as they are."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pystac
import rasterio
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader

from pwcat.archive import folder
from pwcat.archive.folder import Grid
from pwcat.archive.spectra import BANDS
from pwcat.errors import ArchiveError

__all__ = ["AddOptions", "AddReport", "add_scenes", "parse_span", "parse_when"]

# <item>_<band>.tif: the bands of Sentinel-2 and what is delivered beside them
_BAND_FILE = re.compile(r"^(?P<item>.+)[_-](?P<band>B0[1-9]|B1[0-2]|B8A|SCL|AOT|WVP|CLD|SNW)$")
_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
_OFFSET_SINCE = "04.00"  # the processing baseline from which on Sentinel-2 L2A adds 1000 DN


@dataclass(frozen=True, kw_only=True)
class AddOptions:
    """What is known of the files beside what they say: see :func:`add_scenes`."""

    collection: str
    when: datetime | None = None
    until: datetime | None = None
    processing_baseline: str | None = None
    bands: tuple[str, ...] = ()
    cloud_cover: float | None = None
    license: str = "other"
    link: bool = False


@dataclass(frozen=True, kw_only=True)
class AddReport:
    """What came of it: ids of items new and already there, and the files that failed with the reason."""

    added: tuple[str, ...]
    kept: tuple[str, ...]
    failed: tuple[tuple[Path, str], ...]


@dataclass(frozen=True, kw_only=True)
class _Source:
    """One readable file: its bands, its date, and the hash of its bytes."""

    path: Path
    grid: Grid
    bands: tuple[str, ...]
    dtypes: tuple[str, ...]
    nodata: tuple[float | None, ...]
    when: datetime | None
    sha256: str


class _Unfit(Exception):
    """A file cannot become an item; the text says why."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(reason)
        self.path, self.reason = path, reason


def add_scenes(
    directory: str | Path,
    files: Sequence[str | Path],
    *,
    collection: str,
    when: datetime | None = None,
    until: datetime | None = None,
    processing_baseline: str | None = None,
    bands: Sequence[str] = (),
    cloud_cover: float | None = None,
    license: str = "other",
    link: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> AddReport:
    """Add GeoTIFFs to an archive, which is made where there is none; adding them again changes nothing.

    An item is named after its file. A file of several bands is split to one asset a band; files of one band whose names
    end in a band (``..._B02.tif``) come together as one item. Pixels, type, nodata, CRS and grid stay as they are.

    Args:
        directory: Folder of the archive.
        files: GeoTIFFs in any CRS.
        collection: Collection to add to.
        when: Date of all files; where it is None, each file's own ``TIFFTAG_DATETIME`` or acquisition tag is taken.
        until: The last moment that they stand for, where ``when`` is the first: the items then say a span.
        processing_baseline: Of Sentinel-2, as ``04.00``; says whether DN carry the offset of 1000.
        bands: Names of the bands, in the files' order; else the files' band descriptions, else ``band_1`` and so on.
        cloud_cover: Percentage, of all files.
        license: SPDX name for a new collection.
        link: Link to the files as they are, unsplit, instead of writing COGs.
        progress: Called with (items done, items in all).

    Raises:
        ArchiveError: An option is not valid, or a file has no date. A file that cannot be read is in the report.
    """
    options = AddOptions(
        collection=collection,
        when=when,
        until=until,
        processing_baseline=processing_baseline,
        bands=tuple(bands),
        cloud_cover=cloud_cover,
        license=license,
        link=link,
    )
    root, paths = Path(directory), [Path(file) for file in files]
    _check(options, paths)
    failed: list[tuple[Path, str]] = []
    sources = [source for path in paths if (source := _open(path, options, failed)) is not None]
    _check_dates(sources, options)
    groups = _group(sources, broken={_item_of(path) for path, _ in failed}, failed=failed)
    added: list[str] = []
    kept: list[str] = []
    for done, (item_id, members) in enumerate(groups.items(), start=1):
        try:
            (added if _add_item(root, item_id, members, options) else kept).append(item_id)
        except _Unfit as exc:
            failed.append((exc.path, exc.reason))
        if progress is not None:
            progress(done, len(groups))
    if added or kept:
        folder.write_collection(root, _collection(root, options))
        folder.write_catalog(root)
    return AddReport(added=tuple(added), kept=tuple(kept), failed=tuple(failed))


def parse_when(text: str) -> datetime:
    """A moment from a date, an RFC 3339 time or a TIFF time (``2021:06:01 10:30:00``); UTC where no zone is given.

    Raises:
        ValueError: It is none of them.
    """
    tiff = re.fullmatch(r"(\d{4}):(\d\d):(\d\d)(.*)", text.strip())
    moment = datetime.fromisoformat("{}-{}-{}{}".format(*tiff.groups()) if tiff else text.strip())
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def parse_span(text: str) -> tuple[datetime, datetime | None]:
    """The first and the last moment of a month (``2021-06``), a year (``2021``) or an interval (``2021-06-01/2021-06-30``).

    Anything else is one moment, as :func:`parse_when` reads it, without a last one. A day that ends an interval is in it.

    Raises:
        ValueError: It is none of them, or ends before it starts.
    """
    if part := re.fullmatch(r"(\d{4})(?:-(\d\d))?", text.strip()):
        year, month = int(part[1]), int(part[2] or 1)
        after = (year, month + 1) if part[2] and month < 12 else (year + 1, 1)
        return datetime(year, month, 1, tzinfo=UTC), datetime(*after, 1, tzinfo=UTC) - timedelta(seconds=1)
    first, slash, last = text.partition("/")
    if not slash:
        return parse_when(text), None
    start, end = parse_when(first), parse_when(last)
    if re.fullmatch(r"\d{4}-\d\d-\d\d", last.strip()):
        end += timedelta(days=1, seconds=-1)
    if end < start:
        raise ValueError(f"{text!r} ends before it starts")
    return start, end


def _check(options: AddOptions, paths: Sequence[Path]) -> None:
    faults = []
    if not paths:
        faults.append("no files are given")
    if not _NAME.match(options.collection):
        faults.append(f"collection {options.collection!r}: letters, digits, '.', '_' and '-' are allowed")
    if options.processing_baseline is not None and not re.fullmatch(r"\d\d\.\d\d", options.processing_baseline):
        faults.append(f"processing baseline {options.processing_baseline!r} is not of the form 04.00")
    if options.until is not None and (options.when is None or options.until < options.when):
        faults.append(f"the span that ends at {options.until} starts {options.when or 'at no date'}")
    if options.cloud_cover is not None and not 0 <= options.cloud_cover <= 100:
        faults.append(f"cloud cover {options.cloud_cover} is not within 0 to 100 percent")
    twice = sorted({name for name in options.bands if options.bands.count(name) > 1})
    if twice:
        faults.append(f"bands named twice: {', '.join(twice)}")
    bad = [name for name in options.bands if not _NAME.match(name)]
    if bad:
        faults.append(f"bands {', '.join(map(repr, bad))}: letters, digits, '.', '_' and '-' are allowed")
    if faults:
        raise ArchiveError(f"cannot add: {'; '.join(faults)}")


def _check_dates(sources: Sequence[_Source], options: AddOptions) -> None:
    dateless = [source.path.name for source in sources if source.when is None]
    if options.when is None and dateless:
        more = f" and {len(dateless) - 3} more" if len(dateless) > 3 else ""
        raise ArchiveError(f"no date in {', '.join(dateless[:3])}{more}: pass --datetime, as --datetime 2021-06-01")


def _open(path: Path, options: AddOptions, failed: list[tuple[Path, str]]) -> _Source | None:
    """What a file says of itself; None, and an entry in ``failed``, where it cannot serve."""
    try:
        with rasterio.open(path) as dataset:
            if dataset.crs is None:
                raise _Unfit(path, "has no coordinate reference system")
            return _Source(
                path=path,
                grid=Grid(crs=dataset.crs, shape=dataset.shape, transform=dataset.transform),
                bands=_band_names(path, dataset, options),
                dtypes=tuple(dataset.dtypes),
                nodata=tuple(dataset.nodatavals),
                when=_date_of(dataset),
                sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
            )
    except _Unfit as exc:
        failed.append((path, exc.reason))
    except (RasterioError, OSError) as exc:
        failed.append((path, _one_line(exc)))
    return None


def _band_names(path: Path, dataset: DatasetReader, options: AddOptions) -> tuple[str, ...]:
    """Names of a file's bands, each once."""
    count = int(dataset.count)
    if count == 1 and (match := _BAND_FILE.match(path.stem)):
        return (match["band"],)
    if options.bands:
        if len(options.bands) != count:
            raise _Unfit(path, f"has {count} bands, {len(options.bands)} are named")
        return options.bands
    said = [re.sub(r"[^A-Za-z0-9._-]+", "-", text or "").strip("-.") for text in dataset.descriptions]
    # one text on every band is a title, not a name
    if not all(said) or (count > 1 and len(set(said)) == 1):
        return tuple(f"band_{i}" for i in range(1, count + 1))
    return tuple(
        name if said[:i].count(name) == 0 else f"{name}_{said[:i].count(name) + 1}" for i, name in enumerate(said)
    )


def _date_of(dataset: DatasetReader) -> datetime | None:
    tags = {**dataset.tags(ns="IMAGERY"), **dataset.tags()}
    for name in ("ACQUISITIONDATETIME", "ACQUISITION_DATETIME", "ACQUISITION_DATE", "datetime", "TIFFTAG_DATETIME"):
        try:
            return parse_when(tags[name])
        except (KeyError, ValueError):
            continue
    return None


def _item_of(path: Path) -> str:
    match = _BAND_FILE.match(path.stem)
    return match["item"] if match else path.stem


def _group(sources: Sequence[_Source], *, broken: set[str], failed: list[tuple[Path, str]]) -> dict[str, list[_Source]]:
    """Files by item; files that claim an item's band twice, or whose item has a broken band or another CRS, fail."""
    groups: dict[str, list[_Source]] = {}
    for source in sources:
        one_band = len(source.bands) == 1 and _BAND_FILE.match(source.path.stem)
        item_id = _item_of(source.path) if one_band else source.path.stem
        members = groups.setdefault(item_id, [])
        if one_band and item_id in broken:
            failed.append((source.path, f"another file of item {item_id!r} cannot be read"))
        elif any(set(source.bands) & set(other.bands) for other in members):
            if any(source.sha256 != other.sha256 for other in members):
                failed.append((source.path, f"item {item_id!r} has a file of that name already: {members[0].path}"))
        elif members and source.grid.crs != members[0].grid.crs:
            failed.append(
                (source.path, f"its CRS is not that of the other files of item {item_id!r}: {members[0].path}")
            )
        else:
            members.append(source)
    return {item_id: members for item_id, members in groups.items() if members}


def _add_item(root: Path, item_id: str, members: Sequence[_Source], options: AddOptions) -> bool:
    """Write an item and its assets; whether it is new."""
    home = root / options.collection / item_id
    path = home / f"{item_id}.json"
    source = {one.path.name: one.sha256 for one in members}
    known = folder.read_json(path) if path.exists() else None
    if known is not None and known["properties"].get("pwcat:source_sha256") != source:
        raise _Unfit(
            members[0].path, f"item {item_id!r} is there already, of other files; delete {home} or rename the file"
        )
    try:
        assets = _link_files(home, members, options) if options.link else _write_bands(home, members, options)
    except (RasterioError, OSError) as exc:
        if known is None:
            shutil.rmtree(home, ignore_errors=True)
        culprit = next((one.path for one in members if str(one.path) in str(exc)), members[0].path)
        raise _Unfit(culprit, _one_line(exc)) from exc
    if known is not None and set(known["assets"]) != set(assets):
        raise _Unfit(members[0].path, f"item {item_id!r} is there already, with assets {', '.join(known['assets'])}")
    when = options.when or next(one.when for one in members if one.when)
    finest = min(members, key=lambda one: abs(one.grid.transform.a * one.grid.transform.e))
    properties: dict[str, Any] = {"pwcat:source_sha256": source}
    if options.until is not None:
        properties |= {"start_datetime": _rfc3339(when), "end_datetime": _rfc3339(options.until)}
    if options.cloud_cover is not None:
        properties["eo:cloud_cover"] = options.cloud_cover
    if options.processing_baseline is not None:
        properties["s2:processing_baseline"] = options.processing_baseline
    item = folder.make_item(
        item_id,
        collection=options.collection,
        when=when,
        grid=finest.grid,
        properties=properties,
        assets=assets,
        extensions=("proj", "eo", "raster"),
    )
    folder.write_item(root, item)
    return known is None


def _write_bands(home: Path, members: Sequence[_Source], options: AddOptions) -> dict[str, pystac.Asset]:
    """One COG a band, where it is not there yet."""
    assets = {}
    for source in members:
        missing = [i for i, name in enumerate(source.bands) if not (home / f"{name}.tif").exists()]
        if missing:
            with rasterio.open(source.path) as dataset:
                for i in missing:
                    folder.write_cog(
                        home / f"{source.bands[i]}.tif",
                        dataset.read(i + 1),
                        grid=source.grid,
                        nodata=source.nodata[i],
                        categorical=source.dtypes[i] == "uint8",
                    )
        for i, name in enumerate(source.bands):
            fields = _fields(source, i, options)
            assets[name] = folder.raster_asset(f"./{name}.tif", title=name, grid=source.grid, bands=[fields])
    return assets


def _link_files(home: Path, members: Sequence[_Source], options: AddOptions) -> dict[str, pystac.Asset]:
    """One asset a file, a symbolic link to where it lies; several bands stay together in asset ``data``."""
    assets = {}
    home.mkdir(parents=True, exist_ok=True)
    for source in members:
        link = home / source.path.name
        if not link.exists():
            link.unlink(missing_ok=True)
            link.symlink_to(source.path.resolve())
        key = source.bands[0] if len(source.bands) == 1 else "data"
        bands = [_fields(source, i, options) for i in range(len(source.bands))]
        assets[key] = folder.raster_asset(f"./{source.path.name}", title=key, grid=source.grid, bands=bands, cog=False)
    return assets


def _fields(source: _Source, i: int, options: AddOptions) -> Mapping[str, Any]:
    name = source.bands[i]
    fields = folder.band_fields(name, dtype=source.dtypes[i], nodata=source.nodata[i])
    if options.processing_baseline is not None and name in BANDS:
        offset = -0.1 if options.processing_baseline >= _OFFSET_SINCE else 0.0
        fields |= {"raster:scale": 0.0001, "raster:offset": offset}
    return fields


def _collection(root: Path, options: AddOptions) -> pystac.Collection:
    """The collection as it is on disk, or a new one."""
    path = root / options.collection / "collection.json"
    if path.exists():
        return pystac.Collection.from_dict(folder.read_json(path), preserve_dict=False)
    return pystac.Collection(
        options.collection,
        f"GeoTIFFs added to an embedded archive as {options.collection}.",
        folder.everywhere(),
        license=options.license,
    )


def _rfc3339(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _one_line(exc: Exception) -> str:
    cause = exc.__cause__ or exc
    return " ".join(str(cause).split()) or type(exc).__name__
