"""Figures and pages that need nothing beside them: SVG as part of a page, images as data, templates of this package."""

from __future__ import annotations

import base64
import re
import warnings
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import matplotlib as mpl
from jinja2 import ChoiceLoader, Environment, FileSystemLoader, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from training.figures import INK

__all__ = ["environment", "inline_png", "inline_svg", "png_bytes", "svg_text"]

TEMPLATES = Path(__file__).parent.parent / "templates"


def environment() -> Environment:
    """Where pages come from: templates of this package, and the style that all pages share."""
    return Environment(
        loader=ChoiceLoader([FileSystemLoader(TEMPLATES), PackageLoader("catalog", "explorer/page")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def svg_text(figure: Figure, *, name: str) -> str:
    """A figure as an SVG file whose letters are letters; the same bytes every time."""
    text = StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name, "font.family": "sans-serif"}):
        _save(figure, text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return text.getvalue()


def inline_svg(svg: str, *, name: str, title: str) -> Markup:
    """An SVG as part of a page: ids made unique to it, ink in the page's text colour, width left to the page."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(url\(#|href="#)', rf"\g<1>{name}-", svg).replace(INK, "currentColor")
    svg = re.sub(r'<svg ([^>]*?)width="[^"]*"([^>]*)>', r"<svg \1\2>", svg, count=1)
    svg = re.sub(r'<svg ([^>]*?)height="[^"]*"([^>]*)>', r"<svg \1\2>", svg, count=1)
    label = Markup.escape(title)
    return Markup(svg.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1))


def png_bytes(figure: Figure, *, dpi: int = 160, transparent: bool = True) -> bytes:
    """A figure as the bytes of an image; on white where it is not to be clear."""
    data = BytesIO()
    clear = {"transparent": True} if transparent else {"facecolor": "white"}
    _save(figure, data, format="png", dpi=dpi, metadata={"Software": None}, **clear)
    return data.getvalue()


def inline_png(figure: Figure, *, title: str) -> Markup:
    """A figure as an image with its bytes inside."""
    code = base64.b64encode(png_bytes(figure)).decode()
    return Markup('<img src="data:image/png;base64,{}" alt="{}" loading="lazy">').format(code, title)


def _save(figure: Figure, to: StringIO | BytesIO, **options: Any) -> None:
    """Without a word on letters that the font has none of: an SVG has them as letters, and the page's fonts show them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font", category=UserWarning)
        figure.savefig(to, **options)
