"""The Dask route when its workers die, fail or vanish: an answer or one clear error, and no files left behind."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import dask
import distributed  # noqa: F401  its settings must be there before one is set for a while
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlflow_core import sources
from mlflow_core.config.settings import ClusterSettings
from mlflow_core.engine.cluster.connect import open_cluster
from mlflow_core.engine.retrieve import retrieve, retrieve_to_shards
from mlflow_core.engine.route import OnDask
from mlflow_core.errors import EngineError, SourceError
from mlflow_core.plan.retrieval import plan_retrieval
from mlflow_core.spec import Agg, Entity, FeatureService, FeatureView, OnDemand, ParquetSource
from tests.engine.bad_parts import Broken, Deadly, Part, failing_later, slow

VIEW = FeatureView(
    "v",
    entity=Entity("k"),
    source=ParquetSource("events", path="events.parquet", event_time="t"),
    features=["x", Agg("x", "sum", over="1h", name="s")],
)
PLAN = plan_retrieval(FeatureService("m", [VIEW]))
ANSWER = {"x": [1.0, 2.0], "s": [1.0, 2.0]}

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # sockets of workers killed on purpose
]


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    # One death is forgiven, the second is the task's fault: Dask's own three only make the test slow.
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 1}),
        open_cluster(ClusterSettings(workers=2, memory="1GiB")) as client,
    ):
        yield client


@pytest.fixture
def asked(tmp_path: Path, client: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Retrieve, with the source's only part replaced by others."""
    moments = pa.array([1, 2], pa.int64()).cast(pa.timestamp("us", "UTC"))
    pq.write_table(pa.table({"k": [1, 2], "t": moments, "x": [1.0, 2.0]}), tmp_path / "events.parquet")
    rows = pa.table({"k": [1, 2], "event_timestamp": moments})
    listing = sources.open_source(VIEW.source, str(tmp_path))
    [inner] = listing.found

    client.wait_for_workers(2, timeout=60)  # the test before may have killed them

    def ask(*kinds: tuple[type[Part], float]) -> dict[str, Any]:
        parts = tuple(kind(inner, tmp_path / "flag", wait) for kind, wait in kinds)
        monkeypatch.setattr(sources, "open_source", lambda source, base: replace(listing, found=parts))
        route = OnDask(client, tmp_path / "work", buckets=3)
        return retrieve(PLAN, rows, base=str(tmp_path), route=route).select(["x", "s"]).to_pydict()

    return ask


def when_read(flag: Path, act: Callable[[int], object]) -> threading.Thread:
    """Do something as soon as a worker reads, with its process number."""

    def watch() -> None:
        while not (flag.exists() and flag.read_text().endswith("\n")):
            time.sleep(0.01)
        act(int(flag.read_text().split()[0]))

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


def left(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "work").rglob("*"))


def test_a_worker_killed_at_work_costs_time_and_no_value(asked, tmp_path):
    killer = when_read(tmp_path / "flag", lambda pid: os.kill(pid, signal.SIGKILL))

    answer = asked((Part, 1.0))

    killer.join()
    assert answer == ANSWER
    assert len(set((tmp_path / "flag").read_text().split())) == 2
    assert left(tmp_path) == []


def test_a_part_that_kills_every_worker_is_one_clear_error_and_leaves_no_file(asked, tmp_path):
    with pytest.raises(EngineError, match=r"parting events: .* killed the workers that tried it"):
        asked((Part, 0.0), (Deadly, 0.0))

    assert left(tmp_path) == []


def test_a_task_that_is_still_writing_when_another_fails_leaves_no_file(asked, tmp_path):
    with pytest.raises(SourceError, match="events: cannot be read"):
        asked((Part, 1.0), (Broken, 0.0))

    assert left(tmp_path) == []
    time.sleep(1.5)  # the task that was not to be stopped has ended
    assert left(tmp_path) == []


@pytest.fixture
def written(tmp_path: Path, client: Any) -> Callable[..., pa.Table]:
    """Write shards of one row each, whose on-demand function tells where it is and waits."""
    moments = pa.array([1, 2], pa.int64()).cast(pa.timestamp("us", "UTC"))
    pq.write_table(pa.table({"k": [1, 2], "t": moments, "x": [1.0, 2.0]}), tmp_path / "events.parquet")
    client.wait_for_workers(2, timeout=60)

    def write(function: OnDemand, *waits: float) -> pa.Table:
        rows = pa.table(
            {"k": [1, 2], "event_timestamp": moments, "flag": [str(tmp_path / "flag")] * 2, "wait": waits}
        )
        shards = retrieve_to_shards(
            plan_retrieval(FeatureService("m", [VIEW, function])),
            rows,
            base=str(tmp_path),
            out=tmp_path / "out",
            route=OnDask(client, tmp_path / "work", buckets=3),
            rows_per_shard=1,
        )
        assert [path.name for path in shards] == ["part-00000.parquet", "part-00001.parquet"]
        return pa.concat_tables([pq.read_table(path) for path in shards])

    return write


def test_on_demand_functions_run_on_the_workers(written):
    table = written(slow, 0.0, 0.0)

    assert table.select(["x", "s"]).to_pydict() == ANSWER
    assert os.getpid() not in table["where"].to_pylist()


def test_a_worker_killed_while_it_writes_a_shard_costs_time_and_no_value(written, tmp_path):
    killer = when_read(tmp_path / "flag", lambda pid: os.kill(pid, signal.SIGKILL))

    table = written(slow, 1.0, 1.0)

    killer.join()
    killed = int((tmp_path / "flag").read_text().split()[0])
    assert table.select(["x", "s"]).to_pydict() == ANSWER
    assert killed not in table["where"].to_pylist()
    assert left(tmp_path) == []
    assert len(list((tmp_path / "out").iterdir())) == 2


def test_a_shard_that_fails_while_another_is_written_leaves_no_file_and_no_shard(written, tmp_path):
    with pytest.raises(EngineError, match='OnDemand "failing_later": fails with ValueError: no such wind'):
        written(failing_later, 1.0, 0.0)

    time.sleep(1.5)  # the task that was not to be stopped has ended
    assert left(tmp_path) == []
    assert list((tmp_path / "out").iterdir()) == []


# Last, because the module's cluster is gone afterwards. A cluster that closes ends its workers first: whether the
# client hears of them or of the scheduler is a race, and both are true.
@pytest.mark.long
def test_a_cluster_that_goes_away_is_one_clear_error_and_leaves_no_file(asked, client, tmp_path):
    closer = when_read(tmp_path / "flag", lambda _: client.cluster.close())

    with pytest.raises(
        EngineError, match=r"parting events: (the Dask cluster went away|one of its parts killed the workers)"
    ):
        asked((Part, 2.0))

    closer.join()
    assert left(tmp_path) == []
