"""What ``torch.compile`` makes of each model: one graph, which a card runs without coming back to Python in between."""

from dataclasses import replace

import pytest
import torch

from training.batch import Batch
from training.chance import Chance
from training.models import build_model
from training.recipe import load_train_recipe

COUNT = 6
MONTH_S = 2_630_000


def batch_of(bands, *, size, times):
    chips = torch.randint(1, 3000, (COUNT, times, len(bands), size, size), dtype=torch.int32).to(torch.uint16)
    batch = Batch.of_chips(chips, bands=bands, lonlat=80 * torch.rand(COUNT, 2, dtype=torch.float64))
    return replace(batch, times=torch.arange(times).mul(MONTH_S).expand(COUNT, -1))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["satmae-tiny", "presto-tiny", "satclip-tiny"])
def test_a_training_step_is_one_graph(name, precision, made_up):
    torch.manual_seed(0)
    recipe = load_train_recipe(name)
    model = build_model(recipe.architecture, recipe.model).train()
    bands = [band for band in model.bands if band.startswith("B")]
    model.normalization = made_up(bands)
    batch = batch_of(bands, size=model.image_size, times=12 if model.times == "all" else 1)
    inputs = model.prepare(batch, chance=Chance(0, total=COUNT), augment=recipe.augment)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bfloat16"):
        plain = model(**inputs)
        whole = torch.compile(model, fullgraph=True, dynamic=False, backend="eager")(**inputs)
    whole.backward()
    torch.testing.assert_close(whole, plain)
    trained = [p for p in model.parameters() if p.requires_grad and p.grad is not None]
    assert all(p.grad.dtype == p.dtype and p.grad.isfinite().all() for p in trained)
