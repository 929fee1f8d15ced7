"""Workers that die while they write, stores that are away, and every backend under workers."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from mlflow_core import sources
from mlflow_core.config.settings import ClusterSettings
from mlflow_core.engine.cluster.connect import open_cluster
from mlflow_core.engine.materialise import Ask, materialise
from mlflow_core.engine.route import OnDask
from mlflow_core.engine.sink import Sunk
from mlflow_core.feast.packed_sink import PackedSink
from mlflow_core.online.backend import Ask as Read
from mlflow_core.online.keys import encode_key
from mlflow_core.online.layout import codec_of
from mlflow_core.online.sqlite import SqliteBackend
from mlflow_core.plan.schema import view_schema
from tests.feast.materialise_shop import CUSTOMERS, HOUR, NOON, SEED, Shop, undisturbed
from tests.servers.online import BACKENDS, online_section


@pytest.mark.parametrize("backend", BACKENDS)
def test_workers_write_changes_into_every_backend(tmp_path: Path, backend: str) -> None:
    with online_section(backend) as section:
        shop = Shop.open(tmp_path / "shop", section, cluster={"profile": "local", "workers": 2})
        assert shop.run(NOON).written == CUSTOMERS
        second = shop.run(NOON + HOUR).report
        found = shop.read()

    assert second is not None
    assert 6 <= second.sunk.changed == CUSTOMERS - second.skipped < CUSTOMERS - 3
    assert found == undisturbed(tmp_path / "other", NOON + HOUR)


def test_a_store_that_is_away_for_a_while_is_waited_for(tmp_path: Path) -> None:
    shop = Shop.open(tmp_path / "shop")
    config = json.loads((shop.folder / "config.json").read_text())
    config["online_store"]["timeout_s"] = 0.3
    (shop.folder / "config.json").write_text(json.dumps(config))
    shop.run(NOON)
    locking, begun = threading.Event(), SqliteBackend.begin

    def lock() -> None:
        with sqlite3.connect(shop.folder / "online.db", isolation_level=None) as connection:
            connection.execute("BEGIN IMMEDIATE")
            locking.set()
            time.sleep(1.5)
            connection.execute("ROLLBACK")
        connection.close()

    thread = threading.Thread(target=lock)

    def begin(self: SqliteBackend, *arguments: Any) -> None:
        begun(self, *arguments)
        thread.start()
        locking.wait()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SqliteBackend, "begin", begin)
        shop.run(NOON + HOUR)
    thread.join()
    assert shop.read() == undisturbed(tmp_path / "other", NOON + HOUR)


@dataclass
class KillingOnce:
    """A sink that writes some rows and then kills its process, once in all."""

    sink: PackedSink
    mark: Path

    def write(self, table: pa.Table) -> Sunk:
        if not self.mark.exists():
            self.sink.write(table.slice(0, table.num_rows // 2))
            self.mark.write_text("killed")
            os.kill(os.getpid(), signal.SIGKILL)
        return self.sink.write(table)

    def close(self) -> None:
        self.sink.close()


def test_a_worker_that_is_killed_while_it_writes_loses_nothing(tmp_path: Path) -> None:
    n = 5_000
    rng = np.random.default_rng(SEED)
    events = pd.DataFrame(
        {
            "customer": rng.integers(0, 1_000, n),
            "amount": rng.normal(size=n),
            "happened": pd.Series([NOON - HOUR * h for h in rng.uniform(0, 40, n)]).dt.as_unit("us"),
        }
    )
    (tmp_path / "orders").mkdir()
    events.to_parquet(tmp_path / "orders" / "0.parquet")
    view = Shop(tmp_path).view()
    schema = view_schema(view, sources.read_schema(view.source, str(tmp_path)))
    boundary = int(NOON.timestamp()) * 1_000_000
    there = SqliteBackend(tmp_path / "there.db", "shop")
    here = SqliteBackend(tmp_path / "here.db", "shop")

    with open_cluster(ClusterSettings(workers=2, memory="1GiB")) as client:
        sink = KillingOnce(PackedSink(there, view, boundary, schema), tmp_path / "mark")
        [done] = materialise(
            [Ask(view, boundary, sink)],
            base=str(tmp_path),
            route=OnDask(client, tmp_path / "work", buckets=6),
        )
    assert done.failure is None
    assert (tmp_path / "mark").exists()
    [alone] = materialise([Ask(view, boundary, PackedSink(here, view, boundary, schema))], base=str(tmp_path))

    asks = [Read(("customer",), ("orders",), [encode_key((key,)) for key in range(1_001)])]
    left, right = ([row[0] for row in store.read(asks)[0]] for store in (there, here))
    codec = codec_of(view, schema)
    assert done.report.rows == alone.report.rows == sum(one is not None for one in right)
    assert [one is None for one in left] == [one is None for one in right]
    kept = [i for i, one in enumerate(right) if one is not None]
    ours, theirs = (
        codec.decode([values[i] for i in kept if values[i] is not None]).columns for values in (left, right)
    )
    assert ours[0] == theirs[0]
    assert ours[2] == theirs[2]
    there.close()
    here.close()
