"""A retrieval that Feast can hold: nothing is computed until somebody asks for the rows."""

from __future__ import annotations

import atexit
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from feast.dqm.errors import ValidationFailed
from feast.infra.offline_stores.offline_store import RetrievalJob, RetrievalMetadata
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.saved_dataset import SavedDatasetStorage, ValidationReference

from mlflow_core.engine.files.drafts import draft_folder, write_at_once
from mlflow_core.engine.files.shards import ROWS_PER_SHARD
from mlflow_core.errors import UsageError
from mlflow_core.feast.frames import as_frame, dask_frame
from mlflow_core.feast.saving import place_to_save, save_rows

if TYPE_CHECKING:
    import dask.dataframe

__all__ = ["EngineRetrievalJob"]


class EngineRetrievalJob(RetrievalJob):
    """Feast's retrieval job over one evaluation by the engine.

    Args:
        evaluate: Computes the rows; called once, at the first need.
        describe: Says what would be computed.
        repo_path: Folder of the feature repository, for relative paths.
        write: Computes the rows into Parquet files of a folder, without bringing them here; None where that is no
            different from writing what ``evaluate`` gives.
        workdir: Where files go that the caller names no place for; a folder that all workers reach.
        full_feature_names: Whether columns are called ``{view}__{feature}``.
        on_demand_feature_views: Native on-demand views that Feast itself computes on the rows; ours are in the rows.
        metadata: Says what Feast stores of a saved dataset.
    """

    def __init__(
        self,
        evaluate: Callable[[], pa.Table],
        *,
        describe: Callable[[], str],
        repo_path: str,
        write: Callable[[Path], Sequence[Path]] | None = None,
        workdir: str | None = None,
        full_feature_names: bool = False,
        on_demand_feature_views: list[OnDemandFeatureView] | None = None,
        metadata: Callable[[], RetrievalMetadata] | None = None,
    ) -> None:
        self._evaluate = evaluate
        self._describe = describe
        self._repo_path = repo_path
        self._write = write
        self._workdir = workdir
        self._full_feature_names = full_feature_names
        self._on_demand = on_demand_feature_views or []
        self._describe_rows = metadata
        self._rows: pa.Table | None = None

    @property
    def full_feature_names(self) -> bool:
        """Whether columns are called ``{view}__{feature}``."""
        return self._full_feature_names

    @property
    def on_demand_feature_views(self) -> list[OnDemandFeatureView]:
        """The native on-demand views that Feast still has to compute."""
        return self._on_demand

    @cached_property
    def metadata(self) -> RetrievalMetadata | None:
        """What Feast stores of a saved dataset."""
        return None if self._describe_rows is None else self._describe_rows()

    def to_arrow(
        self, validation_reference: ValidationReference | None = None, timeout: int | None = None
    ) -> pa.Table:
        """Return the rows as an Arrow table.

        Args:
            validation_reference: What Feast checks the rows against, as ``to_df`` gives them: its own check would
                take integers beside a null for floats, which a reference made of a saved dataset does not have.
            timeout: Not used; the evaluation runs to its end.

        Raises:
            ValidationFailed: The rows are not as the reference has them.
        """
        rows = super().to_arrow(timeout=timeout)
        if validation_reference is not None:
            found = validation_reference.profile.validate(as_frame(rows))
            if not found.is_success:
                raise ValidationFailed(found)
        return rows

    def explain(self) -> str:
        """Say what is read, in which range of times, how much that is, where it is computed and why.

        Only metadata are read for it. Entity rows that come from a query or a Dask frame are run, because their
        times decide what is read.
        """
        return self._describe()

    def to_df(
        self, validation_reference: ValidationReference | None = None, timeout: int | None = None
    ) -> pd.DataFrame:
        """Return the rows as a pandas frame; an integer column with nulls is pandas' nullable ``Int64`` or ``Int32``.

        Args:
            validation_reference: What Feast checks the rows against.
            timeout: Not used; the evaluation runs to its end.
        """
        return as_frame(self.to_arrow(validation_reference=validation_reference, timeout=timeout))

    def to_dask(self, folder: str | Path | None = None) -> dask.dataframe.DataFrame:
        """Compute the rows into Parquet files and return them as a Dask frame, in order and numbered from 0.

        On a cluster the rows never come to this process. The frame reads the files when it is computed, so they must
        be there as long as it is used.

        Args:
            folder: Where the files go, absent or empty; relative paths are relative to the feature repository. They
                stay there until the caller deletes them. By default a folder of the store's ``workdir``, else of this
                machine's temporary files, that is deleted when this process ends.

        Raises:
            UsageError: Something is in the folder.
        """
        if folder is None:
            kept = ExitStack()
            place = kept.enter_context(
                draft_folder(Path(self._workdir or tempfile.gettempdir()), "mlcore-rows")
            )
            atexit.register(kept.close)
        else:
            place = Path(self._repo_path) / folder
            if place.exists() and (not place.is_dir() or any(place.iterdir())):
                raise UsageError(
                    f"there is something in {place} already", expected="an absent or empty folder"
                )
            place.mkdir(parents=True, exist_ok=True)
        return dask_frame(self._shards(place))

    def to_parquet(self, path: str | Path) -> Path:
        """Write the rows to one Parquet file, complete or not at all.

        Args:
            path: The file; relative paths are relative to the feature repository.

        Returns:
            The file's absolute path.

        Raises:
            UsageError: The path is a folder.
        """
        target = Path(self._repo_path) / path
        if target.is_dir():
            raise UsageError(
                f"{target} is a folder", expected="a file", hint="to_dask(folder) writes several files."
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        # Workers reach the store's workdir; that they reach the caller's file too is not said.
        with draft_folder(Path(self._workdir or target.parent), f".{target.name}") as draft:
            write_at_once(target, partial(_joined, self._shards(draft)))
        return target

    def persist(
        self, storage: SavedDatasetStorage, allow_overwrite: bool = False, timeout: int | None = None
    ) -> None:
        """Write the rows where a saved dataset keeps them.

        Args:
            storage: A Parquet file or folder on this machine.
            allow_overwrite: Replace what is there.
            timeout: Not used; the evaluation runs to its end.

        Raises:
            UsageError: The storage is no local Parquet, or the folder holds something else too.
            SavedDatasetLocationAlreadyExists: There is something already.
        """
        place = place_to_save(storage, repo_path=self._repo_path, allow_overwrite=allow_overwrite)
        save_rows(self.to_arrow(), place)

    def _shards(self, folder: Path) -> Sequence[Path]:
        """Write the rows into files; where they are here already, or Feast has to add to them, from here."""
        if self._write is not None and self._rows is None and not self._on_demand:
            return self._write(folder)
        rows = self.to_arrow()
        starts = range(0, max(rows.num_rows, 1), ROWS_PER_SHARD)
        paths = [folder / f"part-{number:05d}.parquet" for number in range(len(starts))]
        for path, start in zip(paths, starts, strict=True):
            save_rows(rows.slice(start, ROWS_PER_SHARD), path)
        return paths

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:
        if self._rows is None:
            self._rows = self._evaluate()
        return self._rows

    def _to_df_internal(self, timeout: int | None = None) -> pd.DataFrame:
        return as_frame(self._to_arrow_internal(timeout))


def _joined(shards: Sequence[Path], file: Path) -> None:
    """Write the rows of some files into one, holding those of one at a time."""
    schema = pq.read_schema(shards[0])
    with pq.ParquetWriter(file, schema, coerce_timestamps="us", allow_truncated_timestamps=True) as writer:
        for shard in shards:
            writer.write_table(pq.read_table(shard))
