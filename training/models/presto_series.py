"""Series of months for Presto, from the dates of a cube's samples.

The series of a sample has a fixed number of steps, which are consecutive months. Its first month is that of the sample's
first date; in training, of data that span more months than the series, a date is drawn with whose month it begins. Dates
may come in any order. Where a month has several, each band is the mean of those that have data, and the land cover that
of the earliest; a month without a date is missing, and so is a band that has no data (0) in it. A date that lies beyond the
series, or whose time is unknown, is left out. Heights and slopes are means over all dates: they are one token without a month.

Shapes: B batch, S dates of the cube, T steps (months), K bands of the cube, C = 15 channels of a month, G = 9 groups of a
month (Dynamic World the last), L = T * G + 1 tokens (the ground the last), H W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from pwcat.errors import TrainingError
from training.batch import UNKNOWN_TIME, Batch
from training.models.presto_channels import (
    BANDS,
    CHANNELS,
    DYNAMIC_WORLD,
    GROUND,
    NUM_CLASSES,
    STEP_CHANNELS,
    STEP_GROUPS,
    scalings,
)

__all__ = ["Series", "calendar_months", "most_tokens", "read_series", "unit_sphere"]

SECONDS_A_DAY = 86_400
FAR = 1 << 60  # later than any date, in any unit


@dataclass(frozen=True, kw_only=True)
class Series:
    """Series of a batch, scaled.

    Attributes:
        x_BTC: (B, T, 15) float32, the channels of :data:`~training.models.presto_channels.STEP_CHANNELS`, scaled; 0 where
            missing.
        ground_B2: (B, 2) float32, elevation and slope, scaled.
        world_BT: (B, T) int64, classes of Dynamic World, 0 to 8; 9 where missing.
        months_BT: (B, T) int64, 0 is January.
        place_B3: (B, 3) float32, points of the unit sphere; the origin where the place is unknown.
        there_BL: (B, T * 9 + 1) bool, which tokens have data: month by month, the ground last.
    """

    x_BTC: Tensor
    ground_B2: Tensor
    world_BT: Tensor
    months_BT: Tensor
    place_B3: Tensor
    there_BL: Tensor

    @property
    def num_steps(self) -> int:
        """Months, T."""
        return self.x_BTC.shape[1]

    def tensors(self) -> dict[str, Tensor]:
        """Its fields by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def of_arrays(
        cls,
        x_BTN: Tensor,
        *,
        world_BT: Tensor,
        lonlat_B2: Tensor,
        months_BT: Tensor,
        missing_BTN: Tensor | None = None,
    ) -> Series:
        """Series in the layout of the released code.

        Args:
            x_BTN: (B, T, 17), scaled, in the released order: VV, VH, B02 to B12, temperature, precipitation, elevation,
                slope, NDVI. The ground is that of the first month.
            world_BT: (B, T), classes of Dynamic World, 9 where missing.
            lonlat_B2: (B, 2), degrees.
            months_BT: (B, T), 0 is January.
            missing_BTN: (B, T, 17) bool, what has no data.
        """
        there_BTN = torch.ones_like(x_BTN, dtype=torch.bool) if missing_BTN is None else ~missing_BTN.bool()
        columns = [channel.band for channel in CHANNELS] + ["NDVI"]
        steps = [columns.index(name) for name in STEP_CHANNELS]
        ground = [columns.index(name) for name in GROUND]
        return cls(
            x_BTC=x_BTN[..., steps].float(),
            ground_B2=x_BTN[:, 0, ground].float(),
            world_BT=world_BT.long(),
            months_BT=months_BT.long(),
            place_B3=unit_sphere(lonlat_B2),
            there_BL=_tokens_there(there_BTN[..., steps], there_BTN[:, 0, ground], world_BT),
        )


