from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import geopandas as gpd
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from pyproj import Transformer

from pwcat.costs.estimate import estimate_plan
from pwcat.errors import PwcatError, RecipeError, RegionError, SourceError
from pwcat.materialize import build_cube
from pwcat.plan import PLAN_SCHEMA, draw_sites, freeze_plan, make_plan, read_plan, write_plan
from pwcat.providers import OpenSource
from pwcat.providers.reuse import forget_address
from pwcat.recipe import Recipe, load_recipe
from pwcat.scenes import Scene, search_scenes
from pwcat.sharding import shard_size
from pwcat.splits import EARTH_RADIUS_KM


def variant(recipe, **changes):
    return Recipe.model_validate({**recipe.model_dump(mode="json"), **changes})


@pytest.fixture(scope="module")
def plan(recipe, source, small):
    return make_plan(recipe, base_dir=small.parent, source=source)


def test_one_recipe_is_one_plan_to_the_byte_in_any_process_and_from_any_port(frozen, plan, small, tmp_path, pwcat):
    write_plan(plan, tmp_path / "again")
    code, out, err = pwcat(
        "plan", small, "--catalog", "fresh", "--json"
    )  # serves the archive itself, on a port of its own
    assert (code, err) == (0, "")
    assert json.loads(out)["recipe_hash"] == plan.recipe.hash
    for name in ("plan.parquet", "scenes.parquet", "recipe.yaml"):
        expected = (frozen / name).read_bytes()
        assert (tmp_path / "again" / name).read_bytes() == expected
        assert (tmp_path / "fresh" / "small" / name).read_bytes() == expected
    assert b"127.0.0.1" not in (frozen / "scenes.parquet").read_bytes()
    assert sorted(path.name for path in (tmp_path / "fresh" / "small").iterdir()) == [
        "ledger",  # notes where the recipe lay
        "plan.parquet",
        "recipe.yaml",
        "scenes.parquet",
    ]


def test_another_seed_is_another_plan(plan, recipe, source, small):
    other = make_plan(variant(recipe, seed=1), base_dir=small.parent, source=source)
    assert not set(other.table["lon"].to_pylist()) & set(plan.table["lon"].to_pylist())


def test_a_row_says_where_its_pixels_are(plan, recipe):
    assert plan.table.schema == PLAN_SCHEMA
    assert len(plan) == recipe.num_samples
    assert sorted(plan.table["id"].to_pylist()) == [f"small-{k:06d}" for k in range(16)]
    scenes = {scene.id: scene for scene in plan.scenes}
    assert set(scenes) == {name for names in plan.table["scene_ids"].to_pylist() for name in names}
    for row in plan.table.to_pylist():
        (scene,) = (scenes[name] for name in row["scene_ids"])
        assert row["epsg"] == scene.epsg
        assert row["datetime"] == [scene.time]
        assert (row["x0"] - scene.left) % 10 == (scene.top - row["y0"]) % 10 == 0
        assert scene.left <= row["x0"] <= scene.left + scene.width_m - 320
        assert scene.top - scene.height_m + 320 <= row["y0"] <= scene.top
        x, y = Transformer.from_crs("EPSG:4326", f"EPSG:{row['epsg']}", always_xy=True).transform(
            row["lon"], row["lat"]
        )
        assert abs(row["x0"] + 160 - x) <= 5.001
        assert abs(row["y0"] - 160 - y) <= 5.001
        shares = [share["fraction"] for share in row["landcover_fractions"]]
        assert row["landcover"] == row["landcover_fractions"][0]["name"]
        assert sum(shares) == pytest.approx(1)
        assert shares == sorted(shares, reverse=True)
        # the archive says of each scene what its place was made to be
        assert row["continent"] == scene.item["properties"]["pwcat:continent"]
        assert row["biome"] == scene.item["properties"]["pwcat:biome"]


def hilbert_index(lon, lat, *, order):
    """Position on the Hilbert curve over the globe, by turning quadrants (Wikipedia, xy2d); an implementation apart."""
    n = 2**order
    x, y = (int((v + half) / (2 * half) * n) for v, half in ((lon, 180), (lat, 90)))
    distance, side = 0, n // 2
    while side:
        rx, ry = int(bool(x & side)), int(bool(y & side))
        distance += side * side * ((3 * rx) ^ ry)
        if not ry:
            if rx:
                x, y = n - 1 - x, n - 1 - y
            x, y = y, x
        side //= 2
    return distance


