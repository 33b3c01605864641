"""What GeoJEPA hides: the odds of each way, and that no tile is ever without context or target."""

from dataclasses import replace
from math import floor

import pytest
import torch

from pwcat.errors import TrainingError
from training.chance import Chance
from training.models.geojepa_masks import KINDS, MaskConfig, Scene, choose_kind, draw_masks, odds

DRAWS = 100_000
NONE = dict.fromkeys(KINDS, 0.0)
GTI = MaskConfig(random=0.2, area=0.6, modality=0.2)


def only(kind, **values):
    return MaskConfig(**{**NONE, kind: 1.0, **values})


def scene_of(maps, images, *, seed=0, slots=(24, 10)):
    """Tiles with so many entities and patches each, in their slots, anywhere."""
    counts = (torch.tensor(each).unsqueeze(1) for each in (maps, images))
    entities, patches = (torch.arange(most) < each for most, each in zip(slots, counts, strict=True))
    modality = torch.cat([entities * 1, patches * 3], dim=1)
    centres = torch.rand(*modality.shape, 2, generator=torch.Generator().manual_seed(seed))
    return Scene(modality_BS=modality, centres_BS2=centres)


def drawn(config, scene, *, seed=0):
    return draw_masks(config, scene, Chance(seed, total=len(scene.modality_BS)))


@pytest.mark.parametrize(
    ("config", "wanted"),
    [
        (MaskConfig(), {"random": 0.308, "area": 0.692}),
        (GTI, {"random": 0.269, "area": 0.645, "modality": 0.086}),
        (replace(GTI, choice="listed"), {"random": 0.2, "area": 0.6, "modality": 0.2}),
    ],
    ids=["T", "GTI", "listed"],
)
def test_each_way_is_taken_as_often_as_the_source_takes_it(config, wanted):
    known = odds(config)
    assert {kind: round(share, 3) for kind, share in known.items()} == {**NONE, **wanted}
    chance = Chance(7, total=1)
    kinds = [choose_kind(config, chance) for _ in range(DRAWS)]
    for kind, share in known.items():
        spread = (share * (1 - share) / DRAWS) ** 0.5
        assert abs(kinds.count(kind) / DRAWS - share) <= 4 * spread, kind


