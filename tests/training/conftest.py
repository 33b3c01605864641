"""What the tests of training share: real subsets of the small catalog, and a recipe of seconds."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from catalog.subset import Subset, load_subset
from training.normalize import Normalization
from training.recipe import TrainRecipe, load_train_recipe
from training.run import Run

SMALL = {
    "model.image_size": "32",
    "model.patch_size": "8",
    "model.dim": "48",
    "model.depth": "1",
    "model.heads": "2",
    "model.group_dim": "16",
    "model.decoder_dim": "32",
    "model.decoder_group_dim": "8",
    "epochs": "3",
    "batch_size": "16",
    "optimizer.warmup_epochs": "1",
    "checkpoint.every_epochs": "1",
}


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def subset(tiny_catalog: Path) -> Subset:
    """48 chips of 12 bands and 32 px."""
    return load_subset(tiny_catalog / "everywhere")


@pytest.fixture(scope="session")
def everything(tiny_catalog: Path) -> Subset:
    """80 chips of two collections."""
    return load_subset(tiny_catalog)


@pytest.fixture(scope="session")
def make_recipe():
    """The recipe satmae-tiny, made smaller still, with some values replaced."""

    def make(**overrides: str) -> TrainRecipe:
        return load_train_recipe(
            "satmae-tiny", overrides={**SMALL, **{k.replace("__", "."): v for k, v in overrides.items()}}
        )

    return make


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory, subset: Subset, make_recipe) -> Run:
    """A finished run on ``subset``. Do not change its folder's checkpoints."""
    from training.pretrain import pretrain

    return pretrain(subset, make_recipe(), tmp_path_factory.mktemp("runs") / "small", device="cpu")


@pytest.fixture(scope="session")
def made_up():
    """Statistics of no data: about those of reflectance, for any bands."""

    def of(bands) -> Normalization:
        return Normalization(
            bands=tuple(bands),
            unit="DN, reflectance*10000",
            mean=(1000.0,) * len(bands),
            std=(500.0,) * len(bands),
            percentiles={},
            num_pixels=(),
            num_samples=0,
            data_hash="",
        )

    return of
