"""Weights that others released, as model folders of this project."""

from training.weights.importing import FAMILIES, Imported, import_weights
from training.weights.reading import read_checkpoint, tensors_of

__all__ = ["FAMILIES", "Imported", "import_weights", "read_checkpoint", "tensors_of"]
