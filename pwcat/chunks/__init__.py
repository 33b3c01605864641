"""Chunks of a sharded Zarr array, straight from its files: where they lie, what opens them, what decodes them."""
