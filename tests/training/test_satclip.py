import math
import multiprocessing
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from pwcat.errors import TrainingError
from training.batch import Bands, Batch
from training.chance import Chance
from training.models import build_model, config_faults, config_of
from training.models.contrast import contrastive_losses
from training.models.folder import weights_hash
from training.models.harmonics import spherical_harmonics
from training.models.siren import Siren, unpack_bits
from training.models.tower import reflectance
from training.recipe import Augment
from training.weights.satclip import convert

BANDS = ("B02", "B03", "B04", "B08")
FRESH = {
    "config": {
        "image_size": 16, "patch_size": 8, "bands": BANDS, "groups": (BANDS,),
        "dim": 32, "depth": 1, "heads": 2, "group_dim": 8,
    }
}  # fmt: skip
SMALL = {"degrees": 6, "hidden": 64, "dim": 32, "tower": FRESH}


def small(seed=0, **changes):
    torch.manual_seed(seed)
    return build_model("satclip", {**SMALL, **changes})


def batch(count=16, size=20, seed=0):
    draw = torch.Generator().manual_seed(seed)
    chips = torch.randint(1, 8000, (count, 4, size, size), generator=draw).to(torch.uint16)
    lonlat = torch.rand(count, 2, generator=draw, dtype=torch.float64) * 170 - 85
    return Batch.of_chips(chips, bands=BANDS, lonlat=lonlat)


def loss_of(model, samples, *, seed=0, augment=None):
    return model(**model.prepare(samples, chance=Chance(seed, total=len(samples)), augment=augment))


@pytest.mark.parametrize(("degrees", "weights"), [(10, 445_696), (40, 1_213_696)])
def test_location_encoder_has_the_released_weights(degrees, weights):
    model = build_model("satclip", {"degrees": degrees})
    assert sum(p.numel() for p in model.location.parameters()) == weights
    state = model.state_dict()
    assert {name: tuple(tensor.shape) for name, tensor in state.items()} == {
        "logit_scale": (),
        "location.nnet.layers.0.weight": (512, degrees**2),
        "location.nnet.layers.0.bias": (512,),
        "location.nnet.layers.1.weight": (512, 512),
        "location.nnet.layers.1.bias": (512,),
        "location.nnet.last_layer.weight": (256, 512),
        "location.nnet.last_layer.bias": (256,),
    }
    assert all(tensor.dtype == torch.float64 for name, tensor in state.items() if name != "logit_scale")
    assert state["logit_scale"].exp().item() == pytest.approx(1 / 0.07)


def test_siren_is_its_definition():
    torch.manual_seed(0)
    net, x = Siren(5, hidden=8, layers=2, outputs=3), torch.randn(4, 5, dtype=torch.float64)
    first, second = net.layers
    hidden = torch.sin(30 * (x @ first.weight.T + first.bias))
    hidden = torch.sin(hidden @ second.weight.T + second.bias)
    torch.testing.assert_close(net(x), hidden @ net.last_layer.weight.T + net.last_layer.bias)
    assert first.weight.abs().max() <= 1 / 5
    assert second.weight.abs().max() <= math.sqrt(6 / 8)


def test_dropout_is_before_the_sine():
    net, x = Siren(5, hidden=8, layers=1, outputs=3), torch.randn(2, 5, dtype=torch.float64)
    keep = torch.tensor([[[True] * 4 + [False] * 4], [[False] * 8]])
    layer = net.layers[0]
    doubled = torch.sin(30 * 2 * (x[:1] @ layer.weight.T + layer.bias)) * keep[0]
    torch.testing.assert_close(net(x, keep)[:1], doubled @ net.last_layer.weight.T + net.last_layer.bias)
    torch.testing.assert_close(net(x, keep)[1], net.last_layer.bias)


def test_bits_are_unpacked_in_order():
    words = torch.tensor([[[5, 2**31]]])
    assert unpack_bits(words, width=40)[0, 0].nonzero().flatten().tolist() == [0, 2]
    assert unpack_bits(words, width=64)[0, 0].nonzero().flatten().tolist() == [0, 2, 63]
    drawn = unpack_bits(Chance(0, total=200).integers(2**32, 2, 16), width=512)
    assert drawn.shape == (200, 2, 512)
    assert drawn.float().mean().item() == pytest.approx(0.5, abs=0.005)


