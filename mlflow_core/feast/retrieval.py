"""One historical retrieval that came through Feast's API: what it computes, on the cluster that the store names.

Nothing is computed before somebody asks. ``mlflow_core.feast.retrieval_job`` is its face.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
from feast.infra.offline_stores.offline_store import RetrievalMetadata

from mlflow_core.engine.estimate import Estimate, estimate
from mlflow_core.engine.explain import Explanation
from mlflow_core.engine.retrieve import retrieve, retrieve_to_shards
from mlflow_core.feast.cluster import IN_PROCESS, open_route
from mlflow_core.feast.entity_rows import EntityRows
from mlflow_core.plan.erasures import Erasures
from mlflow_core.plan.retrieval import RetrievalPlan

__all__ = ["Retrieval"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Retrieval:
    """Features as of entity rows, not computed yet.

    Attributes:
        plan: Which features, under which clocks.
        rows: The entity rows.
        asked: The references that the caller gave, for Feast's metadata.
        cluster: Where it is computed, as ``feature_store.yaml`` says; see ``mlflow_core.feast.cluster``.
        workdir: A folder that all workers reach, or None for this machine's own.
        repo_path: Folder of the feature repository.
        erasures: Says what was erased by the time that the rows are computed.
    """

    plan: RetrievalPlan
    rows: EntityRows
    asked: tuple[str, ...]
    cluster: str | Mapping[str, Any]
    workdir: str | None
    repo_path: str
    erasures: Callable[[], Erasures]

    def table(self) -> pa.Table:
        """Compute the rows with their features, into this process."""
        rows = self.rows.table()
        with open_route(self.cluster, workdir=self.workdir, base=self.repo_path) as route:
            return retrieve(self.plan.without(self.erasures()), rows, base=self.repo_path, route=route)

    def shards(self, folder: Path) -> tuple[Path, ...]:
        """Compute the rows with their features into Parquet files, on a cluster without bringing them here."""
        rows = self.rows.table()
        with open_route(self.cluster, workdir=self.workdir, base=self.repo_path) as route:
            plan = self.plan.without(self.erasures())
            return retrieve_to_shards(plan, rows, base=self.repo_path, out=folder, route=route)

    def explain(self) -> str:
        """Say what would be read and computed, where and why, from metadata alone."""
        return Explanation(self.plan, self._estimate()).describe()

    def metadata(self) -> RetrievalMetadata:
        """Describe the entity rows as Feast does."""
        span = self.rows.estimate().span
        first, last = (_EPOCH + timedelta(microseconds=us) for us in span or (0, 0))
        return RetrievalMetadata(
            features=list(self.asked),
            keys=[name for name in self.rows.schema.names if name != self.rows.time_column],
            min_event_timestamp=first,
            max_event_timestamp=last,
        )

    def _estimate(self) -> Estimate:
        found = estimate(self.plan, self.rows.estimate(), base=self.repo_path, cluster=False)
        if self.cluster == IN_PROCESS:
            return replace(
                found, why=f"{found.why.removesuffix(', but there is no cluster')}{_AS_CONFIGURED}"
            )
        named = self.cluster if isinstance(self.cluster, str) else self.cluster.get("profile", "a cluster")
        return replace(found, place="on Dask", why=f"the offline store is configured with cluster: {named}")


_AS_CONFIGURED = "; the offline store is configured with cluster: in-process"
