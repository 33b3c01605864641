"""Columns of a plan: what each row says of a sample. Reading this loads nothing but Arrow."""

from __future__ import annotations

import pyarrow as pa

__all__ = ["COMPOSITE_FIELD", "FRACTIONS", "LAYER_COLUMNS", "PLAN_SCHEMA"]

FRACTIONS = pa.list_(pa.struct([pa.field("name", pa.string()), pa.field("fraction", pa.float64())]))

# One row a sample. Positions are EPSG:4326; x0 and y0 are the chip's upper-left corner in metres, in `epsg`. Layers of the
# recipe beyond these four have a column each, at the end; before them, where dates are medians, come the scenes of each.
PLAN_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string()),
        pa.field("lon", pa.float64()),
        pa.field("lat", pa.float64()),
        pa.field("continent", pa.string()),
        pa.field("biome", pa.string()),
        pa.field("ecoregion", pa.string()),
        pa.field("landcover", pa.string()),
        pa.field("landcover_fractions", FRACTIONS),
        pa.field("stratum", pa.string()),
        pa.field("scene_ids", pa.list_(pa.string())),
        pa.field("datetime", pa.list_(pa.timestamp("us", tz="UTC"))),
        pa.field("epsg", pa.int32()),
        pa.field("x0", pa.float64()),
        pa.field("y0", pa.float64()),
        pa.field("resolution_m", pa.float64()),
        pa.field("split", pa.string()),
        pa.field("shard", pa.int32()),
    ]
)
COMPOSITE_FIELD = pa.field("composite_ids", pa.list_(pa.list_(pa.string())))
LAYER_COLUMNS = ("continent", "biome", "ecoregion", "landcover")