def test_rows_are_in_hilbert_order_and_shards_are_runs_of_rows(plan, recipe, source, small):
    many = make_plan(variant(recipe, num_samples=200), base_dir=small.parent, source=source)
    lonlat = np.column_stack([many.table["lon"], many.table["lat"]])
    index = [hilbert_index(lon, lat, order=16) for lon, lat in lonlat]
    steps = np.linalg.norm(np.diff(lonlat, axis=0), axis=1).sum()
    ours = np.linalg.norm(np.diff(lonlat[np.argsort(index, kind="stable")], axis=0), axis=1).sum()
    rng = np.random.default_rng(0)
    random = np.linalg.norm(np.diff(lonlat[rng.permutation(len(lonlat))], axis=0), axis=1).sum()
    # the curve may start at another corner, but it is as short, and far shorter than no order at all
    assert steps < 1.3 * ours < 0.3 * random
    size = shard_size(many.recipe)
    assert size == 16  # 200 samples, at least eight shards, a power of two
    assert many.table["shard"].to_pylist() == [k // size for k in range(200)]
    assert plan.table["shard"].to_pylist() == [k // 2 for k in range(16)]


@pytest.mark.parametrize(
    ("changes", "size"),
    [
        ({"num_samples": 1}, 1),
        ({"num_samples": 15}, 1),
        ({"num_samples": 100_000}, 64),
        # 64 MiB of chips of 2 x 12 x 96 x 96 bytes are 303, but 64 are the most; at 256 px 42, so 32; of four dates 10, so 8
        ({"num_samples": 100_000, "chip": {"size_px": 96, "bands": [f"B{k:02d}" for k in range(12)]}}, 64),
        ({"num_samples": 100_000, "chip": {"size_px": 256, "bands": [f"B{k:02d}" for k in range(12)]}}, 32),
        (
            {
                "num_samples": 100_000,
                "chip": {"size_px": 256, "bands": [f"B{k:02d}" for k in range(12)]},
                "when": {"start": "2021-01-01", "end": "2021-12-31", "dates_per_site": 4},
            },
            8,
        ),
        ({"num_samples": 100_000, "chip": {"size_px": 2048, "bands": [f"B{k:02d}" for k in range(12)]}}, 1),
    ],
)
def test_a_shard_is_a_power_of_two_of_chips_and_bounded(recipe, changes, size):
    assert shard_size(variant(recipe, **changes)) == size


def test_a_share_is_for_validation(recipe, source, small):
    table = make_plan(variant(recipe, num_samples=200), base_dir=small.parent, source=source).table
    assert 0.1 < table["split"].to_pylist().count("val") / 200 < 0.3
    none = variant(recipe, split={"val_fraction": 0, "block_km": 20})
    assert set(make_plan(none, base_dir=small.parent, source=source).table["split"].to_pylist()) == {"train"}


def test_one_hot_plans_hold_one_class_alone(recipe, source, small):
    sampler = {"strategy": "one_hot", "layer": "landcover", "value": "Grassland", "domain": "scenes"}
    table = make_plan(variant(recipe, sampler=sampler), base_dir=small.parent, source=source).table
    assert set(table["landcover"].to_pylist()) == {"grassland"}
    with pytest.raises(RegionError, match=r"unknown landcover 'gras': did you mean 'grassland'"):
        make_plan(variant(recipe, sampler={**sampler, "value": "gras"}), base_dir=small.parent, source=source)


def test_several_dates_are_scenes_of_different_windows_on_one_grid(recipe, source, small):
    when = {**recipe.when.model_dump(mode="json"), "max_cloud_cover": 100, "dates_per_site": 2}
    start, end = recipe.when.start, recipe.when.end
    middle = start + (end - start) / 2
    scenes = search_scenes(source, variant(recipe, when=when).when, bands=["B02"])
    both = {s.item["properties"]["pwcat:place"] for s in scenes if s.time.date() < middle} & {
        s.item["properties"]["pwcat:place"] for s in scenes if s.time.date() > middle
    }
    if not both:
        pytest.fail("the synthetic archive has no place with a scene in either half of the span")
    table = make_plan(variant(recipe, when=when), base_dir=small.parent, source=source).table
    for names, (first, second) in zip(table["scene_ids"].to_pylist(), table["datetime"].to_pylist(), strict=True):
        assert len(set(names)) == 2
        assert first.date() <= middle <= second.date()


def test_a_plan_that_cannot_be_met_says_what_was_met_and_what_to_relax(recipe, source, small):
    wide = variant(recipe, chip={"size_px": 384, "bands": ["B02"]})  # as large as a scene: it fits in one place alone
    with pytest.raises(
        SourceError,
        match=r"^small: only \d of 16 sites could be placed\. uniform: \d of 16; of [\d,]+ places tried, ([\d,]+) had no scene "
        r"that holds the whole chip on every date\. "
        r"To get more: raise `when\.max_cloud_cover`, widen the dates or take a smaller chip\.$",
    ):
        make_plan(wide, base_dir=small.parent, source=source)
    long_ago = variant(recipe, when={"start": "1999-01-01", "end": "1999-12-31"})
    with pytest.raises(
        SourceError, match="has no scene from 1999-01-01 to 1999-12-31 under 20 % cloud with the bands B02"
    ):
        make_plan(long_ago, base_dir=small.parent, source=source)


def test_a_folder_of_another_recipe_is_refused_and_a_changed_one_noticed(frozen, planned, recipe, source, small):
    before = (planned / "plan.parquet").read_bytes()
    with pytest.raises(
        RecipeError, match=r"of another recipe of this name \(.*; they differ in seed\. Remove the folder, or give"
    ):
        freeze_plan(variant(recipe, seed=1), catalog=planned.parent, base_dir=small.parent, source=source)
    assert (planned / "plan.parquet").read_bytes() == before
    document = yaml.safe_load((planned / "recipe.yaml").read_text())
    (planned / "recipe.yaml").write_text(yaml.safe_dump({**document, "seed": 1}))
    with pytest.raises(
        RecipeError, match=r"recipe\.yaml is not the recipe that plan\.parquet was made from; plan again"
    ):
        read_plan(planned)
    with pytest.raises(PwcatError, match=r"no plan there; make one with `pwcat plan RECIPE`"):
        read_plan(planned.parent)


def test_columns_of_a_plan_are_read_alone(frozen):
    whole, part = read_plan(frozen), read_plan(frozen, columns={"id", "scene_ids", "shard", "composite_ids"})
    assert part.table.equals(whole.table.select(["id", "scene_ids", "shard"]))
    assert part.reserve.schema == part.table.schema
    assert (part.recipe, part.layers) == (whole.recipe, whole.layers)


def test_a_frozen_plan_is_kept_as_it_is_and_needs_no_search(planned, recipe, small):
    nowhere = OpenSource(provider="archive", url="http://127.0.0.1:1", collection="s2-l2a-synthetic")
    before = (planned / "plan.parquet").stat().st_mtime_ns
    assert freeze_plan(recipe, catalog=planned.parent, base_dir=small.parent, source=nowhere) == planned
    assert (planned / "plan.parquet").stat().st_mtime_ns == before
    assert len(read_plan(planned).scenes(nowhere)) == len(pq.read_table(planned / "scenes.parquet"))


@pytest.fixture
def counted(archive_dir, tmp_path):
    """The archive, by a server that writes each request of an asset down: the source, and what it wrote."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    log = tmp_path / "requests.log"
    log.touch()
    server = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("counting_archive.py")), str(archive_dir), str(log), str(port)]
    )
    try:
        while server.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except ConnectionRefusedError:
                time.sleep(0.05)
        forget_address(f"http://127.0.0.1:{port}")
        yield OpenSource(provider="archive", url=f"http://127.0.0.1:{port}", collection="s2-l2a-synthetic"), log
    finally:
        server.kill()
        server.wait()


def test_the_estimate_is_what_a_build_really_asks_for(planned, counted):
    source, log = counted
    plan = read_plan(planned)
    estimate = estimate_plan(plan.recipe, plan.table, plan.scenes(source))
    assert log.read_text() == ""
    build_cube(planned, source=source)
    requests = [line.split() for line in log.read_text().splitlines()]
    assert estimate.requests == pytest.approx(len(requests), rel=0.2)
    assert estimate.download_bytes == pytest.approx(sum(int(sent) for _, _, sent in requests), rel=0.2)
    assert estimate.cube_bytes == 16 * 3 * 32 * 32 * 2
    assert (estimate.samples, estimate.shards, estimate.scenes) == (16, 8, len(plan.scenes(source)))
    assert sum(estimate.splits.values()) == sum(count for *_, count in estimate.cells) == 16
    seconds = estimate.download_bytes / 20e6 + estimate.requests * 0.03 / 16
    assert estimate.hours == pytest.approx(seconds / 3600)


@pytest.mark.kit
def test_the_estimate_knows_earth_searchs_names_and_whole_scenes(kit, recipe):
    path = kit / "stac" / "rustac" / "crates__server__data__sentinel-2__item-collection.json"
    item = json.loads(path.read_text())["features"][0]
    source = OpenSource(provider="earth-search", url="http://127.0.0.1:1", collection="s2")
    scene = Scene.from_item(item, source=source, bands=["B02", "B05", "B01"])
    document = {"provider": "earth-search", "collection": "s2"}
    one = variant(recipe, source=document, num_samples=1)
    row = {name: [None] for name in PLAN_SCHEMA.names} | {
        "scene_ids": [[scene.id]], "shard": [0], "split": ["train"],
        "x0": [scene.left + 5120 - 160], "y0": [scene.top - 100],
    }  # fmt: skip
    estimate = estimate_plan(one, pa.table(row, schema=PLAN_SCHEMA), [scene])
    # The chip straddles two tiles of 512 x 10 m, which come together, and lies in one of 512 x 20 m and of 512 x 60 m.
    assert estimate.requests == 3 + (1 + 1 + 1)
    sizes = {"B02": 50_877_103 / 10980**2, "B05": 14_955_811 / 5490**2, "B01": 1_817_791 / 1830**2}  # as the item tells
    tiles = 512 * 512 * (2 * sizes["B02"] + sizes["B05"] + sizes["B01"]) * 3 / 4
    assert estimate.download_bytes == round(3 * 16_384 + tiles)


def test_a_command_shows_counts_and_costs(small, pwcat, frozen, tmp_path):
    catalog = tmp_path / "catalog"
    catalog.mkdir()
    (catalog / "small").symlink_to(frozen)
    code, out, err = pwcat("plan", small, "--catalog", catalog)
    assert (code, err) == (0, "")
    assert re.search(r"^Samples +16: \d+ train, \d+ val *$", out, re.MULTILINE)
    assert re.search(r"^Reads +about [\d,]+ requests, [\d.]+ MB of \d+ scenes: ", out, re.MULTILINE)
    assert out.splitlines()[-2:] == [
        f"Written to {catalog / 'small'}",
        f"Next: pwcat build {small} --catalog {catalog}",  # in one line, however long
    ]
    assert load_recipe(small).title in out
    assert "Continent × biome × land cover" not in out
    assert "Continent × biome × land cover" in pwcat("plan", small, "--catalog", catalog, "--cells")[1]


def sites_a_scene(plan):
    return Counter(name for names in plan.table["scene_ids"].to_pylist() for name in names)


@pytest.mark.parametrize("dates", [1, 2])
def test_sites_come_in_groups_that_share_their_scenes(recipe, source, small, dates):
    when = {**recipe.when.model_dump(mode="json"), "max_cloud_cover": 100, "dates_per_site": dates}
    sampler = {"strategy": "stratified", "by": ["continent"], "domain": "scenes"}
    base = variant(recipe, num_samples=66, when=when, sampler=sampler)
    free = make_plan(base, base_dir=small.parent, source=source)
    assert min(sites_a_scene(free).values()) < 5
    grouped = make_plan(
        variant(base, constraints={"min_sites_per_scene": 5, "min_spacing_km": 0.2}),
        base_dir=small.parent,
        source=source,
    )
    assert len(grouped) == 66
    assert Counter(grouped.table["continent"].to_pylist()) == Counter(free.table["continent"].to_pylist())
    assert min(sites_a_scene(grouped).values()) >= 5
    assert len(grouped.scenes) < len(free.scenes)
    x0, y0, epsg = (grouped.table[name].to_numpy() for name in ("x0", "y0", "epsg"))
    for zone in np.unique(epsg):
        apart = np.hypot(*(v[epsg == zone][:, None] - v[epsg == zone][None] for v in (x0, y0)))
        assert apart[np.triu_indices(len(apart), 1)].min() > 200 - 15


def test_dense_groups_cost_several_times_fewer_bytes(recipe, source, small):
    sparse = variant(recipe, num_samples=24, chip={"size_px": 16, "bands": ["B02", "B05", "B01"]})
    dense = variant(sparse, constraints={"min_sites_per_scene": 12})
    cost = {}
    for name, one in (("sparse", sparse), ("dense", dense)):
        plan = make_plan(one, base_dir=small.parent, source=source)
        cost[name] = estimate_plan(one, plan.table, plan.scenes).download_bytes
    assert cost["sparse"] / cost["dense"] > 2


def test_a_scene_has_no_more_sites_than_it_may(recipe, source, small):
    when = {**recipe.when.model_dump(mode="json"), "max_cloud_cover": 100}
    plan = make_plan(
        variant(recipe, num_samples=20, when=when, constraints={"max_sites_per_scene": 2}),
        base_dir=small.parent,
        source=source,
    )
    assert max(sites_a_scene(plan).values()) == 2
    free = make_plan(variant(recipe, num_samples=20, when=when), base_dir=small.parent, source=source)
    assert max(sites_a_scene(free).values()) > 2
    assert {*sites_a_scene(plan)} - {*sites_a_scene(free)}  # another date serves where the best scene is full
    with pytest.raises(
        RegionError,
        match=r"had no scene left that has not its most sites already.*raise `constraints\.max_sites_per_scene`",
    ):
        make_plan(
            variant(recipe, num_samples=60, constraints={"max_sites_per_scene": 1}),
            base_dir=small.parent,
            source=source,
        )


def test_groups_that_no_stratum_can_fill_are_refused(recipe, source, small):
    sampler = {"strategy": "stratified", "by": ["continent"], "domain": "scenes"}
    changed = variant(recipe, num_samples=16, sampler=sampler, constraints={"min_sites_per_scene": 4})
    with pytest.raises(
        RegionError,
        match=r"`constraints\.min_sites_per_scene` \(4\) is more than some strata want in all: .*Asia \(\d\).*; lower it",
    ):
        make_plan(changed, base_dir=small.parent, source=source)


def test_a_reserve_lies_beside_the_plan_and_shares_its_split(recipe, source, small, tmp_path):
    with_reserve = variant(recipe, num_samples=40, constraints={"reserve_fraction": 0.25})
    plan = make_plan(with_reserve, base_dir=small.parent, source=source)
    alone = make_plan(variant(recipe, num_samples=40), base_dir=small.parent, source=source)
    assert len(plan.reserve) == 10
    assert plan.reserve.schema == plan.table.schema
    assert plan.table["lon"].equals(alone.table["lon"])
    assert plan.reserve["shard"].null_count == 10
    assert plan.reserve["id"].to_pylist() == [f"small-{k:06d}" for k in range(40, 50)]
    split = {}
    for part in (plan.table, plan.reserve):
        for lon, lat, name in zip(*(part[key].to_pylist() for key in ("lon", "lat", "split")), strict=True):
            side = 20 / EARTH_RADIUS_KM
            cell = np.floor(np.deg2rad(lon) / side), np.floor(np.sin(np.deg2rad(lat)) / side)
            assert split.setdefault(cell, name) == name
    write_plan(plan, tmp_path)
    assert read_plan(tmp_path).reserve.equals(plan.reserve)


def test_places_alone_need_no_source(recipe, small, kit):
    layers = {
        "continent": {"path": str(kit / "vectors/natural_earth/ne_continents.fgb"), "field": "continent"},
        "ecoregion": {"path": str(kit / "vectors/biomes/resolve_2017_biomes_simplified.fgb"), "field": "BIOME_NAME"},
        "soil": {"path": str(kit / "biomes_landcover/MCD12C1.A2019001.006.IGBP.tif"), "classes": "igbp"},
    }
    sampler = {"strategy": "stratified", "by": ["soil"], "exclude": ["water"]}
    document = {**recipe.model_dump(mode="json"), "num_samples": 160, "sampler": sampler, "regions": layers}
    table = draw_sites(Recipe.model_validate(document), base_dir=small.parent)
    assert Counter(table["soil"].to_pylist()) == Counter(table["stratum"].to_pylist())
    assert set(Counter(table["soil"].to_pylist()).values()) == {10}
    assert table["ecoregion"].null_count < 160
    assert table["scene_ids"].to_pylist() == [[]] * 160
    assert table.schema.names == [*PLAN_SCHEMA.names, "soil"]


UNIFORM = {"strategy": "uniform", "domain": "globe"}


@pytest.mark.parametrize(
    ("changes", "reasons"),
    [
        ({"sampler": {"strategy": "spectral", "base": UNIFORM}}, "its sampler chooses them by their pixels"),
        ({"sampler": UNIFORM | {"domain": "scenes"}}, "its sampler draws from footprints of scenes"),
        (
            {"sampler": UNIFORM, "constraints": {"min_sites_per_scene": 2, "max_sites_per_scene": 4}},
            r"`constraints\.max_sites_per_scene` counts .* and `constraints\.min_sites_per_scene` counts them by scene",
        ),
    ],
)
def test_places_that_hang_on_scenes_are_refused_with_the_reason_and_the_way(recipe, small, changes, reasons):
    changed = Recipe.model_validate({**recipe.model_dump(mode="json"), **changes})
    told = rf"^small: its places cannot be drawn without scenes, for {reasons}; `pwcat plan RECIPE` asks the source"
    with pytest.raises(RecipeError, match=told):
        draw_sites(changed, base_dir=small.parent)


@pytest.mark.kit
def test_a_command_chooses_places_alone(recipe, kit, pwcat, tmp_path):
    layers = {
        "continent": {"path": str(kit / "vectors/natural_earth/ne_continents.fgb"), "field": "continent"},
        "biome": {"path": str(kit / "vectors/biomes/resolve_2017_biomes_simplified.fgb"), "field": "BIOME_NAME"},
    }
    document = {**recipe.model_dump(mode="json"), "sampler": {"strategy": "uniform"}, "regions": layers}
    document["source"] = {"provider": "stac", "url": "http://127.0.0.1:1", "collection": "nowhere"}
    path = tmp_path / "where.yaml"
    path.write_text(yaml.safe_dump(document))
    code, out, err = pwcat("sites", path, "-o", "where.parquet", "--map", "where.png")
    assert (code, err) == (0, "")
    assert "Expected diversity" in out
    assert out.splitlines()[-3:] == ["Sites: where.parquet", "Map: where.png", f"Next: pwcat plan {path}"]
    points = gpd.read_parquet(tmp_path / "where.parquet")
    assert points.crs == "EPSG:4326"
    assert len(points) == 16
    assert points["continent"].notna().all()
    assert (tmp_path / "where.png").read_bytes().startswith(b"\x89PNG")
    code, out, _ = pwcat("sites", path, "--json")
    told = json.loads(out)
    assert sum(cell[-1] for cell in told["cells"]) == told["samples"] == 16
    assert told["diversity"]["continent"]["classes"] == points["continent"].nunique()
    assert told["classes"]["continent"] == points["continent"].value_counts().to_dict()
    assert told["strata"] == {"uniform": 16}
    assert told["splits"] == points["split"].value_counts().to_dict()
    assert told["distances_km"]["spacing"] > 1
    for name in ("where.csv", "where.gpkg"):
        assert pwcat("sites", path, "-o", name)[0] == 0
        assert len(gpd.read_file(tmp_path / name)) == 16
    code, out, err = pwcat("sites", path, "-o", "where.doc")
    assert (code, out) == (2, "")
    assert err == "pwcat: --out where.doc: the file must end in .csv, .parquet, .geojson, .gpkg, .fgb\n"


def test_a_command_tells_what_a_choice_by_spectra_cost(recipe, small, pwcat, tmp_path):
    sampler = {"strategy": "spectral", "base": {"strategy": "uniform", "domain": "scenes"}, "calibrate": 20}
    path = tmp_path / "spectral.yaml"
    path.write_text(variant(recipe, sampler=sampler).to_yaml())
    code, out, err = pwcat("plan", path, "--catalog", "catalog")
    assert (code, err) == (0, "")
    told = " ".join(out.split())
    assert re.search(
        r"Chosen among 80 candidates \(0 without pixels\): coarse scores rank as full ones do with rho [01]\.\d", told
    )
    assert re.search(
        r"Spectra expected entropy \d\.\d\d nats, of all candidates \d\.\d\d Scoring read [\d.]+ MB, calib", told
    )
    code, out, _ = pwcat("plan", path, "--catalog", "catalog", "--json")
    assert json.loads(out)["spectral"]["candidates"] == 80
