"""The geometry network: what is to be told of a shape, that it learns to, and that it is trained, kept and gone on with."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional

from catalog.subset import Subset
from pwcat.errors import TrainingError
from training.batch import Bands, Batch
from training.chance import Chance
from training.models import build_model
from training.models.folder import weights_hash
from training.models.geometry import GeometryConfig, GeometryNet
from training.models.geometry_network import LARGEST
from training.models.geometry_shapes import GROUPS, RADII, Shapes, target_weights, told
from training.models.geometry_training import FOLDER, train_geometry
from training.osm.entities import Entities, TagList
from training.osm.reading import EntityReader
from training.osm.visibility import edges_of
from training.pretrain import pretrain
from training.recipe import load_train_recipe

POINT, LINE, POLYGON = 0, 1, 2
Rings = list[NDArray[np.float64]]


def circle(n: int) -> NDArray[np.float64]:
    angle = np.arange(n) * 2 * np.pi / n
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


SHAPES: dict[str, tuple[int, Rings]] = {
    "triangle": (POLYGON, [circle(3)]),
    "square": (POLYGON, [circle(4)]),
    "bar": (POLYGON, [np.array([(-1, -0.25), (1, -0.25), (1, 0.25), (-1, 0.25)])]),
    "ell": (POLYGON, [np.array([(-1, -1), (1, -1), (1, 0), (0, 0), (0, 1), (-1.0, 1)])]),
    "frame": (POLYGON, [circle(4), 0.5 * circle(4)[::-1]]),
    "way": (LINE, [np.array([(-1, 0), (-0.3, 0.1), (0.3, -0.1), (1, 0)])]),
}


def moved(rings: Rings, *, by: Sequence[float] = (0, 0), turn: float = 0.0, scale: float = 1.0) -> Rings:
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return [ring @ rotation.T * scale + np.array(by) for ring in rings]


def entities(shapes: Sequence[tuple[int, Rings]], sample: Sequence[int] | None = None) -> Entities:
    rings = [ring for _, parts in shapes for ring in parts]
    ring_entity = np.repeat(np.arange(len(shapes)), [len(parts) for _, parts in shapes])
    vertices = np.concatenate([np.empty((0, 2)), *rings]).astype(np.float32)
    vertex_ring = np.repeat(np.arange(len(rings)), [len(ring) for ring in rings])
    kinds = np.array([kind for kind, _ in shapes], dtype=np.int64)
    edges, edge_kinds = edges_of(vertices, vertex_ring, ring_entity, kinds)
    count = len(shapes)
    return Entities(
        sample=torch.tensor(sample or [0] * count, dtype=torch.int64),
        boxes=torch.zeros(count, 4, 2),
        kinds=torch.from_numpy(kinds),
        tags=torch.zeros(count, dtype=torch.int64),
        tag_entity=torch.arange(count),
        vertices=torch.from_numpy(vertices),
        vertex_entity=torch.from_numpy(ring_entity[vertex_ring]),
        edges=torch.from_numpy(edges),
        edge_kinds=torch.from_numpy(edge_kinds),
        tag_list=TagList((("building", "yes"),)),
        rows=torch.arange(count),
    )


def batch(found: Entities, tiles: int) -> Batch:
    return Batch(
        chips=None,
        bands=Bands.reflectance(()),
        lonlat=torch.zeros(tiles, 2, dtype=torch.float64),
        times=torch.zeros(tiles, 1, dtype=torch.int64),
        rows=np.arange(tiles),
        entities=found,
    )


def town(rng: np.random.Generator, tiles: int, each: int = 12) -> tuple[Entities, NDArray[np.int64]]:
    """Shapes anywhere, in any size and turned anyhow, none quite like another; and which of ``SHAPES`` each is."""
    numbers = rng.integers(len(SHAPES), size=tiles * each)
    drawn = []
    for number in numbers:
        kind, rings = list(SHAPES.values())[number]
        rough = [ring + rng.normal(size=ring.shape) * 0.03 for ring in rings]
        size = float(np.exp(rng.uniform(np.log(0.01), np.log(0.06))))
        drawn.append((kind, moved(rough, by=rng.uniform(0.1, 0.9, 2), turn=rng.uniform(0, 2 * np.pi), scale=size)))
    return entities(drawn, np.repeat(np.arange(tiles), each).tolist()), numbers


@pytest.fixture(scope="module")
def tiny() -> GeometryNet:
    torch.manual_seed(0)
    return GeometryNet(GeometryConfig(width=32, layers=2, dim=96, telling=96, entities=16))


ODD: list[tuple[int, Rings]] = [
    (POINT, [np.array([(0.3, 0.7)])]),
    (LINE, [np.array([(0.3, 0.7)] * 3)]),
    (LINE, [np.array([(0.1, 0.1), (0.9, 0.9)]), np.array([(0.5, 0.5)])]),
    (POLYGON, [np.array([(0.2, 0.2)] * 4)]),
    (POLYGON, [np.array([(0.2, 0.2), (0.4, 0.4)])]),
    (POLYGON, [np.array([(0.2, 0.2), (0.3, 0.3), (0.4, 0.4)])]),
    (POLYGON, [np.array([(0.1, 0.1), (0.3, 0.3), (0.3, 0.1), (0.1, 0.3)])]),
    (POLYGON, [np.array([(np.nan, 0.1), (np.inf, 0.3), (0.3, 0.1)])]),
    (POLYGON, []),
    (POLYGON, [0.5 + 1e-9 * circle(5)]),
]


def test_what_is_told_of_a_square_and_of_a_point_is_in_closed_form() -> None:
    numbers = told(Shapes.of(entities([(POLYGON, moved([circle(4)], by=(0.5, 0.5), scale=0.1)), ODD[0]])))
    square, point = numbers[:, : len(RADII)] * 0.25 - 0.25  # the mean distance on each circle
    torch.testing.assert_close(point, -torch.tensor(RADII), atol=1e-6, rtol=0)
    # by symmetry, the mean over an eighth of the circle: sqrt(1/2) - r cos(t) inside
    angle = torch.arange(-4, 4) * (2 * torch.pi / 32)
    assert square[1] == pytest.approx((np.sqrt(0.5) - 0.3 * angle.cos().mean()).item(), abs=1e-5)
    size, length, inside = numbers[0, -6:-3].tolist()
    assert size == pytest.approx((np.log(0.1) + 4) / 1.2, abs=1e-4)
    assert length == pytest.approx(2 * (np.log(4 * np.sqrt(2)) - 1.2), abs=1e-4)
    assert inside / 6 == pytest.approx((0.1 + 0.3 + 0.5 + 0.7 + 0.9 * 4 / 32) / 3.6, abs=0.03)
    assert numbers[0, -3:].tolist() == [0, 0, 2.5]
    assert target_weights().sum() == pytest.approx(1)
    assert sum(GROUPS) == numbers.shape[1]


def test_moved_turned_and_begun_elsewhere_a_shape_is_told_the_same_and_has_the_same_vector(tiny: GeometryNet) -> None:
    for kind, rings in SHAPES.values():
        here = (kind, moved(rings, by=(0.3, 0.3), scale=0.1))
        others = [(kind, moved(rings, by=(0.7, 0.6), turn=turn, scale=0.1)) for turn in (1.0, np.pi / 2)]
        if kind == POLYGON:
            others.append((kind, [np.roll(ring, 1, axis=0)[::-1] for ring in here[1]]))
        found = entities([here, *others])
        numbers = told(Shapes.of(found))
        with torch.no_grad():
            vectors = tiny.encode_entities(found)
        same = len(others) - (1 if kind == POLYGON else 0)
        for other in range(1, len(others) + 1):
            # on 32 places of a circle, a turn by one radian is not quite the same
            near = {"atol": 0.6, "rtol": 0.0} if other < same else {"atol": 2e-3, "rtol": 0.0}
            torch.testing.assert_close(numbers[other], numbers[0], **near)
            torch.testing.assert_close(vectors[other], vectors[0], atol=1e-3, rtol=1e-3)
    mirrored = entities([SHAPES["way"], (LINE, [ring * [1, -1] for ring in SHAPES["way"][1]])])
    one, other = told(Shapes.of(mirrored))
    differing = torch.nonzero((one - other).abs() > 0.05).flatten()
    ahead = sum(GROUPS[:2]) + GROUPS[2] // 2  # how far the waves of a circle are ahead of the next one's
    assert differing.min() >= ahead  # an S is no Z, though all their distances are the same
    assert differing.max() < sum(GROUPS[:3])
    with torch.no_grad():
        assert (torch.sub(*tiny.encode_entities(mirrored))).abs().max() > 0.01


def test_odd_shapes_have_vectors_and_points_one_of_their_own(tiny: GeometryNet) -> None:
    found = entities([*ODD, (POINT, [np.array([(0.9, 0.1)])])])
    numbers = told(Shapes.of(found))
    assert torch.isfinite(numbers).all()
    with torch.no_grad():
        vectors = tiny.encode_entities(batch(found, 1))
    assert vectors.shape == (len(found), 96)
    assert torch.isfinite(vectors).all()
    torch.testing.assert_close(vectors[0], vectors[-1])  # all points are alike
    assert vectors[0].abs().sum() > 0
    assert not vectors[8].any()  # nothing is there
    tiny.zero_grad()
    tiny(**tiny.prepare(batch(found, 1), chance=Chance(0, total=1))).backward()
    assert all(torch.isfinite(p.grad).all() for p in tiny.parameters() if p.grad is not None)


def test_tiles_without_entities_have_zeros_and_no_loss(tiny: GeometryNet) -> None:
    found = entities([SHAPES["square"], SHAPES["bar"]], [1, 1])
    with torch.no_grad():
        regions = tiny.encode(batch(found, 3))
        units = functional.normalize(tiny.encode_entities(found), dim=1)
        losses = tiny.sample_losses(**tiny.prepare(batch(found, 3), chance=Chance(0, total=3)))
    assert not regions[[0, 2]].any()
    torch.testing.assert_close(regions[1], units.mean(dim=0))
    assert losses[[0, 2]].tolist() == [0, 0]
    assert losses[1] > 0
    none = batch(entities([]), 2)
    with torch.no_grad():
        assert tiny.encode_entities(none).shape == (0, 96)
        assert not tiny.encode(none).any()
    loss = tiny(**tiny.prepare(none, chance=Chance(0, total=2)))
    assert loss == 0
    loss.backward()
    bare = Batch.of_chips(torch.zeros(1, 1, 4, 4, dtype=torch.uint16), bands=["B02"])
    with pytest.raises(TrainingError, match="these samples have none: take a map collection"):
        tiny.encode_entities(bare)


def test_vectors_go_no_further_than_the_sources_and_do_not_hang_on_what_is_encoded_together(
    tiny: GeometryNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, _ = town(np.random.default_rng(5), 2)
    with torch.no_grad():
        whole = tiny.encode_entities(found)
        monkeypatch.setattr("training.models.geometry.TOGETHER", 40)
        torch.testing.assert_close(tiny.encode_entities(found), whole, atol=1e-4, rtol=1e-4)
        kept = tiny.encoder.last[-1].bias.clone()
        tiny.encoder.last[-1].bias.fill_(1e6)
        assert tiny.encode_entities(found).max() == LARGEST
        tiny.encoder.last[-1].bias.copy_(kept)


def test_of_a_tile_of_many_entities_about_as_many_are_drawn_as_asked_for_each_as_often(tiny: GeometryNet) -> None:
    found, _ = town(np.random.default_rng(0), 2, each=80)
    times = torch.zeros(160)
    for seed in range(40):
        shapes = tiny.prepare(batch(found, 2), chance=Chance(seed, total=2))
        counts = torch.bincount(shapes["sample_E"], minlength=2)
        assert all(14 <= count <= 18 for count in counts.tolist())
        first = torch.unique_consecutive(shapes["entity"], return_counts=True)[1]
        assert len(first) == counts.sum()
        times += _chosen(found, seed)
    assert times.min() >= 1
    assert times.max() <= 20
    assert times.sum() / 40 == pytest.approx(32, abs=1)


def _chosen(found: Entities, seed: int) -> torch.Tensor:
    from training.models.geometry import _drawn

    return _drawn(found.sample, Chance(seed, total=2).uniform(), most=16).float()


def test_it_learns_shapes_and_the_nearest_to_a_square_are_squares() -> None:
    rng = np.random.default_rng(0)
    learned = [batch(town(rng, 12)[0], 12) for _ in range(10)]
    others, which = town(np.random.default_rng(1), 12)
    torch.manual_seed(0)
    net = GeometryNet(GeometryConfig(width=32, layers=2, dim=96, telling=96, entities=16))
    optimizer = torch.optim.AdamW(net.parameters(), lr=4e-3)
    for step in range(90):
        loss = net(**net.prepare(learned[step % 10], chance=Chance(step, total=12)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    net.eval()
    numbers = told(Shapes.of(others))
    by_mean = ((numbers - numbers.mean(dim=0)).square() * net.target_weights).sum(dim=1).mean()
    with torch.no_grad():
        said = net(**net.prepare(batch(others, 12), chance=Chance(0, total=12)))
        units = functional.normalize(net.encode_entities(others), dim=1)
    assert said < 0.25 * by_mean
    likeness = (units @ units.T).fill_diagonal_(-2)
    same = which[likeness.argmax(dim=1).numpy()] == which
    squares = which == list(SHAPES).index("square")
    assert same[squares].mean() > 0.9
    assert same.mean() > 0.9


SMALL = {"model": {"width": 16, "layers": 1, "dim": 32, "telling": 32, "entities": 8}, "batch_size": 16}


def test_its_recipes_can_be_built_and_one_pretrains_and_goes_on(one_map: Subset, tmp_path: Path) -> None:
    assert load_train_recipe("geometry").model["dim"] == 1024
    recipe = load_train_recipe(
        "geometry-tiny",
        overrides={"model": str(SMALL["model"]), "epochs": "3", "checkpoint.every_epochs": "1"},
    )
    whole = pretrain(one_map, recipe, tmp_path / "whole", device="cpu")
    pretrain(one_map, recipe, tmp_path / "stopped", device="cpu", stop_after_steps=4)
    resumed = pretrain(one_map, recipe, tmp_path / "stopped", device="cpu")
    assert resumed.final_loss == whole.final_loss
    model = GeometryNet.from_pretrained(sorted((tmp_path / "whole" / "checkpoints").iterdir())[-1])
    found = EntityReader(one_map).batch(np.arange(6))
    with torch.no_grad():
        assert model.encode_entities(found).shape == (len(found), 32)


def test_for_another_model_it_is_trained_once_kept_and_gone_on_with(
    one_map: Subset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = {"recipe": "geometry-tiny", "least_steps": 8, "epochs": 1, "optimizer.warmup_epochs": 0, **SMALL}

    def train(folder: Path | None, seed: int = 1, preparing=None) -> GeometryNet:
        return train_geometry(
            one_map, config, seed=seed, device=torch.device("cpu"), folder=folder, preparing=preparing
        )

    told_of: list[tuple[str, int, int]] = []
    first = train(tmp_path / "a", preparing=lambda *words: told_of.append(words))
    assert told_of[-1] == ("learning shapes", 3 * 48, 3 * 48)  # three epochs of three steps are the first to be 8 steps
    assert len(told_of) == 9
    told_of.clear()
    again = train(tmp_path / "a", preparing=lambda *words: told_of.append(words))
    assert not told_of
    assert weights_hash(again) == weights_hash(first)
    assert weights_hash(train(None)) != weights_hash(first)
    assert [path.name for path in (tmp_path / "a" / FOLDER).iterdir()] == [
        path.name for path in (tmp_path / "a" / FOLDER).glob("?" * 16)
    ]

    monkeypatch.setattr("training.models.geometry_training.SECONDS", 0.0)

    def kill(what: str, done: int, total: int) -> None:
        if done > 100:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "b", preparing=kill)
    steps: list[int] = []
    gone_on = train(tmp_path / "b", preparing=lambda what, done, total: steps.append(done))
    assert steps == [112, 128, 144]
    assert weights_hash(gone_on) == weights_hash(first)
    assert weights_hash(train(tmp_path / "b", seed=2)) != weights_hash(first)
    shutil.rmtree(tmp_path / "b")


def test_what_cannot_be_is_refused_in_one_line(one_map: Subset, subset: Subset, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"no geometry can be built from this config: .*width 0 must be at least 1"):
        build_model("geometry", {"width": 0})
    device = torch.device("cpu")
    with pytest.raises(TrainingError, match="recipe 'satmae-tiny' is of architecture 'satmae'"):
        train_geometry(one_map, {"recipe": "satmae-tiny"}, seed=0, device=device, folder=tmp_path)
    with pytest.raises(TrainingError, match="no map entities are there"):
        train_geometry(subset, {"recipe": "geometry-tiny"}, seed=0, device=device, folder=tmp_path)
