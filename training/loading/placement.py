"""Where the chips of a training are kept, chosen by their size.

=======  ==========================================================================================================
device   all of them decoded once, on the card, or in memory where the model trains on the CPU; batches are gathered
         there, so that nothing is left to wait for
cache    as they are stored: the system keeps the files' pages once they were read, and batches are decoded from them
stream   as cache, a window of shards at a time: those of the next one are asked for ahead, those done are given up,
         unless memory holds all
=======  ==========================================================================================================

None of them changes the order. Several ranks may place them differently: each needs every sample in the end, for the
order mixes them over all ranks, so that ``device`` means all of them on each card.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch

from pwcat.errors import TrainingError
from training.loading.memory import available_ram, free_on

__all__ = ["Choice", "Needs", "Placement", "Room", "choose_placement", "room_on"]

Placement = Literal["device", "cache", "stream"]
Asked = Literal["auto", "device", "cache", "stream"]

# What is left of a card for model, optimiser and activations: SatMAE-B takes about 12 GB at 512 samples a batch. 700,000
# chips of ten bands, 96 px a side, take 129 GB, and an H200 has 150.
CARD_RESERVE = 16 * 2**30
CARD_SHARE = 0.5  # of a small card, no more than this is left
RAM_SHARE = 0.7  # of the memory that is available, what pages may take


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What the chips take, in bytes.

    Attributes:
        decoded: as uint16, the bands and times that are read.
        stored: in the files, as far as they are read; ``None`` if that is not known.
        window: of ``stored``, what lies in one window.
    """

    decoded: int
    stored: int | None
    window: int | None


@dataclass(frozen=True, kw_only=True)
class Room:
    """What there is for them, in bytes; ``None`` where there is no such thing, or it is not known.

    Attributes:
        card: free on the card, less what is left to the model.
        reserve: what is left to the model.
        budget: that chips may take of this process' memory.
        ram: available on this machine, for all ranks together.
        ranks: that train on this machine.
    """

    card: int | None
    reserve: int
    budget: int
    ram: int | None
    ranks: int = 1


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A placement, and why it is that one.

    Attributes:
        placement: see the table of this module.
        reason: a sentence with the numbers that led to it.
        stays: whether memory holds all that is stored, so that a later epoch need not read it again.
    """

    placement: Placement
    reason: str
    stays: bool = True


def room_on(device: torch.device, *, budget_mb: float, reserve: int | None = None, ranks: int = 1) -> Room:
    """The room there is now.

    Args:
        device: that trains.
        budget_mb: MB (10^6 bytes) that decoded chips may take of memory; it does not bound a card.
        reserve: bytes of a card that are left to the model; :data:`CARD_RESERVE` where ``None``, or half of a small card.
        ranks: that train on this machine.
    """
    card, left = None, 0
    if device.type == "cuda":
        free, total = free_on(device)
        left = min(CARD_RESERVE, int(CARD_SHARE * total)) if reserve is None else reserve
        card = max(0, free - left)
    return Room(card=card, reserve=left, budget=int(budget_mb * 1e6), ram=available_ram(), ranks=ranks)


def choose_placement(needs: Needs, room: Room, *, asked: Asked = "auto", window_chips: int) -> Choice:
    """Where to keep the chips.

    Args:
        needs: what they take.
        room: what there is.
        asked: the placement wanted; ``auto`` takes the first that they fit in.
        window_chips: samples of a window, for the reason.

    Raises:
        TrainingError: no such placement, or ``device`` was asked for and cannot hold them.
    """
    if asked not in get_args(Asked):
        raise TrainingError(f"placement {asked!r} is none of {', '.join(get_args(Asked))}")
    fits, held = _decoded(needs, room)
    if asked == "device" and not fits:
        raise TrainingError(
            f"placement device cannot be: {held}. Take fewer samples or bands, placement: auto, or "
            + ("a card with more memory" if room.card is not None else "raise memory_budget_mb")
        )
    if asked == "device" or (asked == "auto" and fits):
        return Choice(placement="device", reason=held)
    cached, told = _stored(needs, room)
    if asked == "cache" or (asked == "auto" and cached):
        return Choice(placement="cache", reason=told if asked == "auto" else f"{told}; cache was asked for")
    window = f", {_gb(needs.window)} stored" if needs.window is not None else ""
    streamed = f"read window by window of about {window_chips:,} chips{window}{_tight(needs, room)}"
    if asked == "stream":
        return Choice(placement="stream", reason=f"stream was asked for; {streamed}; {told}", stays=cached)
    return Choice(placement="stream", reason=f"{held}; {told}; {streamed}", stays=cached)


def _decoded(needs: Needs, room: Room) -> tuple[bool, str]:
    """Whether decoded chips fit where they would be held, in words too."""
    if room.card is not None:
        fits = needs.decoded <= room.card
        words = "fit in" if fits else "do not fit in"
        return fits, (
            f"{_gb(needs.decoded)} of chips {words} the {_gb(room.card)} free on the card, {_gb(room.reserve)} left to the "
            "model"
        )
    if needs.decoded > room.budget:
        return False, f"{_gb(needs.decoded)} of chips are over the {_gb(room.budget)} that may be held in memory"
    if room.ram is not None and needs.decoded * room.ranks > RAM_SHARE * room.ram:
        held = f"{room.ranks} x " * (room.ranks > 1) + _gb(needs.decoded)
        return False, f"{held} of chips are over {RAM_SHARE:.0%} of the {_gb(room.ram)} of memory available"
    return True, f"{_gb(needs.decoded)} of chips are within the {_gb(room.budget)} that may be held in memory"


def _stored(needs: Needs, room: Room) -> tuple[bool, str]:
    """Whether stored chips fit in memory as pages of files, in words too."""
    if needs.stored is None:
        return False, "how much they take in their files is not known"
    if room.ram is None:
        return False, f"{_gb(needs.stored)} are stored, and how much memory there is is not known"
    fits = needs.stored <= RAM_SHARE * room.ram
    words = "fit in" if fits else "are over"
    return fits, f"{_gb(needs.stored)} stored {words} {RAM_SHARE:.0%} of the {_gb(room.ram)} of memory available"


def _tight(needs: Needs, room: Room) -> str:
    """A warning where the windows in use and read ahead are more than memory holds."""
    if needs.window is None or room.ram is None or 2 * needs.window <= RAM_SHARE * room.ram:
        return ""
    return f": two of them are more than {RAM_SHARE:.0%} of memory, lower window_chips"


def _gb(size: int) -> str:
    return f"{size / 1e9:,.1f} GB" if size >= 1e8 else f"{size / 1e6:,.1f} MB"
