"""A model of maps is trained, gone on with, embedded and fine-tuned: its vocabulary and its entities are always there."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass, replace
from types import ModuleType
from typing import ClassVar

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from pydantic import ConfigDict
from torch import Tensor, nn

from catalog.subset import load_subset
from pwcat.errors import TrainingError
from pwcat.osm.targets import TagRule
from training.embed import embed_subset, embed_task
from training.evaluating.models import with_random_weights
from training.finetune import finetune
from training.finetuning.recipe import FinetuneRecipe
from training.losses import sample_losses
from training.models import ARCHITECTURES, Model
from training.models.base import ModelFacts
from training.normalize import Normalization
from training.osm.vocabulary import TagIndex, fit_vocabulary
from training.preparing import in_silence
from training.pretrain import Trainer, pretrain
from training.recipe import TrainRecipe
from training.resampling import Draw
from training.run import load_run
from training.tasks.base import TaskData, TaskInfo
from training.tasks.chips import PlaceChips, SubsetChips


@dataclass(frozen=True, kw_only=True)
class TagSumConfig:
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    bands: tuple[str, ...] = ()
    most: int = 8
    rows: tuple[str, ...] = ()


class TagSum(Model):
    """The sum of vectors of a tile's tags, which is to tell the mean corner of its boxes; and the mean of its chips."""

    architecture: ClassVar[str] = "tagsum"
    config_class: ClassVar[type] = TagSumConfig
    reads_entities: ClassVar[bool] = True
    config: TagSumConfig

    def __init__(self, config: TagSumConfig, *, normalization: Normalization | None = None) -> None:
        super().__init__(config, normalization=normalization)
        self.vectors = nn.Embedding(max(1, len(config.rows)), 4)

    bands = property(lambda self: self.config.bands)
    image_size = property(lambda self: 32)
    embedding_dim = property(lambda self: 4 + len(self.bands))

    def fit(self, subset, *, device, folder, preparing=in_silence):
        known = fit_vocabulary(subset, most=self.config.most, least_count=1)
        self.config = replace(self.config, rows=known.rows)
        self.vectors = nn.Embedding(len(known), 4)

    def encode(self, batch):
        found = batch.entities
        places = torch.from_numpy(TagIndex(self.config.rows).places(found.tag_list))[found.tags]
        summed = torch.zeros(len(batch), 4)
        known = places >= 0
        summed = summed.index_add(0, found.sample[found.tag_entity[known]], self.vectors(places[known]))
        if not self.bands:
            assert batch.chips is None
            return summed
        chips = self.require_normalization().apply(batch.first(self.bands))
        return torch.cat([summed, chips.mean(dim=(2, 3))], dim=1)

    def prepare(self, batch, *, chance, augment=None):
        found = batch.entities
        corner = torch.zeros(len(batch)).index_add(0, found.sample, found.boxes[:, 0, 0])
        count = torch.zeros(len(batch)).index_add(0, found.sample, torch.ones(len(found)))
        places = torch.from_numpy(TagIndex(self.config.rows).places(found.tag_list))[found.tags]
        known = places >= 0
        return {
            "places": places[known],
            "sample": found.sample[found.tag_entity[known]],
            "target": corner / count.clamp(min=1),
            "share": self.share(batch, chance),
        }

    def sample_losses(self, places, sample, target, share):
        summed = torch.zeros(len(target), 4).index_add(0, sample, self.vectors(places))
        return (summed.sum(dim=1) - target).square()

    def forward(self, **inputs: Tensor) -> Tensor:
        return self.sample_losses(**inputs).mean() * inputs["share"]

    def flops_per_sample(self) -> int:
        return 1

    def facts(self) -> ModelFacts:
        return ModelFacts(name="Sum of tags", reads="tags", pooling="sum", scaling="none")

    def inputs(self):
        return ()


@pytest.fixture(autouse=True)
def _known(monkeypatch):
    module = ModuleType("tagsum")
    module.TagSum = TagSum
    monkeypatch.setitem(sys.modules, "tagsum", module)
    monkeypatch.setitem(ARCHITECTURES, "tagsum", ("tagsum", "TagSum"))


def recipe(**model) -> TrainRecipe:
    return TrainRecipe(
        name="tagsum", architecture="tagsum", model=model, epochs=3, batch_size=20,
        optimizer={"base_lr": 1.0, "warmup_epochs": 0}, checkpoint={"every_epochs": 1},
    )  # fmt: skip


