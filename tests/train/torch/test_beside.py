"""Two ranks on one host sum through memory that both have mapped: the same bits as by gloo, and nothing is left of it."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
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
        taken = beside._taken
        if rank.index == self.refused_by:
            beside._taken = lambda *_: None
        try:
            before, pipes = _maps(), _pipes()
            with met(rank, "cpu") as peers:
                found = [self._compared(rank, peers, count) for count in self.counts]
            equal, within = zip(*found, strict=True)
            mapped = (before, min(within), _maps())
            return {"equal": all(equal), "mapped": mapped, "pipes": _pipes() - pipes}
        finally:
            beside._taken = taken

    def _compared(self, rank: Rank, peers: Peers, count: int) -> tuple[bool, int]:
        sum_, same = peers.summing(count), True
        random = np.random.default_rng([rank.index, count])
        for turn in range(60):
            values = random.normal(size=count).astype(np.float32) * np.float32(10.0) ** (turn % 30)
            values[: len(ODD)] = random.permutation(ODD)[: min(count, len(ODD))]
            own, theirs = torch.from_numpy(values.copy()), torch.from_numpy(values.copy())
            ours, cut = torch.empty(count), count // 3
            sum_([own[:cut], own[cut:]], ours)
            peers.sum(theirs)
            known = ~torch.isnan(theirs)
            same &= torch.equal(torch.isnan(ours), ~known)
            same &= torch.equal(ours[known].view(torch.int32), theirs[known].view(torch.int32))
        return same, _maps()


def _maps() -> int:
    return Path("/proc/self/maps").read_text().count("mlcore-sums")


def _pipes() -> int:
    """How many ends of pipes this process has open."""
    return sum(one.is_fifo() for one in Path("/proc/self/fd").iterdir())


def both(client: Client, program: Any) -> tuple[Any, ...]:
    return run_gang(client, program, ranks=2, recovery=Recovery(), rendezvous=StoreRendezvous()).results


def test_the_sums_have_the_same_bits_and_their_memory_is_gone_with_them(two: Client) -> None:
    for found in both(two, Sums((1, 7, 1000, 100_003))):
        assert found["equal"]
        assert found["mapped"] == (0, 1, 0)
        assert found["pipes"] == 0


@pytest.mark.parametrize("index", [0, 1])
def test_where_one_cannot_map_it_both_leave_it_and_sum_by_gloo(two: Client, index: int) -> None:
    for found in both(two, Sums((5,), refused_by=index)):
        assert found["equal"]
        assert found["mapped"] == (0, 0, 0)
        assert found["pipes"] == 0


def test_it_is_for_two_ranks_and_no_more_memory_than_its_limit() -> None:
    # Without a word to the others, who know it too.
    assert SharedSums.open(0, 3, 10, within=1) is None
    assert SharedSums.open(0, 2, 8 << 20, within=1) is None


def test_what_another_process_offers_is_opened_only_if_it_is_what_was_made() -> None:
    before = len([*Path("/proc/self/fd").iterdir()])
    with beside._offered(8192) as offer:
        assert offer is not None
        taken = beside._taken(offer, 1, 8192)
        assert taken is not None
        os.close(taken.reads)
        os.close(taken.writes)
        taken.memory.close()
        within = len([*Path("/proc/self/fd").iterdir()])
        assert beside._taken(offer, 1, 4096) is None
        wrong: dict[str, Any]
        for wrong in (
            {"secret": bytes(16)},
            {"memory": 10_000},
            {"process": 2**22 + 1},
            {"pipes": (offer.memory, offer.memory)},
            {"pipes": (offer.pipes[0], 10_000)},
        ):
            assert beside._taken(offer._replace(**wrong), 1, 8192) is None
        assert len([*Path("/proc/self/fd").iterdir()]) == within
    assert len([*Path("/proc/self/fd").iterdir()]) == before


def test_a_peer_that_is_lost_while_it_is_opened_leaves_no_descriptor(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(*_: object) -> None:
        raise RuntimeError("gone")

    for name in ("broadcast_object_list", "all_reduce"):
        with monkeypatch.context() as patched:
            patched.setattr(beside.distributed, "broadcast_object_list", lambda *_: None)
            patched.setattr(beside.distributed, name, lost)
            before = len([*Path("/proc/self/fd").iterdir()])
            with pytest.raises(RuntimeError, match="gone"):
                SharedSums.open(0, 2, 10, within=1)
            assert len([*Path("/proc/self/fd").iterdir()]) == before


def test_a_pipe_that_cannot_be_made_leaves_no_descriptor(monkeypatch: pytest.MonkeyPatch) -> None:
    before, pipe, made = len([*Path("/proc/self/fd").iterdir()]), os.pipe, []

    def only_one() -> tuple[int, int]:
        if made:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        made.append(pipe())
        return made[0]

    monkeypatch.setattr(os, "pipe", only_one)
    with beside._offered(8192) as offer:
        assert offer is None
    assert len(made) == 1
    assert len([*Path("/proc/self/fd").iterdir()]) == before


@pytest.fixture
def lines() -> tuple[beside._Line, beside._Line]:
    there, back = os.pipe(), os.pipe()
    return beside._Line(back[0], there[1], 0.2), beside._Line(there[0], back[1], 0.2)


def test_a_peer_that_leaves_is_noticed_and_what_it_said_before_counts(
    lines: tuple[beside._Line, beside._Line],
) -> None:
    one, other = lines
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(one.meet)
        other.meet()
        other.close()
        waiting.result()
    with pytest.raises(RuntimeError, match="is gone"):
        one.meet()
    one.close()


def test_a_peer_that_leaves_while_it_is_waited_for_is_noticed_at_once(
    lines: tuple[beside._Line, beside._Line],
) -> None:
    one, other = lines
    one = beside._Line(one._reads, one._writes, 60)
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(one.meet)
        with pytest.raises(TimeoutError):
            waiting.result(0.1)
        other.close()
        with pytest.raises(RuntimeError, match="is gone"):
            waiting.result(5)
    one.close()


watched = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="this Python cannot watch a process")

RANK = """
import os, signal, sys, time
import torch
from torch import distributed
from mlflow_core.train.torch.beside import SharedSums

