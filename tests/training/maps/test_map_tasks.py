"""Tasks of map tiles: labels by hand, inputs that do not tell them, sides by group, zeros thinned."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from pwcat.errors import TrainingError
from pwcat.osm.targets import TARGETS, TagRule
from pwcat.osm.tiles import Tile, parse_tile
from training.commands.evaluate import evaluate as evaluate_command
from training.evaluate import default_probes, evaluate, load_scores
from training.evaluating.showing import lines_under
from training.osm.reading import EntityReader
from training.pretrain import pretrain
from training.recipe import load_train_recipe
from training.resampling import Official
from training.tasks import CATALOG_TASKS, open_task
from training.tasks.chips import SubsetChips
from training.tasks.map_targets import MapTask

NAMES = [f"{target}{inputs}" for target in TARGETS for inputs in ("", "-removed", "-leaky")]


def tags_of(entities) -> list[tuple[int, tuple[tuple[str, str], ...]]]:
    """Tile and tags of each entity."""
    pairs = entities.tag_list.pairs
    found: dict[int, list[tuple[str, str]]] = {}
    for entity, tag in zip(entities.tag_entity.tolist(), entities.tags.tolist(), strict=True):
        found.setdefault(entity, []).append(tuple(pairs[tag]))
    return [(tile, tuple(sorted(found[n]))) for n, tile in enumerate(entities.sample.tolist())]


def batch_of(subset, rule):
    return EntityReader(subset, rule).batch(np.arange(len(subset)))


def things_on(world, subset):
    return [world[parse_tile(name)] for name in subset.column("map:tile")]


def test_all_are_tasks_by_name():
    assert set(NAMES) <= set(CATALOG_TASKS)
    assert {name: CATALOG_TASKS[name].name for name in NAMES} == {name: name for name in NAMES}


def test_buildings_are_those_drawn(towns, world):
    data = MapTask(target="building-count", zeros=1.0).open(towns)
    want = [sum("building" in tags for _, _, tags in things) for things in things_on(world, towns)]
    np.testing.assert_array_equal(data.targets, want)
    assert (data.info.kind, data.info.metric, data.info.unit) == ("regression", "mae", "buildings")
    assert data.info.small_error == 5.0
    assert data.left_out == {}
    assert len(set(want)) > 5


def test_sides_are_of_whole_groups_and_three(towns):
    data = MapTask(target="building-count", zeros=1.0).open(towns)
    groups = towns.column("map:group")
    assert set(data.splits) == {"train", "val", "test"}
    for group in set(groups):
        assert len(set(data.splits[groups == group])) == 1
    assert (data.splits == towns.column("pwcat:split")).all()


def test_a_column_of_map_tiles_is_tested_on_their_test_side_too(towns):
    data = CATALOG_TASKS["number:map:building_count"].open(towns)
    assert (data.splits == towns.column("pwcat:split")).all()


@pytest.mark.parametrize("target", TARGETS)
def test_a_column_of_a_target_has_masked_inputs_too(towns, target):
    """Inputs that tell the answer are had by names that say so alone."""
    data = CATALOG_TASKS[f"number:{TARGETS[target].column}"].open(towns)
    tags = [tag for _, left in tags_of(data.chips.entities.batch(np.arange(len(data)))) for tag in left]
    assert tags
    assert not any(TARGETS[target].removes(*tag) for tag in tags)


def test_tiles_without_a_speed_limit_are_left_out(towns, world):
    data = MapTask(target="max-speed").open(towns)
    speeds = [
        [float(t["maxspeed"].split()[0]) * 1.609344 for _, _, t in things if "maxspeed" in t]
        for things in things_on(world, towns)
    ]
    np.testing.assert_allclose(data.targets, [max(s) for s in speeds if s])
    assert data.left_out == {"no label": sum(not s for s in speeds)}


def test_a_bridge_is_a_class(towns, world):
    data = MapTask(target="car-bridge", zeros=1.0).open(towns)
    cars = [
        any(t.get("bridge") and t["highway"] == "primary" for _, _, t in things) for things in things_on(world, towns)
    ]
    np.testing.assert_array_equal(data.targets, np.array(cars, dtype=np.int64))
    assert data.info.classes == ("none", "bridge")
    assert data.info.metric == "error_rate"
    feet = MapTask(target="bridge", zeros=1.0).open(towns)
    assert feet.targets.sum() > data.targets.sum() > 0


def test_zeros_are_thinned_the_same_whatever_else_takes_part(towns):
    every = MapTask(target="traffic-signals", zeros=1.0).open(towns)
    thinned = MapTask(target="traffic-signals", zeros=0.5).open(towns)
    kept = set(thinned.ids)
    assert {each for each, label in zip(every.ids, every.targets, strict=True) if label} <= kept
    assert 0 < (thinned.targets == 0).sum() < (every.targets == 0).sum()
    assert thinned.left_out == {"label 0, of which 50% are kept": len(every) - len(thinned)}
    half = towns.only(np.arange(0, len(towns), 2))
    assert set(MapTask(target="traffic-signals", zeros=0.5).open(half).ids) == kept & set(half.column("id"))
    none = MapTask(target="traffic-signals", zeros=0.0).open(towns)
    assert none.targets.min() > 0
    default = MapTask(target="traffic-signals").open(towns)
    assert set(none.ids) <= set(default.ids) <= kept
    assert "label 0, of which 5% are kept" in default.left_out
    assert len({each.hash for each in (every, thinned, none)}) == 3


@pytest.mark.parametrize("target", TARGETS)
def test_masked_inputs_have_no_tag_that_tells(towns, target):
    masked, leaky = batch_of(towns, TagRule(target=target)), batch_of(towns, None)
    told = [tag for _, tags in tags_of(leaky) for tag in tags if TARGETS[target].removes(*tag)]
    assert told
    assert not any(TARGETS[target].removes(*tag) for _, tags in tags_of(masked) for tag in tags)


def test_removed_inputs_lack_the_entities_and_masked_ones_keep_their_other_tags(towns):
    roof = ("roof:shape", "dôme")
    leaky, masked, removed = (
        [
            tags
            for _, tags in tags_of(
                MapTask(target="building-count", inputs=inputs).open(towns).chips.entities.batch(np.arange(20))
            )
        ]
        for inputs in ("leaky", "masked", "removed")
    )
    assert sum(roof in tags for tags in leaky) == sum(tags == (roof,) for tags in masked) > 0
    assert not any(roof in tags for tags in removed)
    assert len(removed) < len(masked) < len(leaky)


@pytest.mark.parametrize("target", TARGETS)
def test_maps_that_differ_in_target_tags_alone_give_the_same_batches(towns, world, build_world, tmp_path, target):
    """The honest default: nothing that a model reads hangs on the tags that are to be predicted."""
    rule = TagRule(target=target)
    bare = {
        tile: [
            (kind, places, left)
            for kind, places, tags in things
            if (left := {key: value for key, value in tags.items() if not rule.drops(key, value)})
        ]
        for tile, things in world.items()
    }
    other = build_world(tmp_path, bare)
    np.testing.assert_array_equal(other.column("map:tile"), towns.column("map:tile"))
    first, second = batch_of(towns, rule), batch_of(other, None)
    assert tags_of(first) == tags_of(second)
    for name in ("sample", "boxes", "kinds", "vertices", "vertex_entity", "edges", "edge_kinds", "tag_entity"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name), err_msg=name)
    for recipe in ("tagcount", "tagpool"):
        model = _fitted(recipe, towns)
        with_tags, without = (
            model.encode(
                next(
                    SubsetChips(subset=each, removing=rule).batches(
                        np.arange(48), bands=(), times="first", block=48, entities=True
                    )
                )
            )
            for each in (towns, other)
        )
        np.testing.assert_array_equal(with_tags, without)


def _fitted(recipe, subset):
    from training.evaluating.models import with_random_weights

    return with_random_weights(load_train_recipe(recipe), MapTask(target="building-count", zeros=1.0).open(subset))


def test_regions_are_named_boxes_or_else_collections(towns, world, build_world, tmp_path):
    assert "region" not in MapTask(target="building-count").open(towns).groups
    south, north = Tile(16, 0, 20001).bounds()[1], Tile(16, 0, 19999).bounds()[3]
    bounds = [Tile(16, x, 0).bounds()[0] for x in (12000, 12100, 12400)]
    west, east = ([bounds[n], south, bounds[n + 1], north] for n in (0, 1))
    named = build_world(tmp_path, world, name="boxes", boxes={"West": west, "East": east})
    groups = MapTask(target="building-count", zeros=1.0).open(named).groups["region"]
    x = np.array([parse_tile(name).x for name in named.column("map:tile")])
    np.testing.assert_array_equal(groups, np.where(x < 12100, "West", "East"))


def test_what_is_no_map_is_refused(towns, tmp_path):
    shutil.copytree(towns.collections[0].path, tmp_path / "towns")
    (tmp_path / "towns" / "entities.parquet").unlink()
    with pytest.raises(TrainingError, match="no collection of map tiles"):
        open_task("building-count", tmp_path / "towns")


def test_labels_that_do_not_differ_are_refused(towns):
    none = towns.only(np.flatnonzero(towns.column("map:bridge") == 0))
    with pytest.raises(
        TrainingError, match=r"two labels that differ are needed \(label 0, of which 25% are kept: \d+\)"
    ):
        MapTask(target="bridge").open(none)


def test_options_are_for_tasks_that_take_them(towns):
    place = towns.collections[0].path
    assert len(open_task("bridge", place, zeros=1.0)) == 48
    with pytest.raises(TrainingError, match="task biome does not take zeros"):
        open_task("biome", place, zeros=1.0)
    with pytest.raises(TrainingError, match="task bridge does not take min_samples"):
        open_task("bridge", place, min_samples=3)
    with pytest.raises(TrainingError, match="zeros is for tasks of a catalog"):
        open_task("eurosat", place, zeros=0.5)


def test_the_dummy_and_counts_are_scored_like_any_model(towns, tmp_path):
    data = MapTask(target="building-count", zeros=1.0).open(towns)
    scores = evaluate(
        None,
        data,
        control=load_train_recipe("tagcount"),
        probes=["dummy", "ridge"],
        sampling=Official(repeats=2),
        out_dir=tmp_path,
    )
    test, learnt = data.splits == "test", data.splits == "train"
    constant = np.median(data.targets[learnt])
    told = scores.summary("dummy")
    assert told.metric == "mae"
    assert told.measure.values == [pytest.approx(np.abs(data.targets[test] - constant).mean())] * 2
    assert told.measure.ci_low < told.measure.mean < told.measure.ci_high
    assert default_probes(data.info.kind) == ("knn", "ridge")
    leaky = evaluate(
        None,
        MapTask(target="building-count", inputs="leaky", zeros=1.0).open(towns),
        control=load_train_recipe("tagcount"),
        probes=["ridge"],
        sampling=Official(),
        out_dir=tmp_path,
    )
    assert leaky.summary("ridge").measure.mean < scores.summary("ridge").measure.mean  # counting houses tells houses
    assert leaky.summary("ridge").measure.mean < 0.5
    assert [each.task for each in load_scores(tmp_path)] == ["building-count", "building-count-leaky"]
    spread = load_scores(tmp_path)[0].spread
    assert spread == scores.spread
    assert 1 < spread["effective_rank"] < spread["most"] <= spread["samples"] == 48
    (told,) = (line for line in lines_under(scores) if "effective rank" in line)
    assert f"{spread['effective_rank']:.1f}" in told
    assert "collapsed" not in told


def test_bridges_are_scored_by_their_error_rate(towns, tmp_path):
    place = towns.collections[0].path
    arguments = [
        "none",
        str(place),
        "--control",
        "tagpool",
        "--task",
        "bridge",
        "--zeros",
        "1",
        "--probe",
        "dummy",
        "--json",
    ]
    said = CliRunner().invoke(
        evaluate_command, [*arguments, "--split", "official", "--out", str(tmp_path)], catch_exceptions=False
    )
    told = json.loads(said.stdout)
    assert told["metric"] == "error_rate"
    (dummy,) = told["results"]
    figures = {each["metric"]: each["values"][0] for each in dummy["figures"] if each["group"] == "all"}
    data = open_task("bridge", place, zeros=1.0)
    assert figures["error_rate"] == pytest.approx(data.targets[data.splits == "test"].mean())
    assert figures["error_rate"] == pytest.approx(1 - figures["accuracy"])
    assert told["left_out"] == {}
    assert Path(tmp_path / "scores.json").is_file()


def test_a_model_that_saw_the_maps_it_is_tested_on_is_told(towns, tmp_path, caplog):
    """Whole maps of pretraining tell what is taken off the same tiles afterwards."""
    data = MapTask(target="building-count", zeros=1.0).open(towns)
    small = {"epochs": "1", "optimizer.warmup_epochs": "0", "model.dim": "16", "model.depth": "1"}
    recipe = load_train_recipe("geojepa-tiny", overrides=small)
    for samples, told in ((towns.split("train"), False), (towns, True)):
        run = pretrain(samples, recipe, tmp_path / str(told), device="cpu")
        caplog.clear()
        evaluate(run.path, data, probes=["dummy"], sampling=Official())
        assert ("pretrained on all tiles of towns, those it is tested on among them" in caplog.text) is told


def test_a_collapse_is_told(towns):
    data = MapTask(target="building-count", zeros=1.0).open(towns)
    scores = evaluate(None, data, control=load_train_recipe("tagcount"), probes=["dummy"], sampling=Official())
    flat = replace(scores, spread={"effective_rank": 1.0, "effective_rank_centred": None, "most": 9, "samples": 48})
    assert "effective rank of the embeddings 1.0, of at most 9: they have all but collapsed" in lines_under(flat)
    gone = replace(scores, spread={"effective_rank": None, "effective_rank_centred": None, "most": 9, "samples": 48})
    assert "embeddings have collapsed: no embedding differs from zero" in lines_under(gone)
    assert not any("rank" in line for line in lines_under(replace(scores, spread={})))
