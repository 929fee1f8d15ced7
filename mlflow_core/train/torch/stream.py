"""The rows of a stored matrix as torch reads them: batches of features, label and weight, in an order of their own.

An ``IterableDataset``, so that it also fits torch's own loader; the training loop reads it directly, because a copy
from a memory map is faster than any process that would be asked for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import IterableDataset

from mlflow_core.train.data.origin import Origin
from mlflow_core.train.data.shuffle import BlockOrder, batches

__all__ = ["Batch", "Columns", "Data", "Stream"]


class Batch(NamedTuple):
    """A rank's share of a batch: features (n, width), label (n,), weight (n,), float32; None where there is none."""

    x: Tensor
    y: Tensor | None
    w: Tensor | None


@dataclass(frozen=True)
class Columns:
    """Where in a row of the stored matrix is what.

    Args:
        width: The features come first, so many.
        label: The label's column, if there is one.
        weight: The weight's column, if there is one.
    """

    width: int
    label: int | None = None
    weight: int | None = None

    def batch(self, rows: NDArray[np.float32], device: torch.device | None = None) -> Batch:
        """Rows as tensors, on a device if one is named."""
        all_ = torch.from_numpy(rows)
        if device is not None and device.type != "cpu":
            all_ = all_.pin_memory().to(device, non_blocking=True)
        return Batch(
            all_[:, : self.width],
            None if self.label is None else all_[:, self.label],
            None if self.weight is None else all_[:, self.weight],
        )


class Stream(IterableDataset[Batch]):
    """One pass over rows, batch by batch.

    Args:
        rows: Starts the pass: gives arrays (n, width of the stored matrix).
        columns: Where in a row is what.
        device: Where the tensors shall be; None leaves them here.

    Example:
        >>> rows = np.arange(6, dtype=np.float32).reshape(2, 3)
        >>> [batch] = Stream(lambda: iter([rows]), Columns(width=2, label=2))
        >>> batch.y
        tensor([2., 5.])
    """

    def __init__(
        self,
        rows: Callable[[], Iterator[NDArray[np.float32]]],
        columns: Columns,
        device: torch.device | None = None,
    ) -> None:
        self._rows, self._columns, self._device = rows, columns, device

    def __iter__(self) -> Iterator[Batch]:
        for rows in self._rows():
            yield self._columns.batch(rows, self._device)


@dataclass(frozen=True)
class Data:
    """The rows of a training, as they are stored, and the order in which they are read.

    Args:
        train: (n_rows, n_columns) float32, in an order that tells nothing.
        validate: The same of the validation part.
        columns: Where in a row is what.
        block: How many neighbouring rows of ``train`` are shuffled together.
        seed: Seed of their order.
        origins: Tells where rows came from, by the part and their numbers in it.
    """

    train: NDArray[np.float32]
    validate: NDArray[np.float32]
    columns: Columns
    block: int
    seed: int
    origins: Callable[[str, Sequence[int]], Sequence[Origin]]

    def batches(
        self, epoch: int, size: int, device: torch.device, *, rank: int, ranks: int, start: int
    ) -> Stream:
        """A rank's shares of an epoch's batches, from a step on; see ``shuffle.batches``."""
        rows = partial(batches, self.train, self._order(epoch), size, rank=rank, ranks=ranks, start=start)
        return Stream(rows, self.columns, device)

    def validation(self, size: int, device: torch.device, *, rank: int, ranks: int) -> Stream:
        """A rank's share of the validation part, so many rows at a time."""
        first, last = (len(self.validate) * one // ranks for one in (rank, rank + 1))

        def rows() -> Iterator[NDArray[np.float32]]:
            for start in range(first, last, size):
                yield np.array(self.validate[start : min(start + size, last)])

        return Stream(rows, self.columns, device)

    def batch_of(self, epoch: int, step: int, size: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The whole batch of a step over all ranks, and its rows' numbers in ``train``."""
        first, order = step * size, self._order(epoch)
        last = min(first + size, len(self.train))
        # Numbers of 64 bits are two columns of 32 to what copies rows.
        numbers = np.arange(len(self.train)).view(np.float32).reshape(-1, 2)
        return order.take(self.train, first, last), order.take(numbers, first, last).view(np.int64)[:, 0]

    def _order(self, epoch: int) -> BlockOrder:
        return BlockOrder(len(self.train), self.block, self.seed, epoch)
