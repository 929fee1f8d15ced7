"""In which order the rows of a matrix are read: blocks of them, shuffled anew for each epoch.

The rows of a training matrix were shuffled one by one when it was written, so neighbours are strangers and a block is
a random sample; what changes from epoch to epoch is which blocks share a batch. Blocks are drawn from a window of some
thousand, which are a few dozen runs of neighbours from anywhere: so a matrix greater than memory is read in large
pieces, and little of it is mapped at a time, though blocks are small. A batch is copied into an array that a batch
before was in, if nobody holds that any more: memory that is fresh costs more than the copy. The order depends on seed and epoch only: the
batch of a step is the same for any number of ranks, and can be started at any step. Random numbers are the raw ones of
Philox (Salmon et al. 2011), whose stream NumPy keeps from version to version.
"""

from __future__ import annotations

import hashlib
import mmap
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "ORDER_FORMAT",
    "BlockOrder",
    "batches",
    "block_of",
    "permutation",
    "random_numbers",
    "release",
    "steps",
]

ORDER_FORMAT = 2
"""Changes with the order that equal rows, seeds and epochs get: half an epoch of one order goes with no other."""

_BLOCK_BYTES = 64 << 10
_RUN, _WINDOW = 32, 2048
_KEPT_MAPPED = 512 << 20
_ARRAYS, _ONLY_KEPT = 3, 2


