"""Sums of two ranks on one host, through memory that both have mapped.

Gloo sends what it sums through the network interface also to a rank beside it, and wakes threads of its own on either
side: 3 to 4 ms of each step for a megabyte and a half, and 0.9 ms of the processor for a single number. Here a rank
leaves its values where the other reads them, and says so by a byte through a pipe. However a peer ends, its ends of the
pipes are closed with it, unless a child that it has forked holds them, and its process is over; either is noticed at
once in the middle of a sum. Of two values the sum has the same bits either way, so it does not matter to a model where
its ranks have been; of more it depends on an order that gloo does not promise, and more ranks than two are left to it.

Neither memory nor pipes belong to a file: the first rank makes them, both open them by that process's number, and they
go with the last of them, however that one ends.
"""

from __future__ import annotations

import mmap
import os
import secrets
import select
import stat
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Final, NamedTuple, Self

import torch
from torch import Tensor, distributed

from mlflow_core.telemetry.logs import get_logger

__all__ = ["SharedSums"]

_log = get_logger(__name__)

_HEAD: Final = mmap.PAGESIZE
_MOST_BYTES: Final = 128 << 20
"""How much memory it may take in all: networks for which it is too little compute so long that the way hardly counts."""
_RANKS: Final = 2


class SharedSums:
    """Sums of so many float32 values over two ranks.

    Args:
        index: Which rank this is.
        slots: Twice a place for each rank, (2, 2, n_values): while one half is read the other is written.
        line: The pipes between the two.
    """

    def __init__(self, index: int, slots: Tensor, line: _Line) -> None:
        self._index, self._slots, self._line, self._half = index, slots, line, 0

    @classmethod
    def open(cls, index: int, count: int, values: int, *, within: float) -> Self | None:
        """Map memory together with the other rank; called by all ranks, which use it or leave it alike.

        Args:
            index: Which rank this is.
            count: How many ranks there are, all on this host.
            values: How many values are summed each time.
            within: After how many seconds of waiting for the other in a sum it is taken for lost.

        Returns:
            The sums, which the caller closes; None where these processes cannot share memory, or it would be too much.

        Raises:
            RuntimeError: A peer is gone.
        """
        size = _HEAD + 2 * _RANKS * values * 4
        if sys.platform != "linux" or count != _RANKS or size > _MOST_BYTES:
            return None
        with _offered(size) if index == 0 else nullcontext() as offer, ExitStack() as opened:
            told = [offer]
            distributed.broadcast_object_list(told, 0)
            taken = None if told[0] is None else _taken(told[0], index, size)
            line = None if taken is None else _Line(taken.reads, taken.writes, within)
            if line is not None:
                opened.callback(line.close)
            processes = torch.zeros(_RANKS, dtype=torch.int64)
            processes[index] = 0 if taken is None else os.getpid()
            distributed.all_reduce(processes)
            if taken is None or line is None or not processes.all():
                return None
            line.watch(int(processes[1 - index]))
            opened.pop_all()
        slots = torch.frombuffer(taken.memory, dtype=torch.float32, offset=_HEAD)
        return cls(index, slots.view(2, _RANKS, values), line)

    def sum(self, parts: list[Tensor], total: Tensor) -> None:
        """Sum values over both ranks.

        Args:
            parts: This rank's, one tensor after the other, each (n,).
            total: Where the sums go, (n_values,).

        Raises:
            RuntimeError: The peer is gone.
        """
        slots = self._slots[self._half]
        # Nobody reads this half any more: whoever has arrived with the other one has done with this.
        self._half = 1 - self._half
        torch.cat(parts, out=slots[self._index])
        self._line.meet()
        torch.add(slots[0], slots[1], out=total)

    def close(self) -> None:
        """Let the peer know that this rank will not come again."""
        self._line.close()


