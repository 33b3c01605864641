"""How to get the same figures again: commands, hashes and versions."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

import pandas as pd
import yaml

from training.reporting.blocks import Block, Cell, Code, Fold, Row, Section, Sheet, Words
from training.reporting.digits import MISSING
from training.reporting.records import Records

__all__ = ["rerun_section"]

PACKAGES = ("pwcat", "numpy", "pandas", "scipy", "torch", "scikit-learn", "matplotlib")
SHOWN = 12  # letters of a hash


def rerun_section(records: Records) -> Section:
    """Commands, the document, and a table of every hash that the scores rest on."""
    blocks: list[Block] = [Code(_commands(records))]
    if words := _versions(records):
        blocks.append(Words(words))
    sheets = [sheet for sheet in (_weights(records), _tasks(records)) if sheet]
    if sheets:
        blocks.append(Fold(title="Hashes of weights, data and tasks", blocks=sheets))
    if records.document:
        text = yaml.safe_dump(dict(records.document), sort_keys=False, allow_unicode=True)
        blocks.append(Fold(title="The study's document", blocks=[Code(text.rstrip())]))
    return Section(key="rerun", title="Run it again", blocks=blocks)


def _commands(records: Records) -> str:
    name = records.folder.name or "STUDY"
    width = len(name) + 30
    lines = [
        (f"pwcat study run {name}", "what is missing; what is done stays"),
        (f"pwcat study run STUDY.yaml -o {name}-again", "everything anew; STUDY.yaml is the document below"),
        (f"pwcat study report {name}", "this report"),
    ]
    return "\n".join(f"{command:<{max(width, 38)}}  # {words}" for command, words in lines)


def _versions(records: Records) -> str:
    told = [f"{key} {value}" for key, value in records.provenance.items()]
    here = [f"{package} {found}" for package in PACKAGES if (found := _installed(package))]
    study = f"Study: {', '.join(told)}. " if told else ""
    return f"{study}This report was made by Python {platform.python_version()}, {', '.join(here)}."


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _weights(records: Records) -> Sheet | None:
    columns = ["dataset", "model", "pretrain_seed", "run", "weights_hash", "data_hash"]
    heads = ("Dataset", "Model", "Seed", "Run", "Weights", "Pretraining data")
    return _hashes(records, columns, heads, name="hashes-weights", title="Weights and what they were pretrained on")


def _tasks(records: Records) -> Sheet | None:
    return _hashes(records, ["task", "task_hash"], ("Task", "Hash"), name="hashes-tasks", title="Tasks")


def _hashes(records: Records, columns: Sequence[str], heads: tuple[str, ...], *, name: str, title: str) -> Sheet | None:
    table: pd.DataFrame = records.results[list(columns)].drop_duplicates()
    hashes = table[[column for column in columns if column.endswith("_hash")]].astype(str)
    if not (hashes.to_numpy() != "").any():
        return None
    rows = [
        Row(cells=tuple(Cell(text=_short(column, value)) for column, value in zip(columns, row, strict=True)))
        for row in table.itertuples(index=False)
    ]
    return Sheet(
        name=name, title=title, heads=heads, rows=tuple(rows), frame=table, words=tuple(range(len(columns))),
        note="The first letters; in full in the CSV.",
    )  # fmt: skip


def _short(column: str, value: object) -> str:
    return (str(value)[:SHOWN] if column.endswith("_hash") else str(value)) or MISSING
