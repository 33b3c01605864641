"""Presto: the released network to its figures, its masks, its loss, and what it makes of batches."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from pwcat.errors import TrainingError
from training.batch import UNKNOWN_TIME, Bands, Batch
from training.chance import Chance
from training.models import build_model, config_faults
from training.models.presto import Presto, PrestoConfig
from training.models.presto_channels import BANDS, GROUND, STEP_GROUPS, scalings
from training.models.presto_masks import STRATEGIES, MaskNoise, draw_hidden
from training.models.presto_network import month_code, position_code
from training.models.presto_series import Series, calendar_months, most_tokens, read_series, unit_sphere
from training.recipe import Augment
from training.weights import import_weights, read_checkpoint

UNITS = {"VV": "dB", "VH": "dB", "temperature_2m": "K", "total_precipitation": "m", "slope": "degree", "elevation": "m"}
SCALES = {
    "VV": (0.001, -50.0), "VH": (0.001, -50.0), "temperature_2m": (0.01, 150.0), "total_precipitation": (5e-5, -5e-5),
    "elevation": (0.25, -1000.0), "slope": (0.002, -0.002), "dynamic_world": (1.0, -1.0),
}  # fmt: skip
OPTICAL = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
YEAR = [f"2021-{month:02d}-15" for month in range(1, 13)]


def meaning(bands=BANDS, **units):
    scales = [SCALES.get(band, (1e-4, 0.0)) for band in bands]
    return Bands(
        names=tuple(bands),
        scale=tuple(scale for scale, _ in scales),
        offset=tuple(offset for _, offset in scales),
        unit=tuple({**UNITS, **units}.get(band, "1") for band in bands),
    )


def seconds(dates):
    values = np.array(dates, dtype="datetime64[s]")
    return torch.from_numpy(values.astype(np.int64))


def batch_of(*, count=4, dates=YEAR, bands=BANDS, size=1, seed=0, missing=0.0):
    """Samples of random numbers, some of them 0."""
    draw = torch.Generator().manual_seed(seed)
    shape = (count, len(dates), len(bands), size, size)
    chips = torch.randint(500, 4000, shape, generator=draw)
    if "dynamic_world" in bands:
        chips[:, :, bands.index("dynamic_world")] = torch.randint(
            1, 10, (count, len(dates), size, size), generator=draw
        )
    chips[torch.rand(shape, generator=draw) < missing] = 0
    return Batch(
        chips=chips.to(torch.uint16),
        bands=meaning(bands),
        lonlat=torch.rand(count, 2, generator=draw, dtype=torch.float64) * 90,
        times=seconds(dates).expand(count, -1),
        rows=np.arange(count),
    )


def small(seed=0, **changes):
    torch.manual_seed(seed)
    fields = {"dim": 32, "heads": 4, "decoder_dim": 32, "decoder_heads": 4, "depth": 1, "decoder_depth": 1}
    return Presto(PrestoConfig(**{**fields, **changes}))


def prepared(model, batch, seed=0):
    return model.prepare(batch, chance=Chance(seed, total=len(batch)))


def numel(tensors, *, trained=False):
    return sum(tensor.numel() for tensor in tensors if tensor.requires_grad or not trained)


@pytest.fixture(scope="module")
def released_file(golden):
    return golden / "presto_default_model.pt"


@pytest.fixture(scope="module")
def released(released_file, tmp_path_factory):
    return import_weights("presto", released_file, tmp_path_factory.mktemp("weights") / "presto").model


# The network


def test_it_has_the_weights_of_the_released_one():
    model = Presto()
    assert numel(model.encoder.parameters()) == 404_160
    assert numel(model.encoder.parameters(), trained=True) == 402_240
    assert numel(model.decoder.parameters()) == 418_842
    assert numel(model.parameters()) == 822_682
    assert numel(model.parameters(), trained=True) == 819_034
    assert numel(model.state_dict().values()) == 823_002
    assert len(model.state_dict()) == 102


def test_released_weights_load_by_name_and_have_our_fixed_codes(released_file):
    weights, model = read_checkpoint(released_file), Presto()
    fixed = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.load_state_dict(weights)
    for name in ("encoder.pos_embed", "decoder.pos_embed", "encoder.month_embed.weight", "decoder.month_embed.weight"):
        torch.testing.assert_close(fixed[name], weights[name], rtol=0, atol=1e-6)


@pytest.mark.parametrize("backend", [SDPBackend.MATH, SDPBackend.FLASH_ATTENTION])
def test_released_weights_give_the_released_outputs(released, backend):
    series = Series.of_arrays(
        ((torch.arange(2 * 12 * 17) % 97) / 97).view(2, 12, 17),
        world_BT=(torch.arange(24) % 9).view(2, 12),
        lonlat_B2=torch.tensor([[0.0, 0.0], [-120.0, 45.0]]),
        months_BT=torch.arange(12).expand(2, -1),
    )
    with torch.inference_mode(), sdpa_kernel([backend, SDPBackend.MATH]):
        out = released.encode_series(series)
    expected = torch.tensor(
        [
            [-0.63011, -1.850849, 1.845081, -0.350526, -0.759133, 0.170703],
            [-0.203808, -1.566643, 1.696095, 0.166258, -1.021627, 0.285744],
        ]
    )
    torch.testing.assert_close(out[:, :6], expected, rtol=0, atol=1e-5)
    assert out.sum().item() == pytest.approx(-14.88308, abs=1e-4)
    assert out.norm().item() == pytest.approx(16.77303, abs=1e-5)


def test_weights_of_an_encoder_alone_and_of_other_codes_are_refused(released_file, tmp_path):
    weights = dict(read_checkpoint(released_file))
    torch.save({k: v for k, v in weights.items() if k.startswith("encoder.")}, tmp_path / "encoder.pt")
    with pytest.raises(TrainingError, match=r"no whole Presto: decoder.pos_embed, decoder.mask_token missing"):
        import_weights("presto", tmp_path / "encoder.pt", tmp_path / "a")
    torch.save({**weights, "encoder.pos_embed": weights["encoder.pos_embed"] + 1}, tmp_path / "other.pt")
    with pytest.raises(TrainingError, match=r"encoder.pos_embed is not the fixed code"):
        import_weights("presto", tmp_path / "other.pt", tmp_path / "b")


def test_a_model_folder_brings_back_the_model_and_its_shared_table(tmp_path):
    model = small()
    again = Presto.from_pretrained(model.save_pretrained(tmp_path / "presto"))
    assert again.config == model.config
    assert again.decoder.channel_embeddings.weight is again.encoder.channel_embed.weight
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], tensor, rtol=0, atol=0)


def test_codes_of_position_and_month():
    code = position_code(24, dim=64)
    assert code[5, 6] == pytest.approx(math.sin(5 / 1000 ** (6 / 64)))
    assert code[5, 7] == pytest.approx(math.cos(5 / 1000 ** (6 / 64)))
    months = month_code(32)
    assert months.shape == (12, 32)
    np.testing.assert_allclose(months[3], [1.0] * 16 + [0.0] * 16, atol=1e-12)  # April is a quarter of the year


@pytest.mark.parametrize("months", [1, 3, 12, 24])
def test_a_series_has_nine_tokens_a_month_the_ground_and_the_place(months):
    model = small(months=months)
    series = read_series(batch_of(), steps=months)
    assert series.there_BL.shape == (4, 9 * months + 1)
    seen = []
    model.encoder.blocks[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[1]))
    assert model.encode_series(series).shape == (4, 32)
    assert seen == [9 * months + 2]  # 110 in a year


def test_tokens_carry_the_codes_of_month_group_and_position():
    model, series = small(months=3), read_series(batch_of(), steps=3)
    with torch.no_grad():
        for name, parameter in model.encoder.named_parameters():
            if name.startswith(("eo_patch_embed", "dw_embed")):
                parameter.zero_()
        tokens = model.encoder.tokens(series.x_BTC, series.ground_B2, series.world_BT, series.months_BT + 4)
    month, group, place = month_code(8), model.encoder.channel_embed.weight, position_code(24, dim=16)
    infrared = 2 * 9 + list(STEP_GROUPS).index("S2_NIR_10m")  # of the third month, which is July
    torch.testing.assert_close(tokens[1, infrared, :8], torch.from_numpy(month[6]).float())
    torch.testing.assert_close(tokens[1, infrared, 8:16], group[3])
    torch.testing.assert_close(tokens[1, infrared, 16:], torch.from_numpy(place[2]).float())
    torch.testing.assert_close(tokens[1, 2 * 9 + 8, 8:16], group[9])  # Dynamic World
    ground = functional.pad(group[7], (8, 16))  # neither month nor position
    torch.testing.assert_close(tokens[1, -1], ground)


def test_coordinates_lie_on_the_unit_sphere():
    points = unit_sphere(torch.tensor([[0.0, 0.0], [90.0, 0.0], [17.0, 90.0], [-120.0, 45.0], [math.nan, 0.0]]))
    expected = [[1, 0, 0], [0, 1, 0], [0, 0, 1], [-0.35355339, -0.61237244, 0.70710678], [0, 0, 0]]
    torch.testing.assert_close(points, torch.tensor(expected).float())


@pytest.mark.parametrize("changes", [{}, {"mlp_ratio": 2.0, "months": 5}, {"bands": OPTICAL}])
def test_operations_are_those_that_torch_counts(changes):
    model = Presto(PrestoConfig(**changes))
    batch = batch_of(bands=model.bands)
    inputs = prepared(model, batch)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(**inputs).backward()
    assert counter.get_total_flops() == len(batch) * model.flops_per_sample()


def test_faults_of_a_config_are_told_together():
    faults = config_faults("presto", {"months": 25, "bands": ["B02", "B99"], "mask_ratio": 1.0, "strategies": []})
    assert len(faults) == 1
    for text in ("months 25 must be 1 to 24", "must be some of VV, VH", "mask_ratio 1.0", "strategies"):
        assert text in faults[0]
    assert build_model("presto", {"months": 6}).config.months == 6


# Masks


def hidden_of(there, *, seed=0, strategies=STRATEGIES, ratio=0.75):
    steps = (there.shape[1] - 1) // 9
    noise = Chance(seed, total=len(there)).uniform(MaskNoise.size(steps, 9))
    return draw_hidden(there, MaskNoise.of(noise, steps=steps, groups=9), ratio=ratio, strategies=strategies)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_each_strategy_hides_81_of_the_109_tokens_of_a_year(strategy):
    hidden = hidden_of(torch.ones(4000, 109, dtype=torch.bool), strategies=(strategy,))
    assert (hidden.sum(dim=1) == 81).all()
    grid, ground = hidden[:, :-1].view(-1, 12, 9), hidden[:, -1]
    assert ground.float().mean().item() == pytest.approx(0.75, abs=0.03)
    left = 81 - ground.long()
    if strategy == "group_bands":
        assert (grid.all(dim=1).sum(dim=1) >= left // 12).all()
        assert (grid.all(dim=1).float().mean(dim=0) - 6 / 9).abs().max() < 0.05  # each as likely
    if strategy in ("random_timesteps", "chunk_timesteps"):
        assert (grid.all(dim=2).sum(dim=1) >= left // 9).all()
    if strategy == "random_timesteps":
        assert (grid.all(dim=2).float().mean(dim=0) - 8.25 / 12).abs().max() < 0.05
    if strategy == "random_combinations":
        assert (grid.float().mean(dim=0) - 80.25 / 108).abs().max() < 0.05


def test_chunks_are_months_in_a_row_from_every_start():
    hidden = hidden_of(torch.ones(4000, 109, dtype=torch.bool), strategies=("chunk_timesteps",))
    whole = hidden[:, :-1].view(-1, 12, 9).all(dim=2)
    length = (81 - hidden[:, -1].long()) // 9
    windows = torch.stack([whole.unfold(1, int(n), 1).all(dim=2).any(dim=1) for n in (8, 9)], dim=1)
    assert windows.gather(1, (length - 8)[:, None]).all()
    starts = torch.bincount(whole[hidden[:, -1]].int().argmax(dim=1), minlength=12)[:5]  # chunks of 8 of 12
    assert (starts > 0.7 * starts.float().mean()).all()


def test_every_sample_draws_its_own_strategy():
    there = torch.ones(4000, 109, dtype=torch.bool)
    grid = hidden_of(there)[:, :-1].view(-1, 12, 9)
    by_group = grid.all(dim=1).sum(dim=1) >= 6
    by_month = grid.all(dim=2).sum(dim=1) >= 8
    assert by_group.float().mean().item() == pytest.approx(0.25, abs=0.03)
    assert by_month.float().mean().item() == pytest.approx(0.5, abs=0.03)


@settings(max_examples=60)
@given(
    months=st.integers(1, 24),
    share=st.floats(0, 1),
    ratio=st.sampled_from([0.5, 0.75, 0.9]),
    seed=st.integers(0, 2**31),
    strategy=st.sampled_from([*STRATEGIES, None]),
)
def test_what_has_no_data_is_never_hidden_and_the_count_is_exact(months, share, ratio, seed, strategy):
    draw = torch.Generator().manual_seed(seed)
    there = torch.rand(8, months * 9 + 1, generator=draw) < share
    hidden = hidden_of(there, seed=seed, ratio=ratio, strategies=(strategy,) if strategy else STRATEGIES)
    assert not (hidden & ~there).any()
    assert hidden.sum(dim=1).tolist() == [int(n * ratio) for n in there.sum(dim=1).tolist()]


def test_with_missing_months_a_chunk_still_is_months_in_a_row():
    there = torch.ones(200, 12, 9, dtype=torch.bool)
    there[:, [1, 4, 5, 9]] = False
    flat = torch.cat([there.flatten(1), torch.zeros(200, 1, dtype=torch.bool)], dim=1)
    grid = hidden_of(flat, strategies=("chunk_timesteps",))[:, :-1].view(-1, 12, 9)
    have = grid[:, there[0].any(dim=1)].all(dim=2)  # of the eight months with data, six are hidden
    assert (have.sum(dim=1) >= 6).all()
    assert have.unfold(1, 6, 1).all(dim=2).any(dim=1).all()


# The loss


def test_the_loss_is_that_by_hand():
    model = small()
    inputs = prepared(model, batch_of(count=6, missing=0.05))
    latent = model.encoder.visible(**{k: v for k, v in inputs.items() if k not in ("hidden_BL", "weights_2")})
    x, ground, logits = model.decoder(latent, inputs["keep_BV"], inputs["seen_BV"], inputs["months_BT"])
    squares, entropies = [], []
    for sample, flat in enumerate(inputs["hidden_BL"]):
        for month, row in enumerate(flat[:-1].view(12, 9)):
            channel = 0
            for group, size in enumerate(map(len, STEP_GROUPS.values())):
                for c in range(channel, channel + size):
                    if row[group]:
                        squares.append((x[sample, month, c] - inputs["x_BTC"][sample, month, c]) ** 2)
                channel += size
            if row[8]:
                target = inputs["world_BT"][sample, month]
                entropies.append(-logits[sample, month].log_softmax(0)[target])
        if flat[-1]:  # the ground counts once, not every month
            squares += list((ground[sample] - inputs["ground_B2"][sample]) ** 2)
    mean_square, mean_entropy = torch.stack(squares).mean(), torch.stack(entropies).mean()
    expected = mean_square + min(1, 2 * len(entropies) / len(squares)) * mean_entropy
    torch.testing.assert_close(model(**inputs), expected)


def test_losses_of_samples_are_those_of_batches_of_one():
    model, batch = small(), batch_of(count=3, missing=0.05)
    inputs = prepared(model, batch)
    losses = model.sample_losses(**inputs)
    assert losses.shape == (3,)
    for row in range(3):
        alone = {name: tensor[row : row + 1] for name, tensor in inputs.items() if name != "weights_2"}
        weights = model._loss_weights(alone["hidden_BL"], 1)
        torch.testing.assert_close(losses[row], model(**alone, weights_2=weights))


def test_a_sample_with_nothing_to_hide_has_no_loss_and_harms_none():
    model, batch = small(), batch_of(count=3)
    batch.chips[1] = 0
    inputs = prepared(model, batch)
    losses = model.sample_losses(**inputs)
    assert losses.isnan().tolist() == [False, True, False]
    model(**inputs).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_ranks_together_see_and_lose_what_one_process_does():
    model, batch = small(), batch_of(count=7, missing=0.1)
    whole = prepared(model, batch)
    sums = torch.stack(model._errors(**{k: v for k, v in whole.items() if k != "weights_2"}))
    for rows in (slice(0, 3), slice(3, 7)):
        part = replace(
            batch, chips=batch.chips[rows], lonlat=batch.lonlat[rows], times=batch.times[rows], rows=batch.rows[rows]
        )
        own = model.prepare(part, chance=Chance(0, total=7, rows=rows, world_size=2))
        own.pop("weights_2")  # holds sums over the ranks
        for name, tensor in own.items():
            torch.testing.assert_close(tensor, whole[name][rows], rtol=0, atol=0)
        torch.testing.assert_close(torch.stack(model._errors(**own)), sums[:, rows])


def test_gradients_flow_to_all_that_trains_and_to_no_code():
    model = small()
    model(**prepared(model, batch_of(count=16))).backward()
    for name, parameter in model.named_parameters():
        if name.endswith(("pos_embed", "month_embed.weight")):
            assert parameter.grad is None, name
        else:
            assert parameter.grad.abs().sum() > 0, name


def test_sensors_that_are_not_there_get_no_gradient():
    model = small()
    model(**prepared(model, batch_of(count=8, bands=OPTICAL))).backward()
    moved = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert "encoder.eo_patch_embed.NDVI.weight" in moved
    for name in ("S1", "ERA5", "SRTM"):
        assert f"encoder.eo_patch_embed.{name}.weight" not in moved
        assert f"decoder.eo_decoder_pred.{name}.weight" not in moved
    assert "decoder.dw_decoder_pred.weight" not in moved


def test_it_overfits_one_batch():
    model, batch = small(dim=64, decoder_dim=64, months=4), batch_of(count=4)
    inputs = prepared(model, batch)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(80):
        loss = model(**inputs)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.05 * losses[0]


def test_the_same_seed_gives_the_same_loss_and_another_seed_another():
    batch = batch_of()
    one, two, other = (small(seed)(**prepared(small(seed), batch, seed)) for seed in (0, 0, 1))
    assert one.item() == two.item() != other.item()


def test_bfloat16_gives_nearly_the_same_loss():
    model, batch = small(depth=2), batch_of(count=16, missing=0.05)
    inputs = prepared(model, batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = model(**inputs)
        half.backward()
    assert half.dtype == torch.float32
    assert half.item() == pytest.approx(model(**inputs).item(), rel=0.01)


# What is missing


@pytest.mark.parametrize("hole", ["group", "month", "band", "ground", "world"])
def test_what_is_missing_is_neither_seen_nor_asked_for(hole):
    model, batch = small().eval(), batch_of(count=5)
    k = {"group": slice(0, 2), "month": slice(None), "band": 2, "ground": 15, "world": 16}[hole]
    batch.chips[:, 3 if hole == "month" else slice(None), k] = 0
    inputs = prepared(model, batch)
    series = read_series(batch, steps=12)
    there = series.there_BL[:, :-1].view(5, 12, 9)
    gone = {
        "group": ~there[..., 0], "month": ~there[:, 3], "band": ~there[..., 1], "world": ~there[..., 8],
        "ground": ~series.there_BL[:, -1],
    }[hole]  # fmt: skip
    assert gone.all()
    # other numbers in its stead change nothing
    by_channel = torch.cat(
        [there[..., g : g + 1].expand(-1, -1, len(c)) for g, c in enumerate(STEP_GROUPS.values())], dim=2
    )
    noise = torch.where(by_channel, 0.0, 7.0)
    ground = torch.where(series.there_BL[:, -1:], 0.0, 7.0)
    changed = {"x_BTC": inputs["x_BTC"] + noise, "ground_B2": inputs["ground_B2"] + ground}
    torch.testing.assert_close(model(**inputs), model(**{**inputs, **changed}), rtol=0, atol=0)
    with torch.no_grad():
        one = model.encode_series(series)
        two = model.encode_series(replace(series, x_BTC=series.x_BTC + noise, ground_B2=series.ground_B2 + ground))
    torch.testing.assert_close(one, two, rtol=0, atol=0)


def test_an_embedding_is_that_of_the_tokens_there_are():
    """Masked attention and mean over all tokens, against a pass over the tokens with data alone."""
    model, batch = small(depth=2).eval(), batch_of(count=3, missing=0.2)
    series = read_series(batch, steps=12)
    with torch.no_grad():
        embeddings = model.encode_series(series)
        tokens = model.encoder.tokens(series.x_BTC, series.ground_B2, series.world_BT, series.months_BT)
        for row in range(3):
            x = torch.cat([model.encoder.latlon_embed(series.place_B3[row])[None], tokens[row, series.there_BL[row]]])[
                None
            ]
            for block in model.encoder.blocks:
                x = block(x)
            torch.testing.assert_close(embeddings[row], model.encoder.norm(x.mean(dim=1))[0], rtol=1e-5, atol=1e-5)


def test_every_pixel_of_a_chip_is_a_series():
    model, batch = small(depth=2).eval(), batch_of(count=3, size=4, missing=0.2)
    dense = model.encode_dense(batch)
    assert dense.shape == (3, 4, 4, 32)
    for y, x in ((0, 0), (1, 3), (2, 2)):
        pixel = replace(batch, chips=batch.chips[..., y : y + 1, x : x + 1])
        torch.testing.assert_close(dense[:, y, x], model.encode(pixel), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(dense[:, 2, 2], model.encode(batch), rtol=1e-5, atol=1e-5)


def test_series_of_pixels_in_parts_give_the_same_embeddings_and_gradients(monkeypatch):
    batch, found = batch_of(count=2, size=3), []
    for most in (1024, 2):
        monkeypatch.setattr("training.models.presto.SERIES_AT_ONCE", most)
        model = small()
        dense = model.encode_dense(batch)
        (dense * torch.arange(9).view(3, 3, 1)).square().sum().backward()
        found.append(
            (dense.detach(), {name: p.grad for name, p in model.encoder.named_parameters() if p.requires_grad})
        )
    torch.testing.assert_close(found[0][0], found[1][0])
    assert all(grad is not None for grad in found[0][1].values())
    torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-4, atol=1e-4)


def test_padding_changes_nothing():
    """A sample that lacks data gives the same loss beside one that lacks none, though that one has more visible tokens."""
    model, batch = small(depth=2), batch_of(count=2)
    batch.chips[1, 2:7] = 0
    inputs = prepared(model, batch)
    assert inputs["seen_BV"].sum(dim=1).tolist() == [28, 64 - 48]
    alone = {name: tensor[1:] for name, tensor in inputs.items() if name != "weights_2"}
    for name in ("keep_BV", "seen_BV"):
        alone[name] = alone[name][:, :16]
    torch.testing.assert_close(model.sample_losses(**inputs)[1:], model.sample_losses(**alone))


# Bands, units and dates


def test_channels_are_scaled_as_released():
    values = {
        "VV": -10.0, "B04": 0.2, "B08": 0.4, "temperature_2m": 290.0, "total_precipitation": 0.06, "elevation": 500.0,
        "slope": 12.0,
    }  # fmt: skip
    bands = meaning()
    chips = torch.ones(1, 1, len(BANDS), 1, 1)
    for name, value in values.items():
        k = BANDS.index(name)
        chips[0, 0, k] = round((value - bands.offset[k]) / bands.scale[k])
    batch = replace(batch_of(count=1, dates=YEAR[:1]), chips=chips.to(torch.uint16))
    series = read_series(batch, steps=1)
    scaled = dict(zip([c for group in STEP_GROUPS.values() for c in group], series.x_BTC[0, 0].tolist(), strict=True))
    assert scaled["VV"] == pytest.approx(15 / 25, abs=1e-5)
    assert scaled["B08"] == pytest.approx(0.4)
    assert scaled["temperature_2m"] == pytest.approx((290 - 272.15) / 35, abs=1e-5)
    assert scaled["total_precipitation"] == pytest.approx(2.0, abs=1e-4)
    assert scaled["NDVI"] == pytest.approx(1 / 3, abs=1e-6)
    assert series.ground_B2[0].tolist() == pytest.approx([0.25, 0.24])


@pytest.mark.parametrize(
    ("band", "unit", "number", "expected"),
    [
        ("temperature_2m", "°C", 20.0, (20 + 273.15 - 272.15) / 35),
        ("total_precipitation", "mm", 60.0, 2.0),
        ("elevation", "km", 1.0, 0.5),
    ],
)
def test_units_are_converted(band, unit, number, expected):
    factor, summand = scalings(Bands(names=(band,), scale=(1.0,), offset=(0.0,), unit=(unit,)))[band]
    assert number * factor + summand == pytest.approx(expected)


def test_units_that_cannot_be_converted_are_all_refused_in_one_line():
    batch = replace(batch_of(), bands=meaning(VV="1", slope="percent"))
    with pytest.raises(TrainingError, match=r"VV is in '1', allowed is 'dB'; slope is in 'percent'") as told:
        read_series(batch, steps=12)
    assert "\n" not in str(told.value)
    raw = replace(meaning(), scale=(1.0,) * len(BANDS))
    with pytest.raises(TrainingError, match=r"B02 is told as reflectance in steps of 1"):
        read_series(replace(batch_of(), bands=raw), steps=12)


def test_it_takes_the_bands_that_the_data_have():
    model = Presto()
    assert model.choose_bands(["SCL", "B12", "VH", "VV", "B11", "B01"]) == ("VV", "VH", "B11", "B12")
    with pytest.raises(TrainingError, match=r"needs one of these groups whole: VV \+ VH; B02 \+ B03 \+ B04"):
        model.choose_bands(["B01", "VV", "elevation"])
    assert small(bands=("B08", "B04")).choose_bands(BANDS) == ("B08", "B04")
    assert most_tokens(BANDS, steps=12) == 109
    assert most_tokens(("B04", "B08"), steps=12) == 24  # near infrared and NDVI
    assert most_tokens(GROUND, steps=12) == 1


def test_bands_that_a_model_may_not_read_are_as_if_not_there():
    model, batch = small(bands=OPTICAL).eval(), batch_of()
    optical = replace(batch, chips=batch.chips[:, :, 2:12], bands=meaning(OPTICAL))
    with torch.no_grad():
        torch.testing.assert_close(model.encode(batch), model.encode(optical), rtol=0, atol=0)
    torch.testing.assert_close(model(**prepared(model, batch)), model(**prepared(model, optical)), rtol=0, atol=0)


def test_a_series_of_which_nothing_can_be_hidden_is_refused():
    with pytest.raises(TrainingError, match=r"series of 1 months of VV, VH have 1 token, of which none can be hidden"):
        prepared(small(months=1), batch_of(bands=("VV", "VH")))


@given(st.lists(st.integers(-(10**11), 10**11), min_size=1, max_size=20))
def test_months_are_those_of_the_calendar(times):
    months = calendar_months(torch.tensor(times))
    expected = np.array(times).astype("datetime64[s]").astype("datetime64[M]").astype(np.int64)
    np.testing.assert_array_equal(months.numpy(), expected)


def values_of(series, channel):
    names = [c for group in STEP_GROUPS.values() for c in group]
    return series.x_BTC[..., names.index(channel)]


def test_dates_come_into_their_months_in_any_order():
    batch = batch_of(count=1, dates=["2021-03-30", "2020-12-02", "2021-01-31"])
    series = read_series(batch, steps=4)
    assert series.months_BT.tolist() == [[11, 0, 1, 2]]
    numbers = batch.chips[0, :, BANDS.index("B03"), 0, 0].float() * 1e-4
    expected = torch.tensor([[numbers[1], numbers[2], 0.0, numbers[0]]])
    torch.testing.assert_close(values_of(series, "B03"), expected)
    there = series.there_BL[0, :-1].view(4, 9)
    assert there.all(dim=1).tolist() == [True, True, False, True]
    assert not there[2].any()
    assert series.world_BT[0, 2] == 9


def test_of_a_month_with_several_dates_the_mean_is_read_and_the_earliest_land_cover():
    batch = batch_of(count=1, dates=["2021-05-20", "2021-05-03", "2021-05-11"])
    b04, world = BANDS.index("B04"), BANDS.index("dynamic_world")
    batch.chips[0, :, b04, 0, 0] = torch.tensor([1000, 0, 3001]).to(torch.uint16)
    batch.chips[0, :, world, 0, 0] = torch.tensor([2, 0, 8]).to(torch.uint16)
    series = read_series(batch, steps=2)
    assert values_of(series, "B04")[0].tolist() == pytest.approx([0.20005, 0.0])
    assert series.world_BT.tolist() == [[7, 9]]


def test_land_cover_beyond_its_classes_is_missing():
    batch = batch_of(count=1, dates=YEAR[:2])
    batch.chips[0, :, BANDS.index("dynamic_world"), 0, 0] = torch.tensor([1, 11]).to(torch.uint16)
    assert read_series(batch, steps=2).world_BT.tolist() == [[0, 9]]


def test_dates_of_no_known_time_or_beyond_the_series_are_left_out():
    batch = batch_of(count=2, dates=["2021-01-10", "2021-03-10", "2022-01-10"])
    times = batch.times.clone()
    times[0, 1], times[1] = UNKNOWN_TIME, UNKNOWN_TIME
    series = read_series(replace(batch, times=times), steps=12)
    there = series.there_BL[:, :-1].view(2, 12, 9)
    assert there.any(dim=2).sum(dim=1).tolist() == [1, 0]
    assert series.there_BL[:, -1].all()  # the ground is the same at any time
    assert torch.isfinite(small().eval().encode(replace(batch, times=times))).all()


def test_data_without_any_time_are_refused():
    batch = batch_of()
    batch = replace(batch, times=torch.full_like(batch.times, UNKNOWN_TIME))
    with pytest.raises(TrainingError, match=r"no sample of this batch has a date whose time is known"):
        small().encode(batch)
    with pytest.raises(TrainingError, match=r"no sample of this batch has a date whose time is known"):
        prepared(small(), batch)


def test_training_begins_series_of_two_years_in_any_of_their_first_months():
    dates = [f"{year}-{month:02d}-05" for year in (2020, 2021) for month in range(1, 13)]
    batch = batch_of(count=3000, dates=dates, bands=("B04", "B08"))
    noise = Chance(0, total=3000).uniform(25)
    series = read_series(batch, steps=12, start_BS=noise)
    assert series.there_BL[:, :-1].view(3000, 12, 9)[..., 3].all()  # every series is full
    starts = values_of(series, "B08")[:, 0]
    all_months = batch.chips[:, :, 1, 0, 0].float() * 1e-4
    shares = torch.isclose(starts[:, None], all_months).float().mean(dim=0)
    assert (shares[:13] - 1 / 13).abs().max() < 0.02
    assert shares[13:].max() < 0.01


def test_a_series_of_dates_far_apart_holds_some_of_them():
    batch = batch_of(count=500, dates=["2019-01-05", "2022-06-05"], bands=("B04", "B08"))
    series = read_series(batch, steps=12, start_BS=Chance(0, total=500).uniform(3))
    have = series.there_BL[:, :-1].view(500, 12, 9)[..., 3]
    assert (have.sum(dim=1) == 1).all()
    assert have[:, 0].float().mean().item() == pytest.approx(0.5, abs=0.1)


def test_of_larger_chips_it_reads_the_centre_and_trains_on_any_pixel():
    model, batch = small(), batch_of(count=300, size=4)
    centre = replace(batch, chips=batch.chips[..., 2:3, 2:3])
    for name, tensor in read_series(batch, steps=12).tensors().items():
        torch.testing.assert_close(tensor, read_series(centre, steps=12).tensors()[name])
    drawn = model.prepare(batch, chance=Chance(0, total=300), augment=Augment())["x_BTC"]
    numbers = torch.isclose(batch.chips[:, 0, 3].float() * 1e-4, values_of_first(drawn, "B03"))
    shares = numbers.flatten(1).float().mean(dim=0)
    assert (shares - 1 / 16).abs().max() < 0.05
    fixed = model.prepare(batch, chance=Chance(0, total=300), augment=Augment(crop="center"))["x_BTC"]
    torch.testing.assert_close(fixed, read_series(centre, steps=12).x_BTC)


def values_of_first(x, channel):
    names = [c for group in STEP_GROUPS.values() for c in group]
    return x[:, 0, names.index(channel), None, None]


def test_numbers_beyond_half_of_uint16_stay_what_they_are():
    batch = batch_of(count=1, dates=YEAR[:1], size=2)
    batch.chips[0, 0, BANDS.index("elevation")] = 65535
    series = read_series(batch, steps=1, pixel_B=torch.tensor([0.6]))
    assert series.ground_B2[0, 0].item() == pytest.approx((65535 * 0.25 - 1000) / 2000)


def test_it_says_what_it_is_and_takes():
    model = Presto()
    assert "2304.14065" in model.facts().arxiv
    assert model.inputs()[0].bands == BANDS
    assert [item.name for item in model.inputs()] == ["chips", "times", "lonlat"]
    with pytest.raises(TrainingError, match=r"series of 1 to 24 months, these have 25"):
        model.encode_series(read_series(batch_of(), steps=25))
    with pytest.raises(TrainingError, match=r"features of a frozen image tower"):
        read_series(replace(batch_of(), chips=None), steps=12)


# Real data


def fuel_moisture(kit):
    """Series of three months, water content of vegetation (per cent), and which rows are of held-out sites."""
    folder = kit / "s2_timeseries" / "presto" / "fuel_moisture" / "npy"
    names = ("s1_s2_era5_srtm", "dynamic_world", "latlon", "month", "target", "is_test")
    x, world, latlon, months, target, held_out = (np.load(folder / f"{name}.npy") for name in names)
    x = np.delete(x, 10, axis=2)  # B09
    shift = [25, 25, *[0] * 10, -272.15, 0, 0, 0, 0]
    divisor = [25, 25, *[1e4] * 10, 35, 0.03, 2000, 50, 1]
    x = (x + shift) / divisor
    x[..., 16] = (x[..., 8] - x[..., 4]) / (x[..., 8] + x[..., 4])  # the file's own NDVI is of other bands
    series = Series.of_arrays(
        torch.from_numpy(x).float(),
        world_BT=torch.from_numpy(world),
        lonlat_B2=torch.from_numpy(latlon[:, ::-1].copy()),
        months_BT=torch.from_numpy(months),
    )
    return series, target, held_out == 1


def test_released_weights_tell_what_is_hidden_of_real_series(kit, released):
    """Measured: a third of the variance of what is hidden in a channel, in the median; 61 % of hidden classes, one has 39 %.

    Released outputs are of the encoder; this holds the decoder, its order of groups, months and codes, to what it has learnt.
    """
    series, _, _ = fuel_moisture(kit)
    noise = torch.rand(len(series.x_BTC), MaskNoise.size(3, 9), generator=torch.Generator().manual_seed(1))
    hidden_BL = draw_hidden(series.there_BL, MaskNoise.of(noise, steps=3, groups=9), ratio=0.75)
    keep_BV = (series.there_BL & ~hidden_BL).byte().argsort(dim=1, descending=True, stable=True)[:, :7]
    seen_BV = (series.there_BL & ~hidden_BL).gather(1, keep_BV)
    assert seen_BV.all()  # of 28 tokens with data, 7
    given = {name: tensor for name, tensor in series.tensors().items() if name != "there_BL"}
    with torch.inference_mode():
        latent = released.encoder.visible(**given, keep_BV=keep_BV, seen_BV=seen_BV)
        x_BTC, _, logits_BTK = released.decoder(latent, keep_BV, seen_BV, series.months_BT)
    hidden_BTG = hidden_BL[:, :-1].view(-1, 3, 9)
    sizes = torch.tensor([len(channels) for channels in STEP_GROUPS.values()])
    hidden_BTC = hidden_BTG[..., :-1].repeat_interleave(sizes, dim=2)
    told = []
    for channel in range(15):
        rows = hidden_BTC[..., channel]
        truth, guess = series.x_BTC[..., channel][rows], x_BTC[..., channel][rows]
        told.append(1 - (guess - truth).square().mean().item() / truth.var().item())
    assert np.median(told) == pytest.approx(0.33, abs=0.03)
    assert sum(share > 0.15 for share in told) == 14  # all but temperature, of other years and places than it knew
    truth, guess = (x_BT[hidden_BTG[..., -1]] for x_BT in (series.world_BT, logits_BTK.argmax(dim=-1)))
    assert (guess == truth).float().mean().item() == pytest.approx(0.61, abs=0.02)


def test_released_embeddings_tell_the_moisture_of_real_vegetation(kit, released):
    """Measured: error 36.90 of the mean of the other sites, 25.62 by ridge regression, R2 .516."""
    series, target, held_out = fuel_moisture(kit)
    with torch.inference_mode():
        x = released.encode_series(series).numpy()
    assert x.shape == (2313, 128)
    assert np.isfinite(x).all()
    x = (x - x[~held_out].mean(axis=0)) / x[~held_out].std(axis=0)
    x, y = np.column_stack([x, np.ones(len(x))]), target
    train = x[~held_out]
    weights = np.linalg.solve(train.T @ train + 10 * np.eye(129), train.T @ y[~held_out])
    error = np.sqrt(np.mean((x[held_out] @ weights - y[held_out]) ** 2))
    of_the_mean = np.sqrt(np.mean((y[~held_out].mean() - y[held_out]) ** 2))
    assert of_the_mean == pytest.approx(36.90, abs=0.01)
    assert error < 0.75 * of_the_mean
