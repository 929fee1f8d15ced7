"""What Feast's own universal tests have to know of our stores: where test data lies and how the stores are configured.

Named to them by ``FULL_REPO_CONFIGS_MODULE=mlcore_stores``; ``docs/feast-suite.md`` says how they are run. Nothing
here is theirs and nothing of theirs is imported: they ask a creator of data sources for seven methods, by name.
Each test runs twice, with retrieval in process and on a cluster of this machine's cores, or on the one of the two that
``MLCORE_SUITE_ROUTE`` names.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from feast import FileSource
from feast.data_format import ParquetFormat
from feast.infra.offline_stores.file_source import FileLoggingDestination, SavedDatasetFileStorage
from feast.repo_config import RegistryConfig

from mlflow_core.feast.cluster import ClusterName
from mlflow_core.feast.offline_store import DaskOfflineStoreConfig

__all__ = ["AVAILABLE_OFFLINE_STORES", "AVAILABLE_ONLINE_STORES"]


class InProcessDataSourceCreator:
    """Test data as local Parquet files, read by our offline store in one process."""

    cluster: ClusterName = "in-process"

    def __init__(self, project_name: str, **_: Any) -> None:
        self.project_name = project_name
        self._folder = Path(tempfile.mkdtemp(prefix=f"{project_name}-"))

    def setup(self, registry: RegistryConfig) -> None:
        """Prepare nothing: files need no server."""

    def create_offline_store_config(self) -> DaskOfflineStoreConfig:
        """Return the section ``offline_store`` of the configuration under test."""
        return DaskOfflineStoreConfig(cluster=self.cluster)

    def create_data_source(
        self,
        df: pd.DataFrame,
        destination_name: str,
        created_timestamp_column: str = "created_ts",
        field_mapping: dict[str, str] | None = None,
        timestamp_field: str | None = "ts",
    ) -> FileSource:
        """Write a frame to a Parquet file and return the source that reads it; arguments as Feast's tests give them."""
        path = self._folder / f"{destination_name}.parquet"
        df.to_parquet(path)
        source = FileSource(
            file_format=ParquetFormat(),
            path=str(path),
            timestamp_field=timestamp_field,
            created_timestamp_column=created_timestamp_column,
            field_mapping=field_mapping or {"ts_1": "ts"},
        )
        # What a SELECT statement calls the file: the tests of entity rows by query skip a source without it.
        source.table_ref = f"'{path}'"  # type: ignore[attr-defined]
        return source

    def create_saved_dataset_destination(self) -> SavedDatasetFileStorage:
        """Return an empty folder that a saved dataset goes to."""
        return SavedDatasetFileStorage(path=self._new_folder(), file_format=ParquetFormat())

    def create_logged_features_destination(self) -> FileLoggingDestination:
        """Return an empty folder that features are logged to."""
        return FileLoggingDestination(path=self._new_folder())

    def teardown(self) -> None:
        """Remove every file."""
        shutil.rmtree(self._folder)

    @staticmethod
    def xdist_groups() -> list[str]:
        """Return the groups of tests that one worker runs: none."""
        return []

    @staticmethod
    def test_markers() -> list[pytest.MarkDecorator]:
        """Return the marks that each test gets: none."""
        return []

    def _new_folder(self) -> str:
        return tempfile.mkdtemp(dir=self._folder)


class LocalClusterDataSourceCreator(InProcessDataSourceCreator):
    """The same, read by a cluster of this machine's cores."""

    cluster: ClusterName = "local"


_CREATORS = [InProcessDataSourceCreator, LocalClusterDataSourceCreator]
_ROUTE = os.environ.get("MLCORE_SUITE_ROUTE", "")
if _ROUTE not in ("", *(creator.cluster for creator in _CREATORS)):
    raise ValueError(f'MLCORE_SUITE_ROUTE is "{_ROUTE}"; expected "in-process", "local" or nothing')

AVAILABLE_OFFLINE_STORES = [("local", creator) for creator in _CREATORS if _ROUTE in ("", creator.cluster)]
"""Provider and creator of each configuration that Feast's tests run on."""
AVAILABLE_ONLINE_STORES = {"sqlite": ({"type": "sqlite"}, None)}
"""Online stores by name; the retrieval tests need any."""

# Tests that are for local files only take their creator from here and not from the list above.
sys.modules["tests.universal.feature_repos.repo_configuration"].OFFLINE_STORE_TO_PROVIDER_CONFIG["file"] = (
    AVAILABLE_OFFLINE_STORES[0]
)