def read_series(
    batch: Batch,
    *,
    steps: int,
    bands: Sequence[str] = BANDS,
    pixel_B: Tensor | None = None,
    start_BS: Tensor | None = None,
) -> Series:
    """The series of a batch's samples.

    Args:
        batch: samples with chips of all their dates.
        steps: months of a series, T.
        bands: those that are read; others of the batch are as if they were not there.
        pixel_B: (B,) numbers of [0, 1) that choose each sample's pixel; the centre where ``None``.
        start_BS: (B, S + 1) numbers of [0, 1) that choose the month it begins with; that of the first date where ``None``.

    Raises:
        TrainingError: the batch holds features, or a band is in a unit that cannot be converted.
    """
    if batch.chips is None:
        raise TrainingError("Presto reads chips of all dates, but this batch holds features of a frozen image tower")
    scaling = scalings(batch.bands, only=bands)
    numbers_BSK = _pixels(batch.chips, pixel_B)
    place_BS, first_B = _places(batch.times, steps=steps, start_BS=start_BS)
    by_month, of_all = _mean_by_month(numbers_BSK, place_BS, steps), _mean_of_all(numbers_BSK)
    channels, there = {}, {}
    for name, (factor, summand) in scaling.items():
        k = batch.bands.names.index(name)
        mean, there[name] = (part[..., k] for part in (of_all if name in GROUND else by_month))
        channels[name] = torch.where(there[name], mean * factor + summand, 0.0)
    _add_ndvi(channels, there)
    world_BT = _land_cover(batch, numbers_BSK if DYNAMIC_WORLD in bands else None, place_BS, steps)
    empty_BT, empty_B = first_B.new_zeros(len(batch), steps), first_B.new_zeros(len(batch))
    ground_there_B2 = torch.stack([there.get(name, empty_B.bool()) for name in GROUND], dim=1)
    there_BTC = torch.stack([there.get(name, empty_BT.bool()) for name in STEP_CHANNELS], dim=2)
    return Series(
        x_BTC=torch.stack([channels.get(name, empty_BT.float()) for name in STEP_CHANNELS], dim=2),
        ground_B2=torch.stack([channels.get(name, empty_B.float()) for name in GROUND], dim=1),
        world_BT=world_BT,
        months_BT=(first_B[:, None] + torch.arange(steps, device=first_B.device)) % 12,
        place_B3=unit_sphere(batch.lonlat),
        there_BL=_tokens_there(there_BTC, ground_there_B2, world_BT),
    )


def most_tokens(bands: tuple[str, ...], *, steps: int) -> int:
    """How many tokens with data a series of these bands can have at most, the place's not counted."""
    have = {*bands, *(["NDVI"] if {"B04", "B08"} <= set(bands) else [])}
    groups = sum(have.issuperset(channels) for channels in STEP_GROUPS.values()) + (DYNAMIC_WORLD in have)
    return steps * groups + have.issuperset(GROUND)


def unit_sphere(lonlat_B2: Tensor) -> Tensor:
    """Points of the unit sphere, (B, 3) float32, of degrees: x to (0° E, 0° N), y to 90° E, z to the north pole."""
    lon_B, lat_B = (lonlat_B2.double() * (math.pi / 180)).unbind(1)
    point_B3 = torch.stack([lat_B.cos() * lon_B.cos(), lat_B.cos() * lon_B.sin(), lat_B.sin()], dim=1)
    return torch.nan_to_num(point_B3, nan=0.0).float()


