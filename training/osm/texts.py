"""Vectors of texts such as ``building=house``: by hashing, which needs nothing, or by a sentence model.

By hashing, a text is the sum of its words and of the runs of three to five letters within them, each at a place and with a sign
that its hash says (Weinberger et al. 2009, Feature hashing for large scale multitask learning), so that texts that share words
or parts of words are near each other. Words weigh twice what their parts do together: ``building=house`` and ``building=yes``
share one of two words, and have a cosine of about a half.

Shapes: n texts, D length of a vector.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from importlib import import_module

import numpy as np
from numpy.typing import NDArray

from pwcat.errors import TrainingError
from training.osm.hashing import hash_slices

__all__ = ["HASHING", "encode_texts"]

HASHING = "hashing"
WORD = re.compile(r"\w+")
RUNS = (3, 4, 5)  # letters of a part of a word, with its bounds
WORD_WEIGHT = 2.0  # of a word, squared, beside all of its parts together
SEED = 1024  # of the hashes: another one than that of the numbers of tags

Vectors = NDArray[np.float32]


def encode_texts(texts: Sequence[str], *, encoder: str = HASHING, dim: int = 1024) -> Vectors:
    """A vector of each text, (n, D) float32, of length 1; zeros of a text without a letter or digit.

    Args:
        texts: such as ``key=value`` or ``key``.
        encoder: "hashing", or a model of the package sentence-transformers, by its name or folder; that says D.
        dim: D of "hashing".

    Raises:
        TrainingError: the model or the package is not there.
    """
    if dim < 1:
        raise TrainingError(f"vectors of {dim} numbers cannot be: take 1 or more, such as 1024")
    return _hashed(texts, dim) if encoder == HASHING else _by_sentences(texts, encoder)


def _hashed(texts: Sequence[str], dim: int) -> Vectors:
    vectors = np.zeros((len(texts), dim), dtype=np.float64)
    parts, weights, counts = [], [], []
    for text in texts:
        found = _features(text)
        parts += [feature.encode() for feature, _ in found]
        weights += [weight for _, weight in found]
        counts.append(len(found))
    ends = np.cumsum([len(part) for part in parts], dtype=np.int64)
    starts = ends - np.array([len(part) for part in parts], dtype=np.int64)
    hashes = hash_slices(np.frombuffer(b"".join(parts) or b" ", dtype=np.uint8), starts, ends, seed=SEED)
    signs = np.where(hashes >> np.uint64(63), 1.0, -1.0)
    places = (hashes % np.uint64(dim)).astype(np.int64)
    np.add.at(vectors, (np.repeat(np.arange(len(texts)), counts), places), signs * np.array(weights))
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32)


def _features(text: str) -> list[tuple[str, float]]:
    """Words, and runs of letters within them, each with its weight."""
    found: list[tuple[str, float]] = []
    for word in WORD.findall(unicodedata.normalize("NFKC", text).casefold().replace("_", " ")):
        bounded = f"<{word}>"
        runs = [bounded[at : at + n] for n in RUNS for at in range(len(bounded) - n + 1)]
        found.append((word, WORD_WEIGHT**0.5))
        found += [(run, len(runs) ** -0.5) for run in runs]
    return found


def _by_sentences(texts: Sequence[str], encoder: str) -> Vectors:
    try:
        package = import_module("sentence_transformers")
    except ImportError as exc:
        raise TrainingError(
            f"encoder {encoder!r} needs the package sentence-transformers, which is not installed: "
            "`pip install 'pwcat[sentences]'`, or take encoder: hashing"
        ) from exc
    try:
        model = package.SentenceTransformer(encoder, device="cpu")
    except (OSError, ValueError) as exc:
        raise TrainingError(
            f"no sentence model {encoder!r}: {str(exc).splitlines()[0]}. Give the folder of one, or the name of one that can "
            "be downloaded, or take encoder: hashing"
        ) from exc
    words = [text.replace("=", ": ", 1).replace("_", " ") for text in texts]  # as people write
    vectors = model.encode(words, normalize_embeddings=True, convert_to_numpy=True, show_progress_bar=False)
    return np.asarray(vectors, dtype=np.float32)