index, store = int(sys.argv[1]), distributed.FileStore(sys.argv[2], 2)
distributed.init_process_group("gloo", store=store, rank=index, world_size=2)
sums, total = SharedSums.open(index, 2, 3, within=60), torch.empty(3)
sums.sum([torch.ones(3)], total)
if index == 1:
    if os.fork() == 0:
        time.sleep(60)
        os._exit(0)
    time.sleep(1)
    os.kill(os.getpid(), signal.SIGKILL)
try:
    sums.sum([torch.ones(3)], total)
except RuntimeError as error:
    print(error, flush=True)
os._exit(0)
"""


@watched
def test_a_killed_peer_is_noticed_at_once_though_a_child_of_its_holds_the_pipes(tmp_path: Path) -> None:
    command = [sys.executable, "-c", RANK]
    ranks = [
        subprocess.Popen(
            [*command, str(one), str(tmp_path / "met")], stdout=subprocess.PIPE, start_new_session=True
        )
        for one in range(2)
    ]
    try:
        assert ranks[1].wait(30) == -signal.SIGKILL
        assert ranks[0].communicate(timeout=5)[0] == b"the rank beside this one is gone\n"
        os.killpg(ranks[1].pid, 0)  # the child is still there
    finally:
        for one in ranks:
            with suppress(ProcessLookupError):
                os.killpg(one.pid, signal.SIGKILL)
            one.communicate()


@watched
def test_what_a_peer_said_before_its_process_ended_counts() -> None:
    there, back = os.pipe(), os.pipe()
    line = beside._Line(back[0], there[1], 60)
    peer = subprocess.Popen(["sleep", "60"])
    line.watch(peer.pid)
    os.write(back[1], b"\0")
    peer.kill()
    peer.wait()

    line.meet()
    with pytest.raises(RuntimeError, match="is gone"):
        line.meet()
    line.close()
    for one in (there[0], back[1]):
        os.close(one)


def test_a_peer_that_does_not_come_is_given_up(lines: tuple[beside._Line, beside._Line]) -> None:
    one, other = lines
    with pytest.raises(RuntimeError, match=r"did not come within 0\.2 s"):
        one.meet()
    one.close()
    other.close()


@pytest.mark.parametrize("wrong", [torch.ones(3), torch.ones(5), torch.ones(4, dtype=torch.float64)])
def test_other_values_than_were_told_of_are_refused_and_not_taken_for_a_lost_peer(
    monkeypatch: pytest.MonkeyPatch, lines: tuple[beside._Line, beside._Line], wrong: torch.Tensor
) -> None:
    one, other = lines
    monkeypatch.setattr(SharedSums, "open", lambda *_, **__: SharedSums(0, torch.zeros(2, 2, 4), one))
    peers = Peers(0, 2, beside=True)
    sum_ = peers.summing(4)

    with pytest.raises(ValueError, match=r"not 4 of float32"):
        sum_([torch.ones(4)], wrong)
    with pytest.raises(ValueError, match=r"not 4 of float32"):
        sum_([torch.ones(2), torch.ones(3)], torch.ones(4))
    peers.close()
    other.close()