def calendar_months(seconds: Tensor) -> Tensor:
    """Months since January of 1970 of times in seconds since then, in UTC, int64; whole arithmetic, on any device.

    Years are counted from March, so that the leap day is the last of one; 400 of them have 146,097 days.
    Source: Hinnant (2014), "chrono-compatible low-level date algorithms", ``civil_from_days``.
    """
    days = seconds // SECONDS_A_DAY + 719_468  # from 1 March of the year 0
    era, day = days // 146_097, days % 146_097
    year = (day - day // 1_460 + day // 36_524 - day // 146_096) // 365
    day_of_year = day - (365 * year + year // 4 - year // 100)
    month = (5 * day_of_year + 2) // 153  # 0 is March
    return (era * 400 + year - 1970) * 12 + month + 2


def _pixels(chips: Tensor, pixel_B: Tensor | None) -> Tensor:
    """Digital numbers of one pixel of each sample, (B, S, K) int32: the one drawn, or the centre."""
    height, width = chips.shape[-2:]
    # gathering is not to be had for uint16; the same bits as int16 are put right afterwards
    flat = chips.view(torch.int16).flatten(3)
    if pixel_B is None or height * width == 1:
        numbers = flat[..., height // 2 * width + width // 2]
    else:
        index_B = (pixel_B * (height * width)).long().clamp_(max=height * width - 1)
        numbers = flat.gather(3, index_B.view(-1, 1, 1, 1).expand(*flat.shape[:3], 1)).squeeze(3)
    return numbers.int() & 0xFFFF


def _places(times_BS: Tensor, *, steps: int, start_BS: Tensor | None) -> tuple[Tensor, Tensor]:
    """The step of each date (B, S), ``steps`` for those left out, and the first month of each series (B,), since 1970."""
    known_BS = times_BS != UNKNOWN_TIME
    month_BS = calendar_months(torch.where(known_BS, times_BS, 0))
    any_B = known_BS.any(dim=1)
    first_B = torch.where(any_B, torch.where(known_BS, month_BS, FAR).amin(dim=1), 0)
    last_B = torch.where(any_B, torch.where(known_BS, month_BS, -FAR).amax(dim=1), 0)
    if start_BS is not None:
        first_B = first_B + _draw_start(month_BS - first_B[:, None], known_BS, last_B - first_B - steps + 1, start_BS)
    place_BS = month_BS - first_B[:, None]
    inside_BS = known_BS & (place_BS >= 0) & (place_BS < steps)
    return torch.where(inside_BS, place_BS, steps), first_B


def _draw_start(after_BS: Tensor, known_BS: Tensor, latest_B: Tensor, noise_BS: Tensor) -> Tensor:
    """Months after the first date that a series begins with: those of a date, or the latest that is full to its end.

    So no series begins after its last date, and of data of every month each start is as likely.
    """
    latest_B = latest_B.clamp(min=0)
    may_BS = known_BS & (after_BS <= latest_B[:, None])
    missed_B = ~(may_BS & (after_BS == latest_B[:, None])).any(dim=1)
    starts = torch.cat([after_BS, latest_B[:, None]], dim=1)
    may = torch.cat([may_BS, missed_B[:, None]], dim=1)
    drawn_B = torch.where(may, noise_BS, -1.0).argmax(dim=1)
    return starts.gather(1, drawn_B[:, None]).squeeze(1)


def _mean_by_month(numbers_BSK: Tensor, place_BS: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """Means of each month's digital numbers that are data (B, T, K) float32, and where there are any (B, T, K).

    Whole numbers are added, so that the order in which a GPU adds them changes nothing.
    """
    place_BSK = place_BS.unsqueeze(2).expand_as(numbers_BSK)
    empty = numbers_BSK.new_zeros(len(numbers_BSK), steps + 1, numbers_BSK.shape[2])
    sum_BTK = empty.scatter_add(1, place_BSK, numbers_BSK)[:, :steps]
    count_BTK = empty.scatter_add(1, place_BSK, (numbers_BSK != 0).int())[:, :steps]
    return sum_BTK / count_BTK.clamp(min=1), count_BTK > 0


def _mean_of_all(numbers_BSK: Tensor) -> tuple[Tensor, Tensor]:
    """Means over all dates with data (B, K) float32, and where there are any (B, K)."""
    count_BK = (numbers_BSK != 0).sum(dim=1)
    return numbers_BSK.sum(dim=1) / count_BK.clamp(min=1), count_BK > 0


def _add_ndvi(channels: dict[str, Tensor], there: dict[str, Tensor]) -> None:
    """NDVI of reflectances, 0 where both are 0 or less together, as the released code has it."""
    if not {"B04", "B08"} <= set(channels):
        return
    red_BT, near_infrared_BT = channels["B04"], channels["B08"]
    total_BT = near_infrared_BT + red_BT
    there["NDVI"] = there["B04"] & there["B08"]
    ratio_BT = (near_infrared_BT - red_BT) / torch.where(total_BT > 0, total_BT, 1.0)
    channels["NDVI"] = torch.where(there["NDVI"] & (total_BT > 0), ratio_BT, 0.0)


def _land_cover(batch: Batch, numbers_BSK: Tensor | None, place_BS: Tensor, steps: int) -> Tensor:
    """Class of each month's earliest date that has one, (B, T) int64; 9 where none has, and where nothing is to be read."""
    latest = place_BS.new_full((len(place_BS), steps + 1), FAR)
    if numbers_BSK is None or DYNAMIC_WORLD not in batch.bands.names:
        return torch.full_like(latest[:, :steps], NUM_CLASSES)
    k = batch.bands.names.index(DYNAMIC_WORLD)
    number_BS = numbers_BSK[..., k]
    class_BS = (number_BS * batch.bands.scale[k] + batch.bands.offset[k]).round().long()
    has_BS = (number_BS != 0) & (class_BS >= 0) & (class_BS < NUM_CLASSES) & (place_BS < steps)
    # the time and, in its last four bits, the class: the least of a month is the earliest
    key_BS = torch.where(has_BS, torch.where(has_BS, batch.times, 0) * 16 + class_BS, FAR)
    key_BT = latest.scatter_reduce(1, place_BS, key_BS, reduce="amin")[:, :steps]
    return torch.where(key_BT == FAR, NUM_CLASSES, key_BT & 15)


def _tokens_there(there_BTC: Tensor, ground_there_B2: Tensor, world_BT: Tensor) -> Tensor:
    """Which tokens have data in all their channels, (B, L)."""
    sizes = [len(channels) for channels in STEP_GROUPS.values()]
    groups = [part.all(dim=2) for part in torch.split(there_BTC, sizes, dim=2)]
    there_BTG = torch.stack([*groups, world_BT != NUM_CLASSES], dim=2)
    return torch.cat([there_BTG.flatten(1), ground_there_B2.all(dim=1, keepdim=True)], dim=1)
