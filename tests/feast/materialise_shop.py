"""A shop whose orders are materialised again and again: in tests of runs one after the other."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from feast import FeatureStore, RepoConfig

import mlflow_core as ml
from mlflow_core import sources
from mlflow_core.feast.compute_engine import EngineJob
from mlflow_core.online.sqlite import SqliteBackend
from mlflow_core.plan.project import Project
from mlflow_core.plan.schema import view_schema
from mlflow_core.plan.to_feast import to_feast

SEED = 20240301
NOON = datetime(2024, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
CUSTOMERS = 20
EARLY = datetime(2024, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Shop:
    """A shop with twenty customers whose orders are spread over two days, those of some over the last hours only."""

    folder: Path

    @classmethod
    def open(cls, folder: Path, online: Mapping[str, str] | None = None, **engine: Any) -> Shop:
        folder.mkdir(exist_ok=True)
        rng = np.random.default_rng(SEED)
        customer = np.repeat(np.arange(CUSTOMERS), 6)
        back = np.where(customer < 6, 5.0, 48.0)
        times = [NOON + 2 * HOUR - timedelta(hours=float(h)) for h in rng.uniform(0, 1, len(customer)) * back]
        shop = cls(folder)
        shop.orders(customer, rng.integers(1, 9, len(customer)), times)
        kind = "mlflow_core.feast.online_store.PackedOnlineStore"
        online = online or {"type": kind, "path": "online.db"}
        config = {
            "project": "shop",
            "provider": "local",
            "registry": {"registry_type": "sql", "path": f"sqlite:///{folder}/registry.db"},
            "entity_key_serialization_version": 3,
            "repo_path": str(folder),
            "offline_store": {"type": "mlflow_core.feast.offline_store.DaskOfflineStore"},
            "batch_engine": {"type": "mlflow_core.feast.compute_engine.DaskComputeEngine", **engine},
            "online_store": {**online, "clock": (NOON + 9 * HOUR).isoformat()},
        }
        (folder / "config.json").write_text(json.dumps(config))
        shop.apply()
        return shop

    def orders(self, customer: Any, amount: Any, times: list[datetime], name: str = "0") -> None:
        """Write a file of orders."""
        (self.folder / "orders").mkdir(exist_ok=True)
        frame = pd.DataFrame(
            {"customer": customer, "amount": amount, "happened": pd.Series(times).dt.as_unit("us")}
        )
        frame.to_parquet(self.folder / "orders" / f"{name}.parquet", index=False)

    def view(self, over: str = "2h") -> ml.FeatureView:
        return ml.FeatureView(
            "orders",
            entity=ml.Entity("customer"),
            source=ml.ParquetSource("orders", path="orders", event_time="happened"),
            features=["amount", ml.Agg("amount", ["sum", "count"], over=over)],
            availability=ml.Every("1h", delay="10m"),
        )

    @contextmanager
    def store(self) -> Iterator[FeatureStore]:
        """Open Feast's store, and close its online store's connections."""
        store = FeatureStore(config=RepoConfig(**json.loads((self.folder / "config.json").read_text())))
        online: Any = store._get_provider()
        try:
            yield store
        finally:
            asyncio.run(online.online_store.close())

    def apply(self, over: str = "2h") -> None:
        view = self.view(over)
        project = Project(
            name="shop",
            root=self.folder,
            repo=self.folder,
            entities={"customer": view.entity},  # type: ignore[dict-item]
            sources={"orders": view.source},
            views={"orders": view},
            on_demand={},
            services={},
            pipelines={},
            native=(),
        )
        schema = view_schema(view, sources.read_schema(view.source, str(self.folder)))
        with self.store() as store:
            store.apply(to_feast(project, {"orders": schema}))

    def run(self, end: datetime, rewrite: str = "changes", start: datetime = EARLY) -> EngineJob:
        """Materialise and return the view's job, raising what made it fail."""
        with self.store() as store:
            engine: Any = store._get_provider().batch_engine
            engine.rewrite = rewrite
            store.materialize(start, end)
            [job] = engine.last_jobs
        return job

    def killed(self, end: datetime, at_write: int, rewrite: str = "changes") -> None:
        """Materialise in a process that is killed at a write."""
        words = ["-m", "tests.feast.killed_run", str(self.folder / "config.json"), end.isoformat()]
        done = subprocess.run(
            [sys.executable, *words, str(at_write), rewrite], capture_output=True, text=True
        )
        assert done.returncode == -signal.SIGKILL, done.stderr

    @property
    def backend(self) -> SqliteBackend:
        return SqliteBackend(self.folder / "online.db", "shop")

    def read(self) -> dict[str, list[Any]]:
        names = ["amount", "amount_sum_2h", "amount_count_2h"]
        with self.store() as store:
            answer = store.get_online_features(
                features=[f"orders:{name}" for name in names],
                entity_rows=[{"customer": c} for c in range(CUSTOMERS + 3)],
            ).to_dict()
        return {name: answer[name] for name in names}

    @property
    def watermark(self) -> datetime:
        with self.store() as store:
            return store.get_feature_view("orders").materialization_intervals[-1][1]


def undisturbed(folder: Path, end: datetime) -> dict[str, list[Any]]:
    shop = Shop.open(folder)
    shop.run(end, "all")
    return shop.read()
