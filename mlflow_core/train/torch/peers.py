"""The other ranks of a training, as a rank sees them: sums and copies over all of them, and the time these took.

A peer that is gone is noticed in the middle of a sum; that is told as ``Disrupted``, which the supervisor mends. How
the ranks find each other is in ``rendezvous``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

import torch
from torch import Tensor, distributed

from mlflow_core.train.gang.rank import Disrupted
from mlflow_core.train.torch.beside import SharedSums

__all__ = ["ANSWER_WITHIN", "Peers"]

# A rank may compute for long between two sums; one that is gone shows at once.
ANSWER_WITHIN: Final = timedelta(minutes=10)


@dataclass
class Peers:
    """All ranks of a training.

    Args:
        index: Which one this is.
        count: How many there are.
        device: Where this one computes.
        beside: Whether all run on one host, in processes of their own.
    """

    index: int = 0
    count: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    beside: bool = False
    seconds: float = 0.0
    """Time spent in sums and copies so far."""
    _shared: list[SharedSums] = field(default_factory=list, init=False, repr=False)

    def sum(self, values: Tensor) -> None:
        """Replace values by their sums over all ranks.

        Raises:
            Disrupted: A peer is gone.
        """
        if self.count > 1:
            with self._together():
                distributed.all_reduce(values)

    def summing(self, count: int) -> Callable[[list[Tensor], Tensor], None]:
        """Get ready to sum so many float32 values again and again, by the fastest way; called by all ranks.

        Args:
            count: How many values.

        Returns:
            What sums values over all ranks, as :meth:`sum` does: it takes this rank's, tensors of one dimension that
            follow each other, and the tensor (count,) that the sums go to.

        Raises:
            Disrupted: A peer is gone.
        """
        shared = None
        if self.count > 1 and self.beside and self.device.type == "cpu":
            with self._together():
                shared = SharedSums.open(self.index, self.count, count, within=ANSWER_WITHIN.total_seconds())
        if shared is None:
            return self._sum_joined
        self._shared.append(shared)

        def sum_(parts: list[Tensor], total: Tensor) -> None:
            given = sum(len(one) for one in parts)
            if given != count or total.shape != (count,) or total.dtype != torch.float32:
                raise ValueError(
                    f"{given} values into {tuple(total.shape)} of {total.dtype}, not {count} of float32"
                )
            with self._together():
                shared.sum(parts, total)

        return sum_

    def _sum_joined(self, parts: list[Tensor], total: Tensor) -> None:
        torch.cat(parts, out=total)
        self.sum(total)

    def close(self) -> None:
        """Part from the others: whoever waits for this rank in a sum learns that it will not come."""
        while self._shared:
            self._shared.pop().close()

    def copy(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by those of rank 0.

        Raises:
            Disrupted: A peer is gone.
        """
        if self.count > 1:
            with self._together():
                for one in tensors:
                    distributed.broadcast(one.detach(), 0)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """While something else may talk to the peers, such as gradients that are summed as they are computed.

        Raises:
            Disrupted: A peer is gone.
        """
        try:
            yield
        except RuntimeError as error:
            if self.count > 1 and _is_about_peers(error):
                raise Disrupted(_sentence(error)) from None
            raise

    @contextmanager
    def _together(self) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        except RuntimeError as error:
            raise Disrupted(_sentence(error)) from None
        finally:
            self.seconds += time.perf_counter() - start


def _is_about_peers(error: RuntimeError) -> bool:
    # Gloo's own errors are plain RuntimeErrors; they name their source file.
    return isinstance(error, distributed.DistError) or "/gloo/" in str(error)


def _sentence(error: RuntimeError) -> str:
    """What a communication error says, without its source lines."""
    first = str(error).strip().splitlines()[0]
    return first.rpartition("] ")[2] if first.startswith("[") and ".cc:" in first else first
