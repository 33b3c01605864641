"""CSV files beside rasters: read as they are needed, a few thousand rows at a time, and which column means what."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from pathlib import Path

from catalog.importers.importer import Options
from pwcat.errors import CatalogError
from pwcat.pixels.harmonise import OFFSET

__all__ = ["ROLES", "columns_of", "find_table", "moment", "offset_of", "rows_of"]

# What columns are called, the first that is there counts. `fn` is S2-100K's, `image_path` fMoW-Sentinel's.
ROLES: Mapping[str, tuple[str, ...]] = {
    "file": ("file", "filename", "file_name", "fn", "path", "image_path", "image", "tif"),
    "id": ("id", "sample_id", "patch_id"),
    "lon": ("lon", "longitude", "center_lon", "centre_lon"),
    "lat": ("lat", "latitude", "center_lat", "centre_lat"),
    "datetime": ("datetime", "date", "timestamp", "time", "acquired", "acquisition_date"),
    "split": ("split",),
    "offset": ("boa_offset", "offset"),
    "baseline": ("processing_baseline", "s2:processing_baseline", "baseline"),
    "scene": ("scene_id", "product_id", "scene"),
}

# What a column of offsets may hold beside numbers.
_OFFSETS = {"": 0, "no": 0, "false": 0, "none": 0, "yes": OFFSET, "true": OFFSET}


def find_table(folder: Path, options: Options) -> Path:
    """The CSV of a folder.

    Raises:
        CatalogError: there is none, or several and none is named.
    """
    if options.table is not None:
        if not (folder / options.table).is_file():
            raise CatalogError(f"{folder}: there is no table {options.table}; --table names a CSV in this folder")
        return folder / options.table
    found = sorted(folder.glob("*.csv"))
    if len(found) != 1:
        there = ", ".join(path.name for path in found[:5]) or "none"
        raise CatalogError(
            f"{folder}: one CSV is to say which files are samples, there is {there}; name it with --table"
        )
    return found[0]


def columns_of(path: Path, options: Options) -> dict[str, str]:
    """The column of each role that the table has; names given by ``--column`` come first.

    Raises:
        CatalogError: a named column or role is not there, or none says which files are meant.
    """
    header = next(iter(_records(path)), [])
    for role, name in options.columns.items():
        if role not in ROLES:
            raise CatalogError(f"--column {role}={name}: unknown role {role!r}; roles are {', '.join(ROLES)}")
        if name not in header:
            raise CatalogError(f"{path}: no column {name!r} for {role}; there are {', '.join(header) or 'none'}")
    lower = {name.strip().lower(): name for name in reversed(header)}
    found = {role: next((lower[name] for name in names if name in lower), None) for role, names in ROLES.items()}
    columns = {role: name for role, name in {**found, **options.columns}.items() if name is not None}
    if "file" not in columns:
        raise CatalogError(
            f"{path}: no column says which file a row is of (looked for {', '.join(ROLES['file'])}); there are "
            f"{', '.join(header) or 'none'}. Name it: --column file=NAME"
        )
    return columns


def rows_of(path: Path) -> Iterator[dict[str, str]]:
    """Rows as dicts of text, one by one; missing cells are empty.

    Raises:
        CatalogError: it cannot be read.
    """
    records = _records(path)
    header = next(records, [])
    for record in records:
        cells = record + [""] * (len(header) - len(record))
        yield dict(zip(header, (cell.strip() for cell in cells), strict=False))


def _records(path: Path) -> Iterator[list[str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            yield from (record for record in csv.reader(file) if record)
    except (OSError, UnicodeDecodeError, csv.Error) as exc:
        raise CatalogError(f"{path}: cannot be read as CSV in UTF-8: {exc}") from exc


def moment(text: str) -> datetime:
    """A date or time as UTC; without a zone it is UTC. ``20230415T181919`` is read, too.

    Raises:
        ValueError: it is neither.
    """
    text = text.strip()
    parsed = datetime.combine(date.fromisoformat(text), datetime.min.time()) if len(text) <= 10 else None
    time = parsed or datetime.fromisoformat(text)
    return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)


def offset_of(text: str) -> int:
    """DN to be removed, from a cell: a number, yes (1000) or no, or a remark that ends with ``+1000``.

    Raises:
        ValueError: it is none of them.
    """
    if text.lower() in _OFFSETS:
        return _OFFSETS[text.lower()]
    if text.endswith("+1000"):
        return OFFSET
    number = int(float(text))
    if number not in range(2**16):
        raise ValueError(f"offset {text}")
    return number
