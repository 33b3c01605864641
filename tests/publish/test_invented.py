"""Models of maps have entities to read in what is invented for them, and no chips where they read no bands."""

from __future__ import annotations

import torch

from publish.models.invented import embed_invented, invented_batch
from training.models import build_model


def test_a_model_of_tags_is_given_entities_and_no_chips():
    model = build_model("tagcount", {"vocabulary": ["highway", "building=house", "highway=crossing"]})
    batch = invented_batch(model)
    assert batch.chips is None
    assert len(batch.entities) == 6
    assert embed_invented(model).tolist() == [[1, 1, 1], [1, 1, 1]]  # a road that is no crossing is taken for its key


def test_a_geojepa_embeds_what_is_invented():
    torch.manual_seed(0)
    model = build_model("geojepa", {"modalities": "T", "dim": 16, "depth": 1, "heads": 2, "vocabulary": ["highway"]})
    assert torch.isfinite(embed_invented(model)).all()
