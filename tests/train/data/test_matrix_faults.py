"""What can go wrong while a matrix is built: wrong columns, damaged shards, killed workers, a full disk."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest
from distributed import Client, LocalCluster

from mlflow_core.errors import EngineError, TrainError
from mlflow_core.telemetry.progress import SilentProgress, Stage
from mlflow_core.train.data import scatter
from mlflow_core.train.data.matrix import build_matrix
from mlflow_core.train.data.preprocess import Feature, Preprocessing
from tests.train.data.numbered import ROW, numbered, rows_of
from tests.train.made import training_set


def test_a_column_that_is_missing_or_no_number_is_named(tmp_path: Path) -> None:
    data = training_set(tmp_path / "d")

    with pytest.raises(TrainError, match=r'train-0\.parquet: there is no column "wieght"'):
        build_matrix(data, "train", ROW_OF_MADE, ("wieght",), tmp_path / "cache")
    with pytest.raises(TrainError, match=r'column "carrier" is of type string.*a boolean or a number'):
        build_matrix(data, "train", ROW_OF_MADE, ("carrier",), tmp_path / "cache")
    with pytest.raises(TrainError, match='there is no column "row" in the shard'):
        build_matrix(data, "train", ROW, (), tmp_path / "cache")
    with pytest.raises(TrainError, match='the dataset has no part "tset"'):
        build_matrix(data, "tset", ROW_OF_MADE, (), tmp_path / "cache")
    stored = build_matrix(data, "test", ROW_OF_MADE, ("label",), tmp_path / "cache")
    with pytest.raises(TrainError, match='the matrix was built without the column "amount"'):
        stored.column("amount")


ROW_OF_MADE = Preprocessing((Feature("delay", "number", "double"),))


def test_a_feature_of_another_kind_leaves_no_matrix(tmp_path: Path, client: Client) -> None:
    data = training_set(tmp_path / "d")
    wrong = Preprocessing((Feature("carrier", "number", "double"),))

    for where in (None, client):
        with pytest.raises(TrainError, match='feature "carrier" is of type string'):
            build_matrix(data, "train", wrong, (), tmp_path / "cache", client=where)

    assert list((tmp_path / "cache").iterdir()) == []


def test_a_shard_that_is_damaged_or_gone_is_named(tmp_path: Path) -> None:
    data, cache = numbered(tmp_path, 5000, groups=500), tmp_path / "cache"
    [path] = data.files("train")
    content = path.read_bytes()

    path.write_bytes(content[:4] + b"\xff" * 20_000 + content[20_004:])
    with pytest.raises(TrainError, match=r"train-0\.parquet: cannot be read"):
        build_matrix(data, "train", ROW, (), cache)
    path.write_bytes(content[:-100])
    with pytest.raises(TrainError, match=r"train-0\.parquet: the shard cannot be read"):
        build_matrix(data, "train", ROW, (), cache)
    path.unlink()
    with pytest.raises(TrainError, match=r"train-0\.parquet: the shard cannot be read"):
        build_matrix(data, "train", ROW, (), cache)
    assert list(cache.iterdir()) == []


@pytest.mark.chaos
def test_a_worker_that_is_killed_while_it_builds_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scatter, "_BUCKET_BYTES", 480_000)  # 40 row groups, 10 buckets
    data = numbered(tmp_path, 400_000, groups=10_000)
    expected = build_matrix(data, "train", ROW, ("label",), tmp_path / "here")
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address="127.0.0.1:0"
        ) as cluster,
        Client(cluster) as workers,
    ):
        stage = _KillingStage(workers, at=(3, 43))
        stored = build_matrix(
            data, "train", ROW, ("label",), tmp_path / "there", client=workers, progress=_OneStage(stage)
        )

    assert len(stage.killed) == 2
    assert stored.digest == expected.digest
    assert stored.path.read_bytes() == expected.path.read_bytes()
    assert [one.name for one in (tmp_path / "there").iterdir()] == [stored.name]


class _KillingStage:
    """Kills the worker that is first in line when so many pieces of work are done."""

    def __init__(self, client: Client, at: tuple[int, ...]) -> None:
        self._client, self._at = client, at
        self._done = 0
        self.killed: list[int] = []

    def advance(self, n: int = 1, *, rows: int = 0, size: int = 0) -> None:
        self._done += 1
        if self._done in self._at:
            pids = self._client.run(os.getpid)
            self.killed.append(sorted(pids.values())[0])
            os.kill(self.killed[-1], signal.SIGKILL)

    def __enter__(self) -> _KillingStage:
        return self

    def __exit__(self, *_: object) -> None:
        return None


class _OneStage(SilentProgress):
    def __init__(self, stage: _KillingStage) -> None:
        self._stage = stage

    def stage(self, name: str, total: int | None = None, unit: str = "") -> Stage:
        return self._stage


@pytest.mark.chaos
def test_a_full_disk_is_told_before_the_work_and_leaves_nothing(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(cache)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root can mount a small disk")
    try:
        with pytest.raises(
            TrainError, match=r"600,000 bytes, cannot be written: No space left on device.*mlcore cache clean"
        ):
            build_matrix(numbered(tmp_path, 50_000), "train", ROW, ("label",), cache)
        assert list(cache.iterdir()) == []
        stored = build_matrix(numbered(tmp_path / "less", 20_000), "train", ROW, ("label",), cache)
        assert sorted(rows_of(stored)) == list(range(20_000))
    finally:
        subprocess.run(["umount", str(cache)], check=True)


def test_a_folder_that_cannot_be_written_to_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(EngineError, match="cannot be written to: Not a directory"):
        build_matrix(numbered(tmp_path, 10), "train", ROW, (), tmp_path / "file" / "cache")