@pytest.mark.parametrize("disjoint", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_no_tile_is_ever_without_context_or_target(kind, disjoint):
    few = [(1, 0), (2, 0), (3, 0), (0, 1), (1, 1), (2, 1), (0, 3), (7, 0), (3, 4), (8, 4), (0, 0)]
    maps, images = zip(*(few * 1000), strict=True)
    scene, config = scene_of(maps, images, slots=(8, 4)), only(kind, disjoint=disjoint)
    count = scene.present_BS.sum(dim=1)
    for seed in range(2 if disjoint else -(-DRAWS // len(maps))):
        context, targets = drawn(config, scene, seed=seed)
        assert not ((context | targets.any(dim=0)) & ~scene.present_BS).any()
        assert torch.equal(context.any(dim=1), count > 0)
        assert torch.equal(targets.any(dim=2).any(dim=0), count > 0)
        both = (context & targets.any(dim=0)).any(dim=1)
        assert both[count == 1].all()  # the one token is both
        assert not disjoint or not both[count > 1].any()
        least = config.random_context if kind == "random" else config.least_context
        assert (context.sum(dim=1) >= (least * count - 1e-4).ceil()).all()


def test_random_targets_have_their_share_of_tokens():
    scene = scene_of([20, 7, 1], [0, 3, 0])
    _, targets = drawn(only("random"), scene)
    assert targets.shape == (4, 3, 34)
    assert (targets.sum(dim=2) == torch.tensor([9, 4, 1])).all()
    assert not torch.equal(targets[0], targets[1])


def test_area_targets_are_all_tokens_within_a_box_of_the_right_size():
    side, tiles = torch.arange(40) / 39, 200
    centres = torch.stack(torch.meshgrid(side, side, indexing="xy"), dim=-1).view(1, -1, 2).expand(tiles, -1, -1)
    scene = Scene(modality_BS=torch.ones(tiles, 1600, dtype=torch.int64), centres_BS2=centres)
    context, targets = drawn(only("area"), scene, seed=3)
    assert (context.sum(dim=1) >= 0.15 * 1600).all()
    sizes = []
    for tile in range(tiles):
        for target in targets[:, tile]:
            inside = centres[tile][target]
            low, high = inside.amin(dim=0), inside.amax(dim=0)
            boxed = ((centres[tile] >= low) & (centres[tile] <= high)).all(dim=1)
            assert torch.equal(boxed, target)
            if (low > 0).all() and (high < 1).all():  # whole within the tile
                sizes.append(high - low)
    width, height = torch.stack(sizes).unbind(dim=1)
    aspect = 0.35**0.5 / height  # of the source: its height is the root of the area over the aspect
    # the sides of what lies on a grid are up to two steps short
    assert (width * height - 0.35).abs().max() < 0.35 * 0.2
    assert 0.55 < aspect.min() < 0.75  # flatter and taller ones do not fit
    assert 1.4 < aspect.max() < 1.85


def test_boxes_without_a_token_fall_back_to_random_ones():
    scene = scene_of([12], [0])
    far = replace(scene, centres_BS2=torch.full_like(scene.centres_BS2, 5.0))
    _, targets = drawn(only("area"), far)
    assert (targets.sum(dim=2) == floor(0.45 * 12)).all()


def test_one_modality_is_context_and_the_other_target_for_all_tiles():
    scene, seen = scene_of([6, 9, 4, 0], [10, 10, 0, 10]), []
    maps, images = scene.modality_BS == 1, scene.modality_BS == 3
    for seed in range(200):
        context, (target,) = drawn(only("modality", least_context=0.0), scene, seed=seed)
        assert torch.equal(context[:2] | target[:2], scene.present_BS[:2])
        seen.append(torch.equal(context[:2], maps[:2]) and torch.equal(target[:2], images[:2]))
        assert seen[-1] or (torch.equal(context[:2], images[:2]) and torch.equal(target[:2], maps[:2]))
        assert target[2:].sum(dim=1).tolist() == [1, 4]  # at random, where there is one modality alone
    assert 60 < sum(seen) < 140


def test_contiguous_targets_are_runs_of_tokens():
    scene = scene_of([20, 3], [0, 2])
    _, targets = drawn(only("contiguous"), scene)
    assert (targets.sum(dim=2) == torch.tensor([5, 1])).all()
    order = torch.arange(20)
    for target in targets[:, 0, :20]:
        places = order[target]
        assert places[-1] - places[0] == len(places) - 1


def test_too_small_a_context_is_topped_up_by_a_run():
    scene = scene_of([20], [0])
    context, targets = drawn(only("random", random_share=0.99, targets=9, random_context=0.3), scene)
    assert targets.any(dim=0)[scene.present_BS].all()
    places = torch.arange(20)[context[0, :20]]
    assert len(places) == 6
    assert places[-1] - places[0] == 5


@pytest.mark.parametrize("kind", KINDS)
def test_ranks_draw_what_one_process_would_have_drawn(kind):
    scene, config = scene_of([5, 9, 2, 14, 1], [3, 0, 10, 10, 2]), only(kind)
    whole = drawn(config, scene, seed=11)
    parts = []
    for rows in (slice(0, 2), slice(2, 5)):
        own = Scene(modality_BS=scene.modality_BS[rows], centres_BS2=scene.centres_BS2[rows])
        parts.append(draw_masks(config, own, Chance(11, total=5, rows=rows, world_size=2)))
    assert torch.equal(torch.cat([context for context, _ in parts]), whole[0])
    assert torch.equal(torch.cat([targets for _, targets in parts], dim=1), whole[1])


def test_masks_that_cannot_be_drawn_are_refused_with_all_reasons():
    with pytest.raises(TrainingError, match=r"one of random, area.*random_share 1.0 must be.*aspect \(2.0, 0.5\)"):
        MaskConfig(**NONE, random_share=1.0, aspect=(2.0, 0.5))
