"""GeoJEPA on entities made by hand: its weights counted, its loss against one worked out tile by tile, its embeddings."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter
from torch import nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from pwcat.errors import TrainingError
from training.batch import UNKNOWN_TIME, Bands, Batch
from training.chance import Chance
from training.models import build_model
from training.models.folder import load_model_folder
from training.models.geojepa import GeoJEPA
from training.models.geojepa_config import GeoJEPAConfig, PredictorConfig
from training.models.geojepa_flops import Tokens, step_flops
from training.models.geojepa_masks import KINDS
from training.models.geojepa_network import Codes, take
from training.models.geojepa_tokens import patch_boxes, place_entities
from training.osm.entities import Entities, TagList
from training.osm.texts import encode_texts
from training.recipe import load_train_recipe

PAIRS = [("building", "yes"), ("highway", "residential"), ("name", "Größe 東京"), ("landuse", "meadow"), ("x", "y")]
KNOWN = ("building=yes", "building", "highway=residential", "highway", "name", "landuse")
RGB = ("red", "green", "blue")
IMAGE = {
    "config": {
        "image_size": 32, "patch_size": 16, "bands": RGB, "groups": [RGB], "dim": 16, "depth": 1, "heads": 2, "group_dim": 4,
    }
}  # fmt: skip
SMALL = {
    "dim": 16,
    "depth": 2,
    "heads": 2,
    "dropout": 0.0,
    "predictor": {"dim": 8, "depth": 1, "heads": 2},
    "tags": {"dim": 32},
    "image": IMAGE,
    "max_entities": 12,
    "vocabulary": KNOWN,
}
TAGS = TagList(pairs=tuple(PAIRS))


def entities_of(counts, *, seed=0, tag_list=TAGS):
    """So many points a tile, each with one to three tags."""
    rng = np.random.default_rng(seed)
    sample = np.repeat(np.arange(len(counts)), counts)
    boxes = np.repeat(rng.random((len(sample), 1, 2), dtype=np.float32), 4, axis=1)
    tags = [np.sort(rng.choice(len(PAIRS), rng.integers(1, 4), replace=False)) for _ in sample]
    owner = np.repeat(np.arange(len(sample)), [len(each) for each in tags])
    numbers = torch.from_numpy(np.concatenate([np.zeros(0, np.int64), *tags]))
    return Entities(
        sample=torch.from_numpy(sample),
        boxes=torch.from_numpy(boxes),
        kinds=torch.zeros(len(sample), dtype=torch.int64),
        tags=numbers.long(),
        tag_entity=torch.from_numpy(owner),
        vertices=torch.from_numpy(boxes[:, 0]),
        vertex_entity=torch.arange(len(sample)),
        edges=torch.zeros(2, 0, dtype=torch.int64),
        edge_kinds=torch.zeros(0, dtype=torch.int64),
        tag_list=tag_list,
        rows=torch.arange(len(sample)),
    )


def batch_of(counts, *, images=None, seed=0):
    """Tiles with so many entities, and with an image or none."""
    chips = None
    if images is not None:
        draw = torch.Generator().manual_seed(seed)
        there = torch.tensor(images).view(-1, 1, 1, 1, 1)
        drawn = torch.randint(1, 256, (len(counts), 1, 3, 32, 32), generator=draw) * there
        chips = drawn.to(torch.int32).to(torch.uint16)
    return Batch(
        chips=chips,
        bands=Bands.reflectance(RGB if images is not None else ()),
        lonlat=torch.zeros(len(counts), 2, dtype=torch.float64),
        times=torch.full((len(counts), 1), UNKNOWN_TIME),
        rows=np.arange(len(counts)),
        entities=entities_of(counts, seed=seed),
    )


def model_of(made_up, modalities="T", *, seed=0, **changes):
    """A small model that knows its tags and has moved off its start, in eval mode."""
    torch.manual_seed(seed)
    model = build_model("geojepa", {**SMALL, "modalities": modalities, **changes}, normalization=made_up(RGB))
    vectors = model.reader.tag_vectors.vectors_VW
    vectors[1:] = torch.from_numpy(encode_texts(KNOWN, dim=vectors.shape[1]))
    for parameter in model.teacher.parameters():
        parameter.add_(0.05 * torch.randn_like(parameter))
    return model.eval()


def num(*parts):
    return sum(p.numel() for part in parts for p in part.parameters())


def test_weights_are_as_many_as_the_sources():
    with torch.device("meta"):  # counted, not made
        gti = GeoJEPA(GeoJEPAConfig())
        t = GeoJEPA(GeoJEPAConfig(modalities="T", predictor=PredictorConfig(dim=192, projector="mlp", registers=2)))
    assert num(gti.encoder) == num(gti.teacher) == 21_294_336
    assert num(gti.predictor) == 3_357_056
    assert num(gti.reader.codes) == 2_087_808
    assert num(gti.reader.entities, gti.reader.images) == 1_970_688
    assert num(t.predictor) == 2_297_856
    shapes, image = 1024 * 384 + 384, 768 * 384 + 384  # each with a norm of 2 x 384
    assert num(t.reader.entities) == 1_970_688 - (shapes + 768) - (image + 768)


@pytest.mark.parametrize("name", ["t", "gt", "ti", "gti"])
def test_recipes_are_the_published_ones(name):
    recipe = load_train_recipe(f"geojepa-{name}")
    o, c = recipe.optimizer, TypeAdapter(GeoJEPAConfig).validate_python(recipe.model)
    assert (c.modalities, recipe.epochs, recipe.seed, o.clip_norm) == (name.upper(), 300, 12345, 10)
    assert (o.lr, o.final_lr, o.betas, o.warmup_epochs, o.warmup_from) == (1e-3, 1e-6, (0.9, 0.95), 30, 0.1)
    assert (c.dim, c.depth, c.heads, c.dropout, c.smooth_l1_beta, c.registers) == (384, 12, 8, 0.1, 1.0, 0)
    assert (c.position_noise, c.one_sided, c.momentum[1], c.masks.random_share) == (5e-4, 0.3, 0.99999, 0.45)
    last = name == "gti"
    assert (recipe.batch_size, recipe.accumulate) == ((48, 9) if last else (96, 4) if name == "gt" else (96, 10))
    assert (c.momentum[0], c.vicreg_beta) == ((0.99, 0.01) if last else (0.997, 0.02))
    assert (o.weight_decay, o.weight_decay_end) == ((0.05, 0.1) if last else (0.04, 0.4))
    assert [getattr(c.masks, kind) for kind in KINDS] == ([0.2, 0.6, 0.2, 0] if last else [0.25, 0.75, 0, 0])
    assert (c.predictor.dim, c.predictor.projector) == ((256, "linear") if last else (192, "mlp"))


@pytest.mark.parametrize("modalities", ["T", "TI"])
def test_the_loss_is_that_of_tiles_one_by_one_without_padding(made_up, modalities):
    model = model_of(made_up, modalities, registers=1, masks={"random": 1.0, "area": 0.0})
    images = [True, False, True, True] if "I" in modalities else None
    batch = batch_of([3, 9, 0, 5], images=images)
    inputs = model.prepare(batch, chance=Chance(5, total=4))
    each = model.sample_losses(**inputs)
    guesses, wanted, contexts = [[], [], [], []], [[], [], [], []], []
    tokens, codes = model.reader(inputs)
    for tile in range(4):
        seen = inputs["modality_BL"][tile] > 0
        if not seen.any():
            continue
        every = (tokens + codes)[tile][None]
        taught = model.teacher(every[:, seen], torch.ones(1, int(seen.sum()), dtype=torch.bool))
        target = torch.zeros_like(every)
        target[:, seen] = functional.layer_norm(taught, taught.shape[-1:])
        own = inputs["context_BC"][tile][inputs["context_seen_BC"][tile]][None]
        here = torch.ones_like(own, dtype=torch.bool)
        context = model.encoder(take(every, own), here)
        contexts.append(context[0])
        for number in range(4):
            places = inputs["targets_MBK"][number, tile][inputs["targets_seen_MBK"][number, tile]][None]
            asked = take(codes[tile][None], places)
            said = model.predictor(
                context,
                take(codes[tile][None], own),
                here,
                asked[None],
                torch.ones_like(places, dtype=torch.bool)[None],
            )
            guesses[number].append(said[0, 0])
            wanted[number].append(take(target, places)[0])
    sets = [torch.cat(each) for each in guesses]
    loss = sum(functional.smooth_l1_loss(said, torch.cat(want)) for said, want in zip(sets, wanted, strict=True))
    for x in [*sets, torch.cat(contexts)]:
        table = torch.cov(x.T)
        spread = functional.relu(1 - (x.var(dim=0, unbiased=False) + 1e-4).sqrt()).mean()
        loss = loss + 0.02 * (25 * spread + (table - table.diagonal().diag()).square().sum() / 16)
    torch.testing.assert_close(each.mean(), loss, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(model(**inputs), loss, rtol=1e-5, atol=1e-5)


def test_a_batch_of_tiles_without_tokens_has_no_loss(made_up):
    model = model_of(made_up)
    inputs = model.prepare(batch_of([0, 0]), chance=Chance(0, total=2))
    loss = model(**inputs)
    assert loss.item() == 0.0
    loss.backward()
    # all have one, though it is nought: ranks that wait for each other's gradients must not wait for ever
    assert all(p.grad is not None and not p.grad.any() for p in model.parameters() if p.requires_grad)


def test_the_teacher_has_no_gradient_and_follows_in_a_line(made_up):
    model = model_of(made_up, "TI", momentum=[0.5, 0.9]).train()
    model(**model.prepare(batch_of([4, 2], images=[True, True]), chance=Chance(0, total=2))).backward()
    assert all(p.grad is None and not p.requires_grad for p in model.teacher.parameters())
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    slow, now = ([p.clone() for p in part.parameters()] for part in (model.teacher, model.encoder))
    for step, stays in ((1, 0.5), (6, 0.7)):  # of ten, from .5 towards .9
        model.after_step(step, 10)
        slow = [stays * one + (1 - stays) * other for one, other in zip(slow, now, strict=True)]
        for one, other in zip(model.teacher.parameters(), slow, strict=True):
            torch.testing.assert_close(one, other)


def test_fine_tuning_reaches_all_that_embeds(made_up):
    model = model_of(made_up, "TI").train()
    model.unfreeze_encoder()
    model.encode(batch_of([3, 2], images=[True, True])).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for layer in model.encoder_layers() for p in layer)
    assert all(p.grad is None for part in (model.encoder, model.predictor) for p in part.parameters())


def test_the_teacher_begins_as_the_student_and_drops_nothing_out():
    model = build_model("geojepa", {**SMALL, "modalities": "T"}).train()
    pairs = zip(model.teacher.parameters(), model.encoder.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    assert model.encoder.training
    assert not model.teacher.training
    model.unfreeze_encoder()
    assert model.teacher.training
    assert len(model.encoder_layers()) == 3
    assert len(model.encoder_blocks()) == 2
    listed = [p for layer in model.encoder_layers() for p in layer]
    assert {id(p) for p in listed} == {id(p) for part in (model.reader, model.teacher) for p in part.parameters()}


@pytest.mark.parametrize("modalities", ["T", "TI"])
def test_an_embedding_does_not_hang_on_its_batch(made_up, modalities):
    model = model_of(made_up, modalities)
    images = [True, False, True] if "I" in modalities else None
    together = batch_of([3, 11, 0], images=images)
    embedded = model.encode(together)
    assert embedded.shape == (3, 32)
    entities = model.encode_entities(together)
    assert entities.shape == (14, 16)
    alone = entities_of([3], seed=0)
    kept = torch.isin(together.entities.tags, alone.tags) & (together.entities.tag_entity < 3)
    first = replace(
        batch_of([3], images=None if images is None else [True]),
        chips=None if images is None else together.chips[:1],
        entities=replace(
            alone,
            boxes=together.entities.boxes[:3],
            tags=together.entities.tags[together.entities.tag_entity < 3],
            tag_entity=together.entities.tag_entity[together.entities.tag_entity < 3],
        ),
    )
    assert kept.any()
    torch.testing.assert_close(model.encode(first)[0], embedded[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model.encode_entities(first), entities[:3], rtol=1e-4, atol=1e-5)
    largest, mean = embedded[0].split(16)
    if images is None:
        torch.testing.assert_close(entities[:3].amax(dim=0), largest)
        torch.testing.assert_close(entities[:3].mean(dim=0), mean)
        assert not embedded[2].any()  # no token at all
    assert embedded.isfinite().all()
    padded = model_of(made_up, modalities, pool_padding=True).encode(together)
    assert padded.isfinite().all()
    assert not torch.allclose(padded[0], embedded[0], atol=1e-3)


def test_tiles_without_anything_have_zeros(made_up):
    model = model_of(made_up, "TI")
    assert not model.encode(batch_of([0, 0], images=[False, False])).any()
    assert model.encode(batch_of([0], images=[True])).any()
    assert model.encode_entities(batch_of([0, 0], images=[True, False])).shape == (0, 16)


def test_too_many_entities_are_thinned_evenly_in_their_order():
    entities = entities_of([2, 10, 5])
    places = place_entities(entities, tiles=3, most=4)
    assert places.kept.tolist() == [0, 1, 4, 6, 9, 11, 13, 14, 15, 16]
    assert places.tile.tolist() == [0, 0, 1, 1, 1, 1, 2, 2, 2, 2]
    assert places.slot.tolist() == [0, 1, 0, 1, 2, 3, 0, 1, 2, 3]
    assert (places.longest, places.counts.tolist()) == (4, [2, 4, 4])
    spread = places.spread(places.of(torch.arange(17) + 1))
    assert spread.tolist() == [[1, 2, 0, 0], [5, 7, 10, 12], [14, 15, 16, 17]]
    whole = place_entities(entities, tiles=3, most=None)
    assert (whole.kept, whole.longest) == (None, 10)


def test_a_tag_that_is_not_known_is_taken_for_its_key_and_a_key_for_nothing(made_up):
    model = model_of(made_up)
    said = [("building", "shed"), ("building", "yes"), ("nothing", "known"), ("building", "hut")]
    entities = replace(
        entities_of([4]),
        tags=torch.arange(4),
        tag_entity=torch.arange(4),
        tag_list=TagList(pairs=tuple(said)),
    )
    vectors = model.reader.tag_vectors(entities)
    assert torch.equal(vectors[0], vectors[3])
    assert not torch.allclose(vectors[0], vectors[1])
    assert not vectors[2].any()
    wanted = encode_texts(["building"], dim=32)[0]
    torch.testing.assert_close(vectors[0], functional.layer_norm(torch.from_numpy(wanted), (32,)))


def test_patches_tile_the_unit_square_row_by_row():
    boxes = patch_boxes(14).view(-1, 4, 2)
    assert boxes.shape == (197, 4, 2)
    assert boxes[0].tolist() == [[0, 0], [1, 0], [1, 1], [0, 1]]
    centres = boxes[1:].mean(dim=1).view(14, 14, 2)
    torch.testing.assert_close(centres[0, :, 0], (torch.arange(14) + 0.5) / 14)  # to the east
    torch.testing.assert_close(centres[:, 0, 1], (torch.arange(14) + 0.5) / 14)  # to the south
    area = (boxes[1:, 1, 0] - boxes[1:, 0, 0]) * (boxes[1:, 2, 1] - boxes[1:, 1, 1])
    assert area.sum().item() == pytest.approx(1)


def test_now_and_then_tags_or_shapes_are_left_out_in_training_alone(made_up):
    model = model_of(
        made_up, "GT", geometry={"config": {"width": 8, "layers": 1, "dim": 16}, "dim": 16, "weights_hash": "x"}
    )
    batch = batch_of([3])

    def kept(seed):
        return tuple(model.prepare(batch, chance=Chance(seed, total=1))["kept_2"].tolist())

    assert "kept_2" not in model.prepare(batch, chance=Chance(0, total=1))
    model.train()
    drawn = [kept(seed) for seed in range(150)]
    assert set(drawn) == {(1.0, 1.0), (0.0, 1.0), (1.0, 0.0)}
    assert 0.15 < 1 - drawn.count((1.0, 1.0)) / 150 < 0.45
    model.eval()
    full = model.prepare(batch, chance=Chance(0, total=1))
    tokens = model.reader(full)[0]
    for row, name in enumerate(("tags_EW", "geometry_EW")):
        without = model.reader({**full, "kept_2": torch.tensor([1.0, 1.0]).index_fill(0, torch.tensor(row), 0.0)})[0]
        assert not torch.allclose(without, tokens)
        other = model.reader({**full, name: torch.randn_like(full[name]), "kept_2": torch.eye(2)[1 - row]})[0]
        torch.testing.assert_close(other, without)


def test_positions_are_moved_a_little_in_training_alone(made_up):
    model = model_of(made_up, position_noise=0.01).train()
    batch = batch_of([12, 12])
    moved = model.prepare(batch, chance=Chance(0, total=2))["boxes_BL8"]
    model.eval()
    still = model.prepare(batch, chance=Chance(0, total=2))["boxes_BL8"]
    assert torch.equal(still, batch.entities.boxes.view(2, 12, 8))
    assert 0.008 < (moved - still).std() < 0.012


def test_in_bfloat16_places_are_told_apart_to_a_thousandth_of_a_tile():
    torch.manual_seed(0)
    codes = Codes(16, dropout=0.0).eval()
    near_1L8 = torch.stack([torch.full((8,), 0.901) + 0.001 * step for step in range(3)]).unsqueeze(0)
    modality_1L = torch.ones(1, 3, dtype=torch.int64)
    exact_LD = codes(near_1L8, modality_1L).squeeze(0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden_LH = codes.position.fc1(near_1L8).squeeze(0)
        place_LD = codes.position(near_1L8).squeeze(0)
    assert (hidden_LH[0] == hidden_LH[2]).all()  # as they would be
    assert (place_LD[0] != place_LD[1]).any()
    assert (place_LD[1] != place_LD[2]).any()
    torch.testing.assert_close(codes(near_1L8, modality_1L).squeeze(0), exact_LD, rtol=0, atol=0)


def test_ranks_together_prepare_what_one_process_does(made_up):
    model = model_of(made_up, "TI").train()
    whole_batch, images = batch_of([3, 9, 0, 5], images=[True, False, True, True]), [True, False, True, True]
    whole = model.prepare(whole_batch, chance=Chance(3, total=4))
    lone = model.prepare(
        replace(
            batch_of([3], images=[images[0]]), chips=whole_batch.chips[:1], entities=_first(whole_batch.entities, 3)
        ),
        chance=Chance(3, total=4, rows=slice(0, 1), world_size=2),
    )
    for name in ("context", "targets"):
        (places, seen) = (f"{name}_BC", f"{name}_seen_BC") if name == "context" else ("targets_MBK", "targets_seen_MBK")
        ours = [
            row[kept]
            for row, kept in zip(lone[places].view(-1, lone[places].shape[-1]), lone[seen].flatten(0, -2), strict=True)
        ]
        theirs = whole[places][..., :1, :].reshape(-1, whole[places].shape[-1]), whole[seen][..., :1, :].flatten(0, -2)
        of_all = [row[kept] for row, kept in zip(*theirs, strict=True)]
        # patches stand behind the longest tile's entities: 3 here, 9 there
        moved = [torch.where(row >= 9, row - 6, row) for row in of_all]
        assert all(torch.equal(one, other) for one, other in zip(ours, moved, strict=True))
    assert lone["share"] == 0.5
    torch.testing.assert_close(lone["boxes_BL8"][0, :3], whole["boxes_BL8"][0, :3])


def _first(entities, count):
    """The first entities of a batch, all of the first tile."""
    of = entities.tag_entity < count
    return replace(
        entities,
        sample=entities.sample[:count],
        boxes=entities.boxes[:count],
        kinds=entities.kinds[:count],
        tags=entities.tags[of],
        tag_entity=entities.tag_entity[of],
        vertices=entities.vertices[:count],
        vertex_entity=entities.vertex_entity[:count],
        rows=entities.rows[:count],
    )


@pytest.mark.parametrize("projector", ["linear", "mlp"])
def test_operations_are_what_torch_counts(made_up, projector):
    predictor = {"dim": 8, "depth": 1, "heads": 2, "projector": projector, "registers": 2}
    model = model_of(made_up, "TI", predictor=predictor, registers=1)
    inputs = model.prepare(batch_of([6], images=[True]), chance=Chance(0, total=1))
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(**inputs).backward()
    tokens = Tokens(
        entities=6,
        patches=5,
        context=inputs["context_BC"].shape[1],
        targets=4,
        target=inputs["targets_MBK"].shape[2],
    )
    step = step_flops(model.config, tokens, image_width=16)
    assert counter.get_total_flops() == step + model.reader.tower.flops()
    assert model.flops_per_sample() > 0


def test_a_model_folder_gives_the_same_embeddings(made_up, tmp_path):
    geometry = {"config": {"width": 8, "layers": 1, "dim": 16}, "dim": 16, "weights_hash": "x"}
    model = model_of(made_up, "GTI", geometry=geometry)
    batch = batch_of([3, 0, 12], images=[True, True, False])
    again = load_model_folder(model.save_pretrained(tmp_path))
    assert torch.equal(again.encode(batch), model.encode(batch))
    assert json.dumps(again.config_json()) == json.dumps(model.config_json())
    assert again.facts().name == "GeoJEPA, GTI"
    assert [given.name for given in again.inputs()] == ["tags", "boxes", "vertices", "edges", "chips"]


def test_a_frozen_image_encoder_stays_as_it_was(made_up, tmp_path):
    torch.manual_seed(1)
    image = build_model("satmae", IMAGE["config"], normalization=made_up(RGB))
    image.save_pretrained(tmp_path / "image")
    model = model_of(made_up, "TI", image={"origin": str(tmp_path / "image"), "frozen": True}).train()
    batch = batch_of([2], images=[True])
    inputs = model.prepare(batch, chance=Chance(0, total=1))
    scaled = image.scale(batch.chips[:, 0])
    tokens = image.eval().encode_tokens(scaled)
    torch.testing.assert_close(inputs["image_BPW"], tokens)
    torch.testing.assert_close(tokens[:, 1:].mean(dim=1), image.encode_images(scaled))
    model(**inputs).backward()
    assert all(p.grad is None for p in model.reader.tower.parameters())
    assert model.config.image.origin == "image"
    assert model.config.image.weights_hash


def test_what_cannot_be_is_said_in_a_line(made_up, tmp_path):
    with pytest.raises(TrainingError, match=r"masks.modality 0.2 needs two modalities.*modalities T have one"):
        build_model("geojepa", {"modalities": "T", "masks": {"modality": 0.2}})
    with pytest.raises(TrainingError, match=r"heads 5 must divide dim 384.*momentum \(2.0, 1.0\) must be"):
        build_model("geojepa", {"heads": 5, "momentum": [2.0, 1.0]})
    model = model_of(made_up)
    with pytest.raises(TrainingError, match="samples have none: take a map collection"):
        model.encode(replace(batch_of([1]), entities=None))
    fresh = build_model("geojepa", {**SMALL, "modalities": "T", "vocabulary": []})
    with pytest.raises(TrainingError, match="knows no tags yet: pretrain it"):
        fresh.encode(batch_of([1]))
    model.save_pretrained(tmp_path)
    with pytest.raises(TrainingError, match=r"holds a geojepa, and shapes are read by a geometry network"):
        build_model("geojepa", {"modalities": "GT", "geometry": {"origin": str(tmp_path)}})


def test_collapse_is_warned_of(made_up, caplog):
    model = model_of(made_up)
    batches = [batch_of([3, 5, 2, 7], seed=seed) for seed in range(3)]
    told = model.watch(batches)
    assert told["watched_samples"] == 12
    assert 1.2 < told["effective_rank"] <= 12
    assert not caplog.records
    for parameter in model.teacher.norm.parameters():
        nn.init.ones_(parameter) if parameter is model.teacher.norm.bias else nn.init.zeros_(parameter)
    assert model.watch(batches)["effective_rank"] == pytest.approx(1)
    assert "embeddings may have collapsed: of 12 tiles their effective rank is 1.00" in caplog.text
