"""A report as Markdown, figures beside it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from training.reporting.blocks import Block, Cell, Code, Fold, Picture, Section, Sheet, Words

__all__ = ["escape_markdown", "markdown_report", "markdown_table"]


def markdown_report(
    *,
    title: str,
    lead: str,
    findings: Sequence[str],
    caveats: Sequence[str],
    facts: Mapping[str, str],
    sections: Sequence[Section],
) -> str:
    """The whole report."""
    lines = [f"# {escape_markdown(title)}", "", escape_markdown(lead), ""]
    lines += [f"> {escape_markdown(caveat)}\n" for caveat in caveats]
    if facts:
        lines += [
            " · ".join(f"**{escape_markdown(value)}** {escape_markdown(words)}" for words, value in facts.items()),
            "",
        ]
    lines += [*(f"- {_words(finding)}" for finding in findings), ""] if findings else []
    for section in sections:
        lines += [f"## {escape_markdown(section.title)}", ""]
        lines += _blocks(section.blocks, depth=3)
    return "\n".join(lines).rstrip() + "\n"


def escape_markdown(text: str) -> str:
    """Text that Markdown shows as it is."""
    text = re.sub(r"([\\`*_\[\]|<>])", r"\\\1", text)
    return re.sub(r"^(\s*)([#+-]|\d+\.)(\s)", r"\1\\\2\3", text.replace("\n", " "))


def markdown_table(sheet: Sheet) -> str:
    """A table as GitHub reads it."""
    rule = ["---" if place in sheet.words else "--:" for place in range(len(sheet.heads))]
    lines = [_line([escape_markdown(head) for head in sheet.heads]), _line(rule)]
    lines += [_line([_cell(cell) for cell in row.cells]) for row in sheet.rows]
    return "\n".join(lines)


def _blocks(blocks: Sequence[Block], *, depth: int) -> Iterator[str]:
    for block in blocks:
        if isinstance(block, Words):
            yield f"{_words(block.text)}\n"
        elif isinstance(block, Code):
            yield f"{_fence(block.text)}\n{block.text}\n{_fence(block.text)}\n"
        elif isinstance(block, Sheet):
            yield f"{'#' * depth} {escape_markdown(block.title)}\n\n{markdown_table(block)}\n"
            if block.note:
                yield f"{escape_markdown(block.note)}\n"
        elif isinstance(block, Picture):
            yield f"![{escape_markdown(block.title)}](figures/{block.name}.png)\n"
            if block.caption:
                yield f"*{escape_markdown(block.caption)}*\n"
        elif isinstance(block, Fold):
            yield f"{'#' * depth} {escape_markdown(block.title)}\n"
            yield from _blocks(block.blocks, depth=depth + 1)


def _words(text: str) -> str:
    """A paragraph, whose `commands` and **strong words** stay what they are."""
    parts = re.split(r"(`[^`]+`|\*\*[^*]+\*\*)", text)
    return "".join(part if part.startswith(("`", "**")) else escape_markdown(part) for part in parts)


def _cell(cell: Cell) -> str:
    text = escape_markdown(cell.text)
    text = f"**{text}**" if cell.best else text
    text += "†" if cell.near else ""
    text += escape_markdown(cell.spread)
    return f"{text}<br>{escape_markdown(cell.bounds)}" if cell.bounds else text


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _fence(text: str) -> str:
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    return "`" * max(3, longest + 1)
