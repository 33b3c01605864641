"""Models that learn nothing: counts and pooled vectors of tags, by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pwcat.errors import TrainingError
from training.batch import UNKNOWN_TIME, Bands, Batch
from training.models import build_model
from training.models.folder import load_model_folder, save_model_folder, weights_hash
from training.models.tagcount import TagCount
from training.models.tagpool import TagPool
from training.osm.entities import Entities, TagList
from training.osm.texts import encode_texts
from training.pretrain import pretrain

PAIRS = (("building", "yes"), ("building", "house"), ("highway", "primary"), ("name", "東京"), ("building", "barn"))
ROWS = ("building=yes", "highway=primary", "building")


def batch_of(*tiles: list[list[int]]) -> Batch:
    """Of each tile the tags of its entities."""
    entities = [(tile, tags) for tile, of in enumerate(tiles) for tags in of]
    lengths = [len(tags) for _, tags in entities]
    n = len(entities)
    return Batch(
        chips=None,
        bands=Bands.reflectance(()),
        lonlat=torch.zeros(len(tiles), 2, dtype=torch.float64),
        times=torch.full((len(tiles), 1), UNKNOWN_TIME),
        rows=np.arange(len(tiles)),
        entities=Entities(
            sample=torch.tensor([tile for tile, _ in entities], dtype=torch.int64),
            boxes=torch.zeros(n, 4, 2),
            kinds=torch.zeros(n, dtype=torch.int64),
            tags=torch.tensor([tag for _, tags in entities for tag in tags], dtype=torch.int64),
            tag_entity=torch.repeat_interleave(torch.arange(n), torch.tensor(lengths, dtype=torch.int64)),
            vertices=torch.zeros(n, 2),
            vertex_entity=torch.arange(n),
            edges=torch.zeros(2, 0, dtype=torch.int64),
            edge_kinds=torch.zeros(0, dtype=torch.int64),
            tag_list=TagList(PAIRS),
            rows=torch.arange(n),
        ),
    )


BATCH = batch_of([[0], [0, 2], [3]], [], [[1, 4]], [[3]])


def test_counts_are_of_entities_that_have_each_tag():
    model = build_model("tagcount", {"vocabulary": ROWS})
    # the house and the barn of one entity are both taken for `building`, which it has once
    np.testing.assert_array_equal(model.encode(BATCH), [[2, 1, 0], [0, 0, 0], [0, 0, 1], [0, 0, 0]])
    assert model.embedding_dim == 3


def pooled(vectors: dict[str, np.ndarray], *tiles: list[list[str]]) -> np.ndarray:
    found = []
    for of in tiles:
        sums = [np.sum([vectors[tag] for tag in tags], axis=0) if tags else np.zeros(16) for tags in of]
        normal = [(each - each.mean()) / np.sqrt(each.var() + 1e-5) for each in sums]
        found.append(np.concatenate([np.max(normal, axis=0), np.mean(normal, axis=0)]) if of else np.zeros(32))
    return np.array(found)


def test_pools_are_the_most_and_the_mean_over_entities(towns, tmp_path):
    model = TagPool(TagPool.config_class(dim=16, most=500, least_count=1))
    model.take(towns)
    vectors = dict(zip(model.config.vocabulary, encode_texts(model.config.vocabulary, dim=16), strict=True))
    assert {"building=house", "highway", "roof:shape=dôme"} <= set(vectors)
    assert "building=yes" not in vectors
    want = pooled(
        vectors,
        [["building"], ["building", "highway=primary"], []],  # what is not known at all is an entity all the same
        [],
        [["building=house", "building"]],
        [[]],
    )
    np.testing.assert_allclose(model.encode(BATCH), want, rtol=1e-4, atol=1e-5)
    save_model_folder(model, tmp_path)
    again = load_model_folder(tmp_path)
    assert weights_hash(again) == weights_hash(model)
    np.testing.assert_array_equal(again.encode(BATCH), model.encode(BATCH))


def test_counts_take_their_vocabulary_from_the_data(towns, tmp_path):
    model = TagCount(TagCount.config_class(most=4, least_count=1))
    assert model.embedding_dim == 0
    assert model.encode(BATCH).shape == (4, 0)
    model.take(towns)
    assert len(model.config.vocabulary) == model.embedding_dim == 4
    assert model.config.vocabulary[:2] == ("building", "building=house")
    save_model_folder(model, tmp_path)
    np.testing.assert_array_equal(load_model_folder(tmp_path).encode(BATCH), model.encode(BATCH))


@pytest.mark.parametrize("name", ["tagcount", "tagpool"])
def test_there_is_nothing_to_train(towns, tmp_path, name):
    with pytest.raises(TrainingError, match=f"a {name} has nothing to train: score it as it is"):
        pretrain(towns, name, tmp_path / "run", device="cpu")
    model = build_model(name)
    for refused in (lambda: model.forward(), lambda: model.sample_losses(), lambda: model.prepare(BATCH, chance=None)):
        with pytest.raises(TrainingError, match="nothing to train"):
            refused()


@pytest.mark.parametrize("name", ["tagcount", "tagpool"])
def test_what_they_cannot_be_is_refused(name):
    with pytest.raises(TrainingError, match="most must be 1 or more"):
        build_model(name, {"most": 0})
    chips = Batch.of_chips(torch.zeros(1, 1, 1, 2, 2, dtype=torch.uint16), bands=["red"])
    with pytest.raises(TrainingError, match="these samples have none: take a map collection"):
        build_model(name).encode(chips)