class _Line:
    """Two ranks that wait for each other by a byte each way.

    Args:
        reads: Descriptor of the pipe from the other; closed with this.
        writes: Descriptor of the pipe to the other; closed with this.
        within: How many seconds to wait.
    """

    def __init__(self, reads: int, writes: int, within: float) -> None:
        self._reads, self._writes, self._within = reads, writes, within
        self._poll = select.poll()
        self._poll.register(reads, select.POLLIN)
        self._process: int | None = None

    def watch(self, process: int) -> None:
        """Notice also that the other's process ends, whoever holds its ends of the pipes.

        Args:
            process: Its number.
        """
        if not hasattr(os, "pidfd_open"):
            return  # a Python built for older kernels; the pipes are left
        try:
            self._process = os.pidfd_open(process)
        except OSError as error:
            _log.debug("process %d is not watched: %s", process, error)
        else:
            self._poll.register(self._process, select.POLLIN)

    def meet(self) -> None:
        """Wait for the other.

        Raises:
            RuntimeError: It is gone, or does not come.
        """
        try:
            os.write(self._writes, b"\0")
        except OSError as error:
            raise RuntimeError(f"the rank beside this one is gone: {error.strerror}") from error
        ready = dict(self._poll.poll(1000 * self._within))
        if not ready:
            raise RuntimeError(f"the rank beside this one did not come within {self._within:g} s")
        if self._reads not in ready:
            # The pipe was looked at first: a last word may have come before the process ended.
            ready = dict(self._poll.poll(0))
        if self._reads not in ready or not os.read(self._reads, 1):
            raise RuntimeError("the rank beside this one is gone")

    def close(self) -> None:
        """Close both pipes, and look at the process no more."""
        for one in (self._reads, self._writes, self._process):
            if one is not None:
                os.close(one)


class _Offer(NamedTuple):
    """What the first rank has made: its process, and there the descriptors of the memory and of a pipe to each rank."""

    process: int
    memory: int
    secret: bytes
    pipes: tuple[int, int]


class _Taken(NamedTuple):
    """What a rank has opened of it: the memory, and its own ends of the pipes."""

    memory: mmap.mmap
    reads: int
    writes: int


@contextmanager
def _offered(size: int) -> Iterator[_Offer | None]:
    """Memory of that size with a secret at its beginning, and pipes, until all have opened them; None if there are none."""
    with ExitStack() as made:
        try:
            offer = _made(size, made)
        except OSError as error:
            _log.debug("no memory or pipes to share: %s", error)
            offer = None
        yield offer


def _made(size: int, made: ExitStack) -> _Offer:
    memory = os.memfd_create("mlcore-sums")
    made.callback(os.close, memory)
    secret = secrets.token_bytes(16)
    os.ftruncate(memory, size)
    os.write(memory, secret)

    def pipe() -> int:
        ends = os.pipe()
        for end in ends:
            made.callback(os.close, end)
        return ends[0]

    return _Offer(os.getpid(), memory, secret, (pipe(), pipe()))


def _taken(offer: _Offer, index: int, size: int) -> _Taken | None:
    """Open what a process offers; None where this one cannot, or finds something else there."""
    with ExitStack() as opened:

        def open_(descriptor: int, flags: int) -> int:
            found = os.open(f"/proc/{offer.process}/fd/{descriptor}", flags | os.O_CLOEXEC)
            opened.callback(os.close, found)
            return found

        try:
            memory = open_(offer.memory, os.O_RDWR)
            if os.fstat(memory).st_size != size or os.pread(memory, len(offer.secret), 0) != offer.secret:
                return None
            # Without waiting for the other end: it would be waited for without end if these are no pipes of that process.
            reads = open_(offer.pipes[index], os.O_RDONLY | os.O_NONBLOCK)
            writes = open_(offer.pipes[1 - index], os.O_WRONLY | os.O_NONBLOCK)
            if not all(stat.S_ISFIFO(os.fstat(one).st_mode) for one in (reads, writes)):
                return None
            mapped = mmap.mmap(memory, size)
        except OSError as error:
            _log.debug("no memory shared with process %d: %s", offer.process, error)
            return None
        opened.pop_all()
        os.close(memory)
        return _Taken(mapped, reads, writes)