@dataclass(frozen=True)
class BlockOrder:
    """The order of one epoch.

    Args:
        rows: How many rows the matrix has.
        block: Rows of a block; the last one may have fewer.
        seed: Seed of everything random.
        epoch: Which epoch, from 0.
    """

    rows: int
    block: int
    seed: int
    epoch: int

    @cached_property
    def blocks(self) -> NDArray[np.int64]:
        """The blocks in the order in which they are read, (n_blocks,) int64."""
        key = f"epoch {self.epoch} of {self.seed}"
        count = -(-self.rows // self.block)
        runs = permutation(-(-count // _RUN), f"runs of {key}")
        window = np.empty(len(runs), dtype=np.int64)
        window[runs] = np.arange(len(runs)) // (_WINDOW // _RUN)
        return np.lexsort((random_numbers(count, key), np.repeat(window, _RUN)[:count]))

    def take(
        self, matrix: NDArray[np.float32], first: int, last: int, out: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """Copy the rows of the positions first to last - 1 of this order.

        Args:
            matrix: The rows as they are stored, (rows, width), C-contiguous.
            first: Where to start, 0 to ``rows``.
            last: Where to end.
            out: Where to, (last - first, width), C-contiguous; a new array if None.

        Returns:
            The rows, (last - first, width).
        """
        width = matrix.shape[1]
        if out is None:
            out = np.empty((last - first, width), dtype=np.float32)
        full = self.rows // self.block
        whole = matrix[: full * self.block].reshape(full, self.block * width)
        at = first
        while at < last:
            number, inside = self._place(at)
            stop = self._run(number, at, last) if inside == 0 else at
            if stop > at:  # whole blocks: one call copies them all
                count = (stop - at) // self.block
                into = out[at - first : stop - first].reshape(count, self.block * width)
                whole.take(self.blocks[number : number + count], 0, into, "clip")
            else:
                block = int(self.blocks[number])
                start = block * self.block + inside
                stop = min(last, at + min(self.rows, (block + 1) * self.block) - start)
                out[at - first : stop - first] = matrix[start : start + stop - at]
            at = stop
        return out

    @cached_property
    def _short(self) -> int:
        """Where in the order the block is that has fewer rows; behind the last one if there is none."""
        last = self.rows // self.block
        return int(np.flatnonzero(self.blocks == last)[0]) if self.rows % self.block else len(self.blocks)

    def _place(self, position: int) -> tuple[int, int]:
        """Which block of the order a position is in, and where in it."""
        lacking = self.block - self.rows % self.block
        until = self._short * self.block + self.rows % self.block
        if position < until or self._short == len(self.blocks):
            return divmod(position, self.block)
        return divmod(position + lacking, self.block)

    def _run(self, number: int, at: int, last: int) -> int:
        """Where the whole blocks end that start with this one, at a position."""
        count = (last - at) // self.block
        if number <= self._short:
            count = min(count, self._short - number)
        return at + count * self.block


def batches(
    matrix: NDArray[np.float32],
    order: BlockOrder,
    batch_size: int,
    *,
    rank: int = 0,
    ranks: int = 1,
    start: int = 0,
) -> Iterator[NDArray[np.float32]]:
    """Give a rank its share of each batch of an epoch.

    Args:
        matrix: The rows as they are stored, (rows, width) float32.
        order: The order of the epoch.
        batch_size: Rows of a batch over all ranks; the last one may have fewer.
        rank: Which rank asks.
        ranks: How many there are. Their shares, one after the other, are the batch; their sizes differ by at most one.
        start: The first step.

    Yields:
        An array (n_rows, width) for each step, writable, that is not touched again as long as it or a view of it is
        held; empty where a last batch has fewer rows than there are ranks, so that all ranks take as many steps.
    """
    window, arrays = 0, _Arrays(-(-min(batch_size, order.rows) // ranks), matrix.shape[1])
    for step in range(start, steps(order.rows, batch_size)):
        first = step * batch_size
        count = min(batch_size, order.rows - first)
        if first // (order.block * _WINDOW) > window:
            window = first // (order.block * _WINDOW)
            if matrix.nbytes > _KEPT_MAPPED:
                release(matrix)
        begin, end = first + count * rank // ranks, first + count * (rank + 1) // ranks
        yield order.take(matrix, begin, end, arrays.free(end - begin))


class _Arrays:
    """Arrays for batches, each used again when nobody holds it or a view of it; few are kept, however many are held."""

    def __init__(self, rows: int, width: int) -> None:
        self._shape = rows, width
        self._kept: list[NDArray[np.float32]] = []

    def free(self, rows: int) -> NDArray[np.float32]:
        """The first rows of an array that nobody holds."""
        for place in range(len(self._kept)):
            # Of an array that only the list holds two references are counted: the list's and the argument's.
            if sys.getrefcount(self._kept[place]) == _ONLY_KEPT:
                return self._kept[place][:rows]
        fresh = np.empty(self._shape, dtype=np.float32)
        if len(self._kept) < _ARRAYS:
            self._kept.append(fresh)
        return fresh[:rows]


def release(matrix: NDArray[np.float32]) -> None:
    """Let go of the memory that holds what was read of a mapped file; the system keeps it as long as it has room.

    Without it a worker would seem to hold all of a great matrix, and be stopped for it. Nothing is lost: what is read
    again is mapped again. Of an array that is not on a map nothing changes.

    Args:
        matrix: An array on a read-only map, such as ``StoredMatrix.open`` gives.
    """
    under: object = matrix
    while isinstance(under, np.ndarray | memoryview):
        under = under.base if isinstance(under, np.ndarray) else under.obj
    if isinstance(under, mmap.mmap):
        under.madvise(mmap.MADV_DONTNEED)


def steps(rows: int, batch_size: int) -> int:
    """How many batches an epoch has."""
    return -(-rows // batch_size)


def block_of(width: int) -> int:
    """How many rows a block should have, a power of two.

    Small blocks change more of a batch from epoch to epoch, greater ones are copied a little faster: about 64 KiB. A
    power of two divides most sizes of batches, which are then whole blocks.

    Args:
        width: Columns of the matrix, float32.
    """
    fitting = max(1, _BLOCK_BYTES // max(1, width * 4))
    return 1 << (fitting.bit_length() - 1)


def permutation(count: int, key: str) -> NDArray[np.int64]:
    """A random order of 0 to count - 1, the same for the same key, (count,) int64."""
    return np.argsort(random_numbers(count, key))


def random_numbers(count: int, key: str) -> NDArray[np.uint64]:
    """Random numbers of 64 bits, the same for the same key, (count,) uint64."""
    seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:16], "little")
    return np.random.Philox(key=seed).random_raw(count)
