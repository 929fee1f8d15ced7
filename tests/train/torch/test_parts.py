"""The parts of the loop by themselves: sums over ranks, the rendezvous, rates, decay, losses, batches."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from distributed import Client

from mlflow_core.errors import TrainError
from mlflow_core.spec.network import MLP
from mlflow_core.spec.recovery import Recovery
from mlflow_core.spec.trainer import Torch
from mlflow_core.train.gang.gang import run_gang
from mlflow_core.train.gang.rank import Disrupted, Rank
from mlflow_core.train.networks.build import build
from mlflow_core.train.networks.inputs import Category, Inputs, Number
from mlflow_core.train.torch.objectives import Learner, Objective
from mlflow_core.train.torch.optimise import average_decay, decaying, optimiser, rate
from mlflow_core.train.torch.rendezvous import StoreRendezvous, _own_facts, met
from mlflow_core.train.torch.stream import Columns, Stream
from tests.train.torch.programs import Leaves, Sleeps, Trains, rows

TRAINER = Torch(module=MLP(hidden=(16,), dropout=0.0), epochs=3, batch_size=100, learning_rate=1e-2, seed=3)
RENDEZVOUS = StoreRendezvous(("tests.train.torch.programs",))


def test_all_ways_to_sum_gradients_learn_the_same(tmp_path: Path, two: Client) -> None:
    found = {}
    for name, ranks, overlap in (("alone", 1, None), ("flat", 2, False), ("overlapped", 2, True)):
        for parts in (1, 3):
            trainer = TRAINER.model_copy(update={"accumulate": parts})
            program = Trains(trainer, tmp_path / f"{name}{parts}", overlap)
            result = run_gang(two, program, ranks=ranks, recovery=Recovery(), rendezvous=RENDEZVOUS)
            found[name, parts] = result.results[0]

    alone = found["alone", 1]
    assert alone["history"][-1] < 0.6
    for way, other in found.items():
        np.testing.assert_allclose(alone["history"], other["history"], rtol=1e-5, err_msg=str(way))
        for name, learned in alone["weights"].items():
            np.testing.assert_allclose(learned, other["weights"][name], atol=1e-4, err_msg=name)


@pytest.mark.chaos
@pytest.mark.parametrize("shared", [False, True])
def test_a_rank_whose_peer_is_killed_learns_of_it_and_the_gang_goes_on(
    two: Client, shared: bool, record_property: Callable[[str, object], None]
) -> None:
    result = run_gang(two, Leaves("kill", shared), ranks=2, recovery=Recovery(), rendezvous=RENDEZVOUS)

    assert result.results == ("done", "done")
    assert len(result.lost) == 1
    record_property("figures", f"a killed worker is back in training after {result.lost[0].seconds:.1f} s")


def test_a_rank_that_raises_ends_all_of_them_at_once(two: Client) -> None:
    start = time.monotonic()
    with pytest.raises(TrainError, match="ValueError: left"):
        run_gang(two, Leaves("raise", shared=True), ranks=2, recovery=Recovery(), rendezvous=RENDEZVOUS)

    assert time.monotonic() - start < 60
    # And the workers can meet again.
    assert run_gang(two, Sleeps(), ranks=2, recovery=Recovery(), rendezvous=RENDEZVOUS).attempts == 1


def test_ranks_meet_and_part_again_and_again(two: Client) -> None:
    for _ in range(10):
        result = run_gang(two, Sleeps(), ranks=2, recovery=Recovery(), rendezvous=RENDEZVOUS)
        assert result.attempts == 1
        assert result.results == ((True, False, 2), (True, False, 2))


def _rank(index: int, count: int, where: dict[str, object]) -> Rank:
    return Rank(index, count, 1, 0, where, lambda name, facts: None, lambda: False)


def test_the_store_listens_on_the_address_named_only_and_closes(two: Client) -> None:
    with RENDEZVOUS.open(2, "127.0.0.1") as where:
        port = where["port"]
        listening = [
            one.laddr
            for one in psutil.Process().net_connections("tcp")
            if one.status == psutil.CONN_LISTEN and one.laddr.port == port
        ]
        assert [one.ip for one in listening] == ["127.0.0.1"]

    until = time.monotonic() + 5
    while time.monotonic() < until:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                break
    else:
        raise AssertionError("somebody still listens")


def test_an_address_that_is_not_this_machine_s_is_refused() -> None:
    with (
        pytest.raises(TrainError, match="no port to listen at for the ranks"),
        RENDEZVOUS.open(2, "203.0.113.7"),
    ):
        pass


def test_a_rank_whose_store_is_gone_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from datetime import timedelta

    from mlflow_core.train.torch import rendezvous

    monkeypatch.setattr(rendezvous, "_MEET_WITHIN", timedelta(seconds=1))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    with (
        pytest.raises(Disrupted, match="rank 0 does not reach the store"),
        met(_rank(0, 2, {"host": "127.0.0.1", "port": port}), "cpu"),
    ):
        pass


def test_a_rank_whose_peer_does_not_come_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    from datetime import timedelta

    from mlflow_core.train.torch import rendezvous

    monkeypatch.setattr(rendezvous, "_MEET_WITHIN", timedelta(seconds=1))
    with (
        RENDEZVOUS.open(2, "127.0.0.1") as where,
        pytest.raises(Disrupted, match="rank 0 waited for the others"),
        met(_rank(0, 2, dict(where)), "cpu"),
    ):
        pass


def test_containers_of_one_name_are_two_machines_and_processes_beside_each_other_are_on_one() -> None:
    told = "from mlflow_core.train.torch.rendezvous import _own_facts; print(_own_facts()['machine'])"
    beside, contained = (
        subprocess.run([*within, sys.executable, "-c", told], check=True, capture_output=True, text=True)
        for within in ([], ["unshare", "--map-root-user", "--pid", "--fork", "--mount-proc"])
    )

    assert beside.stdout.strip() == _own_facts()["machine"]
    assert contained.stdout.strip() not in ("", beside.stdout.strip())
    assert contained.stdout.split()[0] == beside.stdout.split()[0]


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_the_rate_rises_and_falls_as_torch_s_own_schedules_say(schedule: str) -> None:
    trainer = TRAINER.model_copy(update={"schedule": schedule, "warmup": 0.25, "learning_rate": 0.5})
    one = torch.nn.Parameter(torch.zeros(1))
    theirs = torch.optim.SGD([one], lr=0.5)
    schedules = torch.optim.lr_scheduler
    falling = {
        "constant": schedules.ConstantLR(theirs, 1.0),
        "linear": schedules.LinearLR(theirs, 1.0, 0.0, total_iters=30),
        "cosine": schedules.CosineAnnealingLR(theirs, 30),
    }[schedule]

    for at in range(30):
        expected = theirs.param_groups[0]["lr"] if schedule != "constant" else 0.5
        assert rate(trainer, 10 + at, 40) == pytest.approx(expected)
        theirs.step()
        falling.step()
    assert [rate(trainer, at, 40) for at in range(10)] == pytest.approx([0.05 * (at + 1) for at in range(10)])


def test_biases_norms_and_embeddings_do_not_decay() -> None:
    inputs = Inputs(("a", "b"), numbers=(Number("a", 0),), categories=(Category("b", 1, 3),))
    net = torch.nn.Sequential(build(MLP(hidden=(8,)), {}, inputs, 1), torch.nn.LayerNorm(1))

    decay = decaying(net)

    assert any("layers.0.weight" in name for name in decay)
    assert not any("bias" in name for name in decay)
    assert "0.flat.table.weight" not in decay
    assert "1.weight" not in decay


def test_a_network_without_parameters_is_refused() -> None:
    with pytest.raises(TrainError, match="the network has no parameters to learn"):
        optimiser(torch.nn.Identity(), TRAINER)


def test_an_average_forgets_its_start_first() -> None:
    assert [average_decay(0.9, at) for at in (0, 1, 1000)] == [0.1, 2 / 11, 0.9]


def test_losses_are_what_torch_computes_row_by_row() -> None:
    x, y = torch.randn(6, 3, generator=torch.manual_seed(1)), torch.tensor([0.0, 1, 2, 1, 0, 2])
    mean, std = 1.5, 2.0
    cases = {
        "multiclass": (
            Torch(module=MLP(), objective="multiclass", classes=3),
            torch.nn.functional.cross_entropy(x, y.long(), reduction="none"),
        ),
        "quantile": (
            Torch(module=MLP(), objective="quantile", quantiles=(0.1, 0.5, 0.9)),
            sum(
                torch.where(y * 0 + ((y - mean) / std - x[:, n]) > 0, q, q - 1) * ((y - mean) / std - x[:, n])
                for n, q in enumerate((0.1, 0.5, 0.9))
            ),
        ),
    }
    for name, (trainer, expected) in cases.items():
        objective = Objective.of(trainer, mean, std)
        torch.testing.assert_close(Learner(torch.nn.Identity(), objective)(x, y), expected, msg=name)
    regression = Objective.of(Torch(module=MLP(), objective="regression"), mean, std)
    torch.testing.assert_close(
        Learner(torch.nn.Identity(), regression)(x[:, :1], y) * regression.unit,
        (x[:, 0] * std + mean - y).square(),
    )


def test_members_learn_each_by_themselves() -> None:
    objective = Objective.of(Torch(module=MLP()))
    out, y = torch.randn(4, 3, 1, generator=torch.manual_seed(2)), torch.tensor([0.0, 1, 1, 0])

    losses = Learner(torch.nn.Identity(), objective)(out, y)

    each = [
        torch.nn.functional.binary_cross_entropy_with_logits(out[:, n, 0], y, reduction="none")
        for n in range(3)
    ]
    torch.testing.assert_close(losses, torch.stack(each).mean(dim=0))


def test_a_label_of_one_value_is_not_divided_by_nothing() -> None:
    objective = Objective.of(Torch(module=MLP(), objective="regression"), 3.0, 0.0)

    assert (objective.mean, objective.std) == (3.0, 1.0)


def test_a_stream_also_feeds_torch_s_own_loader() -> None:
    stored = rows(10, 1)
    stream = Stream(lambda: iter([stored[:6], stored[6:]]), Columns(width=5, label=5))

    batches = list(torch.utils.data.DataLoader(stream, batch_size=None))

    assert [len(one.x) for one in batches] == [6, 4]
    np.testing.assert_array_equal(torch.cat([one.y for one in batches]), stored[:, 5])


def test_threads_and_random_numbers_are_as_they_were(tmp_path: Path) -> None:
    torch.manual_seed(9)
    expected, threads, before = torch.rand(3), torch.get_num_threads(), threading.enumerate()
    torch.manual_seed(9)

    run_gang(None, Trains(TRAINER, tmp_path, None), ranks=1, recovery=Recovery())

    torch.testing.assert_close(torch.rand(3), expected)
    assert torch.get_num_threads() == threads
    assert not [one for one in threading.enumerate() if one not in before]
