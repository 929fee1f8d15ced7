"""Datasets by content: registered once, found by number, hash or name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import select

from mlflow_core.errors import UnknownNameError, nearest
from mlflow_core.metadata.canonical import plain
from mlflow_core.metadata.records import DatasetRecord, to_record
from mlflow_core.metadata.scope import Scope
from mlflow_core.metadata.tables import DatasetRow


class Datasets(Scope):
    """The datasets of one project."""

    def register_dataset(
        self,
        name: str,
        content_hash: str,
        *,
        schema: Mapping[str, Any],
        rows: Mapping[str, int],
        clock: str,
        split: Mapping[str, Any] | None = None,
        source_snapshot: Mapping[str, Any] | None = None,
        spec_fingerprint: str | None = None,
        artifact_digest: str | None = None,
        uri: str | None = None,
        report: Mapping[str, Any] | None = None,
    ) -> DatasetRecord:
        """Note a dataset. The same name and content again gives the record that is there.

        Args:
            name: The dataset's, or its pipeline's, name.
            content_hash: Of its rows.
            schema: Column -> type.
            rows: Split -> number of rows.
            clock: ``event``, ``known`` or ``served``.
            split: How it was split.
            source_snapshot: Source -> what it was then.
            spec_fingerprint: Of the definitions it was built by.
            artifact_digest: The folder of shards in the artifact store.
            uri: Where that is.
            report: Rows left out and why.
        """
        with self._database.writing() as session:
            project = self._project_id(session)
            same = (DatasetRow.project_id == project, DatasetRow.name == name)
            row = session.scalar(select(DatasetRow).where(*same, DatasetRow.content_hash == content_hash))
            if row is None:
                row = DatasetRow(
                    project_id=project,
                    name=name,
                    content_hash=content_hash,
                    artifact_digest=artifact_digest,
                    uri=uri,
                    schema=plain(schema),
                    rows=plain(rows),
                    split=plain(split or {}),
                    clock=clock,
                    source_snapshot=plain(source_snapshot or {}),
                    spec_fingerprint=spec_fingerprint,
                    report=plain(report or {}),
                    principal=self._principal.name,
                    created_us=self._clock.now_us(),
                )
                session.add(row)
                session.flush()
            elif row.removed_us is not None:  # the same rows are there again
                row.removed_us = row.removed_why = None
            return to_record(DatasetRecord, row)

    def get_dataset(self, dataset: int | str, *, clock: str | None = None) -> DatasetRecord:
        """A dataset by its number, its content hash or artifact digest, or the newest of a name.

        Args:
            dataset: Which one.
            clock: Only one that was built under this clock.

        Raises:
            UnknownNameError: There is none.
        """
        with self._database.reading() as session:
            mine = select(DatasetRow).where(DatasetRow.project_id == self._find_project(session))
            if isinstance(dataset, int):
                mine = mine.where(DatasetRow.id == dataset)
            else:
                mine = mine.where(
                    (DatasetRow.content_hash == dataset)
                    | (DatasetRow.artifact_digest == dataset)
                    | (DatasetRow.name == dataset)
                )
            if clock is not None:
                mine = mine.where(DatasetRow.clock == clock)
            row = session.scalar(mine.order_by(DatasetRow.id.desc()).limit(1))
            if row is not None:
                return to_record(DatasetRecord, row)
        there = self.list_datasets()
        names = {record.name for record in there}
        clocks = {record.clock for record in there if record.name == dataset}
        if clock is not None and clocks - {clock}:
            raise UnknownNameError(
                f'there is no dataset "{dataset}" under the clock "{clock}"',
                hint=f"There is one under: {', '.join(sorted(clocks))}.",
            )
        raise UnknownNameError(f'there is no dataset "{dataset}"', hint=nearest(str(dataset), names))

    def list_datasets(
        self, name: str | None = None, *, clock: str | None = None, limit: int = 100
    ) -> list[DatasetRecord]:
        """Datasets, the newest first.

        Args:
            name: Only this one's versions.
            clock: Only those that were built under this clock.
            limit: At most so many.
        """
        with self._database.reading() as session:
            query = select(DatasetRow).where(DatasetRow.project_id == self._find_project(session))
            if name is not None:
                query = query.where(DatasetRow.name == name)
            if clock is not None:
                query = query.where(DatasetRow.clock == clock)
            rows = session.scalars(query.order_by(DatasetRow.id.desc()).limit(limit))
            return [to_record(DatasetRecord, row) for row in rows]
