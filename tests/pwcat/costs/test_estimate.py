"""What a plan will cost and bring: by columns the same as chip by chip; entropies and distances in closed form."""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter, OrderedDict
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from pyproj import Geod

from pwcat.costs import reads
from pwcat.costs.estimate import estimate_plan
from pwcat.costs.expected import class_codes, expected_diversity, site_distances
from pwcat.costs.reads import COMPRESSED, HEADER_BYTES, KEPT_BYTES, OVERVIEWS, RUN_BYTES, TILE_PX, estimate_reads
from pwcat.errors import PwcatError
from pwcat.plan import PLAN_SCHEMA
from pwcat.readers import headers, kept, tiles
from pwcat.recipe import Recipe
from pwcat.scenes import Scene

BANDS = {"B02": 10.0, "B03": 10.0, "B05": 20.0, "B11": 20.0, "B01": 60.0}


def recipe_of(*, bands=tuple(BANDS), size_px=64, num_samples=100):
    return Recipe.model_validate(
        {
            "name": "estimated",
            "title": "Estimated",
            "license": "CC0-1.0",
            "num_samples": num_samples,
            "sampler": {"strategy": "uniform", "domain": "scenes"},
            "source": {"provider": "archive", "path": ".", "collection": "c"},
            "when": {"start": "2021-01-01", "end": "2021-12-31"},
            "chip": {"size_px": size_px, "bands": list(bands)},
        }
    )


def scene_of(number, *, width, says_grid=True, squeezed=None):
    """A scene of so many pixels of 10 m a side, with files of 10, 20 and 60 m; of a share of their pixels' bytes, if told."""
    left, top = 300_000.0 + 200_000.0 * number, 5_000_000.0
    assets = {}
    for name, gsd in BANDS.items():
        shape = [math.ceil(width * 10 / gsd)] * 2
        assets[name] = {"href": ""}
        if squeezed is not None:
            assets[name] |= {"file:size": round(math.prod(shape) * 2 * OVERVIEWS * squeezed)}
        if says_grid or gsd > 10:
            assets[name] |= {"proj:transform": [gsd, 0, left, 0, -gsd, top], "proj:shape": shape}
    return Scene(
        item={"id": f"scene-{number}", "assets": assets, "properties": {}},
        id=f"scene-{number}", time=datetime(2021, 6, 1, tzinfo=UTC), cloud_cover=0.0, epsg=32633,
        left=left, top=top, width_m=width * 10.0, height_m=width * 10.0, footprint=shapely.box(0, 0, 1, 1),
    )  # fmt: skip


def table_of(rows):
    """A plan's table of what is given of each row; the rest is empty."""
    return pa.Table.from_pylist([dict.fromkeys(PLAN_SCHEMA.names) | row for row in rows], schema=PLAN_SCHEMA)


