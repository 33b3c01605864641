"""Distances, places and outlines on the ellipsoid, antimeridian and poles included."""
