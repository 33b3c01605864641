"""Entities in batches are those of the file, whatever the order, the placement, the ranks and the memory."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from catalog.subset import load_subset
from pwcat.errors import TrainingError
from pwcat.osm.schema import KINDS
from pwcat.osm.targets import TagRule
from training.loader import Loader, in_order
from training.osm.reading import EntityReader, holds_entities
from training.tasks.chips import FileChips, PlaceChips, SubsetChips

PLACEMENTS = ("device", "cache", "stream")
BAND = ("B04",)


def listed(entities, sample):
    """The entities of a sample, as Python values; edges by their vertices' places."""
    pairs, found = entities.tag_list.pairs, []
    for number in torch.nonzero(entities.sample == sample).ravel().tolist():
        vertices = entities.vertices[entities.vertex_entity == number].tolist()
        first = int(torch.nonzero(entities.vertex_entity == number)[0])
        own = (entities.edges >= first).all(dim=0) & (entities.edges < first + len(vertices)).all(dim=0)
        outline = (entities.edges[:, own & (entities.edge_kinds == 0)] - first).T.tolist()
        found.append(
            {
                "kind": KINDS[int(entities.kinds[number])],
                "box": entities.boxes[number].ravel().tolist(),
                "tags": [pairs[tag] for tag in entities.tags[entities.tag_entity == number].tolist()],
                "xy": [x for vertex in vertices for x in vertex],
                "outline": sorted(outline),
            }
        )
    return found


def outline_of(row):
    """Edges along the outlines of a row of the file, both ways."""
    edges, first = set(), 0
    for length in row["rings"]:
        steps = length if row["kind"] == "polygon" else length - 1
        for place in range(steps if row["kind"] != "point" else 0):
            a, b = first + place, first + (place + 1) % length
            edges |= {(a, b), (b, a)}
        first += length
    return sorted([list(edge) for edge in edges])


def truth(subset, row, *, gone=lambda key, value: False, whole=False):
    """What the file holds of a sample, read row by row."""
    collection = next(each for each, rows in subset.parts() if rows.start <= row < rows.stop)
    table = pq.read_table(collection.path / "entities.parquet")
    found = []
    for each in table.filter(pa.compute.equal(table["index"], int(subset.index[row]))).to_pylist():
        tags = [tag for tag in each["tags"] if not gone(*tag)]
        if tags and not (whole and len(tags) < len(each["tags"])):
            found.append(
                {name: each[name] for name in ("kind", "box", "xy")} | {"tags": tags, "outline": outline_of(each)}
            )
    return found


def same(one, other):
    tensors = (
        "sample",
        "boxes",
        "kinds",
        "tags",
        "tag_entity",
        "vertices",
        "vertex_entity",
        "edges",
        "edge_kinds",
        "rows",
    )
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in tensors)


def test_a_batch_has_the_entities_of_its_tiles_in_the_order_of_the_file(maps):
    rows = np.array([70, 3, 0, 2, 3, 79, 47, 48])  # of both collections; an empty tile; one twice
    entities = EntityReader(maps).batch(rows)
    for place, row in enumerate(rows.tolist()):
        assert listed(entities, place) == truth(maps, row)
    assert entities.sample.tolist() == sorted(entities.sample.tolist())
    assert not listed(entities, 3)
    assert len(entities.edges[0]) > 0
    assert (entities.vertex_entity[entities.edges[0]] == entities.vertex_entity[entities.edges[1]]).all()


def test_rows_name_the_entities(one_map):
    entities = EntityReader(one_map).batch(np.array([7, 3]))
    table = pq.read_table(one_map.collections[0].path / "entities.parquet")
    assert table["index"].take(pa.array(entities.rows.numpy())).to_pylist() == [
        int(one_map.index[[7, 3][place]]) for place in entities.sample.tolist()
    ]


def test_tiles_without_anything_make_a_batch_without_entities(one_map):
    entities = EntityReader(one_map).batch(np.array([2, 47]))
    assert len(entities) == 0
    assert entities.boxes.shape == (0, 4, 2)
    assert entities.edges.shape == (2, 0)
    assert entities.vertices.shape == (0, 2)


@pytest.mark.parametrize("inputs", ["masked", "removed"])
def test_tags_of_a_target_are_taken_away(maps, inputs):
    reader = EntityReader(maps, TagRule(target="building-count", inputs=inputs))
    entities = reader.batch(np.arange(80))
    left = {reader.tag_list.pairs[tag] for tag in torch.unique(entities.tags).tolist()}
    assert ("building", "house") not in left
    assert (("addr:street", "Größe") in left) == (inputs == "masked")  # of entities that are buildings too
    for row in (0, 1, 3, 50):
        expected = truth(maps, row, gone=lambda key, value: key == "building", whole=inputs == "removed")
        assert listed(entities, row) == expected


