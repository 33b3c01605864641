"""The explorer: one page over a catalog, on a map, by facets, by spectral entropy, chip by chip, side by side."""

from __future__ import annotations

from catalog.explorer.routes import explorer_routes

__all__ = ["explorer_routes"]