def task(subset, **changes) -> TaskData:
    """Whether a tile has an even number, of the tiles of a subset; the second half is tested on."""
    n = len(subset)
    return TaskData(
        info=TaskInfo(
            name="even", title="Even", kind="classification", metric="accuracy", classes=("no", "yes"), fit="crop"
        ),
        ids=np.array([str(row) for row in range(n)], dtype=object),
        lonlat=subset.lonlat,
        splits=np.array(["train" if row < n // 2 else "test" for row in range(n)], dtype=object),
        targets=np.arange(n) % 2,
        chips=changes.get("chips") or SubsetChips(subset=subset, removing=changes.get("removing")),
        hash="even",
    )


def test_a_run_goes_on_to_the_very_same_weights_with_its_vocabulary(one_map, tmp_path):
    whole = pretrain(one_map, recipe(), tmp_path / "whole", device="cpu")
    assert whole.placement_reason == "the model reads no bands, so that there are no chips to keep"
    pretrain(one_map, recipe(), tmp_path / "parts", device="cpu", stop_after_steps=4)
    parts = pretrain(one_map, recipe(), tmp_path / "parts", device="cpu")
    one, other = whole.load_model(), parts.load_model()
    assert one.config.rows == fit_vocabulary(one_map, most=8, least_count=1).rows == other.config.rows
    assert torch.equal(one.vectors.weight, other.vectors.weight)
    assert parts.final_loss == whole.final_loss
    assert one.normalization.bands == ()


def test_weights_are_loaded_after_the_model_took_what_it_takes(one_map, tmp_path):
    pretrain(one_map, recipe(), tmp_path / "run", device="cpu", stop_after_steps=3)
    trainer = Trainer(one_map, recipe(), tmp_path / "run", device=torch.device("cpu"))
    trainer.start(load_run(tmp_path / "run"))
    assert torch.equal(trainer.model.vectors.weight, load_run(tmp_path / "run").load_model().vectors.weight)


def test_training_with_images_and_entities_is_the_same_wherever_chips_are(one_map, tmp_path):
    runs = [
        pretrain(one_map, recipe(bands=["B04"]).model_copy(update={"placement": place}), tmp_path / place, device="cpu")
        for place in ("device", "cache", "stream")
    ]
    losses = {run.final_loss for run in runs}
    assert len(losses) == 1
    assert [run.placement for run in runs] == ["device", "cache", "stream"]


def test_a_run_does_not_go_on_with_another_map(map_catalog, tmp_path):
    place = tmp_path / "everywhere"
    shutil.copytree(map_catalog / "everywhere", place)
    pretrain(load_subset(place), recipe(), tmp_path / "run", device="cpu", stop_after_steps=3)
    whole = pq.read_table(place / "entities.parquet")
    pq.write_table(whole.slice(0, len(whole) - 3), place / "entities.parquet", row_group_size=7)
    with pytest.raises(TrainingError, match="holds a run of another map: train into another folder"):
        pretrain(load_subset(place), recipe(), tmp_path / "run", device="cpu")
    assert pretrain(load_subset(place), recipe(), tmp_path / "run", device="cpu", resume=False).finished


def test_subsets_without_maps_are_refused_before_the_first_step(subset, tmp_path):
    with pytest.raises(TrainingError, match="everywhere: no map entities are there"):
        pretrain(subset, recipe(), tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()


@pytest.fixture
def trained(one_map):
    return with_random_weights(recipe(bands=["B04", "B08"]), task(one_map))


def test_embeddings_hang_on_what_is_taken_away_and_on_the_map(one_map, map_catalog, trained, tmp_path):
    data, cache = task(one_map), tmp_path / "kept"
    whole = embed_task(trained, data, cache_dir=cache)
    assert np.array_equal(whole, embed_subset(trained, one_map))
    assert np.array_equal(whole, embed_subset(trained, one_map, cache_dir=cache))
    assert len(list(cache.glob("*.npy"))) == 1  # of the task and of its subset the same
    masked = embed_task(trained, task(one_map, removing=TagRule(target="building-count")), cache_dir=cache)
    assert len(list(cache.glob("*.npy"))) == 2
    assert not np.array_equal(masked, whole)
    assert np.array_equal(masked[:, 4:], whole[:, 4:])  # the images are the same
    place = tmp_path / "everywhere"
    shutil.copytree(map_catalog / "everywhere", place)
    table = pq.read_table(place / "entities.parquet")
    pq.write_table(table.slice(0, len(table) - 1), place / "entities.parquet", row_group_size=7)
    another = load_subset(place)
    assert another.hash == one_map.hash
    assert not np.array_equal(embed_subset(trained, another, cache_dir=cache), whole)


def test_embeddings_of_some_rows_are_those_of_all(maps, one_map, trained):
    some = np.array([1, 5, 40, 70])
    assert np.array_equal(embed_subset(trained, maps.only(some)), embed_subset(trained, maps)[some])


def test_larger_chips_are_not_cut_beside_entities(one_map, trained, monkeypatch):
    monkeypatch.setattr(TagSum, "image_size", property(lambda self: 16))
    cut = embed_subset(trained, one_map, fit="crop")
    assert np.array_equal(cut, embed_subset(trained, one_map, fit="resize"))


def test_data_without_maps_cannot_be_embedded(subset, one_map, trained):
    with pytest.raises(TrainingError, match="everywhere: no map entities are there"):
        embed_subset(trained, subset)
    places = task(one_map, chips=PlaceChips(lonlat=one_map.lonlat))
    with pytest.raises(TrainingError, match="task even: its samples are no tiles of maps"):
        embed_task(trained, places)


def test_a_control_takes_its_vocabulary_from_training_samples(one_map):
    learnt = fit_vocabulary(one_map.only(np.arange(24)), most=8, least_count=1)
    model, again = (with_random_weights(recipe(), task(one_map)) for _ in range(2))
    assert model.config.rows == learnt.rows
    assert torch.equal(model.vectors.weight, again.vectors.weight)
    assert model.normalization.bands == ()
    with pytest.raises(TrainingError, match="samples of task even are no catalog's"):
        with_random_weights(recipe(), task(one_map, chips=PlaceChips(lonlat=one_map.lonlat)))


def test_losses_of_samples_read_their_entities(one_map, trained, monkeypatch):
    alone = sample_losses(trained, one_map, batch_size=7)
    assert np.isfinite(alone).all()
    monkeypatch.setattr(TagSum, "compares_samples", True)
    assert sample_losses(trained, one_map, batch_size=7) == pytest.approx(alone)


def test_a_model_of_maps_is_fine_tuned(one_map, trained):
    settings = FinetuneRecipe(epochs=1, least_steps=1, warmup_epochs=0, batch_size=16, mixup=0.5, crop="random")
    draw = Draw(train=np.arange(24), test=np.arange(24, 48), validation=np.arange(24) % 4 == 0)
    found = finetune(trained, task(one_map), draw, recipe=settings)
    assert len(found.values) == 24