def test_memory_for_one_row_group_gives_the_same_from_many_threads(maps):
    drawn = [np.random.default_rng(seed).integers(0, 80, 11) for seed in range(12)]
    whole, scarce = EntityReader(maps), EntityReader(maps, budget=1)
    with ThreadPoolExecutor(4) as pool:
        for found, rows in zip(pool.map(scarce.batch, drawn), drawn, strict=True):
            assert same(found, whole.batch(rows))


def test_a_reader_of_some_samples_shares_what_is_decoded(maps):
    reader, rows = EntityReader(maps), np.array([1, 5, 60])
    some = reader.of(maps.only(rows))
    assert some.tag_list is reader.tag_list
    assert same(some.batch(np.arange(3)), reader.batch(rows))


@pytest.mark.parametrize("bands", [BAND, ()])
def test_placements_and_ranks_give_the_same_entities(maps, bands):
    plain = EntityReader(maps)
    parts = []
    for placement in PLACEMENTS:
        for rank in range(2):
            loader = Loader(
                maps, bands=bands, batch_size=9, seed=1, window_chips=20, rank=rank, world_size=2, placement=placement,
                entities=True,
            )  # fmt: skip
            batches = [*loader.epoch(0, start_batch=2), *loader.epoch(1)]
            assert all(same(batch.entities, plain.batch(batch.rows)) for batch in batches)
            assert all((batch.chips is None) == (not bands) for batch in batches)
            parts.append([batch.rows.tolist() for batch in batches])
    assert parts[0] == parts[2] == parts[4]
    assert parts[1] == parts[3] == parts[5]
    assert {id(batch.entities.tag_list) for batch in batches} == {id(batches[0].entities.tag_list)}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")
@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("bands", [BAND, ()])
def test_entities_arrive_whole_on_a_card(maps, bands, placement):
    loader = Loader(maps, bands=bands, batch_size=9, seed=1, placement=placement, device="cuda", entities=True)
    plain = EntityReader(maps)
    for batch in loader.epoch(0):
        assert batch.entities.tags.device.type == batch.device.type == "cuda"
        assert batch.entities.rows.device.type == "cpu"
        assert same(batch.entities.to("cpu"), plain.batch(batch.rows))


def test_a_window_that_is_more_than_memory_is_told(maps, monkeypatch, caplog):
    monkeypatch.setattr("training.osm.reading.KEPT_BYTES", 1000)
    loader = Loader(maps, bands=(), batch_size=9, seed=0, entities=True)
    assert "much is decoded again for every batch. Lower window_chips" in caplog.text
    assert sum(len(batch) for batch in loader.epoch(0)) == 80


def test_without_bands_no_chip_is_read(map_catalog, tmp_path):
    shutil.copytree(map_catalog / "everywhere", tmp_path / "everywhere")
    subset = load_subset(tmp_path / "everywhere")
    for shard in (tmp_path / "everywhere" / "cube.zarr" / "chips" / "c").glob("**/*"):
        if shard.is_file():
            shard.write_bytes(b"")
    loader = Loader(subset, bands=(), batch_size=20, seed=0, entities=True)
    assert sum(len(batch) for batch in loader.epoch(0)) == 48
    assert loader.placement_reason == "the model reads no bands, so that there are no chips to keep"
    assert loader.measure().bands == ()
    assert sum(len(batch.entities) for batch in in_order(subset, bands=(), entities=True, block=13)) == len(
        pq.read_table(tmp_path / "everywhere" / "entities.parquet")
    )


@pytest.mark.parametrize("rows", [np.arange(80), np.array([1, 4, 70]), np.array([9, 2, 2, 75])])
def test_chips_of_a_task_have_entities_in_any_order(maps, rows):
    rule = TagRule(target="building-count")
    chips = SubsetChips(subset=maps, removing=rule)
    batches = list(chips.batches(rows, bands=BAND, times="first", block=3, entities=True))
    assert np.concatenate([batch.rows for batch in batches]).tolist() == rows.tolist()
    plain = EntityReader(maps, rule)
    assert all(same(batch.entities, plain.batch(batch.rows)) for batch in batches)
    assert next(chips.batches(rows, bands=BAND, times="first", block=3)).entities is None


def test_samples_that_are_no_tiles_are_refused():
    places = PlaceChips(lonlat=np.zeros((2, 2)))
    with pytest.raises(TrainingError, match="these samples are no tiles of maps"):
        next(places.batches(np.arange(2), bands=(), times="first", block=2, entities=True))
    files = FileChips(
        bands=places.bands,
        shape=(1, 0, 4, 4),
        lonlat=places.lonlat,
        times=np.zeros((2, 1), dtype=np.int64),
        read=lambda rows: np.zeros((len(rows), 1, 0, 4, 4), dtype=np.uint16),
    )
    with pytest.raises(TrainingError, match="take a task of a map collection, or a model of chips alone"):
        next(files.batches(np.arange(2), bands=(), times="first", block=2, entities=True))


