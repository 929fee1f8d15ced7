"""A training that was disturbed: it goes on from its checkpoint, and ends with the weights of an undisturbed one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from distributed import Client

from mlflow_core.config.cluster import ClusterSettings
from mlflow_core.engine.cluster.connect import open_cluster
from mlflow_core.errors import TrainError
from mlflow_core.spec.network import MLP
from mlflow_core.spec.trainer import Torch
from mlflow_core.train.data.training_set import PARTS, TrainingData
from mlflow_core.train.gang.checkpoints import Checkpoints
from mlflow_core.train.gang.rank import Disrupted
from mlflow_core.train.models.model import Model
from mlflow_core.train.torch.state import agreed
from tests.train.kept import Kept
from tests.train.made import FEATURES, fit, training_set

TRAINER = Torch(
    module=MLP(hidden=(32,), dropout=0.2, embedding=8),
    epochs=4,
    batch_size=128,
    learning_rate=3e-3,
    schedule="linear",
    ema=0.95,
    early_stopping=4,
    checkpoint_every=6,
    seed=11,
)
STEPS = 4 * 28


def but(trainer: Torch, **fields: object) -> Torch:
    return Torch.model_validate(trainer.model_dump() | fields)


class Stops(Kept):
    """Fails when it is told of a step, as a process does that is interrupted."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at = at

    def metrics(self, metrics: Mapping[str, float], *, step: int | None = None) -> None:
        if "batch_loss" in metrics and step is not None and step >= self.at:
            raise KeyboardInterrupt
        super().metrics(metrics, step=step)


def files(folder: Path) -> list[str]:
    """What a training has left, besides the matrices, which are a cache."""
    return sorted(
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and "matrices" not in path.parts
    )


def same(one: Model, other: Model) -> None:
    assert one.scorer.weights == other.scorer.weights
    assert one.history == other.history
    assert one.best == other.best


@pytest.mark.parametrize("precision", ["float32", "fp16"])
@pytest.mark.parametrize("at", [3, 9, 29, 60, STEPS])
def test_an_interrupted_training_goes_on_to_the_same_bits(tmp_path: Path, at: int, precision: str) -> None:
    data = training_set(tmp_path / "data")
    trainer = but(TRAINER, precision=precision)
    undisturbed = fit(trainer, data, workdir=tmp_path / "undisturbed")

    with pytest.raises(KeyboardInterrupt):
        fit(trainer, data, workdir=tmp_path / "work", recorder=Stops(at))
    left = files(tmp_path / "work")
    kept = Kept()
    resumed = fit(trainer, data, workdir=tmp_path / "work", recorder=kept)

    same(undisturbed, resumed)
    assert all(name.startswith("checkpoints/") for name in left)
    assert bool(left) == (at > 6)
    if at > 6:
        assert min(step for step, told in kept.told if "batch_loss" in told) > at - 12
    assert files(tmp_path / "work") == []


def test_checkpoints_hold_no_pickle(tmp_path: Path) -> None:
    data = training_set(tmp_path / "data")
    with pytest.raises(KeyboardInterrupt):
        fit(TRAINER, data, workdir=tmp_path / "work", recorder=Stops(60))

    for path in (tmp_path / "work" / "checkpoints").iterdir():
        content = path.read_bytes()
        assert b"torch._utils" not in content
        assert b"cpickle" not in content.lower()
        assert b"network.safetensors" in content


def test_a_truncated_checkpoint_is_passed_over_for_the_one_before(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = training_set(tmp_path / "data")
    undisturbed = fit(TRAINER, data, workdir=tmp_path / "undisturbed")
    with pytest.raises(KeyboardInterrupt):
        fit(TRAINER, data, workdir=tmp_path / "work", recorder=Stops(60))
    newest = max((tmp_path / "work" / "checkpoints").glob("*.checkpoint"))
    newest.write_bytes(newest.read_bytes()[:-100])

    resumed = fit(TRAINER, data, workdir=tmp_path / "work")

    same(undisturbed, resumed)
    assert f"{newest} is damaged" in caplog.text


@pytest.mark.parametrize("fields", [{"learning_rate": 1e-3}, {"seed": 12}, {"module": MLP(hidden=(16,))}])
def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path, fields: dict[str, Any]) -> None:
    data = training_set(tmp_path / "data")
    with pytest.raises(KeyboardInterrupt):
        fit(TRAINER, data, workdir=tmp_path / "work", recorder=Stops(60))

    with pytest.raises(TrainError, match="the checkpoint is of another training"):
        fit(but(TRAINER, **fields), data, workdir=tmp_path / "work")


