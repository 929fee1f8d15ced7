"""Sums of two ranks on one host, through memory that both have mapped.

Gloo sends what it sums through the network interface also to a rank beside it: a megabyte and a half took 3 to 4 ms of
each step. Here a rank leaves its values where the other reads them, and only says by gloo that they are there; so a
peer that is gone is still noticed in the middle of a sum. Of two values the sum has the same bits either way, so it
does not matter to a model where its ranks have been; of more it depends on an order that gloo does not promise, and
more ranks than two are left to it.

The memory belongs to no file: the first rank makes it, the other opens it by that process's number, and it goes with
the last of them, however that one ends.
"""

from __future__ import annotations

import mmap
import os
import secrets
import sys
from typing import Final, Self

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
    """

    def __init__(self, index: int, slots: Tensor) -> None:
        self._index, self._slots, self._half = index, slots, 0
        self._arrived = torch.zeros(1)

    @classmethod
    def open(cls, index: int, count: int, values: int) -> Self | None:
        """Map memory together with the other rank; called by all ranks, which use it or leave it alike.

        Args:
            index: Which rank this is.
            count: How many ranks there are, all on this host.
            values: How many values are summed each time.

        Returns:
            The sums; None where these processes cannot share memory, or it would be too much.

        Raises:
            RuntimeError: A peer is gone.
        """
        size = _HEAD + 2 * _RANKS * values * 4
        if sys.platform != "linux" or count != _RANKS or size > _MOST_BYTES:
            return None
        made = _made(size) if index == 0 else None
        try:
            told = [None if made is None else (os.getpid(), *made)]
            distributed.broadcast_object_list(told, 0)
            mapped = None if told[0] is None else _mapped(*told[0], size)
            good = torch.tensor(float(mapped is not None))
            distributed.all_reduce(good, distributed.ReduceOp.MIN)
        finally:
            if made is not None:
                os.close(made[0])
        if mapped is None or not good:
            return None
        slots = torch.frombuffer(mapped, dtype=torch.float32, offset=_HEAD)
        return cls(index, slots.view(2, _RANKS, values))

    def sum(self, values: Tensor) -> None:
        """Replace values by their sums over both ranks.

        Raises:
            RuntimeError: A peer is gone.
        """
        slots = self._slots[self._half]
        # Nobody reads this half any more: whoever has arrived with the other one has done with this.
        self._half = 1 - self._half
        slots[self._index].copy_(values)
        distributed.all_reduce(self._arrived)
        torch.add(slots[0], slots[1], out=values)


def _made(size: int) -> tuple[int, bytes] | None:
    """Memory of that size, its descriptor and the secret at its beginning; None if there is none to be had."""
    try:
        descriptor = os.memfd_create("mlcore-sums")
    except OSError as error:
        _log.debug("no memory to share: %s", error)
        return None
    secret = secrets.token_bytes(16)
    try:
        os.ftruncate(descriptor, size)
        os.write(descriptor, secret)
    except OSError as error:
        os.close(descriptor)
        _log.debug("no memory to share: %s", error)
        return None
    return descriptor, secret


def _mapped(process: int, descriptor: int, secret: bytes, size: int) -> mmap.mmap | None:
    """Map the memory that another process has made; None where this one cannot, or finds something else there."""
    try:
        own = os.open(f"/proc/{process}/fd/{descriptor}", os.O_RDWR | os.O_CLOEXEC)
        try:
            if os.fstat(own).st_size != size or os.pread(own, len(secret), 0) != secret:
                return None
            return mmap.mmap(own, size)
        finally:
            os.close(own)
    except OSError as error:
        _log.debug("no memory shared with process %d: %s", process, error)
        return None