@pytest.fixture
def copied(map_catalog, tmp_path) -> Path:
    shutil.copytree(map_catalog, tmp_path / "catalog")
    return tmp_path / "catalog"


def test_collections_without_entities_are_named(copied):
    (copied / "europe" / "entities.parquet").unlink()
    subset = load_subset(copied)
    assert not holds_entities(subset)
    assert holds_entities(load_subset(copied / "everywhere"))
    with pytest.raises(TrainingError, match="europe: no map entities are there, as there are of everywhere"):
        Loader(subset, bands=BAND, batch_size=4, seed=0, entities=True)
    with pytest.raises(TrainingError, match=r"europe: no map entities are there \(entities.parquet\)"):
        EntityReader(load_subset(copied / "europe"))


def test_damaged_files_are_named(copied):
    folder = copied / "everywhere"
    subset, whole = load_subset(folder), pq.read_table(folder / "entities.parquet")
    pq.write_table(pa.concat_tables([whole.slice(50), whole.slice(0, 50)]), folder / "entities.parquet")
    with pytest.raises(TrainingError, match="rows are not in the order of its 48 tiles"):
        EntityReader(subset).batch(np.array([0]))
    pq.write_table(
        whole.set_column(10, "rings", pa.array([[1]] * len(whole), pa.list_(pa.int32()))), folder / "entities.parquet"
    )
    with pytest.raises(TrainingError, match="rings and vertices of entities do not go together"):
        EntityReader(subset).batch(np.array([0]))
    pq.write_table(whole.drop_columns(["xy"]), folder / "entities.parquet")
    with pytest.raises(TrainingError, match="columns xy are missing"):
        EntityReader(subset)
    (folder / "entities.parquet").write_bytes(b"PAR1")
    with pytest.raises(TrainingError, match=r"entities\.parquet is damaged"):
        EntityReader(subset)


def test_a_list_of_tags_that_lacks_some_is_named(copied):
    folder = copied / "everywhere"
    tags = pq.read_table(folder / "tags.parquet")
    pq.write_table(tags.slice(1), folder / "tags.parquet")
    missing = "{key}={value}".format(**tags.slice(0, 1).to_pylist()[0])
    with pytest.raises(TrainingError, match=f"tag {missing} is not in the list of tags"):
        EntityReader(load_subset(folder)).batch(np.arange(48))
    (folder / "tags.parquet").unlink()
    with pytest.raises(TrainingError, match=r"tags\.parquet is missing"):
        EntityReader(load_subset(folder)).batch(np.arange(48))


def test_another_map_has_another_fingerprint(copied, one_map):
    known = EntityReader(one_map).fingerprint
    assert EntityReader(load_subset(copied / "everywhere")).fingerprint == known
    assert EntityReader(one_map, TagRule(target="building-count")).fingerprint != known
    assert EntityReader(one_map, TagRule(target="building-count", inputs="leaky")).fingerprint == known
    whole = pq.read_table(copied / "everywhere" / "entities.parquet")
    moved = whole.column("xy").to_pylist()
    moved[3][0] += 0.25
    place = whole.schema.get_field_index("xy")
    pq.write_table(
        whole.set_column(place, whole.schema.field("xy"), pa.array(moved, whole.schema.field("xy").type)),
        copied / "everywhere" / "entities.parquet",
        row_group_size=7,
    )
    assert EntityReader(load_subset(copied / "everywhere")).fingerprint != known


def test_a_map_of_the_same_sizes_and_bounds_has_another_fingerprint(copied):
    folder, prints = copied / "everywhere", set()
    whole = pq.read_table(folder / "entities.parquet")
    for move in (0.0, 0.125):
        moved = whole.column("box").to_pylist()
        moved[3][0] = 0.5 + move  # neither the smallest number nor the largest
        column = pa.array(moved, whole.schema.field("box").type)
        place = whole.schema.get_field_index("box")
        changed = whole.set_column(place, whole.schema.field("box"), column)
        pq.write_table(changed, folder / "entities.parquet", compression="none", use_dictionary=False)
        prints.add(EntityReader(load_subset(folder)).fingerprint)
    assert len(prints) == 2


@pytest.mark.parametrize(("name", "value"), [("box", [np.nan] * 8), ("box", None), ("xy", None), ("rings", None)])
def test_entities_without_a_place_are_named(copied, name, value):
    folder = copied / "everywhere"
    whole = pq.read_table(folder / "entities.parquet")
    listed = whole.column(name).to_pylist()
    listed[3] = value
    place = whole.schema.get_field_index(name)
    column = pa.array(listed, whole.schema.field(name).type)
    pq.write_table(whole.set_column(place, whole.schema.field(name), column), folder / "entities.parquet")
    with pytest.raises(TrainingError, match=r"entities\.parquet is damaged \(.*: build the collection again"):
        EntityReader(load_subset(folder)).batch(np.arange(48))
