"""pwcat: decide where geospatial foundation models should be pretrained, and let others rerun the answer.

Import this package alone; it hands on the public names of all four, lazily, so that importing it costs nothing.
"""

from __future__ import annotations

import importlib
from importlib.metadata import version as _version
from typing import Any

__version__ = _version("pwcat")

_PUBLIC: dict[str, str] = {
    "PwcatError": "pwcat.errors",
    "Recipe": "pwcat.recipe",
    "load_recipe": "pwcat.recipe",
    "make_plan": "pwcat.plan",
    "open_cube": "pwcat.cube",
    "serve_archive": "pwcat.archive",
    "build": "catalog.store",
    "open_catalog": "catalog.query",
    "Subset": "catalog.subset",
    "nearest": "catalog.similar",
    "near_duplicates": "catalog.similar",
    "nearest_entities": "catalog.entities",
    "pretrain": "training.pretrain",
    "evaluate": "training.evaluate",
    "embed_subset": "training.embed",
    "embed_run": "training.embeddings",
    "embed_run_entities": "training.entity_embeddings",
    "measure_losses": "training.losses",
    "audit": "training.audit",
    "decode": "publish.decode",
    "load_model": "publish.models.loading",
    "publish_dataset": "publish.dataset",
    "publish_model": "publish.weights",
    "pull": "publish.pull",
}

__all__ = [*_PUBLIC, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'pwcat' has no attribute {name!r}; it has {', '.join(sorted(_PUBLIC))}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
