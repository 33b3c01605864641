"""The tables of a publication: columns and rows, from the footers alone."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.parquet as pq

from catalog.published.layout import DATA_FOLDER, ITEMS_PATH
from publish.manifest import FileRecord
from publish.pushing.retrying import call
from publish.shards import CHIP_SCHEMA, SENSOR_SCHEMA
from publish.verifying.held import Held

__all__ = ["check_tables"]

FOOTERS_AT_ONCE = 8


def check_tables(held: Held, records: Mapping[str, FileRecord]) -> list[str]:
    """Faults of the columns of chips, of the rows of each table, and of the items, of which each chip has one."""
    tables = {path: record.rows for path, record in records.items() if record.rows is not None}
    with ThreadPoolExecutor(FOOTERS_AT_ONCE) as pool:
        footers = dict(zip(tables, pool.map(lambda path: _footer(held, path), tables), strict=True))
    faults, chips = [], 0
    for path, footer in footers.items():
        if isinstance(footer, str):
            faults.append(footer)
            continue
        schema, rows = footer
        if rows != tables[path]:
            faults.append(f"{path} has {rows} rows, the manifest says {tables[path]}")
        if path.startswith(f"{DATA_FOLDER}/"):
            chips += rows
            faults += _check_schema(path, schema)
    items = records[ITEMS_PATH].rows if ITEMS_PATH in records else None
    if items != chips and not faults:
        faults.append(f"{ITEMS_PATH} has {items} rows for {chips} chips")
    return faults


def _footer(held: Held, path: str) -> tuple[pa.Schema, int] | str:
    """Schema and rows of a table, or what is wrong with it."""

    def ask() -> tuple[pa.Schema, int]:
        with held.open(path) as file, pq.ParquetFile(file) as table:
            return table.schema_arrow, table.metadata.num_rows

    try:
        return call(f"read the footer of {path}", ask)
    except (pa.ArrowInvalid, OSError) as exc:  # an OSError is one of thrift's
        return f"{path} is no Parquet file: {str(exc).splitlines()[0]}"


def _check_schema(path: str, schema: pa.Schema) -> list[str]:
    due = SENSOR_SCHEMA if "sensors" in schema.names else CHIP_SCHEMA
    if schema.equals(due):
        return []
    got, wanted = ({f"{field.name} {field.type}" for field in columns} for columns in (schema, due))
    if got == wanted:
        return [f"{path} has its columns in another order than {', '.join(due.names)}"]
    wrong, missing = (", ".join(sorted(columns)) or "none" for columns in (got - wanted, wanted - got))
    return [f"{path} has other columns than a dataset's: without {missing}, and with {wrong}"]
