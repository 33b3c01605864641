"""Sites as a plan's tables: their chips, labels and scenes, a row each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pwcat.recipe import Recipe
from pwcat.regions import Regions
from pwcat.samplers import Stratum
from pwcat.scenes import Scene
from pwcat.sharding import shard_size
from pwcat.sites.columns import Sites, hilbert_order
from pwcat.sites.schema import COMPOSITE_FIELD, LAYER_COLUMNS, PLAN_SCHEMA
from pwcat.splits import spatial_split

__all__ = ["fraction_column", "name_column", "to_tables"]


def to_tables(
    recipe: Recipe,
    strata: Sequence[Stratum],
    regions: Regions,
    sites: Sites,
    reserve: Sites,
    scenes: Sequence[Scene],
) -> tuple[pa.Table, pa.Table]:
    """The plan's table in Hilbert order, and the reserve's as it was drawn; one split covers both."""
    every = Sites.concat([sites, reserve])
    split = spatial_split(
        every.lonlat, val_fraction=recipe.split.val_fraction, block_km=recipe.split.block_km, seed=recipe.seed
    )
    table = _to_table(recipe, strata, regions, every, scenes).append_column("split", pa.array(split, pa.string()))
    shard = pa.array(np.arange(len(sites)) // shard_size(recipe), pa.int32())
    chosen = table.take(pa.array(hilbert_order(sites.lonlat))).append_column("shard", shard)
    extra = table.slice(len(sites)).append_column("shard", pa.nulls(len(reserve), pa.int32()))
    more = [name for name in regions.layers if name not in LAYER_COLUMNS]
    composite = [COMPOSITE_FIELD] if recipe.when.composite == "median" else []
    schema = pa.schema([*PLAN_SCHEMA, *composite, *(pa.field(name, pa.string()) for name in more)])
    return chosen.select(schema.names).cast(schema), extra.select(schema.names).cast(schema)


def _to_table(
    recipe: Recipe, strata: Sequence[Stratum], regions: Regions, sites: Sites, scenes: Sequence[Scene]
) -> pa.Table:
    """All columns but split and shard, in the order in which sites were drawn."""
    digits, n = max(6, len(str(recipe.num_samples - 1))), len(sites)
    nothing = {name: pa.nulls(n, pa.string()) for name in LAYER_COLUMNS}
    labels = {name: name_column(sites.codes[name], layer.classes) for name, layer in regions.layers.items()}
    legend = regions.layers["landcover"].classes if "landcover" in regions.layers else []
    ids, times = [scene.id for scene in scenes], [scene.time for scene in scenes]
    columns = {
        "id": pa.array([f"{recipe.name}-{number:0{digits}d}" for number in range(n)], pa.string()),
        "lon": pa.array(sites.lonlat[:, 0]),
        "lat": pa.array(sites.lonlat[:, 1]),
        **nothing,
        **labels,
        "landcover_fractions": fraction_column(sites.landcover_shares, legend),
        "stratum": name_column(sites.stratum, [stratum.name for stratum in strata]),
        "scene_ids": _lists(sites.placements.scene, pa.array(ids, pa.string())),
        "composite_ids": _nested_lists(sites.placements.every_scene(), pa.array(ids, pa.string())),
        "datetime": _lists(sites.placements.scene, pa.array(times, PLAN_SCHEMA.field("datetime").type.value_type)),
        "epsg": pa.array(sites.placements.epsg, pa.int32()),
        "x0": pa.array(sites.placements.x0),
        "y0": pa.array(sites.placements.y0),
        "resolution_m": pa.array(np.full(n, recipe.chip.resolution_m)),
    }
    return pa.table(columns)


def name_column(codes: NDArray[np.integer], classes: Sequence[str]) -> pa.Array:
    """Names of codes; null where the code is -1."""
    numbers = pa.array(codes.astype(np.int32), mask=codes < 0)
    return pa.DictionaryArray.from_arrays(numbers, pa.array(classes, pa.string())).cast(pa.string())


def _lists(numbers_NT: NDArray[np.int64], values: pa.Array) -> pa.Array:
    """A list of values a row; empty lists where there are no values to take from."""
    n, t = numbers_NT.shape
    if not len(values):
        return pa.ListArray.from_arrays(pa.array(np.zeros(n + 1), pa.int32()), values)
    return pa.ListArray.from_arrays(
        pa.array(np.arange(n + 1) * t, pa.int32()), values.take(pa.array(numbers_NT.ravel()))
    )


def _nested_lists(numbers_NTC: NDArray[np.int64], values: pa.Array) -> pa.Array:
    """A list of lists of values a row, one a date; numbers of -1 have none."""
    n, t, _ = numbers_NTC.shape
    there = numbers_NTC >= 0
    ends = np.concatenate([[0], np.cumsum(there.sum(axis=2).ravel())])
    flat = values.take(pa.array(numbers_NTC[there])) if len(values) else values
    inner = pa.ListArray.from_arrays(pa.array(ends, pa.int32()), flat)
    return pa.ListArray.from_arrays(pa.array(np.arange(n + 1) * t, pa.int32()), inner)


def fraction_column(shares_NK: NDArray[np.float32], classes: Sequence[str]) -> pa.Array:
    """Classes with a share, largest first, ties by name (the classes are sorted)."""
    order = np.argsort(-shares_NK, axis=1, kind="stable")
    ranked = np.take_along_axis(shares_NK, order, axis=1)
    present = ranked > 0
    names = name_column(order[present], classes)
    values = pa.array(ranked[present].astype(np.float64).round(7))
    offsets = np.concatenate([[0], np.cumsum(present.sum(axis=1))])
    return pa.ListArray.from_arrays(
        pa.array(offsets, pa.int32()), pa.StructArray.from_arrays([names, values], names=["name", "fraction"])
    )