def test_dropout_is_of_training_alone():
    model = small()
    assert "words_BJW" in model.prepare(batch(), chance=Chance(0, total=16))
    assert "words_BJW" not in model.eval().prepare(batch(), chance=Chance(0, total=16))
    assert "words_BJW" not in small(dropout=False).prepare(batch(), chance=Chance(0, total=16))


def test_embeddings_of_places_are_the_network_over_the_basis():
    model = small().eval()
    lonlat = [(-87.6298, 41.8781), (180, 90), (-180, -90)]
    embeddings = model.encode_locations(lonlat)
    assert embeddings.shape == (3, 32)
    assert embeddings.dtype == torch.float32
    assert torch.isfinite(embeddings).all()
    basis = spherical_harmonics(torch.tensor(lonlat, dtype=torch.float64), degrees=6)
    torch.testing.assert_close(embeddings, model.location.nnet(basis).float())
    assert torch.equal(model.encode(batch()), model.encode_locations(batch().lonlat))


@pytest.mark.parametrize("degrees", [10, 40])
def test_poles_and_antimeridian_are_like_other_places(degrees):
    model = build_model("satclip", {"degrees": degrees}).eval()
    lonlat = np.array([[-180, 12.5], [180, 12.5], [0, 90], [99, 90], [0, -90], [-7, -90]])
    west, east, north, also_north, south, also_south = model.encode_locations(lonlat)
    for one, other in ((west, east), (north, also_north), (south, also_south)):
        assert torch.isfinite(one).all()
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)
    assert not torch.allclose(north, south, atol=1e-3)


@pytest.mark.parametrize(
    ("places", "said"),
    [
        (np.array([[41.9, -187.6], [0, 0]]), r"1 of 2 places .*longitude .*latitude .*\(41\.9, -187\.6\)"),
        (np.array([[float("nan"), 0.0]]), "1 of 1 places"),
        (np.zeros((3, 3)), r"these are \(3, 3\)"),
    ],
)
def test_what_is_no_place_is_refused(places, said):
    with pytest.raises(TrainingError, match=said):
        small().encode_locations(places)


def test_there_is_nothing_within_a_place():
    with pytest.raises(TrainingError, match="a satclip embeds a sample as a whole"):
        small().encode_dense(batch())


def test_loss_by_hand():
    images = torch.tensor([[2.0, 0.0], [0.0, 5.0], [3.0, 3.0]])
    places = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, -7.0]])
    lonlat = torch.tensor([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]], dtype=torch.float64)
    losses = contrastive_losses(
        images, places, scale=torch.tensor(10.0), own_B=torch.arange(3), lonlat_B2=lonlat, num_rows=3
    )
    r = math.sqrt(0.5)
    cosines = np.array([[1, 0.6, 0], [0, 0.8, -1], [r, 1.4 * r, -r]])
    for sample in range(3):
        of_image, of_place = 10 * cosines[sample], 10 * cosines[:, sample]
        expected = sum(math.log(np.exp(one).sum()) - one[sample] for one in (of_image, of_place)) / 2
        assert losses[sample].item() == pytest.approx(expected, rel=1e-5)


def test_samples_of_one_place_are_not_each_others_negatives():
    torch.manual_seed(0)
    images, places = torch.randn(3, 4), torch.randn(3, 4)
    lonlat = torch.tensor([[5.0, 5.0], [5.0, 5.0], [7.0, 5.0]], dtype=torch.float64)

    def losses(chosen):
        return contrastive_losses(
            images[chosen], places[chosen], scale=torch.tensor(5.0), own_B=torch.arange(len(chosen)),
            lonlat_B2=lonlat[chosen], num_rows=len(chosen),
        )  # fmt: skip

    together = losses([0, 1, 2])
    assert together[0].item() == pytest.approx(losses([0, 2])[0].item())
    assert together[1].item() == pytest.approx(losses([1, 2])[0].item())


def test_the_scale_of_similarities_stays_at_most_100():
    model = small()
    model.logit_scale.data.fill_(9.0)
    loss_of(model, batch())
    assert model.logit_scale.exp().item() == pytest.approx(100)
    assert model.logit_scale.requires_grad


def test_one_batch_is_overfitted():
    model, samples = small(dropout=False), batch()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    losses = []
    for _ in range(80):
        loss = loss_of(model, samples)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 2
    assert losses[-1] < 0.02