def test_a_checkpoint_of_another_order_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = training_set(tmp_path / "data")
    with pytest.raises(KeyboardInterrupt):
        fit(TRAINER, data, workdir=tmp_path / "work", recorder=Stops(60))

    monkeypatch.setattr("mlflow_core.train.torch.fit.ORDER_FORMAT", 1)
    with pytest.raises(TrainError, match="the checkpoint is of another training"):
        fit(TRAINER, data, workdir=tmp_path / "work")


def test_how_often_checkpoints_are_written_changes_nothing(tmp_path: Path) -> None:
    data = training_set(tmp_path / "data")

    often = fit(TRAINER, data, workdir=tmp_path / "often")
    seldom = fit(but(TRAINER, checkpoint_every=None), data, workdir=tmp_path / "seldom")

    same(often, seldom)


def test_two_ranks_are_interrupted_and_go_on_to_the_same_bits(tmp_path: Path, two: Client) -> None:
    data, trainer = training_set(tmp_path / "data"), but(TRAINER, workers=2)
    undisturbed = fit(trainer, data, workdir=tmp_path / "undisturbed", client=two)

    with pytest.raises(KeyboardInterrupt):
        fit(trainer, data, workdir=tmp_path / "work", client=two, recorder=Stops(20))
    resumed = fit(trainer, data, workdir=tmp_path / "work", client=two)

    same(undisturbed, resumed)
    assert files(tmp_path / "work") == []


MOMENTS = {
    "load": ("mlflow_core.train.data.matrix.StoredMatrix.open", 1, 1),
    "network": ("mlflow_core.train.torch.rank.build", 1, 1),
    "first step": ("mlflow_core.train.torch.loop.Training._step", 1, 1),
    "mid": ("mlflow_core.train.torch.loop.Training._step", 2, STEPS - 1),
    "late": ("mlflow_core.train.torch.loop.Training._step", STEPS // 2, STEPS - 1),
    "in a sum": ("mlflow_core.train.torch.beside.SharedSums.sum", 2, STEPS),
    "writing a checkpoint": ("mlflow_core.train.gang.folder.os.fsync", 2, 12),
    "renaming a checkpoint": ("mlflow_core.train.gang.folder.os.replace", 1, 8),
    "validation": ("mlflow_core.train.torch.loop.Training._validate", 1, 3),
    "last step": ("mlflow_core.train.torch.loop.Training._step", STEPS, STEPS),
}


def arm(where: str, call: int) -> None:
    """Make this process end at a call of a function, as if it had been killed then."""
    import importlib

    parts, split = where.split("."), 0
    for split in range(len(parts) - 1, 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:split]))
            break
        except ModuleNotFoundError:
            continue
    for name in parts[split:-1]:
        found = getattr(found, name)
    real, calls = getattr(found, parts[-1]), 0

    def doomed(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **named)

    setattr(found, parts[-1], doomed)


def processes(client: Client) -> dict[str, int]:
    found: dict[str, int] = client.run(os.getpid)
    return found


@contextmanager
def armed(client: Client, moment: str, seed: int) -> Iterator[None]:
    """While one of the workers is to be killed at a moment drawn from a seed; it is told which and when."""
    where, least, most = MOMENTS[moment]
    random = np.random.default_rng(seed)
    call = int(random.integers(least, most + 1))
    writes = "checkpoint" in moment
    facts = client.run_on_scheduler(
        lambda dask_scheduler: {at: str(one.name) for at, one in dask_scheduler.workers.items()}
    )
    addresses = sorted(facts, key=lambda at: facts[at])
    victim = addresses[0 if writes else int(random.integers(0, len(addresses)))]
    print(f"seed {seed}: kill {victim} at call {call} of {where}")
    before = processes(client)
    client.run(arm, where, call, workers=[victim])
    yield
    assert before[victim] not in psutil.pids()
    client.wait_for_workers(2, timeout=60)
    assert len(processes(client)) == 2


def _killed(
    tmp_path: Path, client: Client, moment: str, seed: int, told: Callable[[Model, Model], None]
) -> None:
    data, trainer = training_set(tmp_path / "data"), but(TRAINER, workers=2)
    undisturbed = fit(trainer, data, workdir=tmp_path / "undisturbed", client=client)

    with armed(client, moment, seed):
        model = fit(trainer, data, workdir=tmp_path / "work", client=client)

    assert model.history["loss"][-1] == pytest.approx(undisturbed.history["loss"][-1], rel=0.01)
    assert any("was lost while it trained" in note for note in model.notes)
    assert files(tmp_path / "work") == []
    told(undisturbed, model)


@pytest.mark.chaos
@pytest.mark.parametrize("moment", ["mid", "writing a checkpoint"])
def test_a_killed_worker_is_replaced_and_changes_nothing(tmp_path: Path, two: Client, moment: str) -> None:
    _killed(tmp_path, two, moment, 1, same)