def slow_reads(recipe, table, scenes):
    """Chip by chip and tile by tile, as a plan was first estimated."""
    side = recipe.chip.size_px * recipe.chip.resolution_m
    wanted = {}
    for row in table.to_pylist():
        for scene_id in row["scene_ids"]:
            wanted.setdefault((row["shard"], scene_id), []).append((row["x0"], row["y0"]))
    by_id = {scene.id: scene for scene in scenes}
    opened, cache, cached = set(), OrderedDict(), 0.0
    requests, download = 0, 0.0
    for (_, scene_id), corners in wanted.items():
        grids, sizes = slow_grids(by_id[scene_id], recipe)
        for (left, top, gsd, height, width), bands in grids.items():
            file_bytes = sizes[left, top, gsd, height, width]
            if scene_id not in opened:
                requests += bands
                download += bands * min(HEADER_BYTES, file_bytes)
            tiles = {}
            for x0, y0 in corners:
                step = TILE_PX * gsd
                rows = range(int((top - y0) // step), int((top - y0 + side - 1e-6) // step) + 1)
                columns = range(int((x0 - left) // step), int((x0 - left + side - 1e-6) // step) + 1)
                for row, column in itertools.product(rows, columns):
                    if not (0 <= row < math.ceil(height / TILE_PX) and 0 <= column < math.ceil(width / TILE_PX)):
                        continue
                    pixels = [min(TILE_PX, max(n - k * TILE_PX, 0)) for n, k in ((height, row), (width, column))]
                    share = math.prod(pixels) / (height * width)
                    tiles[row * math.ceil(width / TILE_PX) + column] = file_bytes * share / OVERVIEWS
            last, run = None, 0.0
            for tile, size in sorted(tiles.items()):
                key = (scene_id, gsd, tile)
                if key not in cache:
                    cache[key] = size * bands
                    cached += size * bands
                    download += bands * size
                    if last != tile - 1 or run + size > RUN_BYTES:
                        requests, run = requests + bands, 0.0
                    last, run = tile, run + size
                cache.move_to_end(key)
                while cached > KEPT_BYTES:
                    cached -= cache.popitem(last=False)[1]
        opened.add(scene_id)
    return requests, download


def slow_grids(scene, recipe):
    """Bands of each grid, and the size of one of its files."""
    grids, sizes = Counter(), {}
    for band in recipe.chip.bands:
        asset = scene.item["assets"][band]
        transform = asset.get("proj:transform", (10.0, 0, scene.left, 0, -10.0, scene.top))
        shape = asset.get("proj:shape", (scene.height_m / 10, scene.width_m / 10))
        grid = (transform[2], transform[5], transform[0], int(shape[0]), int(shape[1]))
        grids[grid] += 1
        sizes[grid] = asset.get("file:size", grid[3] * grid[4] * 2 * COMPRESSED * OVERVIEWS)
    return grids, sizes


def test_what_is_assumed_of_the_tile_reader_is_what_it_does():
    assert (HEADER_BYTES, RUN_BYTES, KEPT_BYTES) == (headers.HEADER_BYTES, tiles.RUN_BYTES, kept.KEPT_BYTES)


@st.composite
def plans(draw):
    """A recipe, rows and scenes: wide and narrow scenes, dense and sparse chips, several dates, chips over the edge."""
    bands = draw(st.lists(st.sampled_from(list(BANDS)), min_size=1, max_size=5, unique=True))
    recipe = recipe_of(bands=bands, size_px=draw(st.sampled_from([1, 32, 512, 1500])))
    widths = draw(st.lists(st.sampled_from([100, 384, 3000, 10_980]), min_size=1, max_size=4))
    squeezed = st.none() | st.sampled_from([0.02, 0.2, 1.1])
    scenes = [
        scene_of(k, width=width, says_grid=draw(st.booleans()), squeezed=draw(squeezed))
        for k, width in enumerate(widths)
    ]
    times, size = draw(st.integers(1, 3)), draw(st.sampled_from([1, 4, 16]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    spread = draw(st.sampled_from([50, 2000, 10_000]))
    rows = []
    for number in range(draw(st.integers(1, 60))):
        scene = scenes[rng.integers(len(scenes))]
        x, y = rng.integers(-20, min(spread, round(scene.width_m / 10)), 2).tolist()
        names = [scene.id, *(scenes[k].id for k in rng.integers(0, len(scenes), times - 1))]
        corner = {"x0": scene.left + 10 * x, "y0": scene.top - 10 * y}
        rows.append({"shard": number // size, "scene_ids": names, **corner})
    return recipe, table_of(rows), scenes


@given(plan=plans())
def test_by_columns_it_is_what_it_is_tile_by_tile(plan):
    recipe, table, scenes = plan
    requests, download = slow_reads(recipe, table, scenes)
    found = estimate_reads(recipe, table, scenes)
    assert found.requests == requests
    assert found.bytes == pytest.approx(download, abs=0.5)


@given(plan=plans())
def test_the_size_of_the_parts_changes_nothing(plan):
    recipe, table, scenes = plan
    whole = estimate_reads(recipe, table, scenes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reads, "ROWS_AT_ONCE", 1)
        parts = estimate_reads(recipe, table, scenes)
    assert (parts.requests, parts.scenes) == (whole.requests, whole.scenes)
    assert parts.bytes == pytest.approx(whole.bytes)


def test_the_size_that_an_item_tells_counts_and_nonsense_does_not():
    def bytes_of(size):
        scene = scene_of(0, width=1024)
        scene.item["assets"]["B02"]["file:size"] = size
        row = {"shard": 0, "scene_ids": [scene.id], "x0": scene.left, "y0": scene.top}
        return estimate_reads(recipe_of(bands=["B02"]), table_of([row]), [scene]).bytes

    assert bytes_of(400_000) == HEADER_BYTES + 300_000 / 4  # a tile of four, of three quarters of the file
    assert bytes_of(12_000) == 12_000 + 9_000 / 4  # what comes with the header is read again
    assumed = HEADER_BYTES + 512 * 512 * 2 * COMPRESSED
    assert [bytes_of(size) for size in (None, "large", 0, -1)] == [assumed] * 4


def test_a_scene_that_is_not_there_is_named():
    table = table_of([{"shard": 0, "scene_ids": ["lost"], "x0": 0.0, "y0": 0.0}])
    with pytest.raises(PwcatError, match="the plan names scene lost, which is not among its scenes; remove"):
        estimate_reads(recipe_of(), table, [scene_of(0, width=384)])


def labelled(**columns):
    """A plan's table of 16 rows with some columns given."""
    scene = scene_of(0, width=10_980)
    base = {"shard": 0, "scene_ids": [scene.id], "x0": scene.left, "y0": scene.top, "split": "train"}
    rows = [base | {"lon": float(k), "lat": 0.0} for k in range(16)]
    for name, values in columns.items():
        for row, value in zip(rows, values, strict=True):
            row[name] = value
    return table_of(rows)


def test_expected_diversity_in_closed_form():
    fractions = [{"name": "tree", "fraction": 0.75}, {"name": "crop", "fraction": 0.25}]
    table = labelled(
        continent=["Asia", "Africa", "Europe", "Oceania"] * 4,
        biome=["tundra"] * 8 + [None] * 8,
        landcover=["tree"] * 16,
        landcover_fractions=[fractions] * 12 + [None] * 4,
    )
    found = expected_diversity(table)
    assert (found["continent"].shannon, found["continent"].effective) == (pytest.approx(math.log(4)), pytest.approx(4))
    assert (found["continent"].classes, found["continent"].labelled) == (4, 1.0)
    assert vars(found["biome"]) == {"shannon": 0.0, "effective": 1.0, "classes": 1, "labelled": 0.5}
    assert found["landcover"].shannon == 0.0  # trees are the most everywhere
    by_area = found["landcover_area"]
    assert by_area.shannon == pytest.approx(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))
    assert (by_area.classes, by_area.labelled) == (2, 0.75)
    assert not {"id", "split", "stratum"} & set(found)


def test_no_label_is_no_diversity_and_not_zero():
    nothing = expected_diversity(labelled())["biome"]
    assert vars(nothing) == {"shannon": None, "effective": None, "classes": 0, "labelled": 0.0}


def test_columns_of_other_layers_are_layers_and_strata_are_counted():
    table = labelled(biome=["a", "b"] * 8, split=["train", "val"] * 8, stratum=["wet"] * 10 + ["dry"] * 6)
    table = table.append_column("soil", pa.array(["clay", "sand", None, "clay"] * 4))
    estimate = estimate_plan(recipe_of(num_samples=16), table, [scene_of(0, width=10_980)])
    assert estimate.diversity["soil"].classes == 2
    assert estimate.diversity["soil"].labelled == 0.75
    assert estimate.strata == {"wet": 10, "dry": 6}
    assert estimate.splits == {"train": 8, "val": 8}
    assert estimate.cells == [(None, "a", None, 8), (None, "b", None, 8)]
    degree = Geod(ellps="WGS84").inv(0, 0, 1, 0)[2] / 1000
    assert estimate.distances_km.split_smallest == pytest.approx(degree)
    document = json.loads(json.dumps(estimate.to_dict()))
    assert document["diversity"]["biome"]["effective"] == pytest.approx(2)
    assert document["distances_km"]["spacing"] == pytest.approx(degree)


def test_encoded_text_and_chunks_change_nothing():
    table = labelled(continent=["Asia", None] * 8, biome=["a", "b", "b", "c"] * 4, split=["train", "val"] * 8)
    recipe, scenes = recipe_of(num_samples=16), [scene_of(0, width=10_980)]
    encoded = table
    for name in ("id", "continent", "biome", "landcover", "split"):
        encoded = encoded.set_column(encoded.column_names.index(name), name, encoded[name].dictionary_encode())
    ids = table["scene_ids"].combine_chunks()
    names = pa.ListArray.from_arrays(ids.offsets, ids.flatten().dictionary_encode())
    encoded = encoded.set_column(encoded.column_names.index("scene_ids"), "scene_ids", names)
    chunked = pa.concat_tables([encoded.slice(0, 5), encoded.slice(5)])
    expected = estimate_plan(recipe, table, scenes)
    assert estimate_plan(recipe, encoded, scenes) == expected
    assert estimate_plan(recipe, chunked, scenes) == expected


@given(st.lists(st.sampled_from(["a", "b", "c", None]), max_size=20), st.integers(0, 20))
def test_codes_stand_for_their_names_in_every_chunk(values, cut):
    column = pa.chunked_array([pa.array(part, pa.string()) for part in (values[:cut], values[cut:])])
    for each in (column, column.dictionary_encode()):
        codes, names = class_codes(each)
        assert [([*names, None])[code] for code in codes] == values
    assert class_codes(pa.chunked_array([], pa.string()))[1] == []


places = st.tuples(st.floats(-180, 180), st.floats(-90, 90))


@given(st.lists(st.tuples(places, st.booleans()), min_size=1, max_size=25))
def test_distances_are_those_of_all_pairs(sites):
    lonlat, is_val = np.array([place for place, _ in sites]), np.array([val for _, val in sites])
    geod = Geod(ellps="WGS84")
    every = np.array([[geod.inv(*a, *b)[2] / 1000 for b in lonlat] for a in lonlat])
    found = site_distances(lonlat, is_val)
    if len(sites) > 1:
        assert found.spacing == pytest.approx(every[~np.eye(len(sites), dtype=bool)].min(), abs=1e-6)
    else:
        assert found.spacing is None
    if is_val.any() and not is_val.all():
        nearest = every[is_val][:, ~is_val].min(axis=1)
        assert found.split_smallest == pytest.approx(nearest.min(), abs=1e-6)
        assert found.split_median == pytest.approx(np.median(nearest), abs=1e-6)
    else:
        assert (found.split_smallest, found.split_median) == (None, None)
