"""A report as one page of HTML that needs nothing beside it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from markupsafe import Markup, escape

from training.reporting.blocks import Code, Fold, Picture, Section, Sheet, Words
from training.reporting.charts.looks import WIDTH, Looks
from training.reporting.inline import environment, inline_svg

__all__ = ["page_of"]

KINDS = {Words: "words", Code: "code", Sheet: "sheet", Picture: "picture", Fold: "fold"}


def page_of(
    *,
    title: str,
    lead: str,
    findings: Sequence[str],
    caveats: Sequence[str],
    facts: Mapping[str, str],
    sections: Sequence[Section],
    svgs: Mapping[str, str],
    looks: Looks,
) -> str:
    """The page.

    Args:
        title: of it.
        lead: one paragraph.
        findings: what came out, a sentence each.
        caveats: what a reader has to know first.
        facts: words to value.
        sections: in order.
        svgs: of each picture by its name.
        looks: of the datasets.
    """
    colors = {name: color for name, (color, _) in looks.styles.items() if name != looks.control}
    return (
        environment()
        .get_template("study.html.j2")
        .render(
            title=title,
            lead=lead,
            findings=findings,
            caveats=caveats,
            facts=facts,
            sections=sections,
            colors=colors,
            kind=lambda block: KINDS[type(block)],
            words=_words,
            drawn=lambda picture: inline_svg(svgs[picture.name], name=picture.name, title=picture.title),
            share=lambda picture: round(100 * min(1.0, picture.figure.get_figwidth() / WIDTH)),
        )
    )


def _words(text: str) -> Markup:
    """Text whose `commands` and **strong words** are set as such."""
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text)))
    return Markup(re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", text))
