"""Two ranks on one host sum through memory that both have mapped: the same bits as by gloo, and nothing is left of it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from distributed import Client

from mlflow_core.spec.recovery import Recovery
from mlflow_core.train.gang.gang import run_gang
from mlflow_core.train.gang.rank import Rank
from mlflow_core.train.torch import beside
from mlflow_core.train.torch.beside import SharedSums
from mlflow_core.train.torch.peers import Peers
from mlflow_core.train.torch.rendezvous import StoreRendezvous, met

ODD = (0.0, -0.0, float("inf"), float("-inf"), float("nan"), 1e-45, 3.4e38)


@dataclass(frozen=True)
class Sums:
    """Sums drawn values again and again, in both ways; tells of differences, and of what is mapped."""

    counts: tuple[int, ...]
    refused_by: int | None = None

    def __call__(self, rank: Rank) -> dict[str, Any]:
        mapped = beside._mapped
        if rank.index == self.refused_by:
            beside._mapped = lambda *_: None
        try:
            before = _maps()
            with met(rank, "cpu") as peers:
                found = [self._compared(rank, peers, count) for count in self.counts]
            equal, within = zip(*found, strict=True)
            return {"equal": all(equal), "mapped": (before, min(within), _maps())}
        finally:
            beside._mapped = mapped

    def _compared(self, rank: Rank, peers: Peers, count: int) -> tuple[bool, int]:
        sum_, same = peers.summing(count), True
        random = np.random.default_rng([rank.index, count])
        for turn in range(60):
            values = random.normal(size=count).astype(np.float32) * np.float32(10.0) ** (turn % 30)
            values[: len(ODD)] = random.permutation(ODD)[: min(count, len(ODD))]
            ours, theirs = torch.from_numpy(values.copy()), torch.from_numpy(values.copy())
            sum_(ours)
            peers.sum(theirs)
            known = ~torch.isnan(theirs)
            same &= torch.equal(torch.isnan(ours), ~known)
            same &= torch.equal(ours[known].view(torch.int32), theirs[known].view(torch.int32))
        return same, _maps()


def _maps() -> int:
    return Path("/proc/self/maps").read_text().count("mlcore-sums")


def both(client: Client, program: Any) -> tuple[Any, ...]:
    return run_gang(client, program, ranks=2, recovery=Recovery(), rendezvous=StoreRendezvous()).results


def test_the_sums_have_the_same_bits_and_their_memory_is_gone_with_them(two: Client) -> None:
    for found in both(two, Sums((1, 7, 1000, 100_003))):
        assert found["equal"]
        assert found["mapped"] == (0, 1, 0)


@pytest.mark.parametrize("index", [0, 1])
def test_where_one_cannot_map_it_both_leave_it_and_sum_by_gloo(two: Client, index: int) -> None:
    for found in both(two, Sums((5,), refused_by=index)):
        assert found["equal"]
        assert found["mapped"] == (0, 0, 0)


def test_it_is_for_two_ranks_and_no_more_memory_than_its_limit() -> None:
    assert SharedSums.open(0, 3, 10) is None  # without a word to the others, who know it too
    assert SharedSums.open(0, 2, 8 << 20) is None


def test_memory_of_another_process_is_mapped_only_if_it_is_the_one_that_was_made() -> None:
    made = beside._made(8192)
    assert made is not None
    descriptor, secret = made
    try:
        assert beside._mapped(os.getpid(), descriptor, secret, 8192) is not None
        assert beside._mapped(os.getpid(), descriptor, bytes(16), 8192) is None
        assert beside._mapped(os.getpid(), descriptor, secret, 4096) is None
        assert beside._mapped(os.getpid(), 10_000, secret, 8192) is None
        assert beside._mapped(2**22 + 1, descriptor, secret, 8192) is None
    finally:
        os.close(descriptor)


def test_a_peer_that_is_lost_while_it_is_opened_leaves_no_descriptor(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(*_: object) -> None:
        raise RuntimeError("gone")

    monkeypatch.setattr(beside.distributed, "broadcast_object_list", lost)
    before = len([*Path("/proc/self/fd").iterdir()])
    with pytest.raises(RuntimeError, match="gone"):
        SharedSums.open(0, 2, 10)
    assert len([*Path("/proc/self/fd").iterdir()]) == before


@pytest.mark.parametrize("wrong", [torch.ones(3), torch.ones(4, 1), torch.ones(4, dtype=torch.float64)])
def test_other_values_than_were_told_of_are_refused_and_not_taken_for_a_lost_peer(
    monkeypatch: pytest.MonkeyPatch, wrong: torch.Tensor
) -> None:
    memory = SharedSums(0, torch.zeros(2, 2, 4))
    monkeypatch.setattr(SharedSums, "open", lambda *_: memory)

    with pytest.raises(ValueError, match=r"not 4 of float32"):
        Peers(0, 2, beside=True).summing(4)(wrong)
