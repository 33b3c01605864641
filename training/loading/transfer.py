"""The way of a batch to the device: pinned buffers, and copies beside the computing.

On CUDA, chips are decoded into page-locked memory, from where the card fetches them by itself. The copies are made on a
stream of their own, so that they run beside the model's kernels; they are begun by the thread that finished the batch.
Both allocators of torch know of it: a pinned buffer is given out again only after the copy from it is done, for the copy
left an event with its allocator; and a tensor on the card only after the model's stream is done with it, for
``record_stream`` says that this stream uses what another made.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from training.batch import Batch
from training.loading.buffers import Buffers
from training.osm.entities import Entities

__all__ = ["Sent", "Transfer"]


@dataclass(frozen=True)
class Sent:
    """A batch on its way.

    Attributes:
        batch: its tensors are on the device, and filled once ``arrived``.
        arrived: recorded behind the copies; ``None`` where there were none.
    """

    batch: Batch
    arrived: torch.cuda.Event | None = None


class Transfer:
    """Hands batches to a device; on others than CUDA they stay in memory.

    Args:
        device: that trains.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._buffers = Buffers(pinned=device.type == "cuda")
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]

    def empty(self, shape: tuple[int, ...]) -> Tensor:
        """A tensor of uint16 in memory to fill, page-locked where that speeds the copy; see :class:`Buffers`."""
        return self._buffers.empty(shape)

    def send(self, batch: Batch) -> Sent:
        """Begin the copies, and return at once; from any thread."""
        if self._stream is None:
            return Sent(batch)
        with torch.cuda.stream(self._stream):
            moved = _pinned(batch).to(self._device, non_blocking=True)
            return Sent(moved, self._stream.record_event())

    def receive(self, sent: Sent) -> Batch:
        """The batch, for the current stream of the calling thread, which waits for the copies; the thread does not."""
        if sent.arrived is None:
            return sent.batch
        current = torch.cuda.current_stream(self._device)
        current.wait_event(sent.arrived)
        for tensor in _tensors(sent.batch):
            tensor.record_stream(current)
        return sent.batch


def _pinned(batch: Batch) -> Batch:
    """With what is beside chips page-locked too: a copy from other memory would hold up the thread."""
    pinned = replace(batch, lonlat=batch.lonlat.pin_memory(), times=batch.times.pin_memory())
    if batch.entities is None:
        return pinned
    moved: dict[str, Any] = {name: tensor.pin_memory() for name, tensor in _moving(batch.entities)}
    return replace(pinned, entities=replace(batch.entities, **moved))


def _moving(entities: Entities) -> Iterator[tuple[str, Tensor]]:
    """The tensors of entities that go to a device; the rows stay in memory."""
    for each in fields(entities):
        if each.name not in ("tag_list", "rows"):
            yield each.name, getattr(entities, each.name)


def _tensors(batch: Batch) -> Iterator[Tensor]:
    """Those that are on the device."""
    for tensor in (batch.chips, batch.lonlat, batch.times, batch.features):
        if tensor is not None:
            yield tensor
    if batch.entities is not None:
        yield from (tensor for _, tensor in _moving(batch.entities))
