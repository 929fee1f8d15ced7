"""Feast's offline store over our engine: it translates a call into a plan, and decides nothing.

Named in ``feature_store.yaml`` as ``offline_store: {type: mlflow_core.feast.offline_store.DaskOfflineStore}``.
What every value means is the engine's affair; what Feast's own stores do differently is in ``docs/feast.md``.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from feast.data_source import DataSource
from feast.feature_logging import LoggingConfig, LoggingSource
from feast.feature_view import FeatureView as FeastView
from feast.infra.offline_stores.offline_store import OfflineStore, RetrievalJob
from feast.infra.registry.base_registry import BaseRegistry
from feast.repo_config import FeastConfigBaseModel, RepoConfig

from mlflow_core.feast.appending import append_to_log, append_to_source
from mlflow_core.feast.cluster import ClusterName
from mlflow_core.feast.entity_rows import entity_rows
from mlflow_core.feast.erasures import erasures_of
from mlflow_core.feast.event_rows import events_between, latest_events
from mlflow_core.feast.range_rows import rows_in_range
from mlflow_core.feast.requests import plan_request
from mlflow_core.feast.retrieval import Retrieval
from mlflow_core.feast.retrieval_job import EngineRetrievalJob

__all__ = ["DaskOfflineStore", "DaskOfflineStoreConfig"]


class DaskOfflineStoreConfig(FeastConfigBaseModel):
    """Settings of the offline store in ``feature_store.yaml``."""

    type: Literal["mlflow_core.feast.offline_store.DaskOfflineStore"] = (
        "mlflow_core.feast.offline_store.DaskOfflineStore"
    )
    """Which offline store this is."""
    cluster: ClusterName = "in-process"
    """``in-process``, ``local`` (a cluster of this machine's cores) or a scheduler's address, ``tcp://host:port``."""
    workdir: str | None = None
    """A folder that all workers of a remote cluster reach; files of a run are removed when it ends."""


class DaskOfflineStore(OfflineStore):
    """Point-in-time retrieval by the engine, for callers who know only Feast."""

    supports_filter_by_created_timestamp = True

    @staticmethod
    def get_historical_features(
        config: RepoConfig,
        feature_views: list[FeastView],
        feature_refs: list[str],
        entity_df: Any,
        registry: BaseRegistry,
        project: str,
        full_feature_names: bool = False,
        filter_by_created_timestamp: bool = False,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
    ) -> RetrievalJob:
        """Plan the retrieval of features as of each entity row's time; no feature is read before the job is asked.

        Args:
            config: Feast's configuration.
            feature_views: The stored views asked for.
            feature_refs: ``view:feature`` references.
            entity_df: Entity rows (see ``entity_rows.entity_rows``), or None for one row for each entity and time of an
                event from ``start_date`` to ``end_date``.
            registry: Feast's registry.
            project: The project's name.
            full_feature_names: Call columns ``{view}__{feature}``.
            filter_by_created_timestamp: See only what was created by the entity row's time.
            start_date: Without entity rows: the earliest event time; None is the first event.
            end_date: Without entity rows: the latest event time; None is now.

        Returns:
            A job whose rows are the entity rows in their order, each exactly once, with the features.

        Raises:
            UsageError: The entity rows cannot be read or have no time.
            PlanError: The views do not fit together.
        """
        repo_path, erasures = str(config.repo_path or "."), partial(erasures_of, config)
        if entity_df is None:
            rows = rows_in_range(
                feature_views, repo_path=repo_path, start=start_date, end=end_date, erasures=erasures
            )
        else:
            rows = entity_rows(entity_df, repo_path=repo_path)
        plan, native = plan_request(
            feature_views,
            feature_refs,
            registry,
            project,
            repo_path=repo_path,
            time_column=rows.time_column,
            full_feature_names=full_feature_names,
            filter_by_created_timestamp=filter_by_created_timestamp,
        )
        store = config.offline_store
        retrieval = Retrieval(
            plan, rows, tuple(feature_refs), store.cluster, store.workdir, repo_path, erasures
        )
        return EngineRetrievalJob(
            retrieval.table,
            describe=retrieval.explain,
            repo_path=repo_path,
            write=retrieval.shards,
            workdir=store.workdir,
            full_feature_names=full_feature_names,
            on_demand_feature_views=native,
            metadata=retrieval.metadata,
        )

    @staticmethod
    def pull_latest_from_table_or_query(
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None,
        start_date: datetime,
        end_date: datetime,
    ) -> RetrievalJob:
        """Read the latest row of each key in a range of event times, both ends included; arguments as in Feast."""
        repo_path = str(config.repo_path or ".")
        columns = [*join_key_columns, *feature_name_columns, timestamp_field]
        return EngineRetrievalJob(
            partial(
                latest_events,
                data_source,
                repo_path,
                join_key_columns,
                feature_name_columns,
                timestamp_field,
                created_timestamp_column,
                start_date,
                end_date,
                partial(erasures_of, config),
            ),
            describe=lambda: (
                f"latest row of each {', '.join(join_key_columns) or 'source'}: {', '.join(columns)}"
            ),
            repo_path=repo_path,
        )

    @staticmethod
    def pull_all_from_table_or_query(
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None = None,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
    ) -> RetrievalJob:
        """Read every row in a range of event times, both ends included; arguments as in Feast."""
        repo_path = str(config.repo_path or ".")
        return EngineRetrievalJob(
            partial(
                events_between,
                data_source,
                repo_path,
                join_key_columns,
                feature_name_columns,
                timestamp_field,
                created_timestamp_column,
                start_date,
                end_date,
                partial(erasures_of, config),
            ),
            describe=lambda: f"all rows: {', '.join([*join_key_columns, *feature_name_columns])}",
            repo_path=repo_path,
        )

    @staticmethod
    def offline_write_batch(
        config: RepoConfig,
        feature_view: FeastView,
        table: pa.Table,
        progress: Callable[[int], Any] | None,
    ) -> None:
        """Append rows to a view's Parquet source, all of them or none.

        Args:
            config: Feast's configuration.
            feature_view: The view whose batch source grows.
            table: Rows with the source's columns.
            progress: Called with the number of rows written.
        """
        append_to_source(feature_view, table, repo_path=str(config.repo_path or "."))
        if progress:
            progress(table.num_rows)

    @staticmethod
    def write_logged_features(
        config: RepoConfig,
        data: pa.Table | Path,
        source: LoggingSource,
        logging_config: LoggingConfig,
        registry: BaseRegistry,
    ) -> None:
        """Add logged features to the folder that a feature service logs to; arguments as in Feast."""
        rows = pq.read_table(data) if isinstance(data, Path) else data
        append_to_log(rows, logging_config.destination, repo_path=str(config.repo_path or "."))
