"""What a machine lacks is no reason to leave an entity to the model of all rows: it is told with the entity and its cause."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from distributed import Client

from mlflow_core.config.cluster import ClusterSettings
from mlflow_core.engine.cluster.connect import open_cluster
from mlflow_core.errors import EngineError, MachineError, TrainError
from mlflow_core.spec.trainer import Family, Torch, XGBoost
from mlflow_core.train.data.training_set import TrainingData
from mlflow_core.train.family.fit import _Broken, _is_of_the_machine, _MemberProgram
from mlflow_core.train.pool import Slot
from mlflow_core.train.xgboost.rank import _is_of_the_machine as words_of_the_machine
from tests.train.family.nets import FAR
from tests.train.made import fit, table, training_set, write

TREES = XGBoost(rounds=5, max_depth=3, seed=3)


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with open_cluster(ClusterSettings(workers=2, memory="2GiB")) as client:
        yield client


def failing(how: str) -> Family:
    network = Torch(
        module="tests.train.family.nets:Failing",
        arguments={"how": how},
        epochs=1,
        batch_size=256,
        device="cpu",
    )
    return Family(trainer=network, by=("carrier",), least_rows=100)


def marked(folder: Path, *, every: bool = False) -> TrainingData:
    """The usual rows; a gust of the carrier UA, or each of them, is beyond all measure."""

    def part(rows: int, seed: int) -> pa.Table:
        made = table(rows, seed)
        of_ua = np.flatnonzero(np.array(made["carrier"].to_pylist(), dtype=object) == "UA")
        gust = made["gust"].to_numpy().copy()
        gust[of_ua if every else of_ua[-1:]] = FAR
        return made.set_column(made.column_names.index("gust"), "gust", pa.array(gust))

    return write(folder, {"train": [part(1200, 1)], "validate": [part(600, 2)], "test": [part(300, 3)]})


SAID = [
    ("memory", "the model of carrier=UA: there is no memory left", MachineError, MemoryError),
    ("disk", "the model of carrier=UA: the disk is full. Free some space", MachineError, OSError),
    ("mistake", "the model of carrier=UA: ZeroDivisionError: a mistake in the network", TrainError, ZeroDivisionError),
]  # fmt: skip


@pytest.mark.parametrize("where", ["here", "on workers"])
@pytest.mark.parametrize(("how", "said", "kind", "cause"), SAID)
def test_what_breaks_one_entitys_training_is_told_with_the_entity_and_its_cause(
    tmp_path: Path,
    client: Client,
    where: str,
    how: str,
    said: str,
    kind: type[TrainError],
    cause: type[Exception],
) -> None:
    data = marked(tmp_path / "data")

    with pytest.raises(kind, match=said) as raised:
        fit(failing(how), data, workdir=tmp_path / "work", client=client if where == "on workers" else None)

    assert isinstance(raised.value.__cause__, cause)
    left = [path.name for path in (tmp_path / "work").iterdir()]
    assert not {"family", "members"} & set(left)


def test_a_cause_below_an_error_of_ours_travels_too(tmp_path: Path, client: Client) -> None:
    data = marked(tmp_path / "data", every=True)  # so that the trial rows of its network are far too

    with pytest.raises(
        MachineError, match="the model of carrier=UA: fails on two trial rows: MemoryError"
    ) as raised:
        fit(failing("memory"), data, workdir=tmp_path / "work", client=client)

    assert isinstance(raised.value.__cause__, MemoryError)


@pytest.mark.chaos
def test_an_entity_whose_training_kills_its_workers_is_named(tmp_path: Path) -> None:
    data = marked(tmp_path / "data")

    with (
        open_cluster(ClusterSettings(workers=2, memory="2GiB")) as own,
        pytest.raises(MachineError, match="the model of carrier=UA: its worker was lost 3 times") as raised,
    ):
        fit(failing("killed"), data, workdir=tmp_path / "work", client=own)

    assert isinstance(raised.value.__cause__, TrainError)


def test_a_member_that_cannot_write_is_broken_and_not_refused(tmp_path: Path) -> None:
    (tmp_path / "members").write_text("a file where a folder should be made")
    program = _MemberProgram(TREES, training_set(tmp_path / "data"), tmp_path / "members")

    found = program(Slot(1, lambda _: None, lambda: False))

    assert isinstance(found, _Broken)
    assert isinstance(found.root, NotADirectoryError)
    assert isinstance(found.told("carrier=AA"), MachineError)
    assert "the model of carrier=AA: NotADirectoryError" in str(found.told("carrier=AA"))


@pytest.mark.parametrize(
    ("error", "cause", "expected"),
    [
        (TrainError("it did not go"), OSError(28, "No space left on device"), True),
        (TrainError("it did not go"), MemoryError(), True),
        (TrainError("it did not go"), ImportError("no such library"), True),
        (MachineError("there is no GPU"), None, True),
        (TrainError("it did not go"), ValueError(), False),
        (TrainError("it did not go"), None, False),
    ],
)
def test_the_machine_is_told_from_the_rows(
    error: TrainError, cause: Exception | None, expected: bool
) -> None:
    error.__cause__ = cause

    assert _is_of_the_machine(error) is expected


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("std::bad_alloc", True),
        ("[12:01:02] src/common/device_vector.cu:23: Memory allocation error on worker 0: out of memory", True),
        ("Check failed: fout->Write: No space left on device", True),
        ("Check failed: labels.Size() == preds.Size() (200 vs. 100)", False),
    ],
)  # fmt: skip
def test_what_xgboost_says_of_the_machine_is_told_from_what_it_says_of_the_rows(
    said: str, expected: bool
) -> None:
    assert words_of_the_machine(ValueError(said)) is expected


def test_an_error_of_the_cache_names_the_entity(tmp_path: Path) -> None:
    broken = _Broken.of(EngineError("the cache cannot be written to", hint="Make room."))

    assert (
        str(broken.told("carrier=AA"))
        == "the model of carrier=AA: the cache cannot be written to. Make room."
    )


@pytest.mark.chaos
def test_a_disk_too_small_for_the_entities_rows_is_told(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(work)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root can mount a small disk")
    try:
        parts = {"train": [table(20_000, 1)], "validate": [table(500, 2)], "test": [table(500, 3)]}
        data = write(tmp_path / "data", parts)
        family = Family(trainer=TREES, by=("carrier",), least_rows=100)
        with pytest.raises(
            MachineError, match=r"the rows of 4 entities cannot be written apart: .*No space left"
        ):
            fit(family, data, workdir=work, cache=tmp_path / "cache", threads=1)
        assert not list(work.rglob("*.parquet"))
    finally:
        subprocess.run(["umount", str(work)], check=True)
