"""Tables as LaTeX with booktabs."""

from __future__ import annotations

import re
from collections.abc import Sequence

from training.reporting.blocks import Cell, Row, Sheet

__all__ = ["escape_latex", "latex_table"]

SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "_": r"\_", "%": r"\%",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    "±": r"$\pm$", "−": r"$-$", "–": "--", "ρ": r"$\rho$", "²": r"$^2$", "·": r"$\cdot$", "†": r"$^\dagger$", "≥": r"$\geq$",
    "≤": r"$\leq$", "×": r"$\times$", "°": r"$^\circ$", "’": "'", "\n": " ", "\t": " ",
}  # fmt: skip
HEAD = r"""% {title}
% Needs \usepackage{{booktabs}}; \input this file inside a table or anywhere.
"""


def escape_latex(text: str) -> str:
    """Text that LaTeX sets as it is; letters beyond ASCII stay, which any LaTeX since 2018 reads as UTF-8."""
    return "".join(SPECIAL.get(letter, letter) for letter in text)


def latex_table(sheet: Sheet) -> str:
    """A ``tabular`` with rules of booktabs, its title and note as comments."""
    align = "".join("l" if place in sheet.words else "r" for place in range(len(sheet.heads)))
    lines = [
        HEAD.format(title=_comment(sheet.title)) + rf"\begin{{tabular}}{{@{{}}{align}@{{}}}}",
        r"\toprule",
        *_heads(sheet.heads),
        r"\midrule",
        *_body(sheet.rows),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    if sheet.note:
        lines.append(f"% {_comment(sheet.note)}")
    return "\n".join(lines) + "\n"


def _heads(heads: Sequence[str]) -> list[str]:
    """Names, and below them in small what stands in brackets behind them."""
    parts = [head.partition(" (") for head in heads]
    lines = [_line([rf"\textbf{{{escape_latex(name)}}}" for name, _, _ in parts])]
    if any(rest for _, _, rest in parts):
        lines.append(
            _line([rf"{{\scriptsize {escape_latex(rest.removesuffix(')'))}}}" if rest else "" for *_, rest in parts])
        )
    return lines


def _body(rows: Sequence[Row]) -> list[str]:
    lines = []
    for place, row in enumerate(rows):
        if row.control and place:
            lines.append(r"\midrule")
        lines.append(_line([_cell(cell) for cell in row.cells]))
    return lines


def _cell(cell: Cell) -> str:
    text = escape_latex(cell.text)
    text = rf"\textbf{{{text}}}" if cell.best else text
    text += r"$^\dagger$" if cell.near else ""
    text += rf" {{\scriptsize {escape_latex(cell.spread.strip())}}}" if cell.spread else ""
    if not cell.bounds:
        return text
    return rf"\begin{{tabular}}[t]{{@{{}}r@{{}}}}{text}\\{{\scriptsize {escape_latex(cell.bounds)}}}\end{{tabular}}"


def _line(cells: Sequence[str]) -> str:
    # a bracket that opens a row would be read as the option of the line break before it
    first = re.sub(r"^\[", "{[}", cells[0])
    return " & ".join([first, *cells[1:]]) + r" \\"


def _comment(text: str) -> str:
    return text.replace("\n", " ")
