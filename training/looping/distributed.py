"""Several processes that train one model: who they are, and what they tell each other. One process is the plain case.

``torchrun --nproc-per-node N -m pwcat pretrain ...`` starts N processes ("ranks"), one a GPU, and says in the environment
which is which. Tensors go over NCCL between GPUs and over gloo between CPUs.

A rank that fails would leave the others waiting for it. So the first to fail says so in the store that all of them see,
and the others end when they learn of it, without a word: what is said is said once.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor

from pwcat.errors import TrainingError

__all__ = [
    "RankEndedError",
    "barrier",
    "from_main",
    "gather_with_grad",
    "global_sum",
    "is_main",
    "joined",
    "own_rows",
    "rank",
    "sum_with_grad",
    "world_size",
]

log = logging.getLogger(__name__)

T = TypeVar("T")

# How long a rank waits for the others: longer than what one of them does alone (rank 0 writes a checkpoint).
TIMEOUT = timedelta(minutes=20)
LOOK_EVERY_S = 0.5
LINGER_S = 2.0  # left to the rank that failed to say why, before torchrun sees another one end


class RankEndedError(Exception):
    """This rank ends because another has failed, or was told to stop, and says why. Not for users.

    Attributes:
        code: of the process' end.
    """

    def __init__(self, code: int = 2) -> None:
        super().__init__(f"rank {rank()} ends with the others")
        self.code = code


def world_size() -> int:
    """Number of processes that train together; 1 where there is no group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """The number of this process among them, from 0."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def is_main() -> bool:
    """Whether this is the process that writes and speaks."""
    return rank() == 0


def own_rows(total: int, *, of: int | None = None) -> slice:
    """The part of a global batch of ``total`` rows that a rank has: nearly equal, contiguous, in the order of the ranks.

    Args:
        total: rows of the global batch.
        of: the rank that is asked after; this one where ``None``.
    """
    number, ranks = rank() if of is None else of, world_size()
    return slice(number * total // ranks, (number + 1) * total // ranks)


def global_sum(tensor: Tensor) -> Tensor:
    """The sum of a tensor over all ranks, the same on each, without gradient; in one process the tensor itself, detached."""
    if world_size() == 1:
        return tensor.detach()
    total = tensor.detach().clone()
    dist.all_reduce(total)
    return total


def gather_with_grad(tensor: Tensor, *, total: int | None = None) -> Tensor:
    """The rows of all ranks in their order, (total, ...), with gradient; in one process the tensor itself.

    The gradient of a rank's own rows is the sum of what all ranks' losses say of them: with each rank's share of the loss
    times the number of ranks, the mean that DDP takes is the gradient of one process.

    Args:
        tensor: (own rows, ...), the same but for the rows on every rank.
        total: rows of the global batch, where the own ones are :func:`own_rows` of it; the ranks ask each other otherwise.
    """
    if world_size() == 1:
        return tensor
    counts = _row_counts(tensor, total)
    return cast(Tensor, _Gather.apply(tensor, counts))  # type: ignore[no-untyped-call]


def sum_with_grad(tensor: Tensor) -> Tensor:
    """The sum of a tensor over all ranks, the same on each, with gradient; in one process the tensor itself.

    As with :func:`gather_with_grad`, a rank's gradient is the sum of what all ranks' losses say of the sum.
    """
    if world_size() == 1:
        return tensor
    return cast(Tensor, _Sum.apply(tensor))  # type: ignore[no-untyped-call]


def _row_counts(tensor: Tensor, total: int | None) -> list[int]:
    if total is not None:
        slices = [own_rows(total, of=number) for number in range(world_size())]
        return [part.stop - part.start for part in slices]
    counts = torch.zeros(world_size(), dtype=torch.int64, device=tensor.device)
    counts[rank()] = len(tensor)
    return [int(count) for count in global_sum(counts).tolist()]


class _Gather(torch.autograd.Function):
    """All ranks' rows; backward, the sum over ranks of the gradient of the own ones."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, counts: list[int]) -> Tensor:
        start = sum(counts[: rank()])
        ctx.own = slice(start, start + len(own))
        # ranks may have one row more or less, which all_gather does not allow: the longest is what all send
        padded = own.new_zeros(max(counts), *own.shape[1:])
        padded[: len(own)] = own
        parts = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(parts, padded)
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        total = grad.contiguous().clone()
        dist.all_reduce(total)
        return total[ctx.own], None


