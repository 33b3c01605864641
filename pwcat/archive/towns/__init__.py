"""Synthetic towns: a map of them as an OpenStreetMap extract, and aerial images of the same ground, in an archive."""

from pwcat.archive.towns.making import TownOptions, synthesise_towns

__all__ = ["TownOptions", "synthesise_towns"]
