"""Sensors beside the main source: more bands on the very same pixels, from other collections."""