class _Sum(torch.autograd.Function):
    """The sum over ranks, forward and backward."""

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        return global_sum(own)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return global_sum(grad.contiguous())


def from_main(value: T) -> T:
    """What rank 0 has for this value; any that can be pickled, for it comes from our own processes."""
    if world_size() == 1:
        return value
    held: list[Any] = [value]
    dist.broadcast_object_list(held, src=0)
    return cast(T, held[0])


def barrier() -> None:
    """Wait until all ranks are here."""
    if world_size() > 1:
        dist.barrier()


@contextmanager
def joined(device: str) -> Iterator[torch.device]:
    """The device of this process; among several that torchrun started, their group is open in the block.

    Args:
        device: kind of device, such as "cuda" or "cpu"; among several processes on GPUs, each takes the one of its number.

    Raises:
        TrainingError: there is no such device, or there are more processes than GPUs.
        RankEndedError: another rank has failed, and says why.
    """
    ranks = int(os.environ.get("WORLD_SIZE", "1"))
    target = _own_device(device, ranks)
    if ranks == 1 or dist.is_initialized():  # alone, or in a group that the caller opened and closes
        yield target
        return
    dist.init_process_group(_backend(target), timeout=TIMEOUT)
    watch = _Watch()
    try:
        yield target
    except BaseException as exc:
        if isinstance(exc, RankEndedError):
            raise
        if not watch.speaks_first():
            time.sleep(LINGER_S)
            raise RankEndedError from exc
        if _is_of_the_wire(exc):
            raise TrainingError(
                f"process {rank()} of {world_size()} lost the others ({str(exc).splitlines()[0]}): one of them was killed, or "
                "its machine cannot be reached any more. Start the same command again: it goes on from the last checkpoint"
            ) from exc
        raise
    else:
        watch.stop()
        dist.destroy_process_group()  # after a failure the group waits for what does not come: the process' end closes it


def _own_device(name: str, ranks: int) -> torch.device:
    local = int(os.environ.get("LOCAL_RANK", "0"))
    try:
        device = torch.device(name)
        if device.type == "cuda" and device.index is None:
            if ranks > 1 and local >= torch.cuda.device_count():
                raise TrainingError(
                    f"torchrun started a process number {local} on this machine, which has {torch.cuda.device_count()} "
                    "GPUs: --nproc-per-node may be at most as many"
                )
            device = torch.device("cuda", local)
        torch.zeros(1, device=device).item()  # "meta" makes tensors, but there are no values in them
        if device.type == "cuda":
            torch.cuda.set_device(device)
    except (RuntimeError, AssertionError) as exc:  # an unknown name; a kind that this build or machine lacks
        raise TrainingError(f"no device {name!r} here: {str(exc).splitlines()[0]}") from exc
    return device


def _is_of_the_wire(exc: BaseException) -> bool:
    return isinstance(exc, dist.DistError) or (isinstance(exc, RuntimeError) and "gloo" in str(exc))


def _backend(device: torch.device) -> str:
    return "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"


class _Watch:
    """Learns of a failure on another rank while this one may be stuck in waiting for it, and ends the process then."""

    def __init__(self) -> None:
        self._failed = f"pwcat/failed/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"
        self._store = dist.TCPStore(  # type: ignore[attr-defined]  # public, but not told to type checkers
            os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False, timeout=timedelta(seconds=30)
        )
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._look, name="pwcat-ranks", daemon=True)
        self._thread.start()

    def speaks_first(self) -> bool:
        """Tell the others that this rank has failed; whether it is the first of them."""
        self.stop()
        # without a store, which goes with the machine that held it, this is what there is to say
        with suppress(RuntimeError), self._lock:
            return self._store.add(self._failed, 1) == 1
        return True

    def stop(self) -> None:
        """Look no further."""
        self._ended.set()

    def _look(self) -> None:
        while not self._ended.wait(LOOK_EVERY_S):
            with self._lock:
                failed = self._has_failed()
            if failed:
                time.sleep(LINGER_S)
                if not self._ended.is_set():
                    os._exit(2)  # the main thread may be waiting inside of a collective, where no exception reaches it

    def _has_failed(self) -> bool:
        try:
            return self._store.check([self._failed])
        except RuntimeError:  # the store went with the process that held it
            return True
