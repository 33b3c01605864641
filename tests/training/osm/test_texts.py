"""Vectors of tags: the same everywhere, of length 1, near where words are shared."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from pwcat.errors import TrainingError
from training.osm.texts import encode_texts


def cosine(one, other, **options):
    a, b = encode_texts([one, other], **options)
    return float(a @ b)


def test_vectors_are_the_same_on_every_machine():
    (vector,) = encode_texts(["building=house"], dim=8)
    assert vector.dtype == np.float32
    assert vector.tolist() == pytest.approx(
        [-0.230287, -0.174081, 0.171350, 0.317327, -0.390005, 0.794373, -0.058937, 0.0], abs=1e-6
    )


def test_vectors_have_length_one_but_those_of_nothing():
    vectors = encode_texts(["building=yes", "name=東京", "addr:street=Größe", "=", ""])
    assert vectors.shape == (5, 1024)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx([1, 1, 1, 0, 0], abs=1e-6)
    assert encode_texts([]).shape == (0, 1024)


def test_a_text_has_the_same_vector_in_any_company():
    alone = encode_texts(["highway=primary"])
    assert np.array_equal(encode_texts(["x", "highway=primary", "y=z"])[1:2], alone)


@pytest.mark.parametrize(
    ("near", "far"),
    [
        (("building=house", "building=yes"), ("building=house", "highway=primary")),
        (("building=house", "building"), ("building=house", "landuse")),
        (("highway=primary", "highway=primary_link"), ("highway=primary", "highway=track")),
        (("turn:lanes=left", "turn:lanes:forward=left"), ("turn:lanes=left", "oneway=yes")),
        (("name=Main Street", "name=main street"), ("name=Main Street", "name=Main")),
        (("addr:street=Straße", "addr:street=STRASSE"), ("addr:street=Straße", "addr:street=Weg")),
    ],
)
def test_texts_that_share_words_are_near(near, far):
    assert cosine(*near) > cosine(*far) + 0.1


def test_houses_are_nearer_to_buildings_than_to_anything_else():
    others = [
        "highway=primary",
        "natural=tree",
        "landuse=forest",
        "amenity=bench",
        "power=line",
        "boundary=administrative",
    ]
    assert cosine("building=house", "building=yes") > 0.4
    assert max(abs(cosine("building=house", other)) for other in others) < 0.15


def test_a_dimension_must_be_one():
    with pytest.raises(TrainingError, match="vectors of 0 numbers cannot be"):
        encode_texts(["a"], dim=0)


def test_a_sentence_model_without_its_package_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(
        TrainingError, match="encoder 'all-MiniLM' needs the package sentence-transformers, which is not"
    ):
        encode_texts(["a=b"], encoder="all-MiniLM")


def test_a_sentence_model_of_a_folder_encodes_tags_as_people_write_them(tmp_path):
    package = pytest.importorskip("sentence_transformers")
    modules = pytest.importorskip("sentence_transformers.sentence_transformer.modules")
    bag = modules.BoW(vocab=["building", "house", "yes"], word_weights={})
    package.SentenceTransformer(modules=[bag]).save(str(tmp_path / "bag"))
    vectors = encode_texts(["building=house", "building=yes"], encoder=str(tmp_path / "bag"))
    assert vectors.dtype == np.float32
    assert vectors @ vectors.T == pytest.approx(np.array([[1, 0.5], [0.5, 1]]), abs=1e-6)
    with pytest.raises(TrainingError, match=r"no sentence model '.*nowhere'"):
        encode_texts(["a"], encoder=str(tmp_path / "nowhere"))