def test_same_seed_same_loss_and_moved_places():
    model, samples, augment = small(), batch(), Augment(blur=True, jitter_deg=0.01)
    drawn = [loss_of(model, samples, seed=seed, augment=augment).item() for seed in (7, 7, 8)]
    assert drawn[0] == drawn[1] != drawn[2]
    moved = model._moved(samples.lonlat, chance=Chance(0, total=16), augment=augment) - samples.lonlat
    assert (moved >= 0).all()
    assert (moved <= 0.01).all()
    assert moved.std() > 0.001
    north = torch.tensor([[0.0, 89.999]], dtype=torch.float64)
    beyond = [model._moved(north, chance=Chance(seed, total=1), augment=augment)[0, 1].item() for seed in range(9)]
    assert max(beyond) == 90


def test_gradient_reaches_everything_with_a_tower_that_trains():
    model = small()
    loss_of(model, batch()).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_parts_of_a_global_batch_draw_what_one_process_draws():
    model, samples, augment = small(), batch(11), Augment(blur=True, jitter_deg=0.01)
    whole = model.prepare(samples, chance=Chance(3, total=11), augment=augment)
    for own in (slice(0, 5), slice(5, 11)):
        part = replace(samples, chips=samples.chips[own], lonlat=samples.lonlat[own], rows=samples.rows[own])
        ours = model.prepare(part, chance=Chance(3, total=11, rows=own, world_size=2), augment=augment)
        for name in ("basis_BK", "lonlat_B2", "own_B", "words_BJW", "x_BCHW"):
            torch.testing.assert_close(ours[name], whole[name][own])
        assert len(ours["rows_N"]) == 11


def gradients(model):
    return {name: p.grad for name, p in model.named_parameters()}


