"""What a report is made of, whatever it is written as: sections of words, tables and figures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import pandas as pd
from matplotlib.figure import Figure

__all__ = ["Block", "Cell", "Code", "Fold", "Picture", "Row", "Section", "Sheet", "Words", "all_blocks"]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One cell of a table.

    Attributes:
        text: what it says.
        spread: set smaller, behind it.
        bounds: an interval, set smaller, below it.
        best: to be set bold.
        near: marked with a dagger: not told apart from the best.
    """

    text: str
    spread: str = ""
    bounds: str = ""
    best: bool = False
    near: bool = False


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of a table.

    Attributes:
        cells: one a column.
        dataset: whose colour stands before it; empty for none.
        control: set apart from the others.
    """

    cells: tuple[Cell, ...]
    dataset: str = ""
    control: bool = False


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """A table.

    Attributes:
        name: of its files, without ending; unique in a report.
        title: above it.
        heads: of the columns, the first of which is set to the left.
        rows: in order.
        note: below it.
        frame: the same figures unrounded, one table a file for programs.
        words: columns that hold words, set to the left.
    """

    name: str
    title: str
    heads: tuple[str, ...]
    rows: tuple[Row, ...]
    frame: pd.DataFrame
    note: str = ""
    words: tuple[int, ...] = (0,)


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A figure.

    Attributes:
        name: of its files, without ending; unique in a report.
        title: what it shows, for those who cannot see it.
        caption: below it.
        figure: the drawing; one at a time may be large, so that it is drawn when the report is made and not kept after.
    """

    name: str
    title: str
    figure: Figure
    caption: str = ""


@dataclass(frozen=True)
class Words:
    """A paragraph."""

    text: str
    soft: bool = False


@dataclass(frozen=True)
class Code:
    """Commands, or a document, as they are."""

    text: str


@dataclass(frozen=True, kw_only=True)
class Fold:
    """What a page shows when asked to; on paper all of it."""

    title: str
    blocks: Sequence[Block]


Block: TypeAlias = Words | Code | Sheet | Picture | Fold


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of a report with a heading."""

    key: str
    title: str
    blocks: Sequence[Block] = field(default_factory=tuple)


def all_blocks(sections: Sequence[Section]) -> Iterator[Block]:
    """Every block but folds, which are gone through."""
    for section in sections:
        yield from _within(section.blocks)


def _within(blocks: Sequence[Block]) -> Iterator[Block]:
    for block in blocks:
        if isinstance(block, Fold):
            yield from _within(block.blocks)
        else:
            yield block