@pytest.mark.long
@pytest.mark.chaos
@pytest.mark.parametrize(("seed", "moment"), list(enumerate(MOMENTS)))
def test_a_worker_killed_at_any_moment_changes_nothing(
    tmp_path: Path, two: Client, seed: int, moment: str
) -> None:
    _killed(tmp_path, two, moment, seed, same)


@pytest.mark.long
@pytest.mark.chaos
def test_without_a_replacement_the_gang_shrinks_and_learns_as_much(tmp_path: Path) -> None:
    data = training_set(tmp_path / "data")
    trainer = but(TRAINER, workers=2, recovery={"replace_within": "1s"})
    with open_cluster(ClusterSettings(workers=2, memory="3GiB")) as client:
        undisturbed = fit(trainer, data, workdir=tmp_path / "undisturbed", client=client)

        class Ending(Kept):
            def metrics(self, metrics: Mapping[str, float], *, step: int | None = None) -> None:
                if step is not None and step > 20 and len(client.scheduler_info()["workers"]) == 2:
                    address = next(iter(client.scheduler_info()["workers"]))
                    client.retire_workers([address], close_workers=True, remove=True)

        model = fit(trainer, data, workdir=tmp_path / "work", client=client, recorder=Ending())

    assert model.history["loss"][-1] == pytest.approx(undisturbed.history["loss"][-1], rel=0.01)
    assert files(tmp_path / "work") == []


def written(folder: Path) -> TrainingData:
    """The training set that ``training_set`` has written."""
    shards = {part: tuple(sorted(folder.glob(f"{part}-*.parquet"))) for part in PARTS}
    return TrainingData(shards=shards, label="label", features=FEATURES, request=("carrier", "hour"))


DRIVER = """
import sys
from pathlib import Path
from distributed import Client
from tests.train.torch.test_resume import TRAINER, but, fit, written

if __name__ == "__main__":
    folder, address = Path(sys.argv[1]), sys.argv[2]
    trainer = but(TRAINER, workers=2 if address else 1, epochs=60)
    data = written(folder / "data")
    print("ready", flush=True)
    fit(trainer, data, workdir=folder / "work", client=Client(address) if address else None)
"""


def _killed_driver(tmp_path: Path, client: Client | None) -> None:
    trainer = but(TRAINER, workers=2 if client else 1, epochs=60)
    data = training_set(tmp_path / "data")
    undisturbed = fit(trainer, data, workdir=tmp_path / "undisturbed", client=client)
    address = client.scheduler.address if client else ""
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(tmp_path), address], stdout=subprocess.PIPE, text=True
    )
    assert driver.stdout is not None
    assert driver.stdout.readline() == "ready\n"
    checkpoints = tmp_path / "work" / "checkpoints"
    until = time.monotonic() + 60
    while time.monotonic() < until and not any(checkpoints.glob("*.checkpoint")):
        time.sleep(0.005)
    driver.kill()
    assert driver.wait() == -signal.SIGKILL
    driver.stdout.close()
    if client is not None:
        until = time.monotonic() + 30
        while time.monotonic() < until and any(client.processing().values()):
            time.sleep(0.05)
        assert not any(client.processing().values())

    resumed = fit(trainer, data, workdir=tmp_path / "work", client=client)

    same(undisturbed, resumed)
    assert files(tmp_path / "work") == []


@pytest.mark.chaos
def test_a_killed_driver_is_run_again_and_goes_on(tmp_path: Path) -> None:
    _killed_driver(tmp_path, None)


@pytest.mark.long
@pytest.mark.chaos
def test_a_killed_driver_of_a_gang_is_run_again_and_goes_on(tmp_path: Path, two: Client) -> None:
    _killed_driver(tmp_path, two)


class OfRankZero:
    """The peers of rank 1, to whom rank 0 says where it goes on."""

    device, index = torch.device("cpu"), 1

    def __init__(self, at: int) -> None:
        self.at = at

    def copy(self, tensors: list[torch.Tensor]) -> None:
        tensors[0].fill_(self.at)


def test_all_ranks_go_on_from_the_checkpoint_that_rank_0_sees(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path, "mine")
    assert agreed(kept, OfRankZero(-1)) is None
    for at in (40, 48):
        kept.write(at, {}, {"at": at})

    older, newest = agreed(kept, OfRankZero(40)), agreed(kept, OfRankZero(48))

    assert (older.facts, newest.facts) == ({"at": 40}, {"at": 48})
    assert agreed(kept, OfRankZero(-1)) is None
    with pytest.raises(Disrupted, match="rank 1 does not see the checkpoint 56 that rank 0 sees"):
        agreed(kept, OfRankZero(56))