def train_in_parts(rank, store, results):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    model, samples = small(), batch(11)
    own = slice(rank * 11 // 2, (rank + 1) * 11 // 2)
    part = replace(samples, chips=samples.chips[own], lonlat=samples.lonlat[own], rows=samples.rows[own])
    wrapped = torch.nn.parallel.DistributedDataParallel(model)
    inputs = model.prepare(part, chance=Chance(3, total=11, rows=own, world_size=2), augment=Augment(blur=True))
    loss = wrapped(**inputs)
    loss.backward()
    results.put((rank, loss.item(), {name: grad.numpy() for name, grad in gradients(model).items()}))
    dist.barrier()
    dist.destroy_process_group()


def test_two_processes_give_the_loss_and_the_gradients_of_one(tmp_path):
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    workers = [context.Process(target=train_in_parts, args=(rank, tmp_path / "store", results)) for rank in (0, 1)]
    for worker in workers:
        worker.start()
    told = [results.get(timeout=120) for _ in workers]
    for worker in workers:
        worker.join()
    model = small()
    inputs = model.prepare(batch(11), chance=Chance(3, total=11), augment=Augment(blur=True))
    loss = model(**inputs)
    loss.backward()
    assert sum(part for _, part, _ in told) / 2 == pytest.approx(loss.item(), rel=1e-5)
    for _, _, theirs in told:
        for name, grad in gradients(model).items():
            np.testing.assert_allclose(theirs[name], grad.numpy(), rtol=1e-3, atol=1e-6, err_msg=name)


def test_a_fresh_tower_reads_reflectance():
    bands = Bands(names=("a", "b"), scale=(1e-4, 1e-4), offset=(0.0, -0.1), unit=("1", "1"))
    chips = torch.tensor([0, 10_000], dtype=torch.uint16).view(1, 1, 1, 2).expand(1, 2, 1, 2)
    torch.testing.assert_close(reflectance(chips, bands), torch.tensor([[[[0.0, 1.0]], [[0.0, 0.9]]]]))


def test_images_and_places_share_a_space():
    model = small().eval()
    images = model.encode_images(batch())
    assert images.shape == (16, 32)
    x = reflectance(batch().chips[:, 0, :, 2:18, 2:18], batch().bands)
    torch.testing.assert_close(images, model.projection(model.tower.encoder.encode_images(x)))


@pytest.fixture(scope="module")
def frozen(run):
    return build_model("satclip", {**SMALL, "tower": {"origin": str(run.path), "frozen": True}})


def test_a_tower_of_a_run_keeps_its_weights_scaling_and_origin(run, frozen):
    told, source = frozen.config.tower, run.load_model()
    assert (told.origin, told.architecture, told.weights_hash) == (run.path.name, "satmae", weights_hash(source))
    assert frozen.bands == source.bands
    samples = Batch.of_chips(torch.full((2, 10, 32, 32), 900, dtype=torch.uint16), bands=source.bands)
    x = frozen.images(samples, tower=frozen.tower, chance=Chance(0, total=2), augment=None)
    torch.testing.assert_close(frozen.tower(x), source.encode(samples))
    assert not [name for name in frozen.state_dict() if "decoder" in name]


def test_a_tower_reads_no_other_unit_than_it_was_trained_on(run, frozen):
    source = run.load_model()
    samples = Batch.of_chips(torch.full((2, 10, 32, 32), 900, dtype=torch.uint16), bands=source.bands)
    frozen.normalization = replace(source.normalization, unit="DN, reflectance*1000")
    with pytest.raises(TrainingError, match=r"trained on values in 'DN, reflectance\*10000', but these data are in"):
        frozen.prepare(replace(samples, lonlat=batch(2).lonlat), chance=Chance(0, total=2))
    frozen.normalization = source.normalization
    frozen.prepare(replace(samples, lonlat=batch(2).lonlat), chance=Chance(0, total=2))
    frozen.normalization = None


def test_a_saved_model_needs_its_origin_no_more(frozen, tmp_path):
    config = config_of(frozen)
    assert not config["tower"]["origin"].startswith("/")
    again = build_model("satclip", config)
    again.load_state_dict(frozen.state_dict())
    assert again.config.tower.weights_hash == frozen.config.tower.weights_hash
    path = frozen.save_pretrained(tmp_path / "model")
    loaded = type(frozen).from_pretrained(path)
    assert torch.equal(loaded.encode_locations([(3, 4)]), frozen.eval().encode_locations([(3, 4)]))


def test_a_frozen_tower_stays_as_it_is(frozen, run):
    source = run.load_model()
    frozen.train()
    assert not frozen.tower.training
    samples = Batch.of_chips(
        torch.randint(1, 5000, (8, 10, 32, 32), generator=torch.Generator().manual_seed(0)).to(torch.uint16),
        bands=source.bands,
        lonlat=batch(8).lonlat,
    )
    loss_of(frozen, samples).backward()
    without = {name for name, p in frozen.named_parameters() if p.grad is None}
    assert without == {name for name, _ in frozen.named_parameters() if name.startswith("tower.")}
    frozen.zero_grad()


def test_features_stand_in_for_chips(frozen):
    samples = Batch.of_chips(
        torch.randint(1, 5000, (6, 10, 32, 32)).to(torch.uint16), bands=frozen.bands, lonlat=batch(6).lonlat
    )
    frozen.eval()
    with torch.no_grad():
        images = frozen.images(samples, tower=frozen.tower, chance=Chance(0, total=6), augment=None)
        features = frozen.tower(images).unsqueeze(1)
    cached = replace(samples, chips=None, features=features)
    torch.testing.assert_close(loss_of(frozen, cached), loss_of(frozen, samples))


def counted(model, samples):
    inputs = model.prepare(samples, chance=Chance(0, total=len(samples)))
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(**inputs).backward()
    similarities = 3 * 2 * 2 * len(samples) ** 2 * model.embedding_dim  # left out: they grow with the batch
    return counter.get_total_flops() - similarities


def test_operations_are_those_that_torch_counts(frozen):
    model = small()
    assert counted(model, batch()) == 16 * model.flops_per_sample()
    chips = torch.ones(4, 10, 32, 32, dtype=torch.uint16)
    samples = Batch.of_chips(chips, bands=frozen.bands, lonlat=batch(4).lonlat)
    assert counted(frozen.train(), samples) == 4 * frozen.flops_per_sample()
    features = replace(samples, chips=None, features=torch.ones(4, 2, frozen.tower.width))
    frozen.reads_features = True
    assert counted(frozen, features) == 4 * frozen.flops_per_sample()
    frozen.reads_features = False
    frozen.zero_grad()


def test_compiled_loss_is_the_uncompiled_one():
    model, samples = small(), batch()
    inputs = model.prepare(samples, chance=Chance(0, total=16))
    compiled = torch.compile(model, backend="aot_eager", dynamic=False)
    torch.testing.assert_close(compiled(**inputs), model(**inputs))


def test_a_location_encoder_alone_encodes_but_does_not_train():
    model = build_model("satclip", {"degrees": 4})
    assert (model.bands, model.image_size) == ((), 0)
    assert model.encode(batch()).shape == (16, 256)
    with pytest.raises(TrainingError, match=r"location encoder alone.*model\.tower of the recipe"):
        model.prepare(batch(), chance=Chance(0, total=16))


def test_config_lists_what_cannot_be():
    assert "degrees 0 must be at least 1; layers 0" in config_faults("satclip", {"degrees": 0, "layers": 0})[0]
    faults = config_faults("satclip", {"tower": {"architecture": "resnet", "frozen": True}})
    assert "'resnet' is unknown" in faults[0]
    assert "frozen needs the origin of its weights" in faults[0]
    assert "patch_size 7" in config_faults("satclip", {"tower": {"config": {"patch_size": 7}}})[0]
    assert (
        "config cannot say so, too" in config_faults("satclip", {"tower": {"origin": "x", "config": {"depth": 2}}})[0]
    )
    with pytest.raises(TrainingError, match="a presto is no encoder of images"):
        build_model("satclip", {"tower": {"architecture": "presto"}})


def test_the_card_says_where_the_tower_came_from(frozen):
    facts = frozen.facts()
    assert facts.name == "SatCLIP, L = 6"
    assert frozen.config.tower.weights_hash in facts.limits[-1]
    assert "stayed as it was" in facts.limits[-1]
    assert [(given.name, given.shape, given.dtype) for given in frozen.inputs()] == [("lonlat", (-1, 2), "float64")]


def released(degrees=10, **options):
    """A checkpoint as the released ones are: Lightning's, with the location network in it twice, and an image tower."""
    torch.manual_seed(1)
    net = Siren(degrees**2, hidden=512, layers=2, outputs=256).state_dict()
    state = {f"model.{start}{name}": tensor for start in ("location.nnet.", "nnet.") for name, tensor in net.items()}
    tower = {"model.visual.patch_embed.proj.weight": torch.zeros(384, 13, 16, 16)}
    hyper = {"le_type": "sphericalharmonics", "pe_type": "siren", "harmonics_calculation": "analytic", "capacity": 512}
    return {
        "state_dict": {**state, **tower, "model.logit_scale": torch.tensor(3.5)},
        "hyper_parameters": {**hyper, **options},
        "epoch": 499,
    }, net


def test_released_weights_become_a_location_encoder():
    checkpoint, net = released()
    converted = convert(checkpoint)
    model = build_model("satclip", converted.config)
    model.load_state_dict(converted.state)
    assert converted.config == {"degrees": 10, "hidden": 512, "layers": 2, "dim": 256}
    assert model.logit_scale.item() == 3.5
    assert "image tower (1,277,952 values) is not among ours and was left out" in " ".join(converted.notes)
    siren = Siren(100, hidden=512, layers=2, outputs=256)
    siren.load_state_dict(net)
    basis = spherical_harmonics(torch.tensor([[12.0, 48.0]], dtype=torch.float64), degrees=10)
    assert torch.equal(model.eval().encode_locations([(12, 48)]), siren(basis).float())


def test_a_location_encoder_without_tower_or_copy_is_read_too():
    checkpoint, _ = released()
    alone = {k.removeprefix("model.location."): v for k, v in checkpoint["state_dict"].items() if "location" in k}
    converted = convert(alone)
    assert converted.state.keys() == build_model("satclip", converted.config).state_dict().keys()
    assert not [note for note in converted.notes if "tower" in note]


def test_weights_of_another_basis_or_kind_are_refused():
    with pytest.raises(TrainingError, match="harmonics_calculation 'closed-form', not 'analytic'"):
        convert(released(harmonics_calculation="closed-form")[0])
    with pytest.raises(TrainingError, match=r"no location encoder.*patch_embed"):
        convert({"patch_embed.proj.weight": torch.zeros(2, 2)})
    checkpoint, _ = released()
    checkpoint["state_dict"]["model.nnet.layers.1.bias"] = torch.zeros(512, dtype=torch.float64)
    with pytest.raises(TrainingError, match=r"two copies .* differ in layers\.1\.bias"):
        convert(checkpoint)
    with pytest.raises(TrainingError, match="99 inputs, which are no harmonics of whole degrees"):
        convert({f"nnet.{k}": v for k, v in Siren(99, hidden=8, layers=1, outputs=4).state_dict().items()})


def test_location_embeddings_keep_their_length():
    lengths = functional.normalize(small().encode(batch())).norm(dim=1)
    assert torch.allclose(lengths, torch.ones(16))
    assert not torch.allclose(small().encode(batch()).norm(dim=1), torch.ones(16), atol=0.05)
