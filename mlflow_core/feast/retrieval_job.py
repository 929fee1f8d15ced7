"""A retrieval that Feast can hold: nothing is computed until somebody asks for the rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from feast.errors import SavedDatasetLocationAlreadyExists
from feast.infra.offline_stores.file_source import SavedDatasetFileStorage
from feast.infra.offline_stores.offline_store import RetrievalJob, RetrievalMetadata
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.saved_dataset import SavedDatasetStorage, ValidationReference

from mlflow_core.errors import UsageError

__all__ = ["EngineRetrievalJob"]


class EngineRetrievalJob(RetrievalJob):
    """Feast's retrieval job over one evaluation by the engine.

    Args:
        evaluate: Computes the rows; called once, at the first need.
        describe: The plan as text.
        repo_path: Folder of the feature repository, for relative paths.
        full_feature_names: Whether columns are called ``{view}__{feature}``.
        on_demand_feature_views: Native on-demand views that Feast itself computes on the rows; ours are in the rows.
        metadata: What Feast stores of a saved dataset.
    """

    def __init__(
        self,
        evaluate: Callable[[], pa.Table],
        *,
        describe: str,
        repo_path: str,
        full_feature_names: bool = False,
        on_demand_feature_views: list[OnDemandFeatureView] | None = None,
        metadata: RetrievalMetadata | None = None,
    ) -> None:
        self._evaluate = evaluate
        self._describe = describe
        self._repo_path = repo_path
        self._full_feature_names = full_feature_names
        self._on_demand = on_demand_feature_views or []
        self._metadata = metadata
        self._rows: pa.Table | None = None

    @property
    def full_feature_names(self) -> bool:
        """Whether columns are called ``{view}__{feature}``."""
        return self._full_feature_names

    @property
    def on_demand_feature_views(self) -> list[OnDemandFeatureView]:
        """The native on-demand views that Feast still has to compute."""
        return self._on_demand

    @property
    def metadata(self) -> RetrievalMetadata | None:
        """What Feast stores of a saved dataset."""
        return self._metadata

    def to_df(
        self, validation_reference: ValidationReference | None = None, timeout: int | None = None
    ) -> pd.DataFrame:
        """Return the rows as a pandas frame; an integer column with nulls is pandas' nullable ``Int64`` or ``Int32``.

        Args:
            validation_reference: What Feast checks the rows against.
            timeout: Not used; the evaluation runs to its end.
        """
        return _as_frame(self.to_arrow(validation_reference=validation_reference, timeout=timeout))

    def explain(self) -> str:
        """Return the plan as text, one line a view."""
        return self._describe

    def to_parquet(self, path: str | Path) -> Path:
        """Write the rows to one Parquet file, complete or not at all.

        Args:
            path: The file; relative paths are relative to the feature repository.

        Returns:
            The file's absolute path.
        """
        target = Path(self._repo_path) / path
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.partial")
        try:
            pq.write_table(self.to_arrow(), partial, coerce_timestamps="us")
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
        return target

    def persist(
        self, storage: SavedDatasetStorage, allow_overwrite: bool = False, timeout: int | None = None
    ) -> None:
        """Write the rows where a saved dataset keeps them.

        Args:
            storage: A Parquet file.
            allow_overwrite: Replace what is there.
            timeout: Not used; the evaluation runs to its end.

        Raises:
            UsageError: The storage is not a file.
            SavedDatasetLocationAlreadyExists: There is something already.
        """
        if not isinstance(storage, SavedDatasetFileStorage):
            raise UsageError(
                f"a saved dataset cannot be kept in {type(storage).__name__}",
                expected="SavedDatasetFileStorage",
            )
        uri = storage.file_options.uri
        if not allow_overwrite and (Path(self._repo_path) / uri).exists():
            raise SavedDatasetLocationAlreadyExists(location=uri)
        self.to_parquet(uri)

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:
        if self._rows is None:
            self._rows = self._evaluate()
        return self._rows

    def _to_df_internal(self, timeout: int | None = None) -> pd.DataFrame:
        return _as_frame(self._to_arrow_internal(timeout))


def _as_frame(rows: pa.Table) -> pd.DataFrame:
    """Return rows as a frame in which an integer stays one beside a null: pandas' own are floats, exact to 2**53."""
    beside_nulls = {
        name: rows[name].to_pandas(types_mapper=_WITH_NULLS.get)
        for name, kind in zip(rows.column_names, rows.schema.types, strict=True)
        if kind in _WITH_NULLS and rows[name].null_count
    }
    frame: pd.DataFrame = rows.to_pandas()
    return frame.assign(**beside_nulls)


_WITH_NULLS = {pa.int64(): pd.Int64Dtype(), pa.int32(): pd.Int32Dtype()}
