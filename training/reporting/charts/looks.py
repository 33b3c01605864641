"""One look a dataset through all figures of a report, and what figures have in common."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from training.figures import INK, inked, style_of

__all__ = [
    "HINT",
    "SMALL",
    "WIDTH",
    "Looks",
    "apart",
    "legend_above",
    "light_grid",
    "looks_of",
    "panels",
    "titled",
    "wrapped",
]

WIDTH = 9.6  # inches: the width of a page's figure
SMALL, HINT = 8.5, 7.5  # sizes of letters, points


@dataclass(frozen=True, kw_only=True)
class Looks:
    """Names, colours and markers.

    Attributes:
        titles: what each dataset is called.
        styles: colour and marker of each; the control has the colour of text.
        control: name of the control.
    """

    titles: Mapping[str, str]
    styles: Mapping[str, tuple[str, str]]
    control: str

    def color(self, name: str) -> str:
        """Of a dataset."""
        return self.styles[name][0]

    def marker(self, name: str) -> str:
        """Of a dataset."""
        return self.styles[name][1]

    def by_title(self) -> Looks:
        """The same looks, of datasets that are called by their titles."""
        return Looks(
            titles={title: title for title in self.titles.values()},
            styles={self.titles.get(name, name): style for name, style in self.styles.items()},
            control=self.titles.get(self.control, self.control),
        )

    def line(self, name: str) -> str:
        """How its lines are drawn: dashes for the control."""
        return "--" if name == self.control else "-"


def looks_of(titles: Mapping[str, str], *, control: str) -> Looks:
    """Looks of datasets in their order, which figures of one study keep whatever they show of them."""
    styles = style_of([name for name in titles if name != control])
    return Looks(titles=dict(titles), styles={**styles, control: (INK, "o")}, control=control)


def panels(rows: int, columns: int, *, width: float, height: float, sharey: bool = False) -> tuple[Figure, np.ndarray]:
    """A figure of ``rows`` by ``columns`` clear axes, (rows, columns)."""
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="none")
    axes = figure.subplots(rows, columns, squeeze=False, sharey=sharey)
    for each in axes.flat:
        inked(each).set_facecolor("none")
        each.tick_params(labelsize=SMALL)
    return figure, axes


def titled(axes: Axes, text: str, *, width: int = 40) -> None:
    """A title above the axes, at its left, broken where it is long."""
    axes.set_title(wrapped(text, width), loc="left", fontsize=9.5, color=INK)


def wrapped(text: str, width: int) -> str:
    """Text on several lines."""
    return "\n".join(textwrap.wrap(text, width, break_long_words=True)) or text


def light_grid(axes: Axes, axis: Literal["both", "x", "y"] = "both") -> None:
    """Thin lines behind the data."""
    axes.grid(True, axis=axis, color=INK, alpha=0.12, linewidth=0.6)
    axes.set_axisbelow(True)


def legend_above(figure: Figure, looks: Looks, names: Sequence[str], *, lines: bool = True) -> None:
    """Which colour is which dataset, above all panels."""
    from matplotlib.lines import Line2D

    handles = [
        Line2D(
            [], [], color=looks.color(name), linestyle=looks.line(name) if lines else "none", marker=looks.marker(name),
            markersize=5, linewidth=1.6, label=looks.titles[name],
            markerfacecolor="none" if name == looks.control else looks.color(name),
        )
        for name in names
    ]  # fmt: skip
    figure.legend(
        handles=handles, loc="outside upper center", ncols=min(len(names), 8), frameon=False, fontsize=SMALL,
        labelcolor=INK, handlelength=1.8, columnspacing=1.4,
    )  # fmt: skip


def apart(places_N: np.ndarray, gap: float) -> np.ndarray:
    """The same places, moved as little as their order allows so that neighbours are ``gap`` apart.

    Places that are too near form a block whose middle is the mean of what it holds (pool adjacent violators).
    """
    order = np.argsort(places_N, kind="stable")
    blocks: list[tuple[float, int]] = []  # sum of places less their offsets, and how many
    for rank, place in enumerate(np.asarray(places_N, dtype=np.float64)[order]):
        total, count = float(place) - rank * gap, 1
        while blocks and blocks[-1][0] / blocks[-1][1] > total / count:
            before, of = blocks.pop()
            total, count = total + before, count + of
        blocks.append((total, count))
    moved = np.concatenate([np.full(count, total / count) for total, count in blocks]) + gap * np.arange(len(order))
    found = np.empty(len(order))
    found[order] = moved
    return found
