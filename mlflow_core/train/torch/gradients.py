"""Gradients of a step, summed over the ranks: three ways to the same sums, chosen by how the ranks talk.

Alone there is nothing to sum. Over gloo all gradients are summed at once, one after the other in one flat buffer,
together with the step's loss: on CPU that takes a quarter less time than DistributedDataParallel, whose overlap has no idle
processor to win from (docs/adr/0033-networks.md). Over nccl DistributedDataParallel sums bucket by bucket
while the rest is computed. The tests hold all three to the same weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from mlflow_core.train.torch.peers import Peers

__all__ = ["Gradients", "gradients"]


class Gradients(Protocol):
    """How the gradients of all ranks become one."""

    learner: nn.Module
    """What is called for the losses."""
    scale: float
    """What a rank multiplies its loss by before it goes backward."""
    together: bool
    """Whether every rank has to go forward and backward in every step, also without rows."""

    def clear(self) -> None:
        """Forget the last step's."""
        ...

    def part(self, *, last: bool) -> AbstractContextManager[object]:
        """While a part of the batch goes forward and backward; with the last one the sums begin."""
        ...

    def summed(self, told: Tensor) -> Tensor:
        """Sum the gradients over the ranks, and a few numbers with them.

        Args:
            told: (k,) float32 of this rank.

        Returns:
            Their sums over all ranks.
        """
        ...


def gradients(learner: nn.Module, peers: Peers, *, overlap: bool | None = None) -> Gradients:
    """Choose the way.

    Args:
        learner: Whose parameters learn.
        peers: The other ranks.
        overlap: Whether to sum while computing; by default where nccl does the sums.
    """
    if peers.count == 1:
        return _Alone(learner)
    if peers.device.type == "cuda" if overlap is None else overlap:
        return _Overlapped(learner, peers)
    return _Flat(learner, peers)


class _Alone:
    scale, together = 1.0, False

    def __init__(self, learner: nn.Module) -> None:
        self.learner, self._parameters = learner, _learning(learner)

    def clear(self) -> None:
        for one in self._parameters:
            one.grad = None

    def part(self, *, last: bool) -> AbstractContextManager[object]:  # noqa: ARG002 the protocol's
        return nullcontext()

    def summed(self, told: Tensor) -> Tensor:
        return told


class _Flat:
    scale, together = 1.0, False

    def __init__(self, learner: nn.Module, peers: Peers) -> None:
        self.learner, self._parameters = learner, _learning(learner)
        self._size = sum(one.numel() for one in self._parameters)
        # Behind the gradients: how many ranks have each of them, and room for the few numbers that travel with them.
        self._told_at = self._size + len(self._parameters)
        self._sums = torch.zeros(self._told_at + _TOLD, device=peers.device)
        self._zero = torch.zeros(1, device=peers.device)
        self._all = torch.ones(len(self._parameters), device=peers.device)
        self._sum = peers.summing(len(self._sums))
        self._summed, at = [], 0
        for one in self._parameters:
            self._summed.append(self._sums[at : at + one.numel()].view_as(one))
            at += one.numel()

    def clear(self) -> None:
        # Without a place to add them to, they stay where they are computed: that is a pass less over all of them.
        for one in self._parameters:
            one.grad = None

    def part(self, *, last: bool) -> AbstractContextManager[object]:  # noqa: ARG002 the protocol's
        return nullcontext()

    def summed(self, told: Tensor) -> Tensor:
        own = [
            self._zero.expand(one.numel()) if one.grad is None else one.grad.reshape(-1)
            for one in self._parameters
        ]
        lacking = [place for place, one in enumerate(self._parameters) if one.grad is None]
        there = self._all
        if lacking:
            there = self._all.clone()
            there[lacking] = 0
        self._sum([*own, there, told, self._zero.expand(_TOLD - len(told))], self._sums)
        for one, sums in zip(self._parameters, self._summed, strict=True):
            one.grad = sums
        # What no rank used has no gradient, as with one rank: an optimiser would let it decay with one of zeros.
        for place in lacking:
            if not self._sums[self._size + place]:
                self._parameters[place].grad = None
        return self._sums[self._told_at : self._told_at + len(told)]


class _Overlapped:
    together = True

    def __init__(self, learner: nn.Module, peers: Peers) -> None:
        device = [peers.device] if peers.device.type == "cuda" else None
        self._parameters = _learning(learner)
        self._wrapped = DistributedDataParallel(
            learner, device_ids=device, gradient_as_bucket_view=True, forward_sync_buffers=False
        )
        self.learner: nn.Module = self._wrapped
        self._peers = peers
        self.scale = float(peers.count)  # it averages

    def clear(self) -> None:
        for one in self._parameters:
            one.grad = None

    def part(self, *, last: bool) -> AbstractContextManager[object]:
        return nullcontext() if last else self._wrapped.no_sync()

    def summed(self, told: Tensor) -> Tensor:
        self._peers.sum(told)
        return told


_TOLD = 8


def _learning(learner: nn.Module) -> Sequence[nn.Parameter]:
    return [one for one in learner.parameters() if one.requires_grad]
